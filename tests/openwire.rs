//! Hostile lengths against the OpenWire codec, in a process of its own: what they take is seen in
//! its memory. There is one test, so that no other is seen with it.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use escrowmq::protocol::openwire::message::{Destination, DestinationKind, Message, MessageKind};
use escrowmq::protocol::openwire::primitive::{Map, Room, Value};
use escrowmq::protocol::openwire::table::{
    BrokerId, BrokerInfo, ConnectionControl, ConnectionError, ConsumerId, ConsumerInfo,
    DataArrayResponse, DataResponse, ExceptionResponse, MessageAck, MessageDispatch,
    XaTransactionId,
};
use escrowmq::protocol::openwire::{
    Decoder, Format, Limits, Receiver, SIZE_BYTES, Splitter, StackElement, Structure, Text,
    Throwable, Version, WireFormat, body,
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
    let mut try_out = |format, attack: BytesMut| {
        taken += u64::from(read(format, &attack.freeze()));
        attacks += 1;
    };
    for (format, frame) in &frames {
        for at in 0..frame.len() {
            for hostile in HOSTILE {
                let mut attack = BytesMut::from(&frame[..]);
                let reach = hostile.len().min(frame.len() - at);
                attack[at..at + reach].copy_from_slice(&hostile[..reach]);
                try_out(*format, attack);
            }
            // A length that is right but for one.
            for by in [1, u8::MAX] {
                let mut attack = BytesMut::from(&frame[..]);
                attack[at] = attack[at].wrapping_add(by);
                try_out(*format, attack);
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

/// Every structure in the oldest, a middle and the newest version, loose and tight; and what has
/// lengths inside of lengths.
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
    for version in [1, 6, 9, 12] {
        for tight in [false, true] {
            let version = Version::new(version).unwrap();
            let format = Format { version, tight, cache_slots: None, stack_traces: true };
            frames.extend(deep().into_iter().map(|structure| {
                let mut out = BytesMut::new();
                escrowmq::protocol::openwire::encode(&structure, format, 1 << 20, &mut out)
                    .unwrap();
                (format, out.freeze())
            }));
        }
    }
    frames
}

/// Structures whose lengths and counts stand inside each other.
fn deep() -> Vec<Structure> {
    let exception = Some(throwable());
    let ids = Some(vec![Some(BrokerId { value: name() }), None]);
    let consumer_id = ConsumerId { connection_id: name(), session_id: 1, value: 2 };
    let consumer = ConsumerInfo {
        selector: name(),
        broker_path: ids.clone(),
        network_consumer_path: Some(vec![Some(consumer_id), None]),
        ..ConsumerInfo::default()
    };
    let inner = BrokerInfo { broker_name: name(), ..BrokerInfo::default() };
    let peers = Some(vec![Some(inner), None]);
    let peer = BrokerInfo { peer_broker_infos: peers, ..BrokerInfo::default() };
    let branch = XaTransactionId {
        format_id: 1,
        global_transaction_id: Some(Bytes::from_static(b"global")),
        branch_qualifier: Some(Bytes::from_static(b"branch")),
    };
    let one = Box::new(Structure::from(branch.clone()));
    let in_one = DataResponse { data: Some(one), ..DataResponse::default() };
    let data =
        Some(vec![Some(branch.into()), None, Some(in_one.into()), Some(Box::new(map()).into())]);
    let message = Some(Box::new(map()));
    let token = Some(Bytes::from_static(b"token"));
    let dispatch = MessageDispatch { message, ..MessageDispatch::default() };
    vec![
        Box::new(map()).into(),
        Box::new(stream()).into(),
        Box::new(text()).into(),
        Box::new(consumer).into(),
        Box::new(BrokerInfo { peer_broker_infos: Some(vec![Some(peer)]), ..BrokerInfo::default() })
            .into(),
        DataArrayResponse { data, ..DataArrayResponse::default() }.into(),
        ExceptionResponse { exception: exception.clone(), ..ExceptionResponse::default() }.into(),
        ConnectionError { exception: exception.clone(), ..ConnectionError::default() }.into(),
        Box::new(MessageAck { poison_cause: exception, ..MessageAck::default() }).into(),
        ConnectionControl { token, ..ConnectionControl::default() }.into(),
        dispatch.into(),
    ]
}

fn name() -> Option<Text> {
    Text::new("a name")
}

fn throwable() -> Throwable {
    let mut throwable = Throwable::new("java.lang.Exception", "words");
    let element = StackElement { class: name(), method: name(), file: name(), line: 7 };
    throwable.thrown.stack = vec![element; 3];
    throwable.causes = vec![throwable.thrown.clone(); 2];
    throwable
}

/// Values with every kind of length, and maps and lists in each other.
fn values() -> Map {
    let plain = || {
        let bytes = Bytes::from_static(b"bytes");
        [Value::Text(bytes.clone()), Value::Bytes(bytes.clone()), Value::BigText(bytes)]
    };
    let entry = |value| (name().unwrap(), value);
    let map = Map(plain().map(entry).into());
    let inner = [Value::Map(Some(map)), Value::Map(None), Value::List(plain().into())];
    let list = Value::List(inner.clone().into());
    let outer = plain().into_iter().chain(inner).chain([list.clone(), Value::List(vec![list])]);
    Map(outer.map(entry).collect())
}

/// A message with all that may stand in one.
fn map() -> Message {
    let mut message = Message::new(MessageKind::Map);
    let kind = DestinationKind::Queue;
    message.head.destination = Some(Destination { kind, physical_name: name() });
    message.content = Some(values().encode());
    message.tail.marshalled_properties = Some(values().encode());
    message.tail.data_structure = Some(Box::new(Box::new(text()).into()));
    message.tail.broker_path = Some(vec![Some(BrokerId { value: name() }), None]);
    message.tail.cluster = message.tail.broker_path.clone();
    message
}

fn stream() -> Message {
    let mut out = BytesMut::new();
    let (text, bytes) = (Bytes::from_static(b"text"), Bytes::from_static(b"bytes"));
    for value in [Value::Text(text.clone()), Value::Bytes(bytes), Value::BigText(text)] {
        value.write(&mut out);
    }
    let content = Some(out.freeze());
    Message { content, ..Message::new(MessageKind::Stream) }
}

fn text() -> Message {
    Message { content: Some(body::encode_text("words")), ..Message::new(MessageKind::Text) }
}

/// Whether the bytes are a frame and nothing more. Looks into the bodies and properties that it
/// holds, too.
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
            let content = message.content.clone().unwrap_or_default();
            let _ = body::decode_stream(content.clone(), Room::of(content.len()));
            let _ = body::decode_text(&content);
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
