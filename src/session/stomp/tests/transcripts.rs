//! What the client sends, what is asked of the broker, what the client gets: per version, and
//! the same wherever the bytes are split.

use super::*;

/// One exchange. The broker says yes to everything.
struct Case {
    name: &'static str,
    sent: &'static str,
    requests: &'static [&'static str],
    got: &'static str,
    closed: Option<&'static str>,
}

/// What follows the greeting `CONNECT` of a version.
fn greeted(version: &str, cases: &[Case]) {
    let connect = format!("CONNECT\naccept-version:{version}\nhost:x\n\n^");
    let beats = if version == "1.0" { "" } else { "heart-beat:1000,10000\n" };
    let connected =
        format!("CONNECTED\nversion:{version}\nsession:h-7\nserver:EscrowMQ/0\n{beats}\n^");
    for case in cases {
        check(case, &format!("{connect}{}", case.sent), &format!("{connected}{}", case.got));
    }
}

fn plain(cases: &[Case]) {
    for case in cases {
        check(case, case.sent, case.got);
    }
}

fn check(case: &Case, sent: &str, got: &str) {
    let sent = sent.replace('^', "\0").into_bytes();
    let whole = run(&[&sent]);
    assert_eq!(whole.0, case.requests, "requests of {}", case.name);
    assert_eq!(whole.1, got, "bytes of {}", case.name);
    assert_eq!(whole.2.as_deref(), case.closed, "end of {}", case.name);
    for at in 0..=sent.len() {
        let (one, other) = sent.split_at(at);
        assert_eq!(run(&[one, other]), whole, "{} split at {at}", case.name);
    }
    let single: Vec<&[u8]> = sent.chunks(1).collect();
    assert_eq!(run(&single), whole, "{} byte by byte", case.name);
}

fn run(parts: &[&[u8]]) -> (Vec<String>, String, Option<String>) {
    let mut wire = Wire::new();
    let (mut requests, mut got) = (Vec::new(), String::new());
    for part in parts {
        requests.extend(wire.feed_bytes(part));
        while !wire.owed.is_empty() {
            wire.answer(Ok(Reply::Done));
        }
        got.push_str(&wire.written());
    }
    (requests, got, wire.closed())
}

#[test]
fn the_greeting_agrees_on_the_highest_common_version() {
    plain(&[
        Case {
            name: "no accept-version is 1.0, and 1.0 knows no heart-beats",
            sent: "CONNECT\nlogin: a\nheart-beat:x\n\n^",
            requests: &[],
            got: "CONNECTED\nversion:1.0\nsession:h-7\nserver:EscrowMQ/0\n\n^",
            closed: None,
        },
        Case {
            name: "STOMP instead of CONNECT, line ends before and after, CRLF, unknown versions",
            sent: "\n\r\nSTOMP\r\naccept-version: 1.1, 1.2 ,2.7\r\nhost:x\r\n\r\n^\r\n",
            requests: &[],
            got: "CONNECTED\nversion:1.2\nsession:h-7\nserver:EscrowMQ/0\n\
                  heart-beat:1000,10000\n\n^",
            closed: None,
        },
        Case {
            name: "nothing in common",
            sent: "CONNECT\naccept-version:2.0,3\nhost:x\n\n^SEND\n",
            requests: &[],
            got: "ERROR\nmessage:the header accept-version is \"2.0,3\", but the versions \
                  supported are 1.0,1.1,1.2\nversion:1.0,1.1,1.2\ncontent-type:text/plain\n\
                  content-length:108\n\nthe header accept-version is \"2.0,3\", but the versions \
                  supported are 1.0,1.1,1.2.\nThe connection is closed.\n^",
            closed: Some(
                "the header accept-version is \"2.0,3\", but the versions supported are \
                 1.0,1.1,1.2",
            ),
        },
    ]);
}

