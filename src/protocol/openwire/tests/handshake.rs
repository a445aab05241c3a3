//! What two sides make of their words.

use std::time::Duration;

use super::super::primitive::{Map, Value};
use super::super::table::WireFormatInfo;
use super::super::{
    DecodeError, Inactivity, Magic, NegotiationError, Text, Version, WireFormat, negotiate,
};

/// As this broker will speak.
fn broker() -> WireFormat {
    WireFormat {
        version: 12,
        stack_trace_enabled: true,
        tcp_no_delay_enabled: true,
        cache_size: 1024,
        max_inactivity_duration: 30_000,
        max_inactivity_duration_initial_delay: 10_000,
        max_frame_size: 100 << 20,
        max_frame_size_enabled: true,
        provider_name: Some("EscrowMQ".to_owned()),
        ..WireFormat::default()
    }
}

/// As Java clients do.
fn java() -> WireFormat {
    WireFormat {
        cache_enabled: true,
        tight_encoding_enabled: true,
        max_frame_size: i64::MAX,
        ..broker()
    }
}

#[test]
fn tight_encoding_cache_and_stacks_need_both_sides() {
    let agreed = negotiate(&broker(), &java()).unwrap();
    assert!(!agreed.format.tight && agreed.format.stack_traces);
    assert_eq!(agreed.format.cache_slots, None);
    assert_eq!(agreed, negotiate(&java(), &broker()).unwrap());
    let both = negotiate(&java(), &java()).unwrap();
    assert!(both.format.tight);
    assert_eq!(both.format.cache_slots, Some(1024));
    let quiet = WireFormat { stack_trace_enabled: false, ..java() };
    assert!(!negotiate(&broker(), &quiet).unwrap().format.stack_traces);
}

#[test]
fn the_older_version_is_spoken_and_an_unknown_one_is_none() {
    let version = |theirs| {
        let theirs = WireFormat { version: theirs, ..java() };
        negotiate(&broker(), &theirs).map(|agreed| agreed.format.version.number())
    };
    assert_eq!(version(10), Ok(10));
    assert_eq!(version(12), Ok(12));
    assert_eq!(version(i32::MAX), Ok(12));
    // What is not positive was not said.
    assert_eq!(version(0), Ok(12));
    assert_eq!(version(-5), Ok(12));
    let none = WireFormat { version: 0, ..broker() };
    assert_eq!(negotiate(&none, &none), Err(NegotiationError::UnknownVersion { version: 0 }));
}

#[test]
fn frames_without_sizes_are_refused() {
    let bare = WireFormat { size_prefix_disabled: true, ..broker() };
    assert_eq!(negotiate(&bare, &bare), Err(NegotiationError::NoSizes));
    assert!(negotiate(&broker(), &bare).is_ok());
}

#[test]
fn the_smaller_frame_limit_holds_and_a_missing_one_is_none() {
    let limit = |theirs| {
        let theirs = WireFormat { max_frame_size: theirs, ..java() };
        negotiate(&broker(), &theirs).unwrap().frame_bytes_max
    };
    assert_eq!(limit(i64::MAX), 100 << 20);
    assert_eq!(limit(4096), 4096);
    for missing in [0, -1, i64::MIN] {
        assert_eq!(limit(missing), 100 << 20);
    }
    let unlimited = WireFormat { max_frame_size: 0, ..java() };
    assert_eq!(negotiate(&unlimited, &unlimited).unwrap().frame_bytes_max, u64::MAX);
}

#[test]
fn silence_counts_from_the_shorter_time_on_and_never_where_one_side_says_none() {
    let inactivity = |millis| {
        let theirs = WireFormat { max_inactivity_duration: millis, ..java() };
        negotiate(&broker(), &theirs).unwrap().inactivity
    };
    let expected = Inactivity {
        initial_delay: Duration::from_secs(10),
        dead_after: Duration::from_millis(1500),
    };
    assert_eq!(inactivity(1500), Some(expected));
    assert_eq!(expected.keep_alive_after(), Duration::from_millis(500));
    assert_eq!(inactivity(i64::MAX).unwrap().dead_after, Duration::from_secs(30));
    for none in [0, -1, i64::MIN] {
        assert_eq!(inactivity(none), None);
    }
}

#[test]
fn a_side_that_says_nothing_but_its_version_is_understood() {
    let info = WireFormatInfo { magic: Magic, version: 12, marshalled_properties: None };
    let theirs = WireFormat::read(&info).unwrap();
    assert_eq!(theirs, WireFormat { version: 12, ..WireFormat::default() });
    let agreed = negotiate(&broker(), &theirs).unwrap();
    assert_eq!((agreed.format.version, agreed.inactivity), (Version::NEWEST, None));
}

#[test]
fn what_one_side_says_is_what_the_other_reads() {
    assert_eq!(WireFormat::read(&java().to_info()), Ok(java()));
    assert_eq!(WireFormat::read(&WireFormat::default().to_info()), Ok(WireFormat::default()));
}

fn info(entries: Vec<(Text, Value)>) -> WireFormatInfo {
    let marshalled_properties = Some(Map(entries).encode());
    WireFormatInfo { magic: Magic, version: 12, marshalled_properties }
}

#[test]
fn a_property_of_an_unexpected_type_counts_as_not_said() {
    let say = |name: &str, value| (Text::new(name).unwrap(), value);
    let odd = info(vec![
        say("CacheEnabled", Value::text("true")),
        say("TightEncodingEnabled", Value::Int(1)),
        say("CacheSize", Value::Long(i64::MAX)),
        say("MaxInactivityDuration", Value::Int(7)),
        say("MaxFrameSize", Value::Null),
        say("ProviderName", Value::Bool(1)),
        say("Unheard", Value::Char(1)),
    ]);
    let expected = WireFormat { version: 12, max_inactivity_duration: 7, ..WireFormat::default() };
    assert_eq!(WireFormat::read(&odd), Ok(expected));
}

#[test]
fn too_many_or_nested_properties_are_refused() {
    let many = |count| info(vec![(Text::default(), Value::Null); count]);
    assert!(WireFormat::read(&many(64)).is_ok());
    assert_eq!(WireFormat::read(&many(65)), Err(DecodeError::TooMuch));
    for nested in [Value::Map(None), Value::List(Vec::new())] {
        let found = WireFormat::read(&info(vec![(Text::default(), nested)]));
        assert!(matches!(found, Err(DecodeError::TooDeep { .. })), "{found:?}");
    }
}
