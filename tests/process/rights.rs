//! Side doors: whatever a destination is called, and by whatever command it is reached, the rights
//! decide that its plain name has; an empty password is none; and what operators go by is theirs.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::broker::Broker;
use crate::support::fresh_dir;
use crate::support::openwire::{OpenWire, characters, queue};
use crate::support::security::set_user;
use crate::support::stomp::{Frame, Stomp};
use escrowmq::protocol::openwire::message::{Destination, DestinationKind};
use escrowmq::protocol::openwire::table::{ConsumerInfo, DestinationInfo, MessagePull};
use escrowmq::protocol::openwire::{Structure, Text};

use DestinationKind::{Queue, TempQueue, TempTopic, Topic};

/// Ann has what is hers, Bob all, and some names have no rule.
const RULES: &str = "
    access = [
        { name = \"queue://mine.>\", read = [\"ann\", \"bob\"], write = [\"ann\", \"bob\"] },
        { name = \"topic://mine.>\", read = [\"ann\", \"bob\"], write = [\"ann\", \"bob\"] },
        { name = \"queue://>\", read = [\"bob\"], write = [\"bob\"], admin = [\"bob\"] },
        { name = \"topic://>\", read = [\"bob\"], write = [\"bob\"] },
        { name = \"topic://ActiveMQ.Advisory.>\", read = [\"bob\"] },
        { name = \"topic://VirtualTopic.open\", write = [\"ann\"] },
    ]
";

/// What Ann may not read, by every kind of name.
const NOT_TO_READ: &[(DestinationKind, &str)] = &[
    (Queue, "secret"),
    (Queue, " secret "),
    (Queue, "secret?consumer.prefetchSize=1"),
    (Queue, "queue://secret"),
    (Topic, "queue://secret"),
    (TempQueue, "queue://secret"),
    (TempTopic, "queue://secret"),
    (Queue, "mine.a,secret"),
    (Queue, "secret,mine.a"),
    (Queue, "mine.a,queue://secret"),
    (Queue, "mine.a,topic://secret"),
    (Topic, "mine.a,queue://secret"),
    (Queue, "*"),
    (Queue, "secre*"),
    (Queue, ">"),
    (Queue, "mine.a,>"),
    (Topic, "secret"),
    (Topic, ">"),
    (Topic, "*"),
    (Topic, "mine.>,>"),
    (Queue, "topic://secret"),
    (Queue, "Consumer.x.VirtualTopic.open"),
    (Queue, "Consumer.x.VirtualTopic.>"),
    (Queue, "Consumer.mine.a.VirtualTopic.open"),
    (Topic, "VirtualTopic.open"),
    (Queue, "ActiveMQ.DLQ"),
    (Queue, "ActiveMQ.DLQ.mine.a"),
    (Topic, "ActiveMQ.Advisory.Connection"),
    (Topic, "ActiveMQ.Advisory.>"),
    (Queue, "topic://ActiveMQ.Advisory.Queue"),
];

/// And where she may not send to.
const NOT_TO_WRITE: &[(DestinationKind, &str)] = &[
    (Queue, "secret"),
    (Queue, " secret "),
    (Queue, "secret?x=y"),
    (Queue, "queue://secret"),
    (Topic, "queue://secret"),
    (TempQueue, "queue://secret"),
    (TempTopic, "queue://secret"),
    (Queue, "secret,other"),
    (Topic, "secret,queue://secret"),
    (Topic, "secret"),
    (Queue, "Consumer.x.VirtualTopic.open"),
    (Topic, "VirtualTopic.closed"),
    (Queue, "ActiveMQ.DLQ"),
    (Topic, "ActiveMQ.Advisory.Connection"),
    (Queue, "topic://ActiveMQ.Advisory.Queue"),
];

struct Case {
    broker: Broker,
    _dir: tempfile::TempDir,
}

impl Case {
    fn start() -> Self {
        let dir = fresh_dir();
        let users = dir.path().join("users");
        set_user(&users, "ann", Some("a"), &[]);
        set_user(&users, "bob", Some("b"), &[]);
        let broker = start(dir.path(), RULES, &users);
        Self { broker, _dir: dir }
    }

    fn jms(&self, name: &str, user: &str) -> OpenWire {
        let mut jms = OpenWire::open(self.broker.ports()[1], name, &OpenWire::newest());
        let answer = jms.enter(Some(user), Some(&user[..1]));
        assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
        jms
    }

    fn stomp(&self, user: &str) -> Stomp {
        let (stomp, answer) =
            log_in(self.broker.port(), &[("login", user), ("passcode", &user[..1])]);
        assert_eq!(answer.command, "CONNECTED", "{answer:?}");
        stomp
    }

    fn depth(&self, of: &str) -> u64 {
        let queues = self.broker.queues();
        queues.iter().find(|(name, ..)| name == of).map_or(0, |(_, depth, _)| *depth)
    }
}

/// A broker for both wires.
fn start(dir: &Path, settings: &str, users: &Path) -> Broker {
    let file = dir.join("settings.toml");
    std::fs::write(&file, format!("{settings}\n[security]\nusers = {users:?}\n")).unwrap();
    let listen = ["--listen", "stomp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"];
    let options = [&["--config", file.to_str().unwrap()], &listen[..]].concat();
    Broker::start_with(&dir.join("data"), &options)
}

/// What is answered to a CONNECT.
fn log_in(port: u16, headers: &[(&str, &str)]) -> (Stomp, Frame) {
    let mut stomp = Stomp::open(port).unwrap();
    let frame = Frame::new("CONNECT").with("accept-version", "1.2").with("host", "h");
    stomp
        .send(&headers.iter().fold(frame, |frame, (name, value)| frame.with(name, value)))
        .unwrap();
    let answer = stomp.receive().unwrap();
    stomp.speak("1.2");
    (stomp, answer)
}

fn place(kind: DestinationKind, name: &str) -> Destination {
    Destination { kind, physical_name: Text::new(name) }
}

/// The words of an exception for want of a right; nothing where the answer is a yes.
#[track_caller]
fn refusal(answer: &Structure) -> Option<String> {
    match answer {
        Structure::Response(_) => None,
        Structure::ExceptionResponse(no) => {
            let thrown = &no.exception.as_ref().unwrap().thrown;
            let class = thrown.class.as_ref().unwrap().to_string();
            let words = thrown.message.as_ref().unwrap().to_string();
            assert_eq!(class, "java.lang.SecurityException", "{words}");
            Some(words)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_not_be_read_by_its_plain_name_is_read_by_no_other() {
    let case = Case::start();
    let mut bob = case.jms("b", "bob");
    bob.send(1, "secret", "for Bob");
    bob.send(2, "ActiveMQ.DLQ", "for Bob");
    for (number, (kind, name)) in NOT_TO_READ.iter().enumerate() {
        let to = place(*kind, name);
        let mut ann = case.jms(&format!("a{number}"), "ann");
        let info = ann.consumer_of(to.clone());
        let waiting = ConsumerInfo { prefetch_size: 10, ..info };
        assert!(refusal(&ann.ask(&waiting)).is_some(), "{to:?} is read");
        // One that asks for each message, and one that leaves with its subscription kept.
        let asking = ann.consumer_of(to.clone());
        assert!(refusal(&ann.ask(&asking)).is_some(), "{to:?} is read by who asks");
        let (command_id, destination) = (ann.number(), Some(to.clone()));
        let consumer_id = asking.consumer_id.clone();
        let pull = MessagePull { command_id, consumer_id, destination, ..MessagePull::default() };
        ann.write(&pull);
        if *kind == Queue && !name.contains("topic://") {
            let info = ann.consumer_of(to.clone());
            let browser = ConsumerInfo { browser: true, prefetch_size: 10, ..info };
            assert!(refusal(&ann.ask(&browser)).is_some(), "{to:?} is browsed");
        }
        // Whatever was sent to her would have come before this.
        ann.send(1, "mine.after", "all that comes");
        ann.consume("mine.after", 1, false);
        let (message, _) = ann.message();
        assert_eq!(characters(&message), "all that comes", "{to:?}");
        ann.ack(&message, 2, None);
    }
    assert_eq!((case.depth("secret"), case.depth("ActiveMQ.DLQ")), (1, 1));
    // Who may, does.
    bob.consume("secret", 10, false);
    assert_eq!(characters(&bob.message().0), "for Bob");
}

#[test]
fn what_stands_beside_a_temporary_destination_has_its_own_rights() {
    let case = Case::start();
    case.jms("b", "bob").send(1, "secret", "for Bob");
    let mut ann = case.jms("ann", "ann");
    let (command_id, destination) = (ann.number(), Some(place(TempQueue, "ann:1")));
    let add = DestinationInfo { command_id, destination, ..DestinationInfo::default() };
    assert_eq!(refusal(&ann.ask(&DestinationInfo { response_required: true, ..add })), None);
    for name in ["ann:1,queue://secret", "queue://secret,ann:1"] {
        let info = ann.consumer_of(place(TempQueue, name));
        let info = ConsumerInfo { prefetch_size: 10, ..info };
        assert!(refusal(&ann.ask(&info)).is_some(), "{name} is read");
        let message = ann.text(1, place(TempQueue, name), "from Ann");
        assert!(refusal(&ann.ask(&message)).is_some(), "{name} is written");
    }
    assert_eq!(case.depth("secret"), 1);
}

#[test]
fn a_durable_subscription_needs_the_right_to_its_topic() {
    let case = Case::start();
    let lasting = |jms: &mut OpenWire, topic: &str| {
        let info = jms.consumer_of(place(Topic, topic));
        let subscription_name = Text::new("lasts");
        refusal(&jms.ask(&ConsumerInfo { subscription_name, prefetch_size: 10, ..info }))
    };
    assert!(lasting(&mut case.jms("a", "ann"), "secret").is_some());
    assert_eq!(lasting(&mut case.jms("a", "ann"), "mine.news"), None);
    assert_eq!(lasting(&mut case.jms("b", "bob"), "secret"), None);
}

#[test]
fn what_may_not_be_written_by_its_plain_name_is_written_by_no_other() {
    let case = Case::start();
    let mut bob = case.jms("b", "bob");
    bob.send(1, "secret", "for Bob");
    for (number, (kind, name)) in NOT_TO_WRITE.iter().enumerate() {
        let to = place(*kind, name);
        let mut ann = case.jms(&format!("a{number}"), "ann");
        let message = ann.text(1, to.clone(), "from Ann");
        assert!(refusal(&ann.ask(&message)).is_some(), "{to:?} is written");
    }
    let mut ann = case.jms("a", "ann");
    let both = ann.text(1, queue("mine.a,secret"), "from Ann");
    assert!(refusal(&ann.ask(&both)).is_some());
    assert_eq!((case.depth("secret"), case.depth("ActiveMQ.DLQ")), (1, 0));
    // An end is a matter of its own.
    let (command_id, destination) = (ann.number(), Some(queue("secret")));
    let end = DestinationInfo { command_id, destination, operation_type: 1, ..Default::default() };
    let answer = ann.ask(&DestinationInfo { response_required: true, ..end });
    assert!(refusal(&answer).is_some());
    assert_eq!(case.depth("secret"), 1);
    // Who may, does; and the queue of a topic that she may write needs no right of its own.
    let message = ann.text(2, place(Topic, "VirtualTopic.open"), "from Ann");
    assert_eq!(refusal(&ann.ask(&message)), None);
    ann.send(3, "mine.a", "from Ann");
}

#[test]
fn stomp_meets_the_same_rights_by_every_name() {
    let case = Case::start();
    let mut bob = case.stomp("bob");
    bob.publish("/queue/secret", "for Bob").unwrap();
    let read = ["secret", "*", ">", "secre*", "Consumer.x.VirtualTopic.open", "ActiveMQ.DLQ"];
    let topics = ["secret", ">", "VirtualTopic.open", "ActiveMQ.Advisory.Connection"];
    let queues = read.map(|name| format!("/queue/{name}"));
    for name in queues.into_iter().chain(topics.map(|name| format!("/topic/{name}"))) {
        let error = case.stomp("ann").subscribe("s", &name, "auto").unwrap_err().to_string();
        assert!(error.contains("has no right to read"), "{name}: {error}");
    }
    for name in ["/queue/secret", "/topic/secret", "/queue/ActiveMQ.DLQ", "/topic/VirtualTopic.x"] {
        let error = case.stomp("ann").publish(name, "from Ann").unwrap_err().to_string();
        assert!(error.contains("has no right to write"), "{name}: {error}");
    }
    assert_eq!((case.depth("secret"), case.depth("ActiveMQ.DLQ")), (1, 0));
    case.stomp("ann").publish("/queue/mine.a", "from Ann").unwrap();
}

#[test]
fn a_temporary_queue_is_read_by_its_connection_alone_however_it_is_called() {
    // Whoever may read every queue may not read this one, with rules and without.
    for rules in [RULES, ""] {
        let dir = fresh_dir();
        let users = dir.path().join("users");
        set_user(&users, "ann", Some("a"), &[]);
        set_user(&users, "bob", Some("b"), &[]);
        let case = Case { broker: start(dir.path(), rules, &users), _dir: dir };
        let mut ann = case.jms("ann", "ann");
        for kind in [TempQueue, TempTopic] {
            let (command_id, destination) = (ann.number(), Some(place(kind, "ann:1")));
            let add = DestinationInfo { command_id, destination, ..DestinationInfo::default() };
            let answer = ann.ask(&DestinationInfo { response_required: true, ..add });
            assert!(matches!(answer, Structure::Response(_)), "{answer:?}");
        }
        let names = [
            (TempQueue, "ann:1"),
            (TempTopic, "ann:1"),
            (Queue, "temp-queue://ann:1"),
            (Topic, "temp-topic://ann:1"),
            (Queue, "mine.a,temp-queue://ann:1"),
            (TempQueue, "bob:1,ann:1"),
        ];
        for (number, (kind, name)) in names.into_iter().enumerate() {
            let mut bob = case.jms(&format!("b{number}"), "bob");
            let info = bob.consumer_of(place(kind, name));
            let Structure::ExceptionResponse(no) = bob.ask(&info) else { panic!("{name} is read") };
            let words = no.exception.unwrap().thrown.message.unwrap().to_string();
            assert!(words.contains("temporary destination of another"), "{name}: {words}");
        }
        for name in ["/queue/temp-queue://ann:1", "/topic/temp-topic://ann:1"] {
            let error = case.stomp("bob").subscribe("s", name, "auto").unwrap_err().to_string();
            assert!(error.contains("temporary destination of another"), "{name}: {error}");
        }
        // Anybody may answer her.
        let mut bob = case.jms("bob", "bob");
        let answer = bob.text(1, place(TempQueue, "ann:1"), "answer");
        assert_eq!(refusal(&bob.ask(&answer)), None);
        let info = ann.consumer_of(place(TempQueue, "ann:1"));
        let info = ConsumerInfo { prefetch_size: 1, ..info };
        assert_eq!(refusal(&ann.ask(&info)), None);
        assert_eq!(characters(&ann.message().0), "answer");
    }
}

#[test]
fn no_password_and_an_empty_one_let_nobody_in() {
    let dir = fresh_dir();
    let users = dir.path().join("users");
    set_user(&users, "ann", Some("a"), &[]);
    set_user(&users, "cert", None, &[]);
    // The hash of nothing, which no command of ours makes.
    let hash = escrowmq::security::users::hash(b"").unwrap();
    let text = std::fs::read_to_string(&users).unwrap();
    let text = escrowmq::security::users::with_user(&text, "empty", &hash, &[]);
    std::fs::write(&users, text).unwrap();
    let broker = start(dir.path(), "", &users);
    let cases = [
        (None, None),
        (None, Some("")),
        (None, Some("a")),
        (Some(""), None),
        (Some(""), Some("")),
        (Some("ann"), None),
        (Some("ann"), Some("")),
        (Some("ann"), Some("-")),
        (Some("cert"), None),
        (Some("cert"), Some("")),
        (Some("cert"), Some("-")),
        (Some("empty"), None),
        (Some("empty"), Some("")),
        (Some("nobody"), Some("")),
    ];
    for (user, password) in cases {
        let mut headers = Vec::new();
        headers.extend(user.map(|user| ("login", user)));
        headers.extend(password.map(|password| ("passcode", password)));
        let (_, answer) = log_in(broker.port(), &headers);
        assert_eq!(answer.command, "ERROR", "{user:?} {password:?}");

        let mut jms = OpenWire::open(broker.ports()[1], "c", &OpenWire::newest());
        let answer = jms.enter(user, password);
        assert!(refusal(&answer).is_some(), "{user:?} {password:?}");
        jms.wait_closed();
    }
    assert_eq!(
        log_in(broker.port(), &[("login", "ann"), ("passcode", "a")]).1.command,
        "CONNECTED"
    );
    let mut jms = OpenWire::open(broker.ports()[1], "c", &OpenWire::newest());
    assert_eq!(refusal(&jms.enter(Some("ann"), Some("a"))), None);
}

#[test]
fn what_operators_and_passwords_go_by_is_for_its_owner_alone() {
    let dir = fresh_dir();
    let users = dir.path().join("users");
    set_user(&users, "ann", Some("a"), &[]);
    let data = dir.path().join("data");
    let _broker = Broker::start(&data);
    let entries = std::fs::read_dir(&data).unwrap().map(Result::unwrap);
    let sockets: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().unwrap().is_socket())
        .map(|entry| entry.path())
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    for file in [&users, &sockets[0]] {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}
