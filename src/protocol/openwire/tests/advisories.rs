//! What has been done to other brokers with OpenWire, each once more to this codec.
//!
//! The memory that hostile lengths take is measured by `tests/openwire.rs`.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::message::{Message, MessageKind};
use super::super::primitive::{Map, Room, Value};
use super::super::table::*;
use super::super::{DecodeError, Decoder, Format, Text, Throwable, Thrown};
use super::{NEWEST, frame_of};
use crate::limits::OPENWIRE_NESTING_MAX;

fn decode(frame: impl Into<Bytes>) -> Result<Structure, DecodeError> {
    Decoder::new(NEWEST).decode(frame.into())
}

/// A length that asks for memory before anyone is known: in `WireFormatInfo`.
#[test]
fn the_length_of_the_first_properties_is_not_trusted() {
    for (length, expected) in [
        (i32::MAX, DecodeError::Truncated),
        (-1, DecodeError::NegativeLength { length: -1 }),
        (i32::MIN, DecodeError::NegativeLength { length: i32::MIN }),
    ] {
        let mut frame = BytesMut::from(&b"\x01ActiveMQ\0\0\0\x0c\x01"[..]);
        frame.put_i32(length);
        frame.put_slice(b"\0\0\0\0");
        assert_eq!(decode(frame), Err(expected));
    }
}

/// A count of entries that asks for memory: in the maps of properties and bodies.
#[test]
fn counts_of_maps_and_lists_are_not_trusted() {
    for code in [11, 12] {
        for (count, expected) in [
            (i32::MAX, DecodeError::Truncated),
            (i32::MIN, DecodeError::NegativeLength { length: i32::MIN }),
            (-2, DecodeError::NegativeLength { length: -2 }),
        ] {
            let mut bytes = BytesMut::from(&b"\0\0\0\x01\0\x01k"[..]);
            bytes.put_u8(code);
            bytes.put_i32(count);
            assert_eq!(Map::decode(bytes.freeze(), Room::of(12)), Err(expected));
        }
    }
    let mut bytes = BytesMut::new();
    bytes.put_i32(i32::MAX);
    assert_eq!(Map::decode(bytes.freeze(), Room::of(4)), Err(DecodeError::Truncated));
}

/// A class by name, made and run: nothing here looks one up.
#[test]
fn the_class_of_a_throwable_is_a_text() {
    let class = "org.springframework.context.support.ClassPathXmlApplicationContext";
    let exception = Throwable::new(class, "http://example.org/poc.xml");
    let error = ConnectionError { exception: Some(exception), ..ConnectionError::default() };
    assert_eq!(decode(frame_of(&error, NEWEST)), Ok(error.into()));
}

