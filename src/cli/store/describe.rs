//! Records, payloads and times in words for a person.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;

use crate::broker::delta::{Place, Scope};
use crate::identity::Mark;
use crate::ids::{Body, Millis, QueueId};
use crate::message::{BodyKind, Content, LargeHead};
use crate::record::{
    BranchRecord, Forgotten, Gone, Named, OnceThere, ProducersRecord, Record, Settlement,
};
use crate::schedule::{Plan, Wait};

/// Characters of a body that are shown.
const SHOWN_CHARS: usize = 60;
/// Bytes of a body that is no text that are shown.
const SHOWN_BYTES: usize = 16;
/// Messages of one record that are shown one by one.
const SHOWN_MESSAGES: usize = 8;

/// The names of queues, as far as they are known.
pub(super) type Names = BTreeMap<QueueId, Box<str>>;

/// The name of a record's kind and what it says.
pub(super) fn record(record: &Record, names: &Names) -> String {
    let queue = |id: &QueueId| match names.get(id) {
        Some(name) => format!("{id} ({})", name.escape_debug()),
        None => id.to_string(),
    };
    match record {
        Record::Started { epoch, at } => format!("Started epoch {epoch} at {}", time(*at)),
        Record::Restored { at } => format!("Restored from a backup at {}", time(*at)),
        Record::QueueCreated { queue, name, at } => {
            format!("QueueCreated {queue} ({}) at {}", name.escape_debug(), time(*at))
        }
        Record::QueueDeleted { queue: id } => format!("QueueDeleted {}", queue(id)),
        Record::Sent { queue: id, place: to, at, expires, lent, upload, once } => {
            let expires = expires.map_or(String::new(), |at| format!(" expires {}", time(at)));
            let lent = if *lent { " lent at once" } else { "" };
            let (to, at, body) = (place(*to), time(*at), body(*upload));
            let name = name(*once);
            format!("Sent to {} {to} at {at}{expires}{lent}{body}{name}", queue(id))
        }
        Record::Lent { queue: id, rank, through } => {
            let priority = priority(*rank);
            format!("Lent from {} priority {priority} through number {through}", queue(id))
        }
        Record::Returned { queue: id, entries } => {
            let list = some(entries, |(to, entry)| {
                let due =
                    entry.due.map_or(String::new(), |due| format!(" until {}", time(due.millis())));
                format!("{} born {} returns {}{due}", place(*to), entry.birth, entry.returns)
            });
            format!("Returned to {}: {list}", queue(id))
        }
        Record::Removed { queue: id, cause, gone: messages } => {
            format!("Removed from {} {cause:?}: {}", queue(id), some(messages, gone))
        }
        Record::Moved { from, gone: message, to, place: new, at, upload } => {
            let (old, new, at, body) = (gone(message), place(*new), time(*at), body(*upload));
            format!("Moved from {} {old} to {} {new} at {at}{body}", queue(from), queue(to))
        }
        Record::Piece { upload, number, bytes } => {
            format!("Piece {number} of {upload}, {bytes} bytes")
        }
        Record::Abandoned { uploads } => {
            format!("Abandoned {}", some(uploads, ToString::to_string))
        }
        Record::PiecesGone { upload, first, gone, last } => {
            let all = if *last { ", which is gone" } else { "" };
            format!("PiecesGone {} from number {first} of {upload}{all}", gone.len())
        }
        Record::Transferred { from, to, first, entries } => {
            let list =
                some(entries, |(old, entry)| format!("{} born {}", place(*old), entry.birth));
            let (from, to) = (queue(from), queue(to));
            format!("Transferred from {from} to {to}, there from number {first} on: {list}")
        }
        _ => late(record, &queue),
    }
}

/// The same of the records of messages that are delayed or set apart.
fn late(record: &Record, queue: &dyn Fn(&QueueId) -> String) -> String {
    match record {
        Record::PutOff { queue: id, until, entries } => {
            let list = some(entries, |(at, entry)| format!("{} born {}", place(*at), entry.birth));
            format!("PutOff in {} until {}: {list}", queue(id), time(until.millis()))
        }
        Record::Scheduled { queue: id, place: to, at, until, upload, once, plan, .. } => {
            let (to, at, until) = (place(*to), time(*at), time(until.millis()));
            let (body, name) = (body(*upload), name(*once));
            let again = plan.map_or(String::new(), |plan| format!(", {}", again(&plan)));
            format!("Scheduled in {} {to} at {at} until {until}{again}{body}{name}", queue(id))
        }
        Record::Occurred(it) => {
            let (from, to, next) = (place(it.from), place(it.place), time(it.turn.due));
            let (id, at, birth) = (queue(&it.queue), time(it.at), it.entry.birth);
            format!("Occurred in {id} {to} at {at}, of {from} born {birth}, again at {next}")
        }
        Record::Fired { queue: id, first, at, entries } => {
            let list = some(entries, |(at, entry)| format!("{} born {}", place(*at), entry.birth));
            format!("Fired in {} at {} from number {first} on: {list}", queue(id), time(*at))
        }
        Record::Published(it) => {
            let list = some(&it.targets, |it| format!("{} number {}", queue(&it.queue), it.seq));
            format!("Published at {} to {list}{}", time(it.at), name(it.once.map(OnceThere::mark)))
        }
        Record::Spread(it) => {
            let list = some(&it.targets, |it| format!("{} number {}", queue(&it.queue), it.seq));
            let (from, old) = (queue(&it.from), place(it.place));
            let body = body(it.entry.upload);
            format!("Spread {old} of {from} born {}{body} to {list}", it.entry.birth)
        }
        Record::Woken { queue: id, entries } => {
            let list = some(entries, |(at, entry)| format!("{} born {}", place(*at), entry.birth));
            format!("Woken in {}: {list}", queue(id))
        }
        Record::DeadLettered { from, to, first, note, why, entries } => {
            let list =
                some(entries, |(old, entry)| format!("{} born {}", place(*old), entry.birth));
            let (from, to) = (queue(from), queue(to));
            format!("DeadLettered {why:?} ({note}) from {from} to {to} from number {first}: {list}")
        }
        _ => transacted(record, queue),
    }
}

