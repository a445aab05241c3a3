//! What must hold of the codec for any bytes; run by the fuzzer and over its corpus by a test.

use bytes::{BufMut, Bytes, BytesMut};

use super::primitive::{Map, Room};
use super::table::{Structure, WireFormatInfo};
use super::{
    DecodeError, Decoder, Format, Limits, Piece, Receiver, SIZE_BYTES, Splitter, Version,
    WireFormat, body, encode, negotiate,
};

/// Bytes of a frame at most.
const LIMIT: usize = 64 << 10;

/// So small that much of what comes is large.
const LIMITS: Limits = Limits { frame_bytes: LIMIT, whole_bytes: 256, head_bytes: 192 };

/// The codec never panics, finds the same frames in any split of the bytes, writes again what it
/// has read, and agrees with any peer on the same as the peer does.
///
/// The first byte picks the version (its lower four bits, 0 is 12), the tight encoding (16), stack
/// traces (32), the cache (64), and that no `WireFormatInfo` opens the bytes (128); the rest is
/// what the peer sends.
///
/// # Panics
/// Where one of the promises is broken.
pub fn fuzz_openwire(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let format = Format {
        version: Version::new(i32::from(first & 15)).unwrap_or(Version::NEWEST),
        tight: first & 16 != 0,
        stack_traces: first & 32 != 0,
        cache_slots: (first & 64 != 0).then_some(1024),
    };
    let opened = first & 128 != 0;
    let (frames, error) = split(opened, bytes, bytes.len());
    assert_eq!((frames.clone(), error.clone()), split(opened, bytes, 1));
    assert_eq!((frames.clone(), error), split(opened, bytes, 2 + usize::from(first)));
    check_pieces(format, bytes);
    let mut decoder = Decoder::new(format);
    for frame in frames {
        let Ok(structure) = decoder.decode(frame.clone()) else { return };
        check_again(&structure, &frame, format);
        look_into(&structure);
    }
    // The bytes may be a map or a body as well.
    let bytes = Bytes::copy_from_slice(bytes);
    check_map(&bytes);
    let _ = body::decode_text(&bytes);
    let _ = body::decode_stream(bytes.clone(), Room::of(bytes.len()));
}

/// The frames found, and the fault that ends them.
fn split(opened: bool, bytes: &[u8], size: usize) -> (Vec<Bytes>, Option<DecodeError>) {
    let mut splitter = Splitter::new(LIMIT);
    if opened {
        splitter.set_opened();
    }
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for part in bytes.chunks(size.max(1)) {
        input.put_slice(part);
        loop {
            match splitter.poll(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(splitter.poll(&mut input), Err(error.clone()));
                    return (frames, Some(error));
                }
            }
        }
        assert!(input.len() < SIZE_BYTES + LIMIT, "more is kept than a frame may have");
    }
    (frames, None)
}

/// What a peer sends behind a first frame is the same pieces, whatever the split.
fn check_pieces(format: Format, bytes: &[u8]) {
    let whole = pieces(format, bytes, bytes.len());
    assert_eq!(whole, pieces(format, bytes, 1));
    assert_eq!(whole, pieces(format, bytes, 7));
}

/// What was found, with bodies in one piece, and the fault that ends it.
fn pieces(format: Format, bytes: &[u8], size: usize) -> (Vec<Piece>, Option<DecodeError>) {
    let mut receiver = Receiver::new(LIMITS);
    let mut input = BytesMut::from(&b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x0c\0"[..]);
    let first = receiver.poll(&mut input);
    assert!(matches!(first, Ok(Some(Piece::Whole(Structure::WireFormatInfo(_))))));
    receiver.agree(format, LIMITS);
    let (mut found, mut body) = (Vec::new(), BytesMut::new());
    for part in bytes.chunks(size.max(1)) {
        input.put_slice(part);
        loop {
            match receiver.poll(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Body(bytes))) => {
                    assert!(!bytes.is_empty());
                    body.put_slice(&bytes);
                    assert!(body.len() <= LIMITS.frame_bytes);
                }
                Ok(Some(piece)) => {
                    if !body.is_empty() {
                        found.push(Piece::Body(body.split().freeze()));
                    }
                    found.push(piece);
                }
                Err(error) => {
                    assert_eq!(receiver.poll(&mut input), Err(error.clone()));
                    found.push(Piece::Body(body.freeze()));
                    return (found, Some(error));
                }
            }
        }
        assert!(input.len() <= SIZE_BYTES + 1 + LIMITS.whole_bytes, "more is kept than allowed");
    }
    found.push(Piece::Body(body.freeze()));
    (found, None)
}

/// What was read is written again: to the same bytes where there is one form alone, and otherwise
/// to some that say the same.
fn check_again(structure: &Structure, frame: &Bytes, format: Format) {
    let mut again = BytesMut::new();
    encode(structure, format, 2 * LIMIT, &mut again).expect("what was read can be written");
    let again = again.freeze().slice(SIZE_BYTES..);
    let opening = matches!(structure, Structure::WireFormatInfo(_));
    if opening || (!format.tight && format.cache_slots.is_none()) {
        assert_eq!(again, frame);
    } else {
        let read = Decoder::new(format).decode(again);
        assert_eq!(read.as_ref(), Ok(structure));
    }
}

fn look_into(structure: &Structure) {
    let message = match structure {
        Structure::Message(message) => message,
        Structure::MessageDispatch(dispatch) => match &dispatch.message {
            Some(message) => message,
            None => return,
        },
        Structure::WireFormatInfo(info) => return check_negotiation(info),
        _ => return,
    };
    if let Some(properties) = &message.tail.marshalled_properties {
        check_map(properties);
    }
    if let Some(content) = &message.content {
        check_map(content);
        let _ = body::decode_text(content);
        let _ = body::decode_stream(content.clone(), Room::of(content.len()));
    }
}

fn check_map(bytes: &Bytes) {
    if let Ok(map) = Map::decode(bytes.clone(), Room::of(bytes.len())) {
        let null = bytes[..] == [0xff; 4];
        assert!(null || map.encode() == bytes);
    }
}

fn check_negotiation(info: &WireFormatInfo) {
    let Ok(theirs) = WireFormat::read(info) else { return };
    let ours = WireFormat { version: 12, max_frame_size: 1 << 20, ..WireFormat::default() };
    let agreed = negotiate(&ours, &theirs);
    assert_eq!(agreed, negotiate(&theirs, &ours));
    if let Ok(agreed) = agreed {
        assert!(agreed.frame_bytes_max <= 1 << 20);
        assert!(!agreed.format.tight && agreed.format.cache_slots.is_none());
    }
    assert_eq!(WireFormat::read(&theirs.to_info()), Ok(theirs));
}
