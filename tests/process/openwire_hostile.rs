//! Peers that break ActiveMQ's wire, or never read, against the real process, before they are
//! known and after: the offender is cut off or refused, what it says has no effect, the broker's
//! memory is where it was, and a client that was there all the time goes on.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::openwire::{OpenWire, branch, characters, queue};
use crate::support::{PATIENCE, fresh_dir};
use bytes::{BufMut, Bytes, BytesMut};
use escrowmq::protocol::openwire::message::{Destination, DestinationKind, Message, MessageKind};
use escrowmq::protocol::openwire::primitive::{Map, Value};
use escrowmq::protocol::openwire::table::{
    BrokerId, BrokerInfo, ConnectionControl, ConnectionError, ConnectionInfo, ConsumerInfo,
    DataArrayResponse, DestinationInfo, ExceptionResponse, KeepAliveInfo, MessageAck, ProducerInfo,
    RemoveInfo, RemovedId, SessionInfo, TransactionInfo, WireFormatInfo,
};
use escrowmq::protocol::openwire::{
    Format, Magic, Object, Structure, Text, Throwable, Version, WireFormat, encode,
};

/// What all attacks of a test together may add to the broker's memory.
const GROWTH_MAX: u64 = 1 << 20;

/// Bytes of one frame that the broker takes before a client is known; one more is too many.
const GREETING_MAX: i32 = 16 << 10;

/// What a peer that goes on for ever sends at most before it must have been cut off.
const ENDLESS: usize = 16 << 20;

/// The ends of what lengths of two and of four bytes can say.
const HOSTILE: [[u8; 4]; 5] =
    [[0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0x80, 0, 0, 0], [0; 4], [0, 0xff, 0xff, 0xff]];

#[test]
fn a_first_frame_with_a_hostile_length_anywhere_is_survived_without_memory() {
    let mut case = Case::start("");
    let opening = frame(&OpenWire::newest().to_info());
    case.endures(|port| {
        for attack in attacks(&opening) {
            say_all(connect(port), &attack);
        }
    });
}

#[test]
fn a_greeting_with_a_hostile_length_anywhere_is_survived_without_memory() {
    let mut case = Case::start("");
    case.endures(|port| {
        let mut sample = OpenWire::open(port, "x", &with_stacks());
        let introduction = sample.introduction(Some("user"), Some("password"));
        let paths = Some(vec![Some(BrokerId { value: Text::new("broker") }); 2]);
        let broker = BrokerInfo { peer_broker_infos: Some(vec![None; 2]), ..BrokerInfo::default() };
        let frames = [
            sample.frame(&ConnectionInfo { broker_path: paths, ..introduction }),
            sample.frame(&broker),
            sample.frame(&ConnectionControl {
                token: Some(Bytes::from_static(b"token")),
                ..ConnectionControl::default()
            }),
        ];
        for attack in frames.iter().flat_map(|frame| attacks(frame)) {
            let mut peer = OpenWire::open(port, "x", &with_stacks());
            let _ = peer.write_raw(&attack);
            peer.end();
            peer.wait_closed();
        }
    });
}

#[test]
fn a_command_with_a_hostile_length_anywhere_is_survived_without_memory() {
    let mut case = Case::start("");
    for command in ["a message", "a consumer", "an exception", "an array", "others"] {
        case.endures(|port| {
            let mut sample = OpenWire::open(port, "x", &with_stacks());
            for frame in commands(&mut sample, command) {
                for attack in attacks(&frame) {
                    let mut peer = known(port);
                    let _ = peer.write_raw(&attack);
                    peer.end();
                    peer.wait_closed();
                }
            }
        });
    }
    assert_eq!(case.stored(), 0);
}

