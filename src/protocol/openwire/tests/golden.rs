//! Every captured and every generated frame.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::super::message::{Message, MessageKind};
use super::super::primitive::{Map, Room};
use super::super::table::Structure;
use super::super::{Decoder, Format, SIZE_BYTES, Splitter, Version, WireFormat, body, negotiate};
use super::{frame_of, unhex};

#[test]
fn every_generated_frame_is_read_and_written_again_to_its_very_bytes() {
    let text = std::fs::read_to_string(folder().join("generated.frames")).unwrap();
    let mut frames = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, encoding, hex] = words[..] else { panic!("{line}") };
        let format = Format {
            version: Version::new(version.parse().unwrap()).unwrap(),
            tight: encoding == "tight",
            cache_slots: None,
            stack_traces: true,
        };
        let frame = unhex(hex).slice(SIZE_BYTES..);
        let structure = Decoder::new(format).decode(frame.clone());
        let structure = structure.unwrap_or_else(|error| panic!("{name} {version}: {error}"));
        assert_eq!(frame_of(&structure, format), frame, "{name} {version} {encoding}");
        look_into(&structure);
        frames += 1;
    }
    assert_eq!(frames, 1600);
}

#[test]
fn every_captured_session_is_read_and_what_is_loose_is_written_again_to_its_very_bytes() {
    let (mut frames, mut same) = (0, 0);
    for path in sessions() {
        let mut connections: HashMap<String, Connection> = HashMap::new();
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let [connection, side, hex] = words[..] else { panic!("{line}") };
            let connection = connections.entry(connection.to_owned()).or_default();
            let place = format!("{}:{}", path.display(), number + 1);
            same += usize::from(connection.take(&place, side == "client", &unhex(hex)));
            frames += 1;
        }
    }
    println!("{frames} frames, {same} written again");
    assert_eq!((frames, same), (FRAMES, FRAMES_LOOSE));
}

/// So many frames were captured, and so many of them have one form alone.
const FRAMES: usize = 3186;
const FRAMES_LOOSE: usize = 1767;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openwire")
}

fn sessions() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join("sessions")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A connection as somebody between both sides sees it.
struct Connection {
    format: Format,
    sides: [Side; 2],
}

struct Side {
    splitter: Splitter,
    decoder: Decoder,
    opening: Option<WireFormat>,
}

impl Default for Connection {
    fn default() -> Self {
        let side = || Side {
            splitter: Splitter::new(1 << 20),
            decoder: Decoder::new(Format::OPENING),
            opening: None,
        };
        Self { format: Format::OPENING, sides: [side(), side()] }
    }
}

impl Connection {
    /// Whether the frame was written again to the same bytes.
    fn take(&mut self, place: &str, client: bool, bytes: &[u8]) -> bool {
        let side = &mut self.sides[usize::from(client)];
        let frame = side.splitter.poll(&mut BytesMut::from(bytes));
        let frame = frame.unwrap().expect("a whole frame");
        let structure = side.decoder.decode(frame.clone());
        let structure = structure.unwrap_or_else(|error| panic!("{place}: {error}"));
        look_into(&structure);
        let again = frame_of(&structure, self.format);
        if let Structure::WireFormatInfo(info) = &structure {
            side.opening = Some(WireFormat::read(info).unwrap());
            if let [Some(broker), Some(client)] =
                self.sides.each_ref().map(|it| it.opening.as_ref())
            {
                self.format = negotiate(broker, client).unwrap().format;
                for side in &mut self.sides {
                    side.decoder.set_format(self.format);
                }
            }
        } else if self.format.cache_slots.is_some() {
            let read = Decoder::new(self.format).decode(again);
            assert_eq!(read, Ok(structure), "{place}");
            return false;
        }
        assert_eq!(again, frame, "{place}");
        true
    }
}

/// Properties and bodies are read as well.
fn look_into(structure: &Structure) {
    let message: &Message = match structure {
        Structure::Message(message) => message,
        Structure::MessageDispatch(dispatch) => match &dispatch.message {
            Some(message) => message,
            None => return,
        },
        _ => return,
    };
    let map = |bytes: &Bytes| {
        let map = Map::decode(bytes.clone(), Room::of(bytes.len())).expect("a map");
        assert_eq!(map.encode(), bytes);
    };
    // The generator made properties and bodies of no meaning.
    let made_up = |bytes: &Bytes| bytes.len() < 4 || bytes[..2] != [0, 0];
    if let Some(properties) = message.tail.marshalled_properties.as_ref().filter(|it| !made_up(it))
    {
        map(properties);
    }
    let content = message.content.as_ref().filter(|content| !made_up(content));
    match (message.kind, content) {
        (_, Some(_)) if message.tail.compressed => {}
        (MessageKind::Map, Some(content)) => map(content),
        (MessageKind::Text, Some(content)) => {
            let text = body::decode_text(content).unwrap().expect("a text");
            assert_eq!(body::encode_text(&text), content);
        }
        (MessageKind::Stream, Some(content)) => {
            let room = Room::of(content.len());
            assert!(!body::decode_stream(content.clone(), room).unwrap().is_empty());
        }
        _ => {}
    }
}
