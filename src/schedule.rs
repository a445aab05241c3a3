//! When a message is handed out: at once, later, or again and again.
//!
//! Owns the arithmetic of a plan, as a function of time alone: when its first occurrence is, and
//! which is the next after one. Always: what is next lies on the plan's own grid and after now, so
//! that occurrences missed while nobody looked come to one, late, and not to a storm; and a plan
//! that says how often is followed as often as it says. Leaves to others: where a plan is kept and
//! what an occurrence is (`broker`).

mod cron;

use serde::{Deserialize, Serialize};

pub use cron::{Cron, CronError};

use crate::ids::Millis;

/// When a message is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As soon as it is there.
    #[default]
    AtOnce,
    /// So many milliseconds after the broker has taken it, or after its transaction was committed.
    /// Such a message is durable whatever it asks for.
    After(u64),
    /// Again and again: it stays, and each occurrence is a message of its own. It is durable
    /// whatever it asks for, and so are these.
    Again(Box<Plan>),
}

/// When a message is handed out that does not come at once: [`When`] without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As [`When::After`].
    After(u64),
    /// As [`When::Again`].
    Again(Plan),
}

/// When a message comes again. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// When a series of occurrences begins; without it there is one series, which begins when the
    /// message is sent.
    pub cron: Option<Cron>,
    /// From the beginning of a series to its first occurrence; 0 stands for `period`.
    pub delay: u64,
    /// From one occurrence of a series to the next.
    pub period: u64,
    /// Occurrences after the first of a series; `None` is without end.
    pub repeat: Option<u32>,
}

/// An occurrence of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// When.
    pub due: Millis,
    /// The first occurrence of its series: the others lie on a grid that begins there.
    pub base: Millis,
    /// Occurrences of its series after it; `None` is without end.
    pub left: Option<u32>,
}

/// What is asked for is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The times at which series begin are not understood.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// What comes without end needs time in between.
    #[error("a repetition without end needs a period of at least a millisecond")]
    EndlessAtOnce,
    /// Series that begin again and again must end.
    #[error("a repetition without end cannot begin again at the times of a cron expression")]
    EndlessSeries,
    /// It is said how often, but not when.
    #[error("a repetition needs a delay, a period or a cron expression")]
    NoTime,
}

impl When {
    /// What these say together: `repeat` is how often after the first time, `None` is without end.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn of(
        cron: Option<&str>,
        delay: u64,
        period: u64,
        repeat: Option<u32>,
    ) -> Result<Self, PlanError> {
        let cron = cron.map(Cron::parse).transpose()?;
        match (cron, repeat) {
            (None, Some(0)) => {
                let after = Plan { cron, delay, period, repeat }.offset();
                return Ok(if after == 0 { Self::AtOnce } else { Self::After(after) });
            }
            (None, _) if delay == 0 && period == 0 => return Err(PlanError::NoTime),
            (None, None) if period == 0 => return Err(PlanError::EndlessAtOnce),
            (Some(_), None) => return Err(PlanError::EndlessSeries),
            _ => {}
        }
        Ok(Self::Again(Box::new(Plan { cron, delay, period, repeat })))
    }

    /// What it waits for, where it does not come at once.
    #[must_use]
    pub fn wait(&self) -> Option<Wait> {
        match self {
            Self::AtOnce | Self::After(0) => None,
            Self::After(millis) => Some(Wait::After(*millis)),
            Self::Again(plan) => Some(Wait::Again(**plan)),
        }
    }

    /// Whether a message is handed out as soon as it is there.
    #[must_use]
    pub fn is_at_once(&self) -> bool {
        self.wait().is_none()
    }
}

impl Plan {
    /// From the beginning of a series to its first occurrence.
    fn offset(&self) -> u64 {
        if self.delay > 0 { self.delay } else { self.period }
    }

    fn series(&self, begins: Millis) -> Turn {
        let due = Millis(begins.0.saturating_add(self.offset()));
        Turn { due, base: due, left: self.repeat }
    }

    /// The first occurrence of a plan that begins now.
    #[must_use]
    pub fn first(&self, now: Millis) -> Turn {
        self.series(self.cron.map_or(now, |cron| cron.next(now)))
    }

