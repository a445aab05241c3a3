//! Cron expressions: five fields, in UTC.
//!
//! `minute hour day-of-month month day-of-week`, each `*`, a number, a range `1-5`, a step `*/10`
//! or `8-18/2`, or a list of these. Months and days of the week have their English names too, by
//! three letters; Sunday is 0 and 7. As everywhere, where both days are given, either will do.
//! Always: there is a next time, since an expression that no day fits is none.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// A cron expression: the minutes, hours and days that it names, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
}

/// Text that is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are five fields.
    #[error("a cron expression has five fields: minute hour day-of-month month day-of-week")]
    Fields,
    /// One of them is not understood.
    #[error("the {field} of a cron expression is {least} to {most}, *, a range, a step or a list")]
    Field {
        /// Which.
        field: &'static str,
        /// The least that it may be.
        least: u8,
        /// The most.
        most: u8,
    },
    /// There is no such day.
    #[error("no day is ever what this cron expression says")]
    Never,
}

/// What a field may say.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field {
        name: "month",
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        least: 0,
        most: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const ALL_DAYS: u32 = 0xFFFF_FFFE;
const ALL_WEEKDAYS: u8 = 0x7F;
const DAY_MILLIS: u64 = 24 * 3_600_000;
const MINUTE_MILLIS: u64 = 60_000;
/// Days among which there is one for every expression: around the turn of a century there are
/// eight years without a 29th of February.
const DAYS_AHEAD: u64 = 8 * 366 + 31;

impl Cron {
    /// Bytes of its fixed layout in records.
    pub const BYTES: usize = 8 + 4 + 4 + 2 + 1;

    /// What an expression says.
    ///
    /// # Errors
    /// See [`CronError`].
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let parts: Vec<_> = text.split_ascii_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(CronError::Fields);
        }
        let mut bits = [0; FIELDS.len()];
        for ((bits, field), part) in bits.iter_mut().zip(&FIELDS).zip(parts) {
            *bits = field.parse(part)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let narrow = "a field has no values but its own";
        let cron = Self {
            minutes,
            hours: u32::try_from(hours).expect(narrow),
            days: u32::try_from(days).expect(narrow),
            months: u16::try_from(months).expect(narrow),
            weekdays: u8::try_from((weekdays | weekdays >> 7) & 0x7F).expect(narrow),
        };
        // From the first of 1970 on a 29th of February is never far.
        if cron.day_from(0).is_some() { Ok(cron) } else { Err(CronError::Never) }
    }

    /// Its bytes: minutes u64, hours u32, days u32, months u16, days of the week u8, a bit for each
    /// value from 0 on, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.minutes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.hours.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.days.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.months.to_le_bytes());
        bytes[18] = self.weekdays;
        bytes
    }

    /// The inverse of [`Cron::to_bytes`]; `None` where they are not those of an expression.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (minutes, rest) = bytes.split_first_chunk()?;
        let (hours, rest) = rest.split_first_chunk()?;
        let (days, rest) = rest.split_first_chunk()?;
        let (months, rest) = rest.split_first_chunk()?;
        let cron = Self {
            minutes: u64::from_le_bytes(*minutes),
            hours: u32::from_le_bytes(*hours),
            days: u32::from_le_bytes(*days),
            months: u16::from_le_bytes(*months),
            weekdays: rest[0],
        };
        let [minute, hour, ..] = FIELDS;
        let known = cron.minutes >> (minute.most + 1) == 0
            && cron.hours >> (hour.most + 1) == 0
            && cron.days & !ALL_DAYS == 0
            && cron.months & !0x1FFE == 0
            && cron.weekdays & !ALL_WEEKDAYS == 0;
        let some = cron.minutes != 0 && cron.hours != 0 && cron.weekdays != 0 && cron.days != 0;
        (known && some && cron.day_from(0).is_some()).then_some(cron)
    }

    /// The first time after that one; the end of time where that is too near.
    #[must_use]
    pub fn next(&self, after: Millis) -> Millis {
        let minute = after.0 / MINUTE_MILLIS + 1;
        let (day, minute) = (minute / (24 * 60), minute % (24 * 60));
        let later = || {
            let day = self.day_from(day + 1)?;
            Some((day, self.minute_from(0)?))
        };
        let today = || {
            let day = Some(day).filter(|day| self.fits(*day))?;
            Some((day, self.minute_from(minute)?))
        };
        let found = today().or_else(later);
        found.map_or(Millis(u64::MAX), |(day, minute)| {
            Millis(day.saturating_mul(DAY_MILLIS).saturating_add(minute * MINUTE_MILLIS))
        })
    }

    /// The first minute of a day from that one on.
    fn minute_from(&self, minute: u64) -> Option<u64> {
        (minute / 60..24).filter(|hour| self.hours >> hour & 1 == 1).find_map(|hour| {
            let from = minute.saturating_sub(60 * hour);
            let minutes = self.minutes >> from;
            (minutes != 0).then(|| 60 * hour + from + u64::from(minutes.trailing_zeros()))
        })
    }

    /// The first day since 1970 from that one on. Months that do not fit are passed over: a
    /// transaction may ask hundreds of times.
    fn day_from(&self, mut day: u64) -> Option<u64> {
        let end = day + DAYS_AHEAD;
        while day < end {
            if self.fits(day) {
                return Some(day);
            }
            let (month, of_month) = month_and_day(day);
            let fits = self.months >> month & 1 == 1;
            day += if fits { 1 } else { 28_u64.saturating_sub(u64::from(of_month)).max(1) };
        }
        None
    }

    fn fits(&self, day: u64) -> bool {
        let (month, of_month) = month_and_day(day);
        // The first of 1970 was a Thursday.
        let of_week = self.weekdays >> ((day + 4) % 7) & 1 == 1;
        let of_month = self.days >> of_month & 1 == 1;
        let fits = match (self.days == ALL_DAYS, self.weekdays == ALL_WEEKDAYS) {
            (true, _) => of_week,
            (_, true) => of_month,
            (false, false) => of_month || of_week,
        };
        fits && self.months >> month & 1 == 1
    }
}