#[test]
fn version_1_0_in_transcripts() {
    greeted(
        "1.0",
        &[
            Case {
                name: "headers are plain and trimmed",
                sent: "SEND\ndestination: /queue/a\nnote: x\\ny \nreceipt:r:1\n\nhello^",
                requests: &["send queue://a p4 [note=x\\ny] text 'hello'!"],
                got: "RECEIPT\nreceipt-id:r:1\n\n^",
                closed: None,
            },
            Case {
                name: "the destination stands for the id",
                sent: "SUBSCRIBE\ndestination:/queue/a\n\n^\
                       UNSUBSCRIBE\ndestination:/queue/a\n\n^\
                       SUBSCRIBE\ndestination:/queue/a\nid:s\nack:client\n\n^\
                       UNSUBSCRIBE\nid:s\n\n^",
                requests: &[
                    "subscribe 1 queue://a 1000",
                    "unsubscribe 1",
                    "subscribe 2 queue://a 1000",
                    "unsubscribe 2",
                ],
                got: "",
                closed: None,
            },
        ],
    );
}

#[test]
fn version_1_1_in_transcripts() {
    greeted(
        "1.1",
        &[
            Case {
                name: "headers are unescaped and never trimmed; a receipt is escaped back",
                sent: "SEND\ndestination:/topic/a.b\n k\\c : v\\n\nreceipt:r\\c\\\\\n\n^",
                requests: &["send topic://a.b p4 [ k: = v\n] text ''!"],
                got: "RECEIPT\nreceipt-id:r\\c\\\\\n\n^",
                closed: None,
            },
            Case {
                name: "DISCONNECT with receipt lets the producers go, is answered, then closed",
                sent: "SEND\ndestination:/queue/a\n\nx^\n\n\
                       DISCONNECT\nreceipt:bye\n\n^SEND\n",
                requests: &["send queue://a p4 [] text 'x'", "CloseProducers!"],
                got: "RECEIPT\nreceipt-id:bye\n\n^",
                closed: Some("the client disconnected"),
            },
            Case {
                name: "DISCONNECT without receipt closes at once",
                sent: "DISCONNECT\n\n^",
                requests: &[],
                got: "",
                closed: Some("the client disconnected"),
            },
        ],
    );
}

