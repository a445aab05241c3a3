//! Who is let in and what they may do, against the real process: passwords, rights, TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::broker::{ANY_PORT, Broker, run_to_end, said};
use crate::support::security::{Authority, set_user};
use crate::support::stomp::{Frame, Stomp};

fn connect(port: u16, login: &[(&str, &str)]) -> (Stomp, Frame) {
    let mut stomp = Stomp::open(port).unwrap();
    let frame = Frame::new("CONNECT").with("accept-version", "1.1").with("host", "h");
    let frame = login.iter().fold(frame, |frame, (name, value)| frame.with(name, value));
    stomp.write_raw(&frame.encode("1.0")).unwrap();
    let answer = stomp.receive().unwrap();
    (stomp, answer)
}

fn login<'a>(name: &'a str, password: &'a str) -> [(&'static str, &'a str); 2] {
    [("login", name), ("passcode", password)]
}

/// What is said about a frame: its RECEIPT, or an ERROR.
fn ask(stomp: &mut Stomp, frame: Frame) -> Frame {
    stomp.write_raw(&frame.with("receipt", "r").encode("1.1")).unwrap();
    stomp.receive().unwrap()
}

#[test]
fn only_users_with_their_passwords_are_let_in_and_a_new_password_counts_at_once() {
    let dir = crate::support::fresh_dir();
    let users = dir.path().join("users");
    set_user(&users, "ann", Some("s3cret"), &[]);
    let settings = format!("[security]\nusers = {:?}\n", users);
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    let port = broker.port();
    let message = |frame: &Frame| frame.header("message").unwrap_or_default().to_owned();
    for (login, words) in [
        (login("ann", "S3cret").to_vec(), "the user name or the password is wrong"),
        (login("bob", "s3cret").to_vec(), "the user name or the password is wrong"),
        (Vec::new(), "this broker wants a user name and a password"),
    ] {
        let (_, answer) = connect(port, &login);
        assert_eq!((answer.command.as_str(), message(&answer).as_str()), ("ERROR", words));
    }
    let (mut stomp, answer) = connect(port, &login("ann", "s3cret"));
    assert_eq!(answer.command, "CONNECTED");
    let send = Frame::new("SEND").with("destination", "/queue/q").body("x");
    assert_eq!(ask(&mut stomp, send).command, "RECEIPT");
    set_user(&users, "ann", Some("other"), &[]);
    assert_eq!(connect(port, &login("ann", "s3cret")).1.command, "ERROR");
    assert_eq!(connect(port, &login("ann", "other")).1.command, "CONNECTED");
}

#[test]
fn a_user_does_what_the_rules_give_and_nothing_else() {
    let dir = crate::support::fresh_dir();
    let users = dir.path().join("users");
    set_user(&users, "feed", Some("f"), &[]);
    set_user(&users, "ann", Some("a"), &["desk"]);
    let settings = format!(
        "[[access]]\nname = \"queue://orders.>\"\nwrite = [\"feed\"]\nread = [\"desk\"]\n\
         [security]\nusers = {users:?}\n"
    );
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    let open = |name, password| {
        let (stomp, answer) = connect(broker.port(), &login(name, password));
        assert_eq!(answer.command, "CONNECTED");
        stomp
    };
    let send = |to: &str| Frame::new("SEND").with("destination", to).body("x");
    let subscribe =
        Frame::new("SUBSCRIBE").with("destination", "/queue/orders.new").with("id", "1");
    assert_eq!(ask(&mut open("feed", "f"), send("/queue/orders.new")).command, "RECEIPT");
    for (mut who, frame, words) in [
        (open("feed", "f"), subscribe.clone(), "feed has no right to read queue://orders.new"),
        (open("ann", "a"), send("/queue/orders.new"), "ann has no right to write"),
        (open("feed", "f"), send("/queue/other"), "feed has no right to write queue://other"),
        (open("feed", "f"), send("/topic/orders.new"), "no right to write topic://orders.new"),
    ] {
        let answer = ask(&mut who, frame);
        assert!(answer.command == "ERROR" && answer.text().contains(words), "{answer:?}");
    }
    let mut ann = open("ann", "a");
    assert_eq!(ask(&mut ann, subscribe).command, "RECEIPT");
    assert_eq!(ann.receive().unwrap().text(), "x");
}

#[test]
fn a_transaction_with_a_forbidden_part_is_not_committed() {
    let dir = crate::support::fresh_dir();
    let users = dir.path().join("users");
    set_user(&users, "feed", Some("f"), &[]);
    let settings = format!(
        "[[access]]\nname = \"queue://mine\"\nwrite = [\"feed\"]\nread = [\"feed\"]\n\
         [security]\nusers = {users:?}\n"
    );
    let broker = Broker::start_configured(&dir.path().join("data"), &settings);
    let open = || connect(broker.port(), &login("feed", "f")).0;
    let mut feed = open();
    let mut frames = Frame::new("BEGIN").with("transaction", "t").encode("1.1");
    for to in ["/queue/mine", "/queue/other"] {
        let send = Frame::new("SEND").with("destination", to).with("transaction", "t").body("x");
        frames.extend(send.encode("1.1"));
    }
    let commit = Frame::new("COMMIT").with("transaction", "t").with("receipt", "c");
    frames.extend(commit.encode("1.1"));
    feed.write_raw(&frames).unwrap();
    assert_eq!(feed.receive().unwrap().command, "ERROR");
    let mut after = open();
    let subscribe = Frame::new("SUBSCRIBE").with("destination", "/queue/mine").with("id", "1");
    assert_eq!(ask(&mut after, subscribe).command, "RECEIPT");
    let send = Frame::new("SEND").with("destination", "/queue/mine").body("after");
    after.write_raw(&send.encode("1.1")).unwrap();
    assert_eq!(after.receive().unwrap().text(), "after");
}

