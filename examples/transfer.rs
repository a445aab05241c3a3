//! Money moves between two accounts, and a crash at any moment neither makes any nor loses some.
//!
//! Each account is a queue with one message, its balance. A transfer takes both, and puts both back
//! changed, in one transaction. `cargo run --example transfer -- DIRECTORY` keeps its store there.

use std::error::Error;
use std::path::Path;

use escrowmq::{Broker, Connection, Consumer, Delivery, Destination, Message, Redelivery};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "./transfer-data".to_owned());
    let (alice, bob) = run(Path::new(&directory)).await?;
    println!("alice has {alice}, bob has {bob}");
    Ok(())
}

/// Moves money there and back, and tells what each has in the end.
pub async fn run(directory: &Path) -> Outcome<(i64, i64)> {
    // Runs that are cut off give balances back: however many do, no money is to be set apart.
    let any_number = Redelivery::new().maximum(0);
    let builder = Broker::builder(directory).redelivery("queue://accounts.*", any_number);
    let broker = builder.open().await?;
    let connection = broker.connect()?;
    let (alice, bob) = (Destination::queue("accounts.alice"), Destination::queue("accounts.bob"));

    // Both accounts are opened together: there are both or none.
    if !is_open(&connection, &alice).await? {
        let opening = connection.transaction().await?;
        opening.send(&alice, "100").await?;
        opening.send(&bob, "100").await?;
        opening.commit().await?;
    }
    let mut from = connection.subscribe_with(&alice, 1).await?;
    let mut to = connection.subscribe_with(&bob, 1).await?;

    for amount in [30, 500, 20] {
        match transfer(&connection, &mut from, &mut to, amount).await {
            Ok(true) => {}
            Ok(false) => println!("{amount} are more than there are"),
            // The balances tell whether they have moved all the same.
            Err(error) => println!("a transfer of {amount} has failed: {error}"),
        }
    }
    let (payer, payee) = (from.recv().await?, to.recv().await?);
    let balances = (balance(&payer)?, balance(&payee)?);
    put_back(&connection, [payer, payee]).await?;
    broker.close().await?;
    Ok(balances)
}

/// Whether there is a balance. What is sent behind it shows where the queue ends, and outlives no
/// crash.
async fn is_open(connection: &Connection, account: &Destination) -> Outcome<bool> {
    connection.send(account, Message::text("the end").non_persistent()).await?;
    let mut look = connection.subscribe_with(account, 2).await?;
    let first = look.recv().await?;
    let open = first.is_persistent();
    if open {
        look.recv().await?.acknowledge().await?;
        first.give_back().await?;
    } else {
        first.acknowledge().await?;
    }
    look.close().await?;
    Ok(open)
}

/// Whether there was enough to be moved.
async fn transfer(
    connection: &Connection,
    from: &mut Consumer,
    to: &mut Consumer,
    amount: i64,
) -> Outcome<bool> {
    let (payer, payee) = (from.recv().await?, to.recv().await?);
    let left = balance(&payer)? - amount;
    if left < 0 {
        put_back(connection, [payer, payee]).await?;
        return Ok(false);
    }
    let transaction = connection.transaction().await?;
    transaction.acknowledge(&payer).await?;
    transaction.acknowledge(&payee).await?;
    transaction.send(payer.destination(), left.to_string()).await?;
    transaction.send(payee.destination(), (balance(&payee)? + amount).to_string()).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Writes balances anew that were only looked at. Dropped, they would go back too, marked as
/// delivered before.
async fn put_back(connection: &Connection, accounts: [Delivery; 2]) -> Outcome<()> {
    let transaction = connection.transaction().await?;
    for account in accounts {
        transaction.acknowledge(&account).await?;
        transaction.send(account.destination(), balance(&account)?.to_string()).await?;
    }
    transaction.commit().await?;
    Ok(())
}

fn balance(account: &Delivery) -> Outcome<i64> {
    Ok(account.text().ok_or("a balance is text")?.parse()?)
}