fn again(plan: &Plan) -> String {
    let Plan { cron, delay, period, repeat } = plan;
    let times = repeat.map_or("for ever".to_owned(), |times| format!("{times} times more"));
    let cron = cron.map_or(String::new(), |cron| format!("cron {cron}, "));
    format!("{cron}delay {delay} ms, period {period} ms, {times}")
}

/// What happens in transactions.
fn transacted(record: &Record, queue: &dyn Fn(&QueueId) -> String) -> String {
    match record {
        Record::Staged(staged) => {
            let (to, at, body) = (queue(&staged.queue), time(staged.at), body(staged.upload));
            let (number, transaction) = (staged.number, staged.transaction);
            let (name, wait) = (name(staged.once), staged.later.map(|(_, wait)| wait));
            let later = match wait {
                None => String::new(),
                Some(Wait::After(millis)) => format!(", {millis} ms after the commit"),
                Some(Wait::Again(plan)) => format!(", from the commit on {}", again(&plan)),
            };
            format!("Staged as {number} of {transaction} to {to} at {at}{later}{body}{name}")
        }
        Record::Taken(taken) => {
            let list = some(&taken.messages, |(_, at, entry)| {
                format!("{} born {}", place(*at), entry.birth)
            });
            let (first, transaction) = (taken.first, taken.transaction);
            format!("Taken from {} as {first} of {transaction} on: {list}", queue(&taken.queue))
        }
        Record::Decided(decided) => {
            format!("Decided {} {:?}", decided.transaction, decided.resolution)
        }
        Record::Settled(settled) => {
            let list = some(&settled.outcomes, |outcome| match outcome {
                Settlement::Enter { queue: id, place: at, entry } => {
                    format!("enters {} {} born {}", queue(id), place(*at), entry.birth)
                }
                Settlement::Leave { queue: id, gone: left } => {
                    format!("leaves {} {}", queue(id), gone(left))
                }
                Settlement::Free { queue: id, place: at, entry } => {
                    format!("stays in {} {} returns {}", queue(id), place(*at), entry.returns)
                }
                Settlement::Drop { queue: id, birth, .. } => {
                    format!("never enters {} born {birth}", queue(id))
                }
            });
            let (end, first) = (if settled.last { ", the end" } else { "" }, settled.first);
            let (transaction, outcome) = (settled.transaction, settled.resolution);
            format!("Settled {transaction} from {first} on {outcome:?}{end}: {list}")
        }
        Record::Branch(record) => branch(record, queue),
        Record::Producers(record) => producers(record),
        _ => named(record, queue),
    }
}

/// What is known under a name.
fn named(record: &Record, queue: &dyn Fn(&QueueId) -> String) -> String {
    match record {
        Record::Named(Named { id, at, transaction, operations }) => {
            let at = time(*at);
            let what = match (transaction, operations) {
                (Some(transaction), _) => format!("of {transaction}"),
                (None, Some(_)) => "of nothing durable".to_owned(),
                (None, None) => "that will never be".to_owned(),
            };
            format!("Named a commit {what} at {at}: id {id}")
        }
        Record::Forgotten(Forgotten { scope, through }) => {
            let scope = match scope {
                Scope::Commits => "commits".to_owned(),
                Scope::Queue(id) => queue(id),
                Scope::Topic(topic) => format!("the topic of digest {topic:016x}"),
            };
            format!("Forgotten ids of {scope} through number {through}")
        }
        _ => unreachable!("the other kinds are described elsewhere"),
    }
}

/// What happens to branches of global transactions.
fn branch(record: &BranchRecord, queue: &dyn Fn(&QueueId) -> String) -> String {
    match record {
        BranchRecord::Kept(kept) => {
            let (number, transaction) = (kept.number, kept.transaction);
            format!("Kept as {number} of {transaction} from {}", queue(&kept.queue))
        }
        BranchRecord::Prepared { transaction, at, xid, client } => {
            format!("Prepared {xid} as {transaction} at {}, begun by {client}", time(*at))
        }
        BranchRecord::Completed { transaction, resolution, operator, at, xid } => {
            let who = if *operator { " by an operator" } else { "" };
            let id = transaction.map_or_else(String::new, |id| format!(" as {id}"));
            format!("Completed {xid}{id} by {resolution:?}{who} at {}", time(*at))
        }
        BranchRecord::Forgotten { xid } => format!("Forgotten {xid}"),
        BranchRecord::OutcomesForgotten { through } => {
            format!("OutcomesForgotten up to number {through}")
        }
        BranchRecord::Begun { xid } => format!("Begun {xid}"),
    }
}