/// A serialised object that does things when it is read: it is not read.
#[test]
fn the_body_of_an_object_message_is_bytes() {
    let content = Some(Bytes::from_static(b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap"));
    let message = Message { content, ..Message::new(MessageKind::Object) };
    assert_eq!(decode(frame_of(&message, NEWEST)), Ok(Box::new(message).into()));
}

/// Structures inside each other until the stack is full.
#[test]
fn what_stands_inside_each_other_too_deeply_is_refused() {
    let nest = |levels: usize| {
        let mut innermost = Structure::KeepAliveInfo(KeepAliveInfo::default());
        for _ in 0..levels {
            let response = DataResponse::default();
            innermost = DataResponse { data: Some(Box::new(innermost)), ..response }.into();
        }
        innermost
    };
    let most = nest(OPENWIRE_NESTING_MAX);
    assert_eq!(decode(frame_of(&most, NEWEST)), Ok(most));
    let too_deep = Err(DecodeError::TooDeep { limit: OPENWIRE_NESTING_MAX });
    assert_eq!(decode(frame_of(&nest(OPENWIRE_NESTING_MAX + 1), NEWEST)), too_deep);
    // As many levels as a frame can hold, each of a few bytes.
    let levels = b"\x20\0\0\0\0\0\0\0\0\0\x01".repeat(100_000);
    assert_eq!(decode(levels), too_deep);
    // Messages are the largest to have on the stack, and messages in messages can be.
    let mut message = Message::new(MessageKind::Plain);
    for _ in 0..OPENWIRE_NESTING_MAX / 2 {
        let mut outer = Message::new(MessageKind::Plain);
        outer.tail.data_structure = Some(Box::new(Box::new(message).into()));
        message = outer;
    }
    assert_eq!(decode(frame_of(&message, NEWEST)), Ok(Box::new(message).into()));
}

#[test]
fn maps_inside_each_other_too_deeply_are_refused() {
    let nest = |levels: usize| {
        let mut map = Map::default();
        for _ in 0..levels {
            map = Map(vec![(Text::default(), Value::Map(Some(map)))]);
        }
        map.encode()
    };
    let decode = |bytes: Bytes| Map::decode(bytes.clone(), Room::of(bytes.len()));
    assert!(decode(nest(OPENWIRE_NESTING_MAX)).is_ok());
    let too_deep = Err(DecodeError::TooDeep { limit: OPENWIRE_NESTING_MAX });
    assert_eq!(decode(nest(OPENWIRE_NESTING_MAX + 1)), too_deep);
    let lists = [&b"\0\0\0\x01\0\0"[..], &b"\x0c\0\0\0\x01".repeat(100_000)].concat();
    assert_eq!(decode(lists.into()), too_deep);
}

#[test]
fn a_long_chain_of_causes_needs_no_stack() {
    let causes = vec![Thrown::default(); 1000];
    let exception = Some(Throwable { causes, ..Throwable::new("a", "b") });
    let error = ConnectionError { exception, ..ConnectionError::default() };
    assert_eq!(decode(frame_of(&error, NEWEST)), Ok(error.into()));
}

/// Elements of one byte each that would take hundreds in memory.
#[test]
fn arrays_of_nothing_take_no_more_memory_than_their_bytes_allow() {
    let subscription_infos = Some(vec![None; 32_767]);
    let infos = BrokerSubscriptionInfo { subscription_infos, ..Default::default() };
    assert_eq!(decode(frame_of(&infos, NEWEST)), Err(DecodeError::TooMuch));
    let causes = vec![Thrown::default(); 100_000];
    let exception = Some(Throwable { causes, ..Throwable::new("a", "b") });
    let error = ConnectionError { exception, ..ConnectionError::default() };
    assert_eq!(decode(frame_of(&error, NEWEST)), Err(DecodeError::TooMuch));
    let nulls = [&b"\0\0\0\x01\0\0\x0c\0\x01\0\0"[..], &[0; 1 << 16]].concat();
    let room = Room::of(nulls.len());
    assert_eq!(Map::decode(nulls.into(), room), Err(DecodeError::TooMuch));
}

#[test]
fn an_honest_map_of_the_shortest_entries_has_room() {
    let entry = |number: u32| (Text::new(&number.to_string()).unwrap(), Value::Null);
    let map = Map((0..100_000).map(entry).collect());
    let bytes = map.encode();
    assert_eq!(Map::decode(bytes.clone(), Room::of(bytes.len())), Ok(map));
}

#[test]
fn an_honest_bridge_with_thousands_of_subscriptions_has_room() {
    let info = |number: i64| {
        let connection_id = Text::new("ID:a-host-40000-1790000000000-1:1");
        let consumer_id = Some(ConsumerId { connection_id, session_id: 1, value: number });
        let name = Text::new("a subscription");
        ConsumerInfo { consumer_id, subscription_name: name, ..ConsumerInfo::default() }
    };
    let subscription_infos = Some((0..10_000).map(|number| Some(info(number))).collect());
    let infos = BrokerSubscriptionInfo { subscription_infos, ..Default::default() };
    assert_eq!(decode(frame_of(&infos, NEWEST)), Ok(infos.into()));
}

/// Types that no client sends over TCP: the store's, UDP's, boxed values, and what is nothing.
#[test]
fn types_that_have_no_place_are_refused() {
    let places = [0, 13, 35, 50, 52, 53, 54, 60, 61, 65, 70, 75, 79, 93, 104, 113, 125, 255];
    for code in places {
        let refused = Err(DecodeError::UnexpectedType { code });
        assert_eq!(decode(vec![code]), refused);
        // Where anything may stand.
        let inside = [&b"\x20\0\0\0\0\0\0\0\0\0\x01"[..], &[code]].concat();
        assert_eq!(decode(inside), refused);
    }
    // A structure that exists, where it may not be: a message as a session's id.
    let refused = Err(DecodeError::UnexpectedType { code: 23 });
    assert_eq!(decode(&b"\x04\0\0\0\0\0\x01\x17\0\0"[..]), refused);
}

/// A cache that a peer fills with what it likes.
#[test]
fn the_cache_is_bounded_and_gives_only_what_was_put_there() {
    let format = Format { cache_slots: Some(1024), ..NEWEST };
    let mut decoder = Decoder::new(format);
    let session = |slot: i16, body: &[u8]| {
        let mut frame = BytesMut::from(&b"\x04\0\0\0\0\0"[..]);
        frame.put_u8(u8::from(!body.is_empty()));
        frame.put_i16(slot);
        frame.put_slice(body);
        frame.freeze()
    };
    let id = [&b"\x01\x79\x01\xff\xff"[..], &[b'x'; 65_535], &[0; 8]].concat();
    for slot in [-1, 0, 5, 1023] {
        assert_eq!(decoder.decode(session(slot, b"")), Err(DecodeError::NoSuchSlot { slot }));
    }
    assert!(decoder.decode(session(5, b"\0")).is_ok());
    let null = decoder.decode(session(5, b"")).unwrap();
    assert_eq!(null, SessionInfo::default().into());
    for slot in [1024, i16::MAX, -2] {
        assert_eq!(decoder.decode(session(slot, &id)), Err(DecodeError::NoSuchSlot { slot }));
    }
    // Slot -1 is none, however often it is said.
    for _ in 0..100 {
        assert!(decoder.decode(session(-1, &id)).is_ok());
    }
    let full = (0..100).map(|slot| decoder.decode(session(slot, &id))).position(|it| it.is_err());
    assert_eq!(full, Some(7));
    // What is in a slot is of its own type, whoever asks for it.
    let producer = [&b"\x06\0\0\0\0\0"[..], &b"\0\0\0"[..]].concat();
    let refused = Err(DecodeError::UnexpectedType { code: 121 });
    assert_eq!(decoder.decode(producer.into()), refused);
}

#[test]
fn booleans_that_nobody_asked_for_are_refused() {
    let tight = Format { tight: true, ..NEWEST };
    let frame = frame_of(&KeepAliveInfo::default(), tight);
    assert_eq!(frame[..], b"\x0a\x01\0\0\0\0\0"[..]);
    let longer = Bytes::from_static(b"\x0a\x02\0\0\0\0\0\0");
    assert_eq!(Decoder::new(tight).decode(longer), Err(DecodeError::LongBooleans));
    let none = Bytes::from_static(b"\x0a\0\0\0\0\0");
    assert_eq!(Decoder::new(tight).decode(none), Err(DecodeError::Truncated));
}
