//! Hostile lengths against the OpenWire codec, in a process of its own: what they take is seen in
//! its memory. There is one test, so that no other is seen with it.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use escrowmq::protocol::openwire::primitive::{Map, Room};
use escrowmq::protocol::openwire::{
    Decoder, Format, Limits, Receiver, SIZE_BYTES, Splitter, Structure, Version, WireFormat,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What all attacks together may add to the process.
const GROWTH_MAX: u64 = 1 << 20;

#[test]
fn a_length_at_its_extremes_anywhere_takes_less_than_a_mebibyte() {
    let frames = frames();
    assert!(frames.len() > 500, "{} frames", frames.len());
    // Once without harm, so that what the process needs for itself is there.
    for (format, frame) in &frames {
        assert!(read(*format, frame), "{frame:?}");
    }
    let before = resident_peak();
    let unlimited = getrlimit(Resource::Data);
    let current = Some(status("VmData:") + GROWTH_MAX);
    // What is set aside and not used is no less an allocation: beyond this it ends the process.
    setrlimit(Resource::Data, Rlimit { current, ..unlimited }).unwrap();
    let (mut attacks, mut taken) = (0_u64, 0_u64);
    for (format, frame) in &frames {
        for at in 0..frame.len() {
            for hostile in HOSTILE {
                let mut attack = BytesMut::from(&frame[..]);
                let reach = hostile.len().min(frame.len() - at);
                attack[at..at + reach].copy_from_slice(&hostile[..reach]);
                taken += u64::from(read(*format, &attack.freeze()));
                attacks += 1;
            }
        }
    }
    setrlimit(Resource::Data, unlimited).unwrap();
    let after = resident_peak();
    println!("{attacks} attacks, {taken} of them frames; {before} bytes, then {after}");
    assert!(taken > 0 && taken < attacks);
    assert!(after - before < GROWTH_MAX, "{before} became {after}");
}

/// The type that opens a connection.
const WIRE_FORMAT_INFO: u8 = 1;

/// A first frame that says nothing but its version.
const OPENING: &[u8] = b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x0c\0";

/// The ends of what lengths of two and four bytes can say, and something between.
const HOSTILE: [&[u8]; 8] = [
    b"\x7f\xff",
    b"\xff\xff",
    b"\x80\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x00",
    b"\x00\xff\xff\xff",
];

/// Every structure in the oldest, a middle and the newest version, loose and tight.
fn frames() -> Vec<(Format, Bytes)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openwire/generated.frames");
    let mut frames = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, version @ ("1" | "6" | "9" | "12"), encoding, hex] = words[..] else { continue };
        let format = Format {
            version: Version::new(version.parse().unwrap()).unwrap(),
            tight: encoding == "tight",
            cache_slots: None,
            stack_traces: true,
        };
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        let bytes = hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]));
        frames.push((format, bytes.collect()));
    }
    let opening = WireFormat { version: 12, ..WireFormat::default() }.to_info();
    let mut out = BytesMut::new();
    escrowmq::protocol::openwire::encode(&opening, Format::OPENING, 1 << 16, &mut out).unwrap();
    frames.push((Format::OPENING, out.freeze()));
    frames
}

/// Whether the bytes are a frame and nothing more. Looks into the maps that it holds, too.
fn read(format: Format, bytes: &[u8]) -> bool {
    let mut input = BytesMut::from(bytes);
    let mut splitter = Splitter::new(usize::MAX);
    if bytes[SIZE_BYTES] != WIRE_FORMAT_INFO {
        let mut opening = BytesMut::from(OPENING);
        splitter.poll(&mut opening).expect("a first frame");
    }
    in_pieces(format, bytes);
    let Ok(Some(frame)) = splitter.poll(&mut input) else { return false };
    let Ok(structure) = Decoder::new(format).decode(frame) else { return false };
    match structure {
        Structure::WireFormatInfo(info) => return WireFormat::read(&info).is_ok(),
        Structure::Message(message) => {
            for map in [message.content, message.tail.marshalled_properties].into_iter().flatten() {
                let _ = Map::decode(map.clone(), Room::of(map.len()));
            }
        }
        _ => {}
    }
    input.is_empty()
}

/// Reads the bytes as a connection would that takes little of anything whole.
fn in_pieces(format: Format, bytes: &[u8]) {
    let limits = Limits { frame_bytes: usize::MAX, whole_bytes: 96, head_bytes: 64 };
    let mut receiver = Receiver::new(limits);
    let mut opening = BytesMut::from(OPENING);
    receiver.poll(&mut opening).expect("a first frame");
    receiver.agree(format, limits);
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(_)) = receiver.poll(&mut input) {}
}

/// The most memory that the process has had resident, in bytes.
fn resident_peak() -> u64 {
    status("VmHWM:")
}

/// What the system says of the process, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("kB");
    kib * 1024
}
