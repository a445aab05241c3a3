//! The headers by which a SEND says when its message is to be delivered.
//!
//! They mean what they mean to ActiveMQ: a delay and a period in milliseconds, how often after the
//! first time (-1 is without end), and a cron expression, in UTC, at whose times the others begin.
//! A message that has been scheduled once and is sent on with all its headers goes at once.

use super::fault::Fault;
use crate::message::SCHEDULED_JOB;
use crate::protocol::stomp::Headers;
use crate::schedule::When;

const CRON: &str = "AMQ_SCHEDULED_CRON";
const DELAY: &str = "AMQ_SCHEDULED_DELAY";
const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";

/// When the message of a SEND is to be delivered.
pub(super) fn when(headers: &Headers) -> Result<When, Fault> {
    let cron = headers.get(CRON).filter(|text| !text.is_empty());
    let (delay, period) = (millis(headers, DELAY)?, millis(headers, PERIOD)?);
    let repeat = repeat(headers)?;
    let when = When::of(cron, delay, period, repeat).map_err(Fault::Schedule)?;
    if headers.get(SCHEDULED_JOB).is_some() {
        return Ok(When::AtOnce);
    }
    Ok(when)
}

fn millis(headers: &Headers, name: &'static str) -> Result<u64, Fault> {
    let Some(value) = headers.get(name) else { return Ok(0) };
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let millis = value.parse().ok().filter(|_| plain);
    millis.ok_or_else(|| Fault::bad_header(name, value, "a number of milliseconds"))
}

fn repeat(headers: &Headers) -> Result<Option<u32>, Fault> {
    let Some(value) = headers.get(REPEAT) else { return Ok(Some(0)) };
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        _ if value == "-1" => Ok(None),
        Ok(times) if plain => Ok(Some(times)),
        _ => Err(Fault::bad_header(REPEAT, value, "a number of times, or -1 for without end")),
    }
}
