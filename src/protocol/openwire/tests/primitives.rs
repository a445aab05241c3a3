//! Primitive values, maps and bodies.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::primitive::{Map, Room, Value};
use super::super::{DecodeError, Text, body};

fn values() -> impl Strategy<Value = Value> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let flat = prop_oneof![
        Just(Value::Null),
        any::<u8>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::Byte),
        any::<u16>().prop_map(Value::Char),
        any::<i16>().prop_map(Value::Short),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<u64>().prop_map(Value::Double),
        any::<u32>().prop_map(Value::Float),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Bytes),
        bytes().prop_map(Value::BigText),
        Just(Value::Map(None)),
    ];
    flat.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            maps(inner.clone()).prop_map(|map| Value::Map(Some(map))),
            proptest::collection::vec(inner, 0..4).prop_map(Value::List),
        ]
    })
}

fn maps(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map> {
    let name = "\\PC{0,8}".prop_map(|name| Text::new(&name).unwrap());
    proptest::collection::vec((name, inner), 0..4).prop_map(Map)
}

proptest! {
    #[test]
    fn any_map_is_read_as_it_was_written(map in maps(values())) {
        let bytes = map.encode();
        let read = Map::decode(bytes.clone(), Room { bytes: 1 << 20, nesting: 8 });
        prop_assert_eq!(&read, &Ok(map));
        prop_assert_eq!(read.unwrap().encode(), bytes);
    }

    #[test]
    fn any_bytes_are_a_map_that_writes_them_again_or_none(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        if let Ok(map) = Map::decode(bytes.clone(), Room::of(bytes.len())) {
            prop_assert_eq!(map.encode(), bytes);
        }
    }

    #[test]
    fn any_text_is_a_body_and_back(text: String) {
        let content = body::encode_text(&text);
        prop_assert_eq!(body::decode_text(&content), Ok(Some(text)));
    }
}

#[test]
fn the_last_value_of_a_name_counts() {
    let name = || Text::new("name").unwrap();
    let map = Map(vec![(name(), Value::Int(1)), (name(), Value::Byte(2))]);
    assert_eq!(map.get("name").and_then(Value::as_integer), Some(2));
    assert_eq!(map.get("other"), None);
}

#[test]
fn texts_of_values_are_understood_in_both_forms_and_kept_as_they_came() {
    for form in [&b"\xf0\x9f\x98\x80"[..], b"\xed\xa0\xbd\xed\xb8\x80"] {
        let value = Value::Text(Bytes::copy_from_slice(form));
        assert_eq!(value.as_text().as_deref(), Some("😀"));
    }
    assert!(matches!(Value::text(&"x".repeat(8190)), Value::Text(_)));
    assert!(matches!(Value::text(&"x".repeat(8191)), Value::BigText(_)));
}

#[test]
fn a_body_without_text_and_one_of_empty_text_differ() {
    assert_eq!(body::decode_text(&Bytes::from_static(&[0xff; 4])), Ok(None));
    assert_eq!(body::decode_text(&Bytes::from_static(&[0; 4])), Ok(Some(String::new())));
    let odd = body::decode_text(&Bytes::from_static(b"\0\0\0\x01ab"));
    assert_eq!(odd, Err(DecodeError::LeftOver { count: 1 }));
}

#[test]
fn a_stream_holds_values_side_by_side() {
    let mut out = BytesMut::new();
    let values = vec![Value::Int(5), Value::text("five"), Value::Null];
    for value in &values {
        value.write(&mut out);
    }
    let room = Room::of(out.len());
    assert_eq!(body::decode_stream(out.freeze(), room), Ok(values));
    for nested in [Value::Map(None), Value::List(Vec::new())] {
        let mut out = BytesMut::new();
        nested.write(&mut out);
        let found = body::decode_stream(out.freeze(), Room::of(9));
        assert!(matches!(found, Err(DecodeError::UnexpectedValue { .. })), "{found:?}");
    }
}
