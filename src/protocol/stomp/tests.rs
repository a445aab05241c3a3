//! Promises of the codec, frame by frame.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::fuzz::fuzz_stomp;
use super::*;

/// Decodes all of `bytes` at once.
fn decode(version: Option<Version>, bytes: &[u8]) -> (Vec<Piece>, Option<DecodeError>) {
    let mut decoder = Decoder::new(Limits::default());
    if let Some(version) = version {
        decoder.set_version(version);
    }
    let mut input = BytesMut::from(bytes);
    let mut pieces = Vec::new();
    loop {
        match decoder.poll(&mut input) {
            Ok(None) => return (pieces, None),
            Ok(Some(piece)) => pieces.push(piece),
            Err(error) => return (pieces, Some(error)),
        }
    }
}

/// The pieces in short: `SEND [a=1] #5`, `'body'`, `end`, `beat`, `! error`.
fn brief(version: Option<Version>, bytes: &[u8]) -> String {
    let (pieces, error) = decode(version, bytes);
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Head(head) => {
            let pairs: Vec<_> = head.headers.iter().map(|(n, v)| format!("{n:?}={v:?}")).collect();
            let length = head.content_length.map_or(String::new(), |n| format!(" #{n}"));
            format!("{} [{}]{length}", head.command, pairs.join(" "))
        }
        Piece::Body(body) => format!("'{}'", body.escape_ascii()),
        Piece::End => "end".to_owned(),
        Piece::HeartBeat => "beat".to_owned(),
    });
    pieces.chain(error.map(|error| format!("! {error}"))).collect::<Vec<_>>().join(" | ")
}

