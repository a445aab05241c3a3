//! What must hold of a session for any bytes; run by the fuzzer and over its corpus by a test.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Pieces, SessionConfig, StompSession};
use crate::broker::command::{Command, Confirm, Delivery, MessageId, Output, Reply};
use crate::ids::{ConnectionId, Lsn, Millis, SubscriptionId, Tag};
use crate::message::{BodyKind, Content, Destination};
use crate::protocol::stomp::Limits;

const LIMITS: Limits = Limits { head_bytes: 4096, headers: 32, body_bytes: 4096 };
const PIECES: Pieces = Pieces { whole_bytes: 40, piece_bytes: 16, ahead_bytes: 48 };

/// A session never panics, keeps its bounds, and does the same in any split of the bytes.
///
/// The first byte picks the splits; the rest is what the peer sends. A broker that says yes to
/// everything answers. In a second round it also has a message for every subscription; what the
/// peer gets then depends on when its bytes come, and only the bounds are looked at.
///
/// # Panics
/// Where one of the promises is broken.
pub fn fuzz_stomp_session(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let whole = run(bytes, bytes.len(), false);
    assert_eq!(whole, run(bytes, 1, false));
    assert_eq!(whole, run(bytes, 2 + usize::from(first), false));
    run(bytes, bytes.len(), true);
    run(bytes, 2 + usize::from(first), true);
}

/// Requests and bytes of a session that gets `bytes` in pieces of `size`, in words.
fn run(bytes: &[u8], size: usize, deliver: bool) -> (Vec<String>, Vec<u8>) {
    let config = SessionConfig { limits: LIMITS, pieces: PIECES, ..SessionConfig::default() };
    let config = Arc::new(config);
    let mut session = StompSession::new(config, ConnectionId(1), Duration::ZERO);
    let (mut requests, mut written) = (Vec::new(), Vec::new());
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    for part in bytes.chunks(size.max(1)) {
        input.extend_from_slice(part);
        loop {
            let before = (input.len(), requests.len());
            session.handle_bytes(Duration::ZERO, &mut input);
            for request in session.poll_requests() {
                requests.push(format!("{:?}", request.command));
                if request.confirm == Confirm::Always {
                    let (token, result) = (request.token, Ok(Reply::Done));
                    session.handle_output(Duration::ZERO, Output::Answer { token, result });
                }
                if let Command::Subscribe { subscription, .. } = request.command
                    && deliver
                {
                    session.handle_output(Duration::ZERO, message(subscription));
                }
            }
            session.take_bytes(&mut out);
            written.extend_from_slice(&out);
            out.clear();
            session.handle_written();
            if before == (input.len(), requests.len()) {
                break;
            }
        }
        assert!(input.len() < LIMITS.head_bytes.max(8192), "more is kept than a head may have");
        assert!(out.capacity() < 8 << 20);
    }
    (requests, written)
}

fn message(subscription: SubscriptionId) -> Output {
    let body = Bytes::from_static(b"hello");
    let content = Content { kind: BodyKind::Text, properties: Vec::new(), body }.encode();
    Output::Delivery(Delivery {
        subscription,
        tag: Tag(1),
        from: Destination::Queue("a".into()),
        origin: None,
        message: MessageId::Durable(Lsn(subscription.0)),
        redelivered: false,
        attempt: 1,
        first_of_group: false,
        priority: 4,
        persistent: true,
        at: Millis(1),
        expires: None,
        dead: None,
        content,
    })
}
