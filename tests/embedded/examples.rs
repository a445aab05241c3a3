//! The examples, run as programs run them, and held to what they say.

use super::support::fresh_dir;

#[allow(dead_code, unreachable_pub, reason = "it is a program too, with a `main`")]
#[path = "../../examples/work_queue.rs"]
mod work_queue;

#[test]
fn the_work_queue_does_every_job_once_and_sets_apart_what_cannot_be_done() {
    let dir = fresh_dir();
    let done = super::story(work_queue::run(&dir.path().join("jobs"))).unwrap();
    assert_eq!((done.finished, done.set_apart), (work_queue::JOBS - 1, 1));
}