#[test]
fn version_1_2_in_transcripts() {
    greeted(
        "1.2",
        &[
            Case {
                name: "every header of the message",
                sent: "SEND\ndestination:/queue/a\npersistent:false\npriority:9\n\
                       expires:1700000000000\ntimestamp:1\nredelivered:true\nmessage-id:x\n\
                       subscription:y\nack:z\nJMSXDeliveryCount:9\nreply-to:/queue/r\n\
                       correlation-id:c\ntype:t\ncontent-type:text/plain\nk:1\nk:2\nr:\\r\n\n^",
                requests: &[
                    "send queue://a p9 non-persistent expires 1700000000000 [reply-to=/queue/r \
                     correlation-id=c type=t content-type=text/plain k=1 k=2 r=\r] text ''",
                ],
                got: "",
                closed: None,
            },
            Case {
                name: "content-length makes bytes, which may have NUL; amq-msg-type overrides",
                sent: "SEND\ndestination:/queue/a\ncontent-length:3\n\na^b^\
                       SEND\ndestination:/queue/a\ncontent-length:1\namq-msg-type:text\n\nt^\
                       SEND\ndestination:/queue/a\namq-msg-type:bytes\n\nb^\
                       SEND\ndestination:/queue/a\nexpires:0\npersistent:true\n\n^",
                requests: &[
                    "send queue://a p4 [] bytes 'a\\x00b'",
                    "send queue://a p4 [amq-msg-type=text] text 't'",
                    "send queue://a p4 [amq-msg-type=bytes] bytes 'b'",
                    "send queue://a p4 [] text ''",
                ],
                got: "",
                closed: None,
            },
            Case {
                name: "CRLF everywhere, the first of repeated headers",
                sent: "SEND\r\ndestination:/queue/a\r\ndestination:/queue/b\r\nreceipt:1\r\n\
                       receipt:2\r\n\r\nx^\r\n",
                requests: &["send queue://a p4 [] text 'x'!"],
                got: "RECEIPT\nreceipt-id:1\n\n^",
                closed: None,
            },
            Case {
                name: "subscriptions",
                sent: "SUBSCRIBE\nid:1\ndestination:/queue/a\nbrowser:false\nreceipt:s\n\n^\
                       SUBSCRIBE\nid:2\ndestination:/topic/t\nack:client-individual\n\
                       activemq.prefetchSize:1\nselector:\n\n^\
                       SUBSCRIBE\nid:3\ndestination:/queue/a\nack:client\n\
                       activemq.prefetchSize:99999999\nselector:a='x'and b>1\n\n^\
                       SUBSCRIBE\nid:4\ndestination:/queue/a\nactivemq.exclusive:true\n\n^\
                       SUBSCRIBE\nid:5\ndestination:/queue/a.*\nactivemq.priority:-5\n\n^\
                       UNSUBSCRIBE\nid:2\nreceipt:u\n\n^",
                requests: &[
                    "subscribe 1 queue://a 1000!",
                    "subscribe 2 topic://t 1",
                    "subscribe 3 queue://a 32767 where a = 'x' AND b > 1",
                    "subscribe 4 queue://a 1000 before 0 alone",
                    "subscribe 5 queue://a.* 1000 before -5",
                    "unsubscribe 2!",
                ],
                got: "RECEIPT\nreceipt-id:s\n\n^RECEIPT\nreceipt-id:u\n\n^",
                closed: None,
            },
            Case {
                name: "receipts owed go out before the ERROR of a later frame",
                sent: "SEND\ndestination:/queue/a\nreceipt:1\n\n^\
                       SEND\ndestination:nowhere\nreceipt:2\n\n^\
                       SEND\ndestination:/queue/a\nreceipt:3\n\n^",
                requests: &["send queue://a p4 [] text ''!"],
                got: "RECEIPT\nreceipt-id:1\n\n^\
                      ERROR\nmessage:the header destination is \"nowhere\", but must be /queue/ \
                      or /topic/ followed by a name\nreceipt-id:2\ncontent-type:text/plain\n\
                      content-length:234\n\nthe header destination is \"nowhere\", but must be \
                      /queue/ or /topic/ followed by a name.\nA queue gives each message to one \
                      consumer and keeps it until then; a topic gives it to every subscriber of \
                      the moment.\nThe connection is closed.\n^",
                closed: Some(
                    "the header destination is \"nowhere\", but must be /queue/ or /topic/ \
                     followed by a name",
                ),
            },
        ],
    );
}

/// Text that is not UTF-8 would be no string for a reader on another wire.
#[test]
fn a_body_that_is_not_utf_8_is_bytes() {
    let mut wire = Wire::connected("1.2");
    let requests = wire.feed_bytes(b"SEND\ndestination:/queue/a\n\n\xff\0");
    assert_eq!(requests, ["send queue://a p4 [] bytes '\\xff'"]);
}

