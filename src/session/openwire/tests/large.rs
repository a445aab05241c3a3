//! Messages that are never in memory whole.

use super::*;
use crate::message::{Jms, LargeHead};
use crate::session::stomp::Pieces;

fn config() -> Arc<OpenWireConfig> {
    let pieces = Pieces { whole_bytes: 100, piece_bytes: 64, ahead_bytes: 1 << 20 };
    Arc::new(OpenWireConfig { pieces, body_bytes: 1 << 20, ..OpenWireConfig::default() })
}

fn wire() -> Wire {
    Wire::connected(&config(), 1, "c")
}

/// Larger than what is read whole.
const SIZE: usize = limits::OPENWIRE_WHOLE_EXTRA + 1000;

fn large(kind: MessageKind) -> Message {
    let mut message = text(1, queue("q"));
    message.kind = kind;
    message.head.command_id = 5;
    message.head.response_required = true;
    message.content = Some(match kind {
        MessageKind::Text => body::encode_text(&"x".repeat(SIZE)),
        _ => Bytes::from(vec![b'x'; SIZE]),
    });
    message
}

#[test]
fn a_large_body_goes_to_the_broker_in_pieces_and_counts_when_it_is_complete() {
    for kind in [MessageKind::Text, MessageKind::Bytes] {
        let mut wire = wire();
        wire.say(&large(kind));
        let (mut bytes, mut sent) = (0, None);
        loop {
            let asks = wire.asks();
            if asks.is_empty() {
                break;
            }
            for ask in asks {
                match ask {
                    Command::Stage { to, .. } => assert_eq!(to, Destination::queue("q")),
                    Command::StagePiece { bytes: piece, .. } => bytes += piece.len(),
                    Command::Once(once) => sent = Some(once),
                    other => panic!("{other:?}"),
                }
            }
            while sent.is_none() && !wire.owed.is_empty() {
                wire.answer(Ok(Reply::Done));
            }
            wire.feed(&[]);
        }
        assert_eq!(bytes, SIZE, "the length before a text is no part of it");
        let once = sent.expect("the message");
        let Command::SendStaged { message, .. } = once.command() else { panic!("{once:?}") };
        assert_eq!(LargeHead::decode(message.content.clone()).unwrap().bytes, SIZE as u64);
        while !wire.owed.is_empty() {
            wire.answer(Ok(Reply::Done));
        }
        let [Structure::Response(yes)] = &wire.frames()[..] else { panic!("an answer") };
        assert_eq!(yes.correlation_id, 5);

        // And back, as it was.
        wire.consume(1, queue("q"), 5);
        let content = message.content.clone();
        assert!(matches!(Jms::decode(content.clone()), Ok(Jms::Large(..))));
        wire.deliver(1, 1, content);
        wire.say(&KeepAliveInfo { command_id: 8, response_required: true });
        for piece in vec![b'x'; SIZE].chunks(1000) {
            let (subscription, tag) = (SubscriptionId(1), Tag(1));
            let bytes = Bytes::copy_from_slice(piece);
            let piece = Output::Piece { subscription, tag, bytes };
            wire.session.handle_output(wire.now, piece);
        }
        let frames = wire.frames();
        let [Structure::MessageDispatch(dispatch), Structure::KeepAliveInfo(_)] = &frames[..]
        else {
            panic!("nothing is said inside a frame: {frames:?}")
        };
        let message = dispatch.message.as_ref().unwrap();
        assert_eq!((message.kind, &message.content), (kind, &large(kind).content));
    }
}

#[test]
fn a_large_body_that_is_refused_is_read_to_its_end_and_the_connection_goes_on() {
    let mut wire = wire();
    let mut message = large(MessageKind::Bytes);
    message.head.destination = Some(place(DestinationKind::Queue, "q,r"));
    wire.say(&message);
    let frames = wire.frames();
    assert!(exception(&frames[0]).1.contains("one destination alone"), "{frames:?}");
    assert!(wire.asks().is_empty());
    wire.say(&text(2, queue("q")));
    assert_eq!(wire.asks().len(), 1);
}

#[test]
fn a_large_body_in_a_branch_that_is_lost_is_given_up_and_its_sender_goes_on() {
    let mut wire = Wire::opened_again(&config(), true);
    wire.say(&transaction(transacted::branch(1), 0));
    wire.answer_all();
    let mut message = large(MessageKind::Bytes);
    message.head.transaction_id = Some(transacted::branch(1));
    wire.say(&message);
    let mut last = None;
    while let Some(ask) = wire.asks().pop() {
        last = Some(ask);
        while !wire.owed.is_empty() {
            wire.answer(Ok(Reply::Done));
        }
        wire.feed(&[]);
    }
    assert!(matches!(last, Some(Command::Unstage { .. })), "{last:?}");
    let frames = wire.frames();
    assert!(matches!(frames[..], [.., Structure::Response(_)]), "{frames:?}");
}

#[test]
fn a_body_that_cannot_be_completed_ends_the_connection() {
    let mut wire = wire();
    wire.consume(1, queue("q"), 5);
    let properties = Vec::new();
    let kind = crate::message::BodyKind::Bytes;
    wire.deliver(1, 1, LargeHead { kind, properties, bytes: 100 }.encode());
    let (subscription, tag) = (SubscriptionId(1), Tag(1));
    wire.session.handle_output(wire.now, Output::Broken { subscription, tag });
    assert!(wire.session.is_closing().unwrap().to_string().contains("cannot be read"));
}