#[test]
fn what_can_never_be_a_frame_ends_the_connection_before_anyone_is_known() {
    let mut case = Case::start("");
    let sizes = [0, -1, i32::MIN, i32::MAX, GREETING_MAX + 1].map(number);
    case.endures(|port| {
        for size in &sizes {
            ends(port, Stage::Silent, &[&size[..], b"\x01ActiveMQ"].concat());
            ends(port, Stage::Agreed, &[&size[..], &[3]].concat());
        }
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"CONNECT\naccept-version:1.2\nhost:localhost\n\n\0",
            b"\xff\xfe\xfd\xfc\xfb\xfa",
            b"\0\0\0\0\0\0\0\0",
            b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x0c\x02",
            b"\0\0\0\x05\x03\0\0\0\x01",
        ] {
            ends(port, Stage::Silent, garbage);
        }
        for code in [0, 2, 15, 49, 79, 99, 127, 128, 255] {
            ends(port, Stage::Agreed, &[0, 0, 0, 6, code, 0, 0, 0, 1, 0]);
        }
        for map in hostile_properties() {
            let marshalled_properties = Some(map);
            let info = WireFormatInfo { magic: Magic, version: 12, marshalled_properties };
            ends(port, Stage::Silent, &frame(&info));
        }
        ends(port, Stage::Agreed, &frame(&OpenWire::newest().to_info()));
        ends(port, Stage::Agreed, &nested(1000));
    });
}

#[test]
fn what_can_never_be_a_frame_ends_the_connection_of_a_known_client() {
    let mut case = Case::start("limits.message = \"1MiB\"\n");
    // One that says most of what it takes is too large by as much as it may have beside a body.
    let (over, extra) = ((1 << 20) + 1, 512 << 10);
    case.endures(|port| {
        for size in [0, -1, i32::MIN, i32::MAX, over + extra] {
            for code in [3, 5, 24, 28] {
                ends(port, Stage::Known, &[&number(size)[..], &[code]].concat());
            }
        }
        // As large as a message may be, and none.
        let large = number(over);
        ends(port, Stage::Known, &[&large[..], &[5]].concat());
        for code in [0, 2, 13, 49, 79, 99, 127, 128, 255] {
            ends(port, Stage::Known, &[0, 0, 0, 6, code, 0, 0, 0, 1, 0]);
        }
        ends(port, Stage::Known, b"CONNECT\naccept-version:1.2\nhost:localhost\n\n\0");
        ends(port, Stage::Known, &frame(&OpenWire::newest().to_info()));
        ends(port, Stage::Known, &nested(1000));
    });
}

#[test]
fn nothing_but_the_greeting_is_taken_from_who_is_not_known() {
    let mut case = Case::start("");
    case.endures(|port| {
        let mut sample = OpenWire::open(port, "x", &OpenWire::newest());
        let consumer_id = sample.consumer_of(queue("honest")).consumer_id;
        let destination = Some(queue("stolen"));
        let begin = TransactionInfo { transaction_id: Some(branch(1)), ..Default::default() };
        let frames = [
            sample.frame(&sample_text(queue("stolen"))),
            sample.frame(&ConsumerInfo {
                consumer_id: consumer_id.clone(),
                destination: Some(queue("honest")),
                prefetch_size: 10,
                ..ConsumerInfo::default()
            }),
            sample.frame(&MessageAck { consumer_id, ..MessageAck::default() }),
            sample.frame(&begin),
            sample.frame(&TransactionInfo { verb: 5, ..begin.clone() }),
            sample.frame(&ProducerInfo::default()),
            sample.frame(&SessionInfo::default()),
            sample.frame(&DestinationInfo { destination, ..DestinationInfo::default() }),
            sample.frame(&RemoveInfo::default()),
            sample.frame(&DataArrayResponse::default()),
            sample.frame(&ConnectionError::default()),
        ];
        for frame in frames {
            let mut peer = OpenWire::open(port, "x", &OpenWire::newest());
            // What comes right behind has no effect either.
            let introduction = peer.introduction(None, None);
            let introduction = peer.frame(&introduction);
            let _ = peer.write_raw(&[frame, introduction].concat());
            let said = peer.wait_closed();
            assert!(matches!(said[..], [] | [Structure::BrokerInfo(_)]), "{said:?}");
        }
    });
    assert_eq!(case.stored(), 0);
}