#[test]
fn every_mistake_is_told_in_plain_words() {
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/queue/a\n";
    let with = |header: &str| format!("{subscribe}{header}\n\n^");
    let send = |header: &str| format!("SEND\ndestination:/queue/a\n{header}\n\n^");
    let unknown = "the header transaction is \"t\", which names no transaction that this \
                   connection has begun and not ended";
    let cases = [
        ("CONNECT\n\n^".to_owned(), "the connection is connected already"),
        ("SEND\n\n^".to_owned(), "SEND needs the header destination"),
        (
            "SEND\ndestination:/queue/\n\n^".to_owned(),
            "the header destination is \"/queue/\", but must be /queue/ or /topic/ followed \
             by a name",
        ),
        (send("priority:10"), "the header priority is \"10\", but must be a number from 0 to 9"),
        (send("priority:"), "the header priority is \"\", but must be a number from 0 to 9"),
        (
            send("expires:-1"),
            "the header expires is \"-1\", but must be a time in milliseconds since 1970, or 0 \
             for never",
        ),
        (send("transaction:t"), unknown),
        ("COMMIT\ntransaction:t\n\n^".to_owned(), unknown),
        ("ABORT\ntransaction:t\n\n^".to_owned(), unknown),
        ("ACK\nid:1-1\ntransaction:t\n\n^".to_owned(), unknown),
        ("BEGIN\n\n^".to_owned(), "BEGIN needs the header transaction"),
        (
            "BEGIN\ntransaction:\n\n^".to_owned(),
            "the header transaction is \"\", but must be 1 to 512 bytes long",
        ),
        (
            "BEGIN\ntransaction:t\n\n^".repeat(2),
            "the header transaction is \"t\", which has begun already and not ended",
        ),
        ("MESSAGE\n\n^".to_owned(), "MESSAGE is a frame of servers, which a client may not send"),
        ("SUBSCRIBE\ndestination:/queue/a\n\n^".to_owned(), "SUBSCRIBE needs the header id"),
        ("SUBSCRIBE\nid:1\n\n^".to_owned(), "SUBSCRIBE needs the header destination"),
        (
            with("ack:never"),
            "the header ack is \"never\", but must be auto, client or client-individual",
        ),
        (
            with("activemq.prefetchSize:0"),
            "the header activemq.prefetchSize is \"0\", but must be a number of at least 1",
        ),
        (
            with("browser:true"),
            "this broker does not browse over STOMP (the header browser): `escrowmq queue browse` \
             shows a queue, and so does a browser over OpenWire",
        ),
        (
            with("selector:a = 1 b"),
            "the selector is not understood at character 7: expected AND, OR or the end, found b \
             (the header selector)",
        ),
        (
            with("selector:XPATH '//a'"),
            "the selector is not understood at character 1: XPATH looks into bodies, which this \
             broker never does; select by properties (the header selector)",
        ),
        (
            with("ack:auto") + &with("ack:client"),
            "the header id is \"1\", which names a subscription that exists already",
        ),
        ("UNSUBSCRIBE\n\n^".to_owned(), "UNSUBSCRIBE needs the header id"),
        (
            "UNSUBSCRIBE\nid:9\n\n^".to_owned(),
            "the header id is \"9\", which names no subscription of this connection",
        ),
        ("ACK\nmessage-id:1\n\n^".to_owned(), "ACK needs the header id"),
        (
            "NACK\nid:1-1\n\n^".to_owned(),
            "the header id is \"1-1\", which names no message that waits to be settled",
        ),
        ("JUMP\n\n^".to_owned(), "unknown command \"JUMP\""),
    ];
    for (sent, message) in cases {
        let mut wire = Wire::connected("1.2");
        wire.feed(&sent);
        let got = wire.written();
        assert_eq!(error_message(&got), message, "of {sent}");
        assert_eq!(wire.closed().as_deref(), Some(message));
    }
    let mut wire = Wire::new();
    wire.feed("SEND\ndestination:/queue/a\nreceipt:r\n\nx^");
    let got = wire.written();
    assert_eq!(error_message(&got), "the first frame must be CONNECT or STOMP, not SEND");
    assert!(got.contains("\nreceipt-id:r\n"), "{got}");
}

#[test]
fn what_a_transaction_holds_goes_to_the_broker_as_a_part_of_it() {
    let mut wire = Wire::connected("1.2");
    let begun = wire.feed("BEGIN\ntransaction:a\n\n^BEGIN\ntransaction:b\nreceipt:r\n\n^");
    assert_eq!(
        begun,
        ["Begin { transaction: TransactionName(1) }", "Begin { transaction: TransactionName(2) }!"]
    );
    let sent = wire.feed("SEND\ndestination:/queue/q\ntransaction:b\nn:1\n\nx^");
    assert_eq!(sent, ["in 2: send queue://q p4 [n=1] text 'x'"]);
    wire.feed("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n^");
    wire.deliver(delivery(1, 1));
    wire.deliver(delivery(1, 2));
    let settled = wire.feed("ACK\nid:1-2\ntransaction:a\n\n^");
    assert_eq!(settled, ["in 1: Accepted 1 through 2"]);
    assert_eq!(
        wire.feed("ABORT\ntransaction:a\n\n^COMMIT\ntransaction:b\n\n^"),
        [
            "Rollback { transaction: TransactionName(1), disposition: Return }",
            "Commit { transaction: TransactionName(2) }"
        ]
    );
    // A name is free again once its transaction has ended.
    let again = wire.feed("BEGIN\ntransaction:a\n\n^");
    assert_eq!(again, ["Begin { transaction: TransactionName(3) }"]);
}
