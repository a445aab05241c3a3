//! A work queue in one process: jobs survive a crash, each goes to one worker, and one that cannot
//! be done is set apart after some attempts.
//!
//! `cargo run --example work_queue -- DIRECTORY` keeps its store there. End it half way, and the
//! next run goes on with what is left.

use std::error::Error;
use std::path::Path;

use escrowmq::{Broker, Connection, Delivery, Destination, Message};

/// Jobs that a run adds.
pub const JOBS: usize = 20;
const WORKERS: usize = 4;
const ATTEMPTS: u32 = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "./work-queue-data".to_owned());
    let done = run(Path::new(&directory)).await?;
    println!("{} jobs finished, {} set apart", done.finished, done.set_apart);
    Ok(())
}

/// What became of the jobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Jobs that are finished.
    pub finished: usize,
    /// Jobs that were given up.
    pub set_apart: usize,
}

/// Adds jobs, and works until none is left.
pub async fn run(directory: &Path) -> Result<Done, Box<dyn Error + Send + Sync>> {
    let broker = Broker::open(directory).await?;
    let producer = broker.connect()?;

    // All jobs are on their way at once; when the last receipt is here, all are durable.
    let mut receipts = Vec::new();
    for number in 1..=JOBS {
        let job = Message::text(format!("job {number}")).property("number", number.to_string());
        receipts.push(producer.post(jobs(), job).await?);
    }
    for receipt in receipts {
        receipt.await?;
    }
    // Behind all jobs: whoever finds one stops.
    for _ in 0..WORKERS {
        producer.send(jobs(), Message::text("stop").priority(0)).await?;
    }

    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(tokio::spawn(work(broker.connect()?)));
    }
    let mut done = Done::default();
    for worker in workers {
        let one = worker.await??;
        done.finished += one.finished;
        done.set_apart += one.set_apart;
    }
    broker.close().await?;
    Ok(done)
}

fn jobs() -> Destination {
    Destination::queue("jobs")
}

async fn work(connection: Connection) -> Result<Done, Box<dyn Error + Send + Sync>> {
    let mut done = Done::default();
    // One job at a time: what a worker has not begun is for the others.
    let mut consumer = connection.subscribe_with(jobs(), 1).await?;
    loop {
        let job = consumer.recv().await?;
        if job.text() == Some("stop") {
            job.acknowledge().await?;
            return Ok(done);
        }
        match finish(&job) {
            Ok(()) => {
                job.acknowledge().await?;
                done.finished += 1;
            }
            // Back to the queue, for another attempt.
            Err(_) if job.attempt() < ATTEMPTS => job.give_back().await?,
            Err(why) => {
                // Together: whatever crash comes, the job is in one of the two queues.
                let copy = Message::bytes(job.body().clone()).property("cause", why);
                let transaction = connection.transaction().await?;
                transaction.send(Destination::queue("jobs.failed"), copy).await?;
                transaction.acknowledge(&job).await?;
                transaction.commit().await?;
                done.set_apart += 1;
            }
        }
    }
}

/// The work itself; one of the jobs cannot be done.
fn finish(job: &Delivery) -> Result<(), &'static str> {
    match job.property("number") {
        Some("13") => Err("nobody wants to do this one"),
        _ => Ok(()),
    }
}