#[test]
fn a_broker_that_others_could_reach_does_not_start_without_users() {
    let dir = crate::support::fresh_dir();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let listen = ["run", "--data", data, "--listen", "stomp://0.0.0.0:0"];
    let output = run_to_end(&listen);
    assert!(!output.status.success() && said(&output).contains("security.users"), "{output:?}");
    assert!(!Path::new(data).exists(), "the store was touched");
    let users = dir.path().join("users");
    std::fs::write(&users, "ann\n").unwrap();
    let settings = dir.path().join("wrong.toml");
    std::fs::write(&settings, format!("[security]\nusers = {users:?}\n")).unwrap();
    let settings = settings.to_str().unwrap();
    let output = run_to_end(&["run", "--data", data, "--config", settings, "--listen", ANY_PORT]);
    assert!(!output.status.success() && said(&output).contains("line 1"), "{output:?}");
}

/// A client that trusts the authority, with the certificate of that name.
fn connect_tls(
    authority: &Authority,
    port: u16,
    name: Option<&str>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca", "pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::from_pem_file(authority.file(name, "pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(authority.file(name, "key")).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let host = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(Arc::new(config), host).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    StreamOwned::new(tls, socket)
}

/// What comes up to the end of a frame, or why nothing does.
fn answer(stream: &mut impl Read) -> Result<String, ErrorKind> {
    let mut found = Vec::new();
    let mut byte = [0];
    while !matches!(found.last(), Some(0)) {
        match stream.read(&mut byte) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(_) => found.push(byte[0]),
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(String::from_utf8(found).unwrap())
}

#[test]
fn messages_go_through_tls_and_a_certificate_opens_without_a_password() {
    let dir = crate::support::fresh_dir();
    let authority = Authority::new(dir.path());
    ["broker", "ann", "eve"].into_iter().for_each(|name| authority.sign(name));
    let users = dir.path().join("users");
    set_user(&users, "ann", None, &[]);
    set_user(&users, "bob", Some("b"), &[]);
    let settings = format!(
        "[security]\nusers = {users:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nclients = {:?}\n",
        authority.file("broker", "pem"),
        authority.file("broker", "key"),
        authority.file("ca", "pem"),
    );
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, settings).unwrap();
    let options = ["--config", file.to_str().unwrap(), "--listen", "stomp+ssl://127.0.0.1:0"];
    let broker = Broker::start_with(&dir.path().join("data"), &options);
    let connect = |name, login: &str| {
        let mut stream = connect_tls(&authority, broker.port(), name);
        let text = format!("CONNECT\naccept-version:1.2\nhost:h\n{login}\n\0");
        let said = stream.write_all(text.as_bytes()).map_err(|e| e.kind());
        let answer = said.and_then(|()| answer(&mut stream));
        (stream, answer)
    };
    let (mut ann, connected) = connect(Some("ann"), "");
    assert!(connected.unwrap().starts_with("CONNECTED\n"));
    let body = "x".repeat(300_000);
    let send =
        format!("SEND\ndestination:/queue/q\ncontent-length:{}\nreceipt:r\n\n{body}\0", body.len());
    ann.write_all(send.as_bytes()).unwrap();
    assert!(answer(&mut ann).unwrap().trim_start().starts_with("RECEIPT\n"));
    ann.write_all(b"SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0").unwrap();
    let message = answer(&mut ann).unwrap();
    assert!(message.ends_with(&format!("\n\n{body}\0")), "{} bytes", message.len());
    // A certificate of nobody, and none, leave it to the password.
    for name in [Some("eve"), None] {
        let (_, refused) = connect(name, "login:bob\npasscode:x\n");
        assert!(refused.unwrap().starts_with("ERROR\n"), "{name:?}");
        let (_, let_in) = connect(name, "login:bob\npasscode:b\n");
        assert!(let_in.unwrap().starts_with("CONNECTED\n"), "{name:?}");
    }
    // One that somebody else has signed is none at all.
    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::new(other.path());
    stranger.sign("ann");
    std::fs::copy(authority.file("ca", "pem"), stranger.file("ca", "pem")).unwrap();
    let mut stream = connect_tls(&stranger, broker.port(), Some("ann"));
    let said = stream.write_all(b"CONNECT\naccept-version:1.2\nhost:h\n\n\0");
    assert!(said.map_err(|e| e.kind()).and_then(|()| answer(&mut stream)).is_err());
    // Who does not speak TLS hears no STOMP.
    let mut plain = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    plain.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    plain.write_all(b"CONNECT\naccept-version:1.2\nhost:h\n\n\0").unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(!String::from_utf8_lossy(&heard).contains("CONNECTED"));
}
