//! Large messages in pieces.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::message::{Message, MessageKind};
use super::super::sample::Sampler;
use super::super::table::{
    BrokerSubscriptionInfo, ConsumerInfo, KeepAliveInfo, MessageDispatch, ProducerInfo, Structure,
};
use super::super::{
    DecodeError, EncodeError, Format, LargeHead, Limits, Piece, Receiver, Text, WireFormat, encode,
    encode_around,
};
use super::NEWEST;

/// Small, so that what is made up is large.
const LIMITS: Limits = Limits { frame_bytes: 1 << 16, whole_bytes: 2048, head_bytes: 1536 };

/// A receiver that has got the first frame.
fn receiver(format: Format, limits: Limits) -> Receiver {
    let mut receiver = Receiver::new(limits);
    let mut out = BytesMut::new();
    encode(&WireFormat::default().to_info(), format, 1 << 16, &mut out).unwrap();
    assert!(matches!(receiver.poll(&mut out), Ok(Some(Piece::Whole(_)))));
    receiver.agree(format, limits);
    receiver
}

/// The structures in bytes that come so many at a time; how many of them came in pieces.
fn receive(bytes: &[u8], size: usize) -> Result<(Vec<Structure>, usize), DecodeError> {
    let mut receiver = receiver(NEWEST, LIMITS);
    let (mut input, mut found, mut large) = (BytesMut::new(), Vec::new(), 0);
    let mut open: Option<(Box<LargeHead>, BytesMut)> = None;
    for part in bytes.chunks(size) {
        input.extend_from_slice(part);
        while let Some(piece) = receiver.poll(&mut input)? {
            match (piece, &mut open) {
                (Piece::Whole(structure), None) => found.push(structure),
                (Piece::Head(head), None) => open = Some((head, BytesMut::new())),
                (Piece::Body(bytes), Some((_, body))) => body.extend_from_slice(&bytes),
                (Piece::End(end), Some(_)) => {
                    let (head, body) = open.take().unwrap();
                    assert_eq!(head.content_length.unwrap_or(0), body.len());
                    found.push(Box::new(head.join(body.freeze(), end)).into());
                    large += 1;
                }
                (piece, open) => panic!("{piece:?} inside {open:?}"),
            }
        }
        assert!(input.len() <= 5 + LIMITS.whole_bytes + part.len());
    }
    Ok((found, large))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_message_is_the_same_in_pieces_of_any_size(
        seed: u64, length in 0..10_000_usize, size in prop_oneof![1..6_usize, 1..5000_usize],
    ) {
        let mut message: Message = Sampler::structure(seed);
        message.content = Some(Bytes::from(vec![7; length]));
        let mut bytes = BytesMut::new();
        encode(&message, NEWEST, 1 << 16, &mut bytes).unwrap();
        let is_large = bytes.len() - 4 > LIMITS.whole_bytes;
        encode(&KeepAliveInfo::default(), NEWEST, 64, &mut bytes).unwrap();
        let expected = vec![Box::new(message).into(), KeepAliveInfo::default().into()];
        prop_assert_eq!(receive(&bytes, size), Ok((expected, usize::from(is_large))));
    }

    #[test]
    fn a_frame_around_a_body_is_the_frame_with_it(seed: u64, length in 0..5000_usize) {
        let content = Bytes::from(vec![7; length]);
        let mut message: Message = Sampler::structure(seed);
        message.content = Some(content.clone());
        let message = Some(Box::new(message));
        let dispatch = MessageDispatch { message, ..MessageDispatch::default() };
        let mut whole = BytesMut::new();
        encode(&dispatch, NEWEST, 1 << 16, &mut whole).unwrap();
        let around = encode_around(&dispatch, length, NEWEST, 1 << 16).unwrap();
        prop_assert_eq!([around.before, content, around.after].concat(), whole);
    }
}

fn large_message() -> Message {
    let content = Some(Bytes::from(vec![7; 5000]));
    Message { content, ..Message::new(MessageKind::Bytes) }
}

