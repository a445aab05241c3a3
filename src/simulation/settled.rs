//! What comes of a client's word about deliveries, once that is answered.

use crate::broker::command::{Outcome, Refusal};
use crate::limits;

use super::model::{Model, Step};

/// A settlement of these messages was answered.
pub(super) fn settle_answered(
    model: &mut Model,
    numbers: &[u64],
    outcome: Outcome,
    refusal: Option<&Refusal>,
) -> Result<(), String> {
    // A settlement of many is done in parts: one that is refused may be done in part.
    let parts = numbers.len() > limits::STEP_MESSAGES_MAX;
    for number in numbers {
        let Some(fate) = model.fates.get_mut(number) else { continue };
        match (outcome, refusal) {
            (Outcome::Accepted, None) => fate.accept = Step::Confirmed,
            (Outcome::Returned | Outcome::Rejected, None) => fate.returns_confirmed += 1,
            (Outcome::Accepted, Some(_)) => {
                fate.accept = Step::Void;
                fate.doomed |= parts;
            }
            (Outcome::Expired, _) => unreachable!("no client here says so"),
            (Outcome::Returned | Outcome::Rejected, Some(_)) => {
                fate.returns_asked -= u32::from(!parts)
            }
        }
    }
    match refusal {
        Some(refusal) if !refusal.is_want_of_room() => {
            Err(format!("settlement refused: {refusal:?}"))
        }
        _ => Ok(()),
    }
}