#[test]
fn who_greets_for_ever_is_cut_off_by_the_sum_of_what_it_says() {
    fn pour<T: Object + Debug>(port: u16, structure: &T) {
        let mut peer = OpenWire::open(port, "x", &OpenWire::newest());
        let chunk = peer.frame(structure).repeat(64);
        let rounds = ENDLESS / chunk.len();
        let end = (0..rounds).find_map(|_| peer.write_raw(&chunk).err());
        let end = end.unwrap_or_else(|| panic!("{ENDLESS} bytes were taken of {structure:?}"));
        assert_ne!(end.kind(), ErrorKind::WouldBlock, "{structure:?} is not read any more");
    }
    // Time does not end it.
    let mut case = Case::start("[openwire]\nconnect_timeout = 3600\n");
    case.endures(|port| {
        let (command_id, response_required) = (1, true);
        let name = Some(Text::cut(&"x".repeat(1000)));
        for response_required in [true, false] {
            let broker_name = name.clone();
            pour(port, &KeepAliveInfo { command_id, response_required });
            pour(port, &BrokerInfo { command_id, response_required, ..BrokerInfo::default() });
            pour(port, &BrokerInfo { broker_name, ..BrokerInfo::default() });
        }
        let control = ConnectionControl { command_id, response_required, ..Default::default() };
        pour(port, &control);
    });
}

#[test]
fn who_is_not_known_in_time_is_dropped_whatever_it_has_begun_to_say() {
    let mut case = Case::start("[openwire]\nconnect_timeout = 1\n");
    let opening = frame(&OpenWire::newest().to_info());
    let began = Instant::now();
    let mut silent = Vec::new();
    for said in [0, 1, 4, 12, opening.len() - 1, opening.len()] {
        let mut peer = connect(case.port());
        peer.write_all(&opening[..said]).unwrap();
        silent.push(peer);
    }
    let mut half = OpenWire::open(case.port(), "x", &OpenWire::newest());
    let introduction = half.introduction(None, None);
    let introduction = half.frame(&introduction);
    half.write_raw(&introduction[..introduction.len() - 1]).unwrap();
    for peer in &mut silent {
        wait_closed(peer);
    }
    half.wait_closed();
    assert!(began.elapsed() >= Duration::from_secs(1), "dropped before its time");
    case.serve();
    let opened = Instant::now();
    // To say again and again that one lives is not to say who one is.
    let mut lively = OpenWire::open(case.port(), "x", &OpenWire::newest());
    while lively.write_raw(&sign_of_life()).is_ok() {
        assert!(opened.elapsed() < PATIENCE, "nobody ends it");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(opened.elapsed() >= Duration::from_secs(1), "dropped before its time");
    case.serve();
}

#[test]
fn a_known_client_that_falls_silent_is_given_up_and_one_that_says_it_lives_is_not() {
    let mut case = Case::start("[openwire]\ninactivity = 600\n");
    let port = case.port();
    let mut living = known_watched(port, "living");
    let mut silent = known_watched(port, "silent");
    let mut half = known_watched(port, "half");
    let message = half.frame(&sample_text(queue("half")));
    half.write_raw(&message[..message.len() - 1]).unwrap();
    let mut signs = 0;
    // The signs of the broker are the clock here: three are one time of silence.
    while signs < 12 {
        if matches!(living.read(), Structure::KeepAliveInfo(_)) {
            signs += 1;
            living.write(&KeepAliveInfo::default());
        }
    }
    for peer in [&mut silent, &mut half] {
        let said = peer.wait_closed();
        let signs = said.iter().filter(|it| matches!(it, Structure::KeepAliveInfo(_))).count();
        assert!(signs >= 1, "was not told that the broker lives: {said:?}");
    }
    living.send(1, "living", "goes on");
    living.consume("living", 1, false);
    assert_eq!(characters(&living.message().0), "goes on");
    case.serve();
}

#[test]
fn half_a_frame_for_ever_holds_up_nobody_and_is_forgotten_with_its_peer() {
    let mut case = Case::start("");
    case.endures(|port| {
        let mut held = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let mut peer = OpenWire::connect(port, name);
            let mut message = sample_text(queue("half"));
            message.content = Some(Bytes::from(vec![b'x'; 8 << 10]));
            let frame = peer.frame(&message);
            peer.write_raw(&frame[..frame.len() - 1]).unwrap();
            held.push(peer);
        }
        // Somebody else is served while they have not ended.
        drop(OpenWire::connect(port, "e"));
    });
    assert_eq!(case.stored(), 0);
}