fn name(once: Option<Mark>) -> String {
    match once {
        None => String::new(),
        Some(Mark::Name(id)) => format!(" id {id}"),
        Some(Mark::Number(it)) => format!(" number {} of producer {}", it.sequence, it.producer),
    }
}

/// What becomes of producers that count what they send.
fn producers(record: &ProducersRecord) -> String {
    let all = some(record.producers(), ToString::to_string);
    match record {
        ProducersRecord::Parted { at, closed, .. } => {
            let how = if *closed { "Closed" } else { "Lost" };
            format!("{how} at {}: producers {all}", time(*at))
        }
        ProducersRecord::Forgotten { .. } => format!("Forgotten producers {all}"),
    }
}

fn some<T>(list: &[T], one: impl Fn(&T) -> String) -> String {
    let mut text = list.iter().take(SHOWN_MESSAGES).map(one).collect::<Vec<_>>().join(", ");
    if list.len() > SHOWN_MESSAGES {
        write!(text, ", and {} more", list.len() - SHOWN_MESSAGES).expect("a string takes all");
    }
    text
}

fn gone(gone: &Gone) -> String {
    format!("{} born {}{}", place(gone.place), gone.birth, body(gone.upload))
}

/// Where a body lies that is in pieces.
fn body(upload: Option<Body>) -> String {
    upload.map_or(String::new(), |upload| format!(" body in {upload}"))
}

fn place(place: Place) -> String {
    format!("number {} priority {}", place.seq, priority(place.rank))
}

/// As clients know it: the most urgent is 9.
fn priority(rank: u8) -> u8 {
    9_u8.saturating_sub(rank)
}

/// How long a payload is, and how its body begins.
pub(super) fn payload(payload: &Bytes) -> String {
    let length = payload.len();
    if let Ok(LargeHead { properties, bytes, .. }) = LargeHead::decode(payload.clone()) {
        let properties = properties.len();
        return format!("payload {length} bytes, {properties} properties, {bytes} bytes elsewhere");
    }
    let Ok(content) = Content::decode(payload.clone()) else {
        return format!("payload of {length} bytes that is no message: {}", beginning(payload));
    };
    let kind = match content.kind {
        BodyKind::Text => "text",
        BodyKind::Bytes => "bytes",
    };
    let (properties, body) = (content.properties.len(), content.body.len());
    let shown = beginning(&content.body);
    format!("payload {length} bytes, {properties} properties, {kind} of {body} bytes: {shown}")
}

/// The first characters of what can be printed, else the first bytes.
fn beginning(bytes: &[u8]) -> String {
    // Enough for so many characters; a character that is cut is left out.
    let head = &bytes[..bytes.len().min(SHOWN_CHARS * 4)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && head.len() < bytes.len() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    match text {
        Some(text) if text.chars().all(printable) => {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            let more = if shown.len() < bytes.len() { "..." } else { "" };
            format!("{shown:?}{more}")
        }
        _ => {
            let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
            let more = if shown.len() < bytes.len() { "..." } else { "" };
            let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            hex.join(" ") + more
        }
    }
}

/// A time of day in UTC; milliseconds since 1970 where the year has more than four digits.
pub(in crate::cli) fn time(at: Millis) -> String {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    const YEAR_10000: u64 = 253_402_300_800_000;
    if at.0 >= YEAR_10000 {
        return format!("{} ms", at.0);
    }
    let (year, month, day) = date(at.0 / DAY);
    let millis = at.0 % DAY;
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, millis) = (millis / 1000 % 60, millis % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day, so many days after the first of January 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_calendars_tell_them() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "253402300800000 ms"),
            (u64::MAX, "18446744073709551615 ms"),
        ];
        for (millis, expected) in table {
            assert_eq!(time(Millis(millis)), expected);
        }
    }

    #[test]
    fn a_body_is_shown_by_its_beginning_and_never_as_control_characters() {
        let shown = |body: &[u8]| beginning(body);
        assert_eq!(shown(b"hello\n"), r#""hello\n""#);
        assert_eq!(shown(b""), r#""""#);
        assert_eq!(shown(b"\x1b[2J"), "1b 5b 32 4a");
        assert_eq!(shown(&[0xff; 20]), format!("{}...", ["ff"; 16].join(" ")));
        let long = "ä".repeat(1000);
        assert_eq!(shown(long.as_bytes()), format!("{:?}...", "ä".repeat(60)));
        // Cut in the middle of a character, after the last that is shown.
        let odd = format!("x{}", "世".repeat(100));
        assert!(shown(odd.as_bytes()).starts_with("\"x世世"), "{}", shown(odd.as_bytes()));
    }
}