#[test]
fn what_stands_around_a_large_body_is_bounded() {
    let frame = |message: &Message| {
        let mut bytes = BytesMut::new();
        encode(message, NEWEST, 1 << 16, &mut bytes).unwrap();
        bytes
    };
    let mut message = large_message();
    message.head.correlation_id = Text::new(&"x".repeat(1536));
    let too_large = Err(DecodeError::HeadTooLarge { limit: 1536 });
    assert_eq!(receive(&frame(&message), 100), too_large);
    let mut message = large_message();
    message.tail.marshalled_properties = Some(Bytes::from(vec![0; 2048]));
    let found = receive(&frame(&message), 100);
    assert!(matches!(found, Err(DecodeError::FrameTooLarge { limit: 2048, .. })), "{found:?}");
    let mut message = large_message();
    message.content = Some(Bytes::from(vec![0; 65_000]));
    let found = receive(&frame(&message)[..5], 5);
    assert_eq!(found, Ok((Vec::new(), 0)));
    message.content = Some(Bytes::from(vec![0; 65_536]));
    let mut bytes = BytesMut::new();
    encode(&message, NEWEST, 1 << 20, &mut bytes).unwrap();
    let found = receive(&bytes[..5], 5);
    assert!(matches!(found, Err(DecodeError::FrameTooLarge { limit: 65_536, .. })), "{found:?}");
}

#[test]
fn a_body_longer_than_its_frame_is_refused() {
    let mut bytes = BytesMut::new();
    encode(&large_message(), NEWEST, 1 << 16, &mut bytes).unwrap();
    let length = 5000_usize;
    let at = bytes.windows(4).position(|it| it == [0, 0, 0x13, 0x88]).unwrap();
    assert_eq!(length, 0x1388);
    for hostile in [[0, 0, 0x20, 0], [0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0x80, 0, 0, 0]] {
        let mut attack = bytes.clone();
        attack[at..at + 4].copy_from_slice(&hostile);
        assert!(receive(&attack, 999).is_err(), "{hostile:?}");
    }
    // A shorter one makes the rest of the body a part of the fields behind it.
    let mut attack = bytes.clone();
    attack[at..at + 4].copy_from_slice(&[0, 0, 0x13, 0x80]);
    assert!(receive(&attack, 999).is_err());
}

#[test]
fn only_messages_come_in_pieces_and_not_before_the_first_frame() {
    let broker_path = Some(vec![None; 3000]);
    let info = ProducerInfo { broker_path, ..ProducerInfo::default() };
    let mut bytes = BytesMut::new();
    encode(&info, NEWEST, 1 << 16, &mut bytes).unwrap();
    let found = receive(&bytes, 5);
    assert!(matches!(found, Err(DecodeError::FrameTooLarge { limit: 2048, .. })), "{found:?}");
    let mut bytes = BytesMut::new();
    encode(&large_message(), NEWEST, 1 << 16, &mut bytes).unwrap();
    let mut receiver = Receiver::new(LIMITS);
    let refused = receiver.poll(&mut bytes);
    assert!(matches!(refused, Err(DecodeError::FrameTooLarge { limit: 2048, .. })), "{refused:?}");
    assert_eq!(receiver.poll(&mut BytesMut::new()), refused);
}

#[test]
fn a_frame_around_a_body_may_be_too_large() {
    let message = Message::new(MessageKind::Bytes);
    let fits = encode_around(&message, 100, NEWEST, 1000).unwrap();
    let size = fits.before.len() - 4 + 100 + fits.after.len();
    assert!(encode_around(&message, 100, NEWEST, size).is_ok());
    let too_large = Err(EncodeError::FrameTooLarge { size, limit: size - 1 });
    assert_eq!(encode_around(&message, 100, NEWEST, size - 1), too_large);
}

#[test]
fn a_large_frame_that_is_dispensable_takes_no_memory_and_the_next_is_read() {
    let subscription_infos = Some(vec![Some(ConsumerInfo::default()); 5000]);
    let large = BrokerSubscriptionInfo { subscription_infos, ..Default::default() };
    let small = BrokerSubscriptionInfo::default();
    let mut bytes = BytesMut::new();
    encode(&large, NEWEST, 1 << 20, &mut bytes).unwrap();
    assert!(bytes.len() > LIMITS.frame_bytes);
    encode(&KeepAliveInfo::default(), NEWEST, 1 << 16, &mut bytes).unwrap();
    encode(&small, NEWEST, 1 << 16, &mut bytes).unwrap();
    for size in [1, 4, 999, bytes.len()] {
        let mut receiver = receiver(NEWEST, LIMITS);
        receiver.pass_over::<BrokerSubscriptionInfo>();
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        for part in bytes.chunks(size) {
            input.extend_from_slice(part);
            while let Some(piece) = receiver.poll(&mut input).unwrap() {
                found.push(piece);
            }
            assert!(input.len() < LIMITS.head_bytes);
        }
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*first, Piece::Whole(KeepAliveInfo::default().into()));
        assert_eq!(*second, Piece::Whole(small.clone().into()));
    }
    // Others are refused as before.
    let mut receiver = receiver(NEWEST, LIMITS);
    receiver.pass_over::<KeepAliveInfo>();
    assert!(matches!(receiver.poll(&mut bytes), Err(DecodeError::FrameTooLarge { .. })));
}