#[test]
fn a_consumer_that_never_reads_harms_nobody_and_leaves_nothing_behind() {
    let mut case = Case::start("");
    let mut producer = OpenWire::connect(case.port(), "producer");
    let text = "x".repeat(64 << 10);
    for number in 1..=256 {
        producer.send(number, "lazy", &text);
    }
    let port = case.port();
    let lazy = || {
        let mut lazy = OpenWire::connect(port, "lazy");
        lazy.consume("lazy", 1000, false);
        lazy.wait_unread(32 << 10);
        lazy
    };
    case.endures(|_| {
        for _ in 0..10 {
            drop(lazy());
        }
    });
    let _lazy = lazy();
    case.serve();
    assert_eq!(case.stored(), 256);
    assert!(case.broker.terminate().success());
}

#[test]
fn every_version_is_agreed_on_and_carries_messages() {
    let case = Case::start("");
    for version in 1..=12 {
        let ours = WireFormat { version, ..WireFormat::default() };
        let mut client = OpenWire::open(case.port(), "c", &ours);
        assert_eq!(i32::from(client.format().version.number()), version);
        let answer = client.enter(None, None);
        assert!(matches!(answer, Structure::Response(_)), "{version}: {answer:?}");
        let text = format!("spoken in version {version}");
        client.send(version.into(), "q", &text);
        client.consume("q", 10, false);
        let (message, returns) = client.message();
        assert_eq!((characters(&message), returns), (text, 0));
        client.ack(&message, 2, None);
    }
    assert_eq!(case.stored(), 0);
    // Who would speak a newer one gets the newest, and who says none as well.
    for version in [13, i32::MAX, 0, -1, i32::MIN] {
        let ours = WireFormat { version, ..WireFormat::default() };
        let mut client = OpenWire::open(case.port(), "c", &ours);
        assert_eq!(client.format().version, Version::NEWEST);
        assert!(matches!(client.enter(None, None), Structure::Response(_)));
    }
}

/// A broker under attack, and a client that is there all the time.
struct Case {
    broker: Broker,
    honest: OpenWire,
    served: i64,
    _dir: tempfile::TempDir,
}

impl Case {
    fn start(settings: &str) -> Self {
        let dir = fresh_dir();
        let data = dir.path().join("data");
        let file = data.with_extension("toml");
        std::fs::write(&file, settings).unwrap();
        let file = file.to_str().unwrap();
        let listen = ["--listen", "tcp://127.0.0.1:0"];
        let broker = Broker::start_with(&data, &[&["--config", file], &listen[..]].concat());
        let mut honest = OpenWire::connect(broker.port(), "honest");
        honest.consume("honest", 10, false);
        let mut case = Self { broker, honest, served: 0, _dir: dir };
        case.serve();
        case
    }

    fn port(&self) -> u16 {
        self.broker.port()
    }

    /// The honest client sends, receives and acknowledges one message.
    #[track_caller]
    fn serve(&mut self) {
        self.served += 1;
        let text = format!("work {}", self.served);
        self.honest.send(self.served, "honest", &text);
        let (message, returns) = self.honest.message();
        assert_eq!((characters(&message), returns), (text, 0));
        self.honest.ack(&message, 2, None);
    }

    /// Messages there are, those of the honest client not counted.
    #[track_caller]
    fn stored(&self) -> u64 {
        let queues = self.broker.queues().into_iter();
        queues.filter(|(name, ..)| name != "honest").map(|(_, depth, _)| depth).sum()
    }