/// Month, from 1, and day of the month of a day since 1970, in the calendar of Gregory. Years are
/// taken to begin in March, so that the day that some have more comes last.
fn month_and_day(day: u64) -> (u32, u32) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From the first of March of the year 0 on.
    let day = (day + 719_468) % DAYS_OF_400_YEARS;
    let leap_days = day / 1460 - day / 36_524 + day / (DAYS_OF_400_YEARS - 1);
    let year = (day - leap_days) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months of 153 days, again and again.
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (month as u32, of_month as u32)
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        let wrong = CronError::Field { field: self.name, least: self.least, most: self.most };
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part).ok_or_else(|| wrong.clone())?;
        }
        Ok(bits)
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(number(step).filter(|step| *step > 0)?)),
            None => (part, None),
        };
        // Seven is another Sunday, not a day of `*`.
        let last = if self.names.len() == 7 { 6 } else { self.most };
        let (from, to) = match (values, values.split_once('-')) {
            ("*", _) => (self.least, last),
            (_, Some((from, to))) => (self.value(from)?, self.value(to)?),
            // A step without an end goes on to the last.
            (value, None) if step.is_some() => (self.value(value)?, last),
            (value, None) => (self.value(value)?, self.value(value)?),
        };
        let values = (from..=to).step_by(usize::from(step.unwrap_or(1)));
        (from <= to).then(|| values.fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u8> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u8::try_from(at).ok()).map(|at| at + self.least);
        named.or_else(|| number(text)).filter(|value| (self.least..=self.most).contains(value))
    }
}

fn number(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// An expression that says the same.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = [
            self.minutes,
            self.hours.into(),
            self.days.into(),
            self.months.into(),
            self.weekdays.into(),
        ];
        for (at, (bits, field)) in bits.iter().zip(&FIELDS).enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            field.write(*bits, f)?;
        }
        Ok(())
    }
}