fn check(version: Option<Version>, cases: &[(&[u8], &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(brief(version, bytes), *expected, "of {}", bytes.escape_ascii());
    }
}

#[test]
fn frames_are_read_piece_by_piece() {
    let cases: &[(&[u8], &str)] = &[
        (b"ACK\nid:1\n\n\0", r#"ACK ["id"="1"] | end"#),
        (b"\n\r\n\nACK\n\n\0\n", r"beat | ACK [] | end | beat"),
        (b"SEND\na:b\n\nhello\0", r#"SEND ["a"="b"] | 'hello' | end"#),
        (b"SEND\n\n\0", "SEND [] | end"),
        (b"SEND\ncontent-length:3\n\na\0b\0", r#"SEND ["content-length"="3"] #3 | 'a\x00b' | end"#),
        (b"SEND\ncontent-length:0\n\n\0", r#"SEND ["content-length"="0"] #0 | end"#),
        (b"SEND\na:1\na:2\n\n\0", r#"SEND ["a"="1" "a"="2"] | end"#),
        (b"SEND\na:\n\n\0", r#"SEND ["a"=""] | end"#),
        (b"SEND\nurl:http://x\n\n\0", r#"SEND ["url"="http://x"] | end"#),
        (b"SEND\r\na:b\r\n\r\nx\0", r#"SEND ["a"="b"] | 'x' | end"#),
    ];
    check(Some(Version::V1_2), cases);
}

#[test]
fn escapes_are_those_of_the_version() {
    let all = br"SEND
a\cb:1\n2\\3\c4

"
    .to_vec();
    let frame = [&all[..], b"\0"].concat();
    check(None, &[(&frame, r#"SEND ["a\\cb"="1\\n2\\\\3\\c4"] | end"#)]);
    check(Some(Version::V1_0), &[(&frame, r#"SEND ["a\\cb"="1\\n2\\\\3\\c4"] | end"#)]);
    for version in [Version::V1_1, Version::V1_2] {
        check(Some(version), &[(&frame, r#"SEND ["a:b"="1\n2\\3:4"] | end"#)]);
    }
    let carriage: &[u8] = b"SEND\na:\\r\n\n\0";
    let refused = r#"! the header "a:\r" has an undefined escape after a backslash"#;
    check(Some(Version::V1_1), &[(carriage, refused)]);
    check(Some(Version::V1_2), &[(carriage, r#"SEND ["a"="\r"] | end"#)]);
    for bad in [r"a:\t", r"a:x\", r"a\q:x", r"a\:x"] {
        let frame = format!("SEND\n{bad}\n\n\0");
        let error = Some(DecodeError::BadEscape { header: bad.to_owned() });
        assert_eq!(decode(Some(Version::V1_1), frame.as_bytes()), (vec![], error.clone()));
        assert_eq!(decode(Some(Version::V1_2), frame.as_bytes()), (vec![], error));
    }
    // The greeting is never escaped, whatever has been agreed.
    let greeting: &[u8] = b"CONNECT\npasscode:a\\tb\n\n\0";
    check(Some(Version::V1_2), &[(greeting, r#"CONNECT ["passcode"="a\\tb"] | end"#)]);
}

#[test]
fn carriage_returns_and_spaces_are_read_as_the_version_has_them() {
    check(Some(Version::V1_0), &[(b"SEND\n a : b \n\n\0", r#"SEND ["a"="b"] | end"#)]);
    for version in [Version::V1_1, Version::V1_2] {
        check(Some(version), &[(b"SEND\n a : b \n\n\0", r#"SEND [" a "=" b "] | end"#)]);
    }
    // In 1.1 a carriage return is data, unless the peer writes all its lines with one.
    check(
        Some(Version::V1_1),
        &[
            (b"SEND\na:b\r\n\n\0", r#"SEND ["a"="b\r"] | end"#),
            (b"SEND\na:b\rc\n\r\n\0", r#"SEND ["a"="b\rc"] | end"#),
            (b"SEND\r\na:b\r\n\r\n\0", r#"SEND ["a"="b"] | end"#),
        ],
    );
    check(
        Some(Version::V1_2),
        &[
            (b"SEND\na:b\r\n\n\0", r#"SEND ["a"="b"] | end"#),
            (
                b"SEND\na:b\rc\n\n\0",
                r#"! the header line "a:b\rc" has a carriage return inside; write it as \r"#,
            ),
        ],
    );
    check(None, &[(b"CONNECT\r\nhost:h\r\n\r\n\0", r#"CONNECT ["host"="h"] | end"#)]);
}

#[test]
fn what_is_no_frame_is_named() {
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\n", "! the peer speaks HTTP, but this port speaks STOMP"),
        (b"CONNECT x:443 HTTP/1.1\r\n", "! the peer speaks HTTP, but this port speaks STOMP"),
        (b"\x16\x03\x01", "! the peer speaks TLS, but this port speaks plain STOMP"),
        (b"AMQP\0\x01\0\0", "! unknown command \"AMQP\""),
        (b"send\n", "! a frame begins with a command in capital letters, not with the byte 0x73"),
        (b"\rX", "! a frame begins with a command in capital letters, not with the byte 0x0d"),
        (b"\0", "! a frame begins with a command in capital letters, not with the byte 0x00"),
        (b"SEN\n", "! unknown command \"SEN\""),
        (b"SEND \n", "! unknown command \"SEND\""),
        (b"SEND\rx", "! unknown command \"SEND\""),
        (b"AAAAAAAAAAAAAAAAAAAAAA", "! unknown command \"AAAAAAAAAAAA\""),
        (b"SEND\nnothing\n\n\0", "! the header line \"nothing\" has no colon"),
        (b"SEND\n:x\n\n\0", "! a header has an empty name"),
        (
            b"SEND\na:\0b\n\n\0",
            "! a NUL stands in the frame's headers: the blank line after them is missing",
        ),
        (b"SEND\na:\xff\n\n\0", "! the frame's headers are not valid UTF-8"),
        (b"ACK\n\nx\0", "ACK [] | ! ACK frames have no body, but one was sent"),
        (
            b"ACK\ncontent-length:1\n\nx\0",
            "ACK [\"content-length\"=\"1\"] #1 | ! ACK frames have no body, but one was sent",
        ),
        (
            b"SEND\ncontent-length:1\n\nxy\0",
            "SEND [\"content-length\"=\"1\"] #1 | 'x' | \
             ! the body does not end with a NUL after the bytes that content-length says",
        ),
    ];
    check(None, cases);
    // In the middle of a connection the first bytes of TLS are garbage like any other.
    let late: &[u8] = b"ACK\n\n\0\x16";
    let expected = "a frame begins with a command in capital letters, not with the byte 0x16";
    check(Some(Version::V1_1), &[(late, &format!("ACK [] | end | ! {expected}"))]);
}

#[test]
fn content_length_is_a_plain_number_within_the_limit() {
    for bad in ["-1", "+1", "1x", "", "0x10", "1e3", "18446744073709551616", "९"] {
        let frame = format!("SEND\ncontent-length:{bad}\n\n");
        let error = DecodeError::BadContentLength { value: bad.to_owned() };
        assert_eq!(decode(None, frame.as_bytes()).1, Some(error), "{bad}");
    }
    for large in ["16777217", "9223372036854775808", "18446744073709551615"] {
        let frame = format!("SEND\ncontent-length:{large}\n\n");
        let error = DecodeError::BodyTooLarge { limit: 16 << 20 };
        assert_eq!(decode(None, frame.as_bytes()).1, Some(error), "{large}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits { head_bytes: 64, headers: 2, body_bytes: 5 };
    let error = |bytes: &[u8]| {
        let mut decoder = Decoder::new(limits);
        let mut input = BytesMut::from(bytes);
        loop {
            match decoder.poll(&mut input) {
                Ok(None) => return None,
                Ok(Some(_)) => {}
                Err(error) => return Some(error),
            }
        }
    };
    let head = |value: usize| format!("SEND\na:{}\n\n", "x".repeat(value));
    assert_eq!(head(56).len(), 65);
    assert_eq!(error(head(55).as_bytes()), None);
    assert_eq!(error(head(56).as_bytes()), Some(DecodeError::HeadTooLarge { limit: 64 }));
    assert_eq!(error(b"SEND\na:1\nb:2\n\n"), None);
    let many = Some(DecodeError::TooManyHeaders { limit: 2 });
    assert_eq!(error(b"SEND\na:1\nb:2\nc:3\n"), many);
    assert_eq!(error(b"SEND\n\n12345\0"), None);
    assert_eq!(error(b"SEND\n\n123456"), Some(DecodeError::BodyTooLarge { limit: 5 }));
    assert_eq!(error(b"SEND\ncontent-length:5\n\n12345\0"), None);
    let large = Some(DecodeError::BodyTooLarge { limit: 5 });
    assert_eq!(error(b"SEND\ncontent-length:6\n\n"), large);
}

#[test]
fn no_header_breaks_out_of_its_line() {
    let write = |version, name: &str, value: &str| {
        let mut out = BytesMut::new();
        FrameEncoder::new(&mut out, version, Command::Message).header(name, value).end();
        String::from_utf8(out.to_vec()).unwrap()
    };
    let (name, value) = ("a:\n\0b", "c:\n\r\\\0d");
    assert_eq!(write(None, name, value), "MESSAGE\na___b:c:  \\ d\n\n\0");
    assert_eq!(write(Some(Version::V1_0), name, value), "MESSAGE\na___b:c:  \\ d\n\n\0");
    let escaped = "MESSAGE\na\\c\\n_b:c\\c\\n\r\\\\ d\n\n\0";
    assert_eq!(write(Some(Version::V1_1), name, value), escaped);
    let escaped = "MESSAGE\na\\c\\n_b:c\\c\\n\\r\\\\ d\n\n\0";
    assert_eq!(write(Some(Version::V1_2), name, value), escaped);
}

#[test]
fn a_head_fed_byte_by_byte_is_looked_at_once() {
    // 64 KiB a byte at a time: quadratic work would be two thousand million steps.
    let mut decoder = Decoder::new(Limits::default());
    let mut input = BytesMut::new();
    input.put_slice(b"SEND\na:");
    for _ in 0..(64 << 10) - 20 {
        input.put_u8(b'x');
        assert_eq!(decoder.poll(&mut input), Ok(None));
    }
    input.put_slice(b"\n\n");
    assert!(matches!(decoder.poll(&mut input), Ok(Some(Piece::Head(_)))));
    assert!(input.is_empty());
}

/// Text that every version can carry in a header: for 1.0 without its separators and edges.
fn header_text(version: Version) -> &'static str {
    match version {
        Version::V1_0 => "[a-z\\\\é]{1,12}",
        Version::V1_1 => "[a-z:\n\\\\é ]{1,12}",
        Version::V1_2 => "[a-z:\n\r\\\\é ]{1,12}",
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1_0), Just(Version::V1_1), Just(Version::V1_2)]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        (version, headers) in version().prop_flat_map(|version| {
            let text = header_text(version);
            (Just(version), proptest::collection::vec((text, text), 0..8))
        }),
        body: Vec<u8>,
    ) {
        let mut out = BytesMut::new();
        let mut frame = FrameEncoder::new(&mut out, Some(version), Command::Message);
        for (name, value) in &headers {
            frame = frame.header(name, value);
        }
        frame.body(&body);
        let (pieces, error) = decode(Some(version), &out);
        prop_assert_eq!(error, None);
        let Piece::Head(head) = &pieces[0] else { panic!("no head") };
        let length = body.len().to_string();
        let expected = headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let expected: Vec<_> = expected.chain([("content-length", length.as_str())]).collect();
        prop_assert_eq!(head.headers.iter().collect::<Vec<_>>(), expected);
        prop_assert_eq!(head.content_length, Some(body.len() as u64));
        let end = if body.is_empty() { 1 } else {
            prop_assert_eq!(&pieces[1], &Piece::Body(body.into()));
            2
        };
        prop_assert_eq!(&pieces[end..], &[Piece::End]);
    }

    #[test]
    fn any_bytes_are_read_alike_in_any_split(
        pick: u8,
        parts in proptest::collection::vec(prop_oneof![
            Just(b"SEND\n".to_vec()), Just(b"CONNECT\r\n".to_vec()), Just(b"\n".to_vec()),
            Just(b"content-length:3\n".to_vec()), Just(b"a:b\\c\n".to_vec()),
            Just(b"\n\0".to_vec()), Just(b"\0".to_vec()), Just(vec![b'x'; 900]),
            proptest::collection::vec(any::<u8>(), 0..6),
        ], 0..24),
    ) {
        let mut data = vec![pick];
        data.extend(parts.concat());
        fuzz_stomp(&data);
    }
}
