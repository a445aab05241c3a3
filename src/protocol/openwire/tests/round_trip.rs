//! What is written is read again, for any structure in any format.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::sample::Sampler;
use super::super::table::*;
use super::super::{DecodeError, Decoder, EncodeError, Format, Text, Version, encode};
use super::{NEWEST, frame_of};

fn formats() -> impl Strategy<Value = Format> {
    (1..=12, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(version, tight, cache, stack_traces)| Format {
            version: Version::new(version).unwrap(),
            tight,
            cache_slots: cache.then_some(1024),
            stack_traces,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_structure_in_any_format_is_read_as_it_was_written(seed: u64, format in formats()) {
        let structure: Structure = Sampler::structure(seed);
        let frame = frame_of(&structure, format);
        let read = Decoder::new(format).decode(frame.clone());
        let read = read.unwrap_or_else(|error| panic!("{error}: {structure:?}"));
        // What the version does not have is gone; nothing goes the second time.
        prop_assert_eq!(frame_of(&read, format), frame);
        if format.version == Version::NEWEST && format.stack_traces {
            prop_assert_eq!(read, structure);
        }
    }

    #[test]
    fn a_frame_that_lacks_bytes_or_has_more_is_refused(seed: u64, format in formats()) {
        let structure: Structure = Sampler::structure(seed);
        let frame = frame_of(&structure, format);
        for length in 0..frame.len() {
            let read = Decoder::new(format).decode(frame.slice(..length));
            prop_assert!(read.is_err(), "{} of {}: {:?}", length, frame.len(), structure);
        }
        let more = [&frame[..], b"\0"].concat();
        let left_over = Err(DecodeError::LeftOver { count: 1 });
        prop_assert_eq!(Decoder::new(format).decode(more.into()), left_over);
    }
}

#[test]
fn every_structure_is_among_the_samples() {
    let codes: std::collections::BTreeSet<u8> = (0..5000)
        .map(|seed| super::super::Object::code(&Sampler::structure::<Structure>(seed)))
        .collect();
    assert_eq!(codes.len(), 50);
}

#[test]
fn what_a_version_does_not_have_reads_as_absent() {
    let remove = RemoveInfo { last_delivered_sequence_id: 7, ..RemoveInfo::default() };
    let read = |version| {
        let format = Format { version: Version::new(version).unwrap(), ..NEWEST };
        match Decoder::new(format).decode(frame_of(&remove, format)).unwrap() {
            Structure::RemoveInfo(read) => read.last_delivered_sequence_id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read(5), 7);
    // Before version 5 nobody knows.
    assert_eq!(read(4), -2);
}

#[test]
fn bridge_filters_have_their_one_limit_in_old_versions() {
    let filter = NetworkBridgeFilter { network_ttl: 3, ..NetworkBridgeFilter::default() };
    for (version, expected) in [(1, 3), (9, 3), (10, 0)] {
        let format = Format { version: Version::new(version).unwrap(), ..NEWEST };
        match Decoder::new(format).decode(frame_of(&filter, format)).unwrap() {
            Structure::NetworkBridgeFilter(read) => assert_eq!(read.network_ttl, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_length_cannot_say_is_not_written() {
    let mut out = BytesMut::from(&b"before"[..]);
    let data = Some(vec![None; 32_768]);
    let response = DataArrayResponse { data, ..DataArrayResponse::default() };
    let too_long = Err(EncodeError::ArrayTooLong { count: 32_768 });
    assert_eq!(encode(&response, NEWEST, usize::MAX, &mut out), too_long);
    let response = Response::default();
    let too_large = Err(EncodeError::FrameTooLarge { size: 10, limit: 9 });
    assert_eq!(encode(&response, NEWEST, 9, &mut out), too_large);
    assert_eq!(out, &b"before"[..]);
    assert_eq!(encode(&response, NEWEST, 10, &mut out), Ok(()));
}

#[test]
fn a_long_text_goes_through_the_tight_encoding() {
    let tight = Format { tight: true, ..NEWEST };
    for length in [32_767, 32_768, Text::BYTES_MAX] {
        let command = Text::new(&"x".repeat(length));
        let control = ControlCommand { command, ..ControlCommand::default() };
        let read = Decoder::new(tight).decode(frame_of(&control, tight));
        assert_eq!(read, Ok(control.into()));
    }
}

#[test]
fn a_password_is_not_shown() {
    let password = Some(super::super::Secret(Text::new("hidden").unwrap()));
    let info = ConnectionInfo { password, ..ConnectionInfo::default() };
    assert!(!format!("{info:?}").contains("hidden"));
}
