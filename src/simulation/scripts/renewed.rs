//! A branch under the name of an older one, and what who began it hears while the work of another
//! connection in it is not durable.

use crate::broker::command::Reply;
use crate::io::sim::SimDisk;

use super::model::Model;
use super::play::{Actor, Answer, NOW};
use super::{Operation, Step};
use crate::simulation::node::settings;

const WORK: Step = Step::Do(Operation::Send { queue: 0, persistent: true });

/// What the first connection hears of the end of its work before the log is written and after,
/// where all was done by the other.
fn heard(renewed: bool) -> [Vec<Answer>; 2] {
    let mut actor = Actor::open_with(&SimDisk::new(), &settings()).unwrap();
    let mut model = Model::new(Default::default());
    if renewed {
        for step in [Step::Start, WORK, Step::End, Step::OnePhase] {
            assert_eq!(actor.step(step, &mut model), Ok(Reply::Done), "{step:?}");
        }
    }
    let mut model = Model::new(Default::default());
    for step in [Step::Start, Step::Join] {
        assert_eq!(actor.step(step, &mut model), Ok(Reply::Done), "{step:?}");
    }
    assert!(model.sends_by_other());
    for step in [WORK, Step::End] {
        actor.tell(step, &mut model);
    }
    while !actor.node.inputs.is_empty() {
        actor.node.turn(NOW).unwrap();
    }
    let before = actor.answers();
    actor.node.write_all();
    actor.node.turn(NOW).unwrap();
    [before, actor.answers()]
}

#[test]
fn the_end_of_work_under_an_older_name_is_heard_when_it_is_durable_that_it_began_whoever_worked() {
    assert_eq!(heard(false), [vec![Ok(Reply::Done)], vec![]], "it promises nothing");
    assert_eq!(heard(true), [vec![], vec![Ok(Reply::Done)]]);
}