    /// An attack, again and again, costs nothing that lasts and little while it does, and the
    /// honest client is served. The first rounds are not counted: they take what the process needs
    /// for itself, whoever asks for it.
    #[track_caller]
    fn endures(&mut self, attack: impl Fn(u16)) {
        for _ in 0..2 {
            attack(self.port());
            self.serve();
        }
        self.broker.forget_peak();
        let (before, peak_before) = (self.broker.anonymous_bytes(), self.broker.peak_bytes());
        for _ in 0..2 {
            attack(self.port());
            self.serve();
        }
        let growth = self.broker.anonymous_bytes().saturating_sub(before);
        let peak = self.broker.peak_bytes().saturating_sub(peak_before);
        println!("grew by {} KiB, by {} KiB at the most", growth >> 10, peak >> 10);
        assert!(growth < GROWTH_MAX, "grew by {} KiB", growth >> 10);
        assert!(peak < GROWTH_MAX, "grew by {} KiB for a while", peak >> 10);
    }
}

fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Reads until the broker ends the connection.
#[track_caller]
fn wait_closed(socket: &mut TcpStream) {
    let mut bytes = [0; 16 << 10];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the broker does not end the connection: {error}"),
        }
    }
}

/// Says this and nothing more, and waits for the end.
#[track_caller]
fn say_all(mut socket: TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    wait_closed(&mut socket);
}

/// How far a peer has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Silent,
    Agreed,
    Known,
}

/// These bytes end the connection, though the peer goes on waiting.
#[track_caller]
fn ends(port: u16, stage: Stage, bytes: &[u8]) {
    match stage {
        Stage::Silent => {
            let mut socket = connect(port);
            let _ = socket.write_all(bytes);
            wait_closed(&mut socket);
        }
        Stage::Agreed => {
            let mut peer = OpenWire::open(port, "x", &OpenWire::newest());
            let _ = peer.write_raw(bytes);
            peer.wait_closed();
        }
        Stage::Known => {
            let mut peer = known(port);
            let _ = peer.write_raw(bytes);
            peer.wait_closed();
        }
    }
}

/// A client that takes exceptions with their stacks: nothing on the wire is left out.
fn with_stacks() -> WireFormat {
    WireFormat { stack_trace_enabled: true, ..OpenWire::newest() }
}

fn known(port: u16) -> OpenWire {
    let mut peer = OpenWire::open(port, "x", &with_stacks());
    assert!(matches!(peer.enter(None, None), Structure::Response(_)));
    peer
}

/// A client whose silence counts from the start.
fn known_watched(port: u16, name: &str) -> OpenWire {
    let ours = WireFormat { max_inactivity_duration: 600, ..OpenWire::newest() };
    let mut peer = OpenWire::open(port, name, &ours);
    assert!(matches!(peer.enter(None, None), Structure::Response(_)));
    peer
}

/// A number as the wire has it.
fn number(number: i32) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(number);
    out
}

/// A frame of what is said before anything is agreed on.
fn frame<T: Object>(structure: &T) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode(structure, Format::OPENING, usize::MAX, &mut frame).expect("a frame");
    frame.to_vec()
}

/// A sign of life.
fn sign_of_life() -> Vec<u8> {
    frame(&KeepAliveInfo::default())
}

/// A frame with each hostile length at each place.
fn attacks(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut attacks = Vec::new();
    for at in 0..frame.len() {
        for hostile in HOSTILE {
            let mut attack = frame.to_vec();
            let reach = hostile.len().min(frame.len() - at);
            attack[at..at + reach].copy_from_slice(&hostile[..reach]);
            attacks.push(attack);
        }
    }
    attacks
}

