//! CONNECT to CONNECTED: the version and the heart-beats both sides can live with.

use std::time::Duration;

use bytes::BytesMut;

use super::beats::Beats;
use super::config::{HeartBeat, SessionConfig};
use super::fault::{Fault, excerpt};
use crate::ids::ConnectionId;
use crate::protocol::stomp::{Command, FrameEncoder, Headers, Version};

/// What CONNECT asked for and this side can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreement {
    pub(super) version: Version,
    /// This side sends at least this often; zero is never.
    send_every: Duration,
    /// The client sends at least this often; zero is never.
    receive_every: Duration,
}

impl Agreement {
    /// From the headers of CONNECT.
    pub(super) fn reach(headers: &Headers, config: &SessionConfig) -> Result<Self, Fault> {
        let version = match headers.get("accept-version") {
            None => Version::V1_0,
            Some(offered) => offered
                .split(',')
                .filter_map(|name| Version::parse(name.trim()))
                .max()
                .ok_or_else(|| Fault::NoCommonVersion { offered: excerpt(offered) })?,
        };
        let (can, wants) = match headers.get("heart-beat") {
            Some(value) if version > Version::V1_0 => parse_heart_beat(value)?,
            _ => (Duration::ZERO, Duration::ZERO),
        };
        let agreed = |one: Duration, other: Duration| {
            if one.is_zero() || other.is_zero() { Duration::ZERO } else { one.max(other) }
        };
        Ok(Self {
            version,
            send_every: agreed(config.heart_beat.send, wants),
            receive_every: agreed(config.heart_beat.receive, can),
        })
    }

    pub(super) fn beats(self, now: Duration) -> Beats {
        Beats::new(self.send_every, self.receive_every, now)
    }

    /// Writes CONNECTED.
    pub(super) fn encode(
        self,
        config: &SessionConfig,
        connection: ConnectionId,
        out: &mut BytesMut,
    ) {
        let HeartBeat { send, receive } = config.heart_beat;
        let frame = FrameEncoder::new(out, Some(self.version), Command::Connected)
            .header("version", self.version.name())
            .display("session", format_args!("{}-{}", config.id_prefix, connection.0))
            .header("server", &config.server);
        if self.version == Version::V1_0 {
            frame.end();
        } else {
            let beats = format_args!("{},{}", send.as_millis(), receive.as_millis()).to_string();
            frame.header("heart-beat", &beats).end();
        }
    }
}

/// What the client can send and what it wants, from `cx,cy` in milliseconds.
fn parse_heart_beat(value: &str) -> Result<(Duration, Duration), Fault> {
    let bad = || {
        Fault::bad_header("heart-beat", value, "two numbers of milliseconds with a comma between")
    };
    let millis = |number: &str| {
        let number = number.trim();
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        if plain { number.parse().ok().map(Duration::from_millis) } else { None }
    };
    let (can, wants) = value.split_once(',').ok_or_else(bad)?;
    Ok((millis(can).ok_or_else(bad)?, millis(wants).ok_or_else(bad)?))
}