    /// The occurrence after one that comes now; `None` where that was the last.
    #[must_use]
    pub fn next(&self, turn: Turn, now: Millis) -> Option<Turn> {
        if turn.left == Some(0) {
            let cron = self.cron?;
            // The first beginning of which the occurrence is still to come.
            return Some(self.series(cron.next(Millis(now.0.saturating_sub(self.offset())))));
        }
        let left = turn.left.map(|left| left - 1);
        let passed = now.0.saturating_sub(turn.base.0).checked_div(self.period);
        let due = passed.map_or(now.0, |passed| {
            let on_grid = (passed + 1).saturating_mul(self.period);
            turn.base.0.saturating_add(on_grid)
        });
        Some(Turn { due: Millis(due), left, ..turn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(cron: Option<&str>, delay: u64, period: u64, repeat: Option<u32>) -> Plan {
        match When::of(cron, delay, period, repeat) {
            Ok(When::Again(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }

    /// The occurrences of a plan that is followed to the millisecond.
    fn times(plan: &Plan, begins: u64, most: usize) -> Vec<u64> {
        let mut turn = Some(plan.first(Millis(begins)));
        let on_time = std::iter::from_fn(|| {
            let now = turn?.due;
            turn = plan.next(turn?, now);
            Some(now.0)
        });
        on_time.take(most).collect()
    }

    #[test]
    fn a_repetition_comes_after_its_delay_and_then_each_period_as_often_as_it_says() {
        assert_eq!(times(&plan(None, 30, 10, Some(3)), 100, 9), [130, 140, 150, 160]);
        assert_eq!(times(&plan(None, 0, 10, Some(2)), 100, 9), [110, 120, 130]);
        assert_eq!(times(&plan(None, 0, 10, None), 100, 3), [110, 120, 130]);
        assert_eq!(times(&plan(None, 5, 0, Some(2)), 100, 9), [105, 105, 105]);
    }

    #[test]
    fn delay_period_and_repeat_follow_each_time_of_a_cron_expression() {
        let hour = 3_600_000;
        let all = times(&plan(Some("0 * * * *"), 1000, 10_000, Some(1)), 5, 4);
        assert_eq!(all, [hour + 1000, hour + 11_000, 2 * hour + 1000, 2 * hour + 11_000]);
        assert_eq!(times(&plan(Some("0 * * * *"), 0, 0, Some(0)), 0, 2), [hour, 2 * hour]);
        // A series of which the first would come before the last of another is left out.
        let all = times(&plan(Some("* * * * *"), 1, 50_000, Some(2)), 0, 5);
        assert_eq!(all, [60_001, 110_001, 160_001, 180_001, 230_001]);
    }

    #[test]
    fn what_was_missed_comes_once_and_then_on_the_grid() {
        let often = plan(None, 0, 10, Some(5));
        let late = often.next(often.first(Millis(100)), Millis(157)).unwrap();
        assert_eq!((late.due, late.left), (Millis(160), Some(4)));
        let hourly = plan(Some("0 * * * *"), 0, 0, Some(0));
        let late = hourly.next(hourly.first(Millis(0)), Millis(10 * 3_600_000 + 7)).unwrap();
        assert_eq!(late.due, Millis(11 * 3_600_000));
    }

    #[test]
    fn what_says_no_time_or_never_ends_at_once_is_no_plan() {
        assert_eq!(When::of(None, 0, 0, Some(0)), Ok(When::AtOnce));
        assert_eq!(When::of(None, 0, 7, Some(0)), Ok(When::After(7)));
        assert_eq!(When::of(None, 9, 7, Some(0)), Ok(When::After(9)));
        assert_eq!(When::of(None, 0, 0, Some(1)), Err(PlanError::NoTime));
        assert_eq!(When::of(None, 9, 0, None), Err(PlanError::EndlessAtOnce));
        assert_eq!(When::of(Some("* * * * *"), 0, 1, None), Err(PlanError::EndlessSeries));
        assert!(matches!(When::of(Some("often"), 0, 0, Some(0)), Err(PlanError::Cron(_))));
    }

    proptest! {
        #[test]
        fn the_next_occurrence_of_a_plan_that_takes_time_is_after_now(
            delay in 0..100_000u64,
            period in 1..100_000u64,
            repeat in 0..3u32,
            cron: bool,
            begins in 0..10_000_000u64,
            late in 0..10_000_000u64,
        ) {
            let cron = if cron { Some(Cron::parse("*/7 3-5 * * *").unwrap()) } else { None };
            let plan = Plan { cron, delay, period, repeat: Some(repeat) };
            let (mut turn, mut count) = (plan.first(Millis(begins)), 0);
            while count <= repeat {
                let now = Millis(turn.due.0 + late);
                count += 1;
                let Some(next) = plan.next(turn, now) else { break };
                prop_assert!(next.due > now, "{next:?} is not after {now:?}");
                turn = next;
            }
            prop_assert_eq!(count, repeat + 1);
        }

        #[test]
        fn no_time_is_too_far_away(
            times: [u64; 4],
            repeat: Option<u32>,
            now: u64,
        ) {
            let cron = Some(Cron::parse("0 0 29 2 *").unwrap());
            let [delay, period, due, base] = times.map(Millis);
            let plan = Plan { cron, delay: delay.0, period: period.0, repeat };
            let _ = plan.first(Millis(now));
            let _ = plan.next(Turn { due, base, left: repeat }, Millis(now));
        }
    }
}
