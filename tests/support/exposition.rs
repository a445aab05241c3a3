//! A strict reader of Prometheus' text format 0.0.4: whatever a scraper might stumble over is a
//! panic that names the line.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A page: the value of each sample by its name and labels, as they stand in the text.
pub(crate) type Page = BTreeMap<String, f64>;

/// Sends a request and gives the whole answer, head and body apart.
pub(crate) fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("send the request");
    stream.shutdown(std::net::Shutdown::Write).expect("nothing more to say");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// Fetches the page and reads it.
#[track_caller]
pub(crate) fn scrape(port: u16) -> Page {
    let (head, body) = ask(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    read(&body)
}

/// Reads a page.
///
/// # Panics
/// Where it is not in the format.
#[track_caller]
pub(crate) fn read(page: &str) -> Page {
    let mut samples = Page::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut current = "";
    assert!(page.ends_with('\n'), "the last line must end");
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect(line);
            assert!(is_name(name) && !text.is_empty(), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "told twice: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = name;
        } else {
            let (series, name, value) = sample(line);
            let of_histogram = ["_bucket", "_sum", "_count"].into_iter();
            let stem = of_histogram.filter_map(|end| name.strip_suffix(end)).next();
            let known =
                if kinds[current] == "histogram" { stem == Some(current) } else { name == current };
            assert!(known, "a sample outside of its metric {current}: {line}");
            assert!(samples.insert(series, value).is_none(), "twice: {line}");
        }
    }
    for (name, _) in kinds.iter().filter(|(_, kind)| **kind == "histogram") {
        check_histogram(page, name, &samples);
    }
    samples
}

fn check_histogram(page: &str, name: &str, samples: &Page) {
    let prefix = format!("{name}_bucket{{le=\"");
    let mut last = (f64::NEG_INFINITY, 0.0);
    for line in page.lines().filter_map(|line| line.strip_prefix(&prefix)) {
        let (end, count) = line.split_once("\"} ").expect(line);
        let end = if end == "+Inf" { f64::INFINITY } else { end.parse().expect(line) };
        let count: f64 = count.parse().expect(line);
        assert!(end > last.0 && count >= last.1, "{name}: {last:?}, then {line}");
        last = (end, count);
    }
    assert_eq!(last.0, f64::INFINITY, "{name} has no last bucket");
    assert_eq!(samples[&format!("{name}_count")], last.1, "{name}");
    assert!(samples.contains_key(&format!("{name}_sum")), "{name}");
}

/// Series, name and value of a line.
#[track_caller]
fn sample(line: &str) -> (String, &str, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().expect(line);
    let Some((name, labels)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return (series.to_owned(), series, value);
    };
    let mut rest = labels;
    loop {
        let (label, text) = rest.split_once("=\"").expect(line);
        assert!(is_name(label), "{line}");
        let mut chars = text.char_indices();
        let end = loop {
            match chars.next().expect(line) {
                (_, '\\') => assert!(matches!(chars.next(), Some((_, '\\' | '"' | 'n'))), "{line}"),
                (end, '"') => break end,
                _ => {}
            }
        };
        match &text[end + 1..] {
            "}" => break,
            more => rest = more.strip_prefix(',').expect(line),
        }
    }
    assert!(is_name(name), "{line}");
    (series.to_owned(), name, value)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