/// Maps that no first frame may have.
fn hostile_properties() -> Vec<Bytes> {
    let name = |number: u32| Text::cut(&format!("n{number}"));
    let many = Map((0..1000).map(|number| (name(number), Value::Null)).collect());
    let inside = |value| Map(vec![(name(0), value)]).encode();
    let one = |value: &[u8]| Bytes::from([b"\0\0\0\x01\0\x01n", value].concat());
    let mut maps: Vec<Bytes> =
        [&b"\x0a\xff\xff\xff\xff"[..], b"\x0d\x7f\xff\xff\xff", b"\x09\xff\xff"].map(one).into();
    maps.extend([i32::MAX, i32::MIN].map(|count| Bytes::from(number(count))));
    maps.push(many.encode());
    maps.push(inside(Value::Map(Some(Map::default()))));
    maps.push(inside(Value::List(vec![Value::Null; 10])));
    maps
}

/// Brokers that know of brokers, so many levels deep: written by hand, for the codec reads none.
fn nested(levels: usize) -> Vec<u8> {
    // Number, no wish for an answer, no id, no address; one peer; a broker again.
    let level = [0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 1, 2];
    let mut body = vec![2];
    (0..levels).for_each(|_| body.extend(level));
    [number(body.len() as i32), body].concat()
}

/// A text that is sent without an answer awaited.
fn sample_text(to: Destination) -> Message {
    let mut message = Message::new(MessageKind::Text);
    message.head.destination = Some(to);
    message.content = Some(Bytes::from_static(b"\0\0\0\x04text"));
    message
}

/// Commands that leave nothing behind, whatever of them is understood.
fn commands(sample: &mut OpenWire, which: &str) -> Vec<Vec<u8>> {
    let topic = Text::new("t");
    let to = Destination { kind: DestinationKind::Topic, physical_name: topic };
    match which {
        "a message" => {
            let nested = Value::Map(Some(Map(vec![(Text::cut("list"), list())])));
            let map = Map(vec![(Text::cut("map"), nested), (Text::cut("list"), list())]);
            let mut message = Message::new(MessageKind::Map);
            message.head = sample.text(1, to, "").head;
            message.head.persistent = false;
            message.content = Some(map.encode());
            message.tail.marshalled_properties = Some(map.encode());
            vec![sample.frame(&message)]
        }
        "a consumer" => {
            let path = Some(vec![Some(BrokerId { value: Text::new("b") }); 2]);
            let selector = Text::new("a = 'b'");
            let info = sample.consumer_of(to);
            vec![sample.frame(&ConsumerInfo { broker_path: path, selector, ..info })]
        }
        "an exception" => vec![sample.frame(&ExceptionResponse {
            exception: Some(thrown()),
            ..ExceptionResponse::default()
        })],
        "an array" => {
            let data = Some(vec![Some(Structure::KeepAliveInfo(KeepAliveInfo::default())), None]);
            vec![sample.frame(&DataArrayResponse { data, ..DataArrayResponse::default() })]
        }
        _ => {
            let id = branch(7);
            let forget =
                TransactionInfo { transaction_id: Some(id), verb: 6, ..Default::default() };
            let producer_id = sample.text(1, to.clone(), "").head.producer_id;
            let object_id = producer_id.clone().map(RemovedId::Producer);
            let poison = Some(thrown());
            vec![
                sample.frame(&forget),
                sample.frame(&ProducerInfo { producer_id, ..ProducerInfo::default() }),
                sample.frame(&RemoveInfo { object_id, ..RemoveInfo::default() }),
                sample.frame(&MessageAck { poison_cause: poison, ..MessageAck::default() }),
            ]
        }
    }
}

fn list() -> Value {
    let bytes = Bytes::from_static(b"bytes");
    Value::List(vec![
        Value::Bytes(bytes.clone()),
        Value::BigText(bytes.clone()),
        Value::Text(bytes),
    ])
}

fn thrown() -> Throwable {
    use escrowmq::protocol::openwire::StackElement;
    let mut throwable = Throwable::new("java.lang.Exception", "words");
    let name = Text::new("n");
    let element = StackElement { class: name.clone(), method: name.clone(), file: name, line: 7 };
    throwable.thrown.stack = vec![element; 2];
    throwable.causes = vec![throwable.thrown.clone(); 2];
    throwable
}
