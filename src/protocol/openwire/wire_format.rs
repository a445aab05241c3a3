//! `WireFormatInfo`: what each side can and wants, and what both make of it.
//!
//! Owns the names and rules of the properties. [`negotiate`] is a pure function of both sides'
//! words.

use std::time::Duration;

use super::kinds::Field;
use super::primitive::{Map, Room, Value};
#[cfg(test)]
use super::sample::Sampler;
use super::table::WireFormatInfo;
use super::{DecodeError, Format, Reader, Text, Version, Writer};
use crate::limits::OPENWIRE_PROPERTIES_MAX;

/// The eight bytes that every `WireFormatInfo` begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Magic;

impl Magic {
    const BYTES: &[u8; 8] = b"ActiveMQ";
}

impl Field for Magic {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let found = reader.take(Self::BYTES.len())?;
        if found[..] == Self::BYTES[..] { Ok(Self) } else { Err(DecodeError::NotOpenWire) }
    }

    fn write(&self, writer: &mut Writer) {
        writer.raw(Self::BYTES);
    }

    #[cfg(test)]
    fn sample(_: &mut Sampler) -> Self {
        Self
    }
}

/// What one side says of itself. What it does not say is no, or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireFormat {
    /// The newest version it speaks.
    pub version: i32,
    /// It would remember what was sent.
    pub cache_enabled: bool,
    /// It would speak the tight encoding.
    pub tight_encoding_enabled: bool,
    /// It would leave the size before each frame out.
    pub size_prefix_disabled: bool,
    /// It would have exceptions with their stacks.
    pub stack_trace_enabled: bool,
    /// It would send small packets at once.
    pub tcp_no_delay_enabled: bool,
    /// Slots of the cache; 0 is as many as there can be.
    pub cache_size: i32,
    /// Milliseconds of silence after which the other side is dead; 0 is never.
    pub max_inactivity_duration: i64,
    /// Milliseconds before silence counts.
    pub max_inactivity_duration_initial_delay: i64,
    /// Bytes of the largest frame; 0 is no limit.
    pub max_frame_size: i64,
    /// It looks at the sizes of frames.
    pub max_frame_size_enabled: bool,
    /// Who made it.
    pub provider_name: Option<String>,
    /// Its version.
    pub provider_version: Option<String>,
    /// What it runs on.
    pub platform_details: Option<String>,
}

// The names, with the spelling mistake that all but NMS share.
const CACHE: &str = "CacheEnabled";
const TIGHT: &str = "TightEncodingEnabled";
const NO_SIZES: &str = "SizePrefixDisabled";
const STACKS: &str = "StackTraceEnabled";
const NO_DELAY: &str = "TcpNoDelayEnabled";
const CACHE_SIZE: &str = "CacheSize";
const INACTIVITY: &str = "MaxInactivityDuration";
const INITIAL_DELAY: &str = "MaxInactivityDurationInitalDelay";
const FRAME_SIZE: &str = "MaxFrameSize";
const FRAME_SIZE_ENABLED: &str = "MaxFrameSizeEnabled";
const PROVIDER: &str = "ProviderName";
const PROVIDER_VERSION: &str = "ProviderVersion";
const PLATFORM: &str = "PlatformDetails";

impl WireFormat {
    /// What a peer says. A property of an unexpected type counts as not said.
    ///
    /// # Errors
    /// Where the properties are no map, too many, or nested: this comes before anyone is known.
    pub fn read(info: &WireFormatInfo) -> Result<Self, DecodeError> {
        let bytes = info.marshalled_properties.clone().unwrap_or_default();
        let room = Room { bytes: OPENWIRE_PROPERTIES_MAX * size_of::<(Text, Value)>(), nesting: 0 };
        let map = if bytes.is_empty() { Map::default() } else { Map::decode(bytes, room)? };
        let yes = |name| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        let number = |name| map.get(name).and_then(Value::as_integer).unwrap_or(0);
        let text = |name| Some(map.get(name)?.as_text()?.into_owned());
        Ok(Self {
            version: info.version,
            cache_enabled: yes(CACHE),
            tight_encoding_enabled: yes(TIGHT),
            size_prefix_disabled: yes(NO_SIZES),
            stack_trace_enabled: yes(STACKS),
            tcp_no_delay_enabled: yes(NO_DELAY),
            cache_size: i32::try_from(number(CACHE_SIZE)).unwrap_or(0),
            max_inactivity_duration: number(INACTIVITY),
            max_inactivity_duration_initial_delay: number(INITIAL_DELAY),
            max_frame_size: number(FRAME_SIZE),
            max_frame_size_enabled: yes(FRAME_SIZE_ENABLED),
            provider_name: text(PROVIDER),
            provider_version: text(PROVIDER_VERSION),
            platform_details: text(PLATFORM),
        })
    }

