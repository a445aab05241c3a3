//! Bytes to frames.

use bytes::BytesMut;

use super::super::{DecodeError, Splitter, WireFormat, encode};
use super::super::{Format, Version, table::KeepAliveInfo};
use super::NEWEST;

fn opening() -> BytesMut {
    let mut out = BytesMut::new();
    let info = WireFormat { version: 12, ..WireFormat::default() }.to_info();
    encode(&info, Format::OPENING, 1 << 16, &mut out).unwrap();
    out
}

#[test]
fn frames_are_found_however_their_bytes_come() {
    let mut bytes = opening();
    encode(&KeepAliveInfo::default(), NEWEST, 64, &mut bytes).unwrap();
    let mut splitter = Splitter::new(1 << 16);
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for byte in &bytes {
        input.extend_from_slice(&[*byte]);
        frames.extend(splitter.poll(&mut input).unwrap());
    }
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0][0], frames[1][0]), (1, 10));
    assert!(input.is_empty());
}

#[test]
fn another_protocol_is_told_by_the_first_byte_that_cannot_be() {
    let others: [(&[u8], usize); 6] = [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"CONNECT\naccept-version:1.2\n", 1),
        (b"\x16\x03\x01\x02\x00\x01", 1),
        (b"AMQP\x00\x01\x00\x00", 1),
        (b"\x00\x00\x00\x10\x02ActiveMQ", 5),
        (b"\x00\x00\x00\x10\x01ActiveMX", 13),
    ];
    for (bytes, told) in others {
        let mut splitter = Splitter::new(1 << 16);
        let found = splitter.poll(&mut BytesMut::from(&bytes[..told - 1]));
        assert_eq!(found, Ok(None), "{bytes:?}");
        let found = splitter.poll(&mut BytesMut::from(&bytes[..told]));
        assert_eq!(found, Err(DecodeError::NotOpenWire), "{bytes:?}");
    }
}

#[test]
fn a_size_beyond_the_limit_is_refused_before_any_of_the_frame_is_there() {
    for (size, expected) in [
        (64_i32, Ok(None)),
        (65, Err(DecodeError::FrameTooLarge { size: 65, limit: 64 })),
        (i32::MAX, Err(DecodeError::FrameTooLarge { size: i32::MAX as usize, limit: 64 })),
        (0, Err(DecodeError::BadSize { size: 0 })),
        (-1, Err(DecodeError::BadSize { size: -1 })),
        (i32::MIN, Err(DecodeError::BadSize { size: i32::MIN })),
    ] {
        let mut splitter = Splitter::new(64);
        splitter.set_opened();
        let mut input = BytesMut::new();
        bytes::BufMut::put_i32(&mut input, size);
        assert_eq!(splitter.poll(&mut input), expected);
        // A second look is no second chance.
        input.clear();
        if expected.is_err() {
            assert_eq!(splitter.poll(&mut input), expected);
        }
    }
    assert_eq!(Version::new(13), None);
}