impl Field {
    fn write(&self, bits: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |value: u8| bits >> value & 1 == 1;
        let last = if self.names.len() == 7 { 6 } else { self.most };
        if (self.least..=last).all(has) {
            return f.write_str("*");
        }
        let mut value = self.least;
        let mut first = true;
        while value <= last {
            let run = (value..=last).take_while(|value| has(*value)).count() as u8;
            if run > 0 {
                let comma = if first { "" } else { "," };
                first = false;
                match run {
                    1 => write!(f, "{comma}{value}")?,
                    _ => write!(f, "{comma}{value}-{}", value + run - 1)?,
                }
            }
            value += run + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Milliseconds of a date, by counting days one by one.
    fn at(year: u64, month: u64, day: u64, hour: u64, minute: u64) -> u64 {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        let february = if leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let days = years + months[..month as usize - 1].iter().sum::<u64>() + day - 1;
        ((days * 24 + hour) * 60 + minute) * MINUTE_MILLIS
    }

    /// The times after the middle of a minute on Saturday, the 28th of February 2026, 10:17.
    fn after(text: &str, most: usize) -> Vec<u64> {
        let cron = Cron::parse(text).unwrap();
        let mut now = Millis(at(2026, 2, 28, 10, 17) + 30_000);
        let times = std::iter::from_fn(|| {
            now = cron.next(now);
            Some(now.0)
        });
        times.take(most).collect()
    }

    #[test]
    fn the_next_time_is_the_first_that_every_field_names() {
        let table = [
            ("* * * * *", at(2026, 2, 28, 10, 18), at(2026, 2, 28, 10, 19)),
            ("17 * * * *", at(2026, 2, 28, 11, 17), at(2026, 2, 28, 12, 17)),
            ("*/20 * * * *", at(2026, 2, 28, 10, 20), at(2026, 2, 28, 10, 40)),
            ("5/25 10 * * *", at(2026, 2, 28, 10, 30), at(2026, 2, 28, 10, 55)),
            ("0 8-18/5,22 * * *", at(2026, 2, 28, 13, 0), at(2026, 2, 28, 18, 0)),
            ("30 4 1 * *", at(2026, 3, 1, 4, 30), at(2026, 4, 1, 4, 30)),
            ("0 0 31 * *", at(2026, 3, 31, 0, 0), at(2026, 5, 31, 0, 0)),
            ("0 0 29 2 *", at(2028, 2, 29, 0, 0), at(2032, 2, 29, 0, 0)),
            ("0 9 * * 1-5", at(2026, 3, 2, 9, 0), at(2026, 3, 3, 9, 0)),
            ("0 9 * * MON,fri", at(2026, 3, 2, 9, 0), at(2026, 3, 6, 9, 0)),
            ("0 9 * * 7", at(2026, 3, 1, 9, 0), at(2026, 3, 8, 9, 0)),
            ("0 0 * Jan,dec *", at(2026, 12, 1, 0, 0), at(2026, 12, 2, 0, 0)),
            // Either day will do where both are given.
            ("0 0 13 * 5", at(2026, 3, 6, 0, 0), at(2026, 3, 13, 0, 0)),
        ];
        for (text, first, second) in table {
            assert_eq!(after(text, 2), [first, second], "{text}");
        }
    }

    #[test]
    fn eight_years_without_a_leap_day_are_waited_for() {
        let leap = Cron::parse("0 0 29 2 *").unwrap();
        assert_eq!(leap.next(Millis(at(2096, 2, 29, 0, 0))), Millis(at(2104, 2, 29, 0, 0)));
    }

    #[test]
    fn what_no_cron_would_take_is_refused() {
        for text in ["", "*", "* * * *", "* * * * * *"] {
            assert_eq!(Cron::parse(text), Err(CronError::Fields), "{text:?}");
        }
        for text in [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * 0 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "1, * * * *",
            "+1 * * * *",
            "-1 * * * *",
            "1-2-3 * * * *",
            "1/2/3 * * * *",
            "mon * * * *",
            "300 * * * *",
        ] {
            assert!(matches!(Cron::parse(text), Err(CronError::Field { .. })), "{text:?}");
        }
        assert_eq!(Cron::parse("0 0 30 2 *"), Err(CronError::Never));
        assert_eq!(Cron::parse("0 0 31 4,6,9,11 *"), Err(CronError::Never));
    }

    proptest! {
        #[test]
        fn the_calendar_is_that_of_every_day(days in 0..150_000u64) {
            let (month, day) = month_and_day(days);
            let year = 1970 + (days as f64 / 365.2425) as u64;
            let same = (year - 1..=year + 1).any(|year| {
                at(year, month.into(), day.into(), 0, 0) == days * DAY_MILLIS
            });
            prop_assert!(same, "{days} is not {month}-{day}");
        }

        #[test]
        fn an_expression_is_shown_and_kept_as_what_it_says(
            minutes in 1..1u64 << 60,
            hours in 1..1u32 << 24,
            days in 1..1u32 << 31,
            months in 1..1u16 << 12,
            weekdays in 1..1u8 << 7,
        ) {
            let (days, months) = (days << 1, months << 1);
            let cron = Cron { minutes, hours, days, months, weekdays };
            prop_assume!(cron.day_from(0).is_some());
            prop_assert_eq!(Cron::parse(&cron.to_string()), Ok(cron));
            prop_assert_eq!(Cron::from_bytes(&cron.to_bytes()), Some(cron));
        }

        #[test]
        fn any_text_is_an_expression_or_a_clear_no(text in "[-*/,0-9a-z ]{0,24}", now: u64) {
            if let Ok(cron) = Cron::parse(&text) {
                let _ = cron.next(Millis(now));
            }
        }
    }
}