    /// The frame that says so.
    #[must_use]
    pub fn to_info(&self) -> WireFormatInfo {
        let mut entries = Vec::new();
        let mut say = |name: &str, value| {
            entries.push((Text::new(name).expect("names are short"), value));
        };
        for (name, yes) in [
            (CACHE, self.cache_enabled),
            (TIGHT, self.tight_encoding_enabled),
            (NO_SIZES, self.size_prefix_disabled),
            (STACKS, self.stack_trace_enabled),
            (NO_DELAY, self.tcp_no_delay_enabled),
            (FRAME_SIZE_ENABLED, self.max_frame_size_enabled),
        ] {
            say(name, Value::Bool(u8::from(yes)));
        }
        say(CACHE_SIZE, Value::Int(self.cache_size));
        say(INACTIVITY, Value::Long(self.max_inactivity_duration));
        say(INITIAL_DELAY, Value::Long(self.max_inactivity_duration_initial_delay));
        say(FRAME_SIZE, Value::Long(self.max_frame_size));
        for (name, text) in [
            (PROVIDER, &self.provider_name),
            (PROVIDER_VERSION, &self.provider_version),
            (PLATFORM, &self.platform_details),
        ] {
            if let Some(text) = text {
                say(name, Value::text(text));
            }
        }
        let marshalled_properties = Some(Map(entries).encode());
        WireFormatInfo { magic: Magic, version: self.version, marshalled_properties }
    }
}

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// How frames are written from now on.
    pub format: Format,
    /// Bytes of the largest frame, in either direction.
    pub frame_bytes_max: u64,
    /// Small packets are sent at once.
    pub tcp_no_delay: bool,
    /// When silence counts; `None` if it never does.
    pub inactivity: Option<Inactivity>,
}

/// When silence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inactivity {
    /// Before this has passed since the agreement, nobody looks.
    pub initial_delay: Duration,
    /// Who is silent for so long is dead.
    pub dead_after: Duration,
}

impl Inactivity {
    /// Who has sent nothing for so long sends a `KeepAliveInfo`.
    #[must_use]
    pub fn keep_alive_after(&self) -> Duration {
        self.dead_after / 3
    }
}

/// Why two sides cannot speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// There is no version that both speak.
    #[error("there is no OpenWire version {version}")]
    UnknownVersion {
        /// What they would have to speak.
        version: i32,
    },
    /// Both want frames without their sizes.
    #[error("frames without their sizes are not spoken here")]
    NoSizes,
}

/// What follows from what both sides say; it is the same whoever is asked.
///
/// # Errors
/// Where nothing does.
pub fn negotiate(ours: &WireFormat, theirs: &WireFormat) -> Result<Agreed, NegotiationError> {
    if ours.size_prefix_disabled && theirs.size_prefix_disabled {
        return Err(NegotiationError::NoSizes);
    }
    let version = smaller(ours.version.into(), theirs.version.into()) as i32;
    let known = Version::new(version).ok_or(NegotiationError::UnknownVersion { version })?;
    let slots = match ours.cache_size.min(theirs.cache_size) {
        1..=32_767 => ours.cache_size.min(theirs.cache_size) as u16,
        _ => 16_383,
    };
    let millis = |number: i64| Duration::from_millis(u64::try_from(number).unwrap_or(0));
    let dead_after = ours.max_inactivity_duration.min(theirs.max_inactivity_duration);
    let initial_delay = (ours.max_inactivity_duration_initial_delay)
        .min(theirs.max_inactivity_duration_initial_delay);
    let frame_size = smaller(ours.max_frame_size, theirs.max_frame_size);
    Ok(Agreed {
        format: Format {
            version: known,
            tight: ours.tight_encoding_enabled && theirs.tight_encoding_enabled,
            cache_slots: (ours.cache_enabled && theirs.cache_enabled).then_some(slots),
            stack_traces: ours.stack_trace_enabled && theirs.stack_trace_enabled,
        },
        frame_bytes_max: u64::try_from(frame_size)
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(u64::MAX),
        tcp_no_delay: ours.tcp_no_delay_enabled && theirs.tcp_no_delay_enabled,
        inactivity: (dead_after > 0).then(|| Inactivity {
            initial_delay: millis(initial_delay),
            dead_after: millis(dead_after),
        }),
    })
}

/// The smaller of two numbers; one that is not positive was not said.
fn smaller(a: i64, b: i64) -> i64 {
    if a > 0 && b > 0 { a.min(b) } else { a.max(b) }
}
