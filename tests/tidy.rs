//! The rules of the house that no compiler knows, each as a promise.
//!
//! `WHO_MAY_USE` is the one table of the layers; `ARCHITECTURE.md` tells why they lie so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room of `src/`, and the rooms whose names its code may mention. `a::b` allows that part
/// of the room `a` alone, and `*` allows all. Code under `#[cfg(test)]` is free.
const WHO_MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("limits", &[]),
    ("identity", &[]),
    ("io", &["ids"]),
    ("schedule", &["ids"]),
    ("selector", &["limits"]),
    ("message", &["ids", "schedule", "protocol::openwire"]),
    ("record", &["ids", "identity", "message", "schedule", "broker::delta"]),
    ("broker", &["ids", "identity", "limits", "message", "schedule", "record", "selector"]),
    ("wal", &["io", "ids", "limits"]),
    ("store", &["io", "wal", "identity", "ids", "limits", "broker::delta"]),
    ("protocol", &["limits"]),
    (
        "session",
        &[
            "protocol",
            "broker::command",
            "message",
            "schedule",
            "selector",
            "identity",
            "ids",
            "limits",
        ],
    ),
    ("engine", &["broker", "store", "wal", "io", "message", "record", "ids", "identity", "limits"]),
    ("backup", &["engine::Store", "broker", "record", "store", "wal", "io", "ids"]),
    (
        "config",
        &[
            "engine",
            "wal",
            "broker::Limits",
            "broker::policy",
            "broker::redelivery",
            "security::access",
            "security::users",
            "ids",
            "limits",
        ],
    ),
    ("security", &["broker::command", "broker::policy", "message", "ids", "schedule", "limits"]),
    (
        "server",
        &[
            "security",
            "session",
            "engine",
            "backup",
            "broker::command",
            "config",
            "protocol",
            "io::Clock",
            "message",
            "ids",
            "limits",
        ],
    ),
    (
        "embedded",
        &[
            "engine",
            "backup",
            "server",
            "session::stomp",
            "session::Done",
            "protocol::stomp",
            "config",
            "broker::command",
            "broker::policy",
            "broker::redelivery",
            "io",
            "message",
            "schedule",
            "selector",
            "identity",
            "ids",
            "limits",
        ],
    ),
    ("cli", &["*"]),
    ("main", &["cli"]),
    ("mutant", &[]),
    // Compiled for tests alone.
    ("simulation", &["*"]),
];

/// Rooms that any other may mention: defects on purpose can hide anywhere.
const FOR_ALL: &[&str] = &["mutant"];

/// Rooms without a file, clock, thread or randomness: what they do follows from what they are told.
const PURE: &[&str] =
    &["broker", "session", "protocol", "record", "message", "schedule", "selector"];

/// What a pure room never names.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant",
    "tokio",
    "getrandom",
    "crate::io",
];

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn every_room_uses_only_the_rooms_below_it() {
    let mut wrong = Vec::new();
    for file in source_files() {
        let room = room_of(&file);
        // The crate's front page names every room; it holds no code of its own.
        if room == "lib" {
            continue;
        }
        let Some((_, allowed)) = WHO_MAY_USE.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: `{room}` is not in WHO_MAY_USE", file.display()));
            continue;
        };
        for path in crate_paths(&code_of(&file)) {
            let inside = |entry: &str| path == entry || path.starts_with(&format!("{entry}::"));
            let own = inside(&room) || FOR_ALL.iter().any(|entry| inside(entry));
            if !own && !allowed.iter().any(|entry| *entry == "*" || inside(entry)) {
                wrong.push(format!("{}: `{room}` may not use `{path}`", file.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_pure_rooms_name_no_file_clock_thread_or_socket() {
    let mut wrong = Vec::new();
    for file in source_files().iter().filter(|file| PURE.contains(&room_of(file).as_str())) {
        let code = code_of(file);
        for word in IMPURE_WORDS.iter().filter(|word| has_word(&code, word)) {
            wrong.push(format!("{}: {word}", file.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let opens = |file: &PathBuf| read(file).starts_with("//! ");
    let wrong: Vec<String> = (rust_files().iter().filter(|file| !opens(file)))
        .map(|file| format!("{}: no `//!` header on its first line", file.display()))
        .collect();
    assert_none(&wrong);
}

#[test]
fn no_source_file_is_longer_than_a_reader_can_hold() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let lines = read(&file).lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, {LINES_MAX} at most", file.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_file_of_code_is_a_module_of_another() {
    let mut alone = Vec::new();
    for file in rust_files() {
        let (Some(name), Some(dir)) = (file.file_stem(), file.parent()) else { continue };
        let (name, dir) = match name.to_str().expect("a name in letters") {
            "lib" | "main" => continue,
            "mod" => (dir.file_name().and_then(|it| it.to_str()).expect("a name"), dir.parent()),
            name => (name, Some(dir)),
        };
        let dir = dir.expect("below the root");
        let beside = ["mod.rs", "main.rs", "lib.rs"].map(|it| dir.join(it));
        let parents: Vec<_> = beside.into_iter().chain([dir.with_extension("rs")]).collect();
        // Where none of them is, as among benchmarks and examples, each file is a target.
        let mut parents = parents.iter().filter(|it| it.is_file()).peekable();
        let declares = |line: &str| format!(" {line}").ends_with(&format!(" mod {name};"));
        if parents.peek().is_some() && !parents.any(|it| read(it).lines().any(declares)) {
            alone.push(format!("{}: no `mod {name};` beside it", file.display()));
        }
    }
    assert_none(&alone);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut wrong = Vec::new();
    for file in source_files() {
        for Function { name, line, lines } in functions(&code_of(&file)) {
            if lines > FUNCTION_LINES_MAX {
                let place = format!("{}:{line}", file.display());
                wrong.push(format!("{place}: `{name}` has {lines}, {FUNCTION_LINES_MAX} at most"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_line_of_code_is_wider_than_the_page() {
    let mut wrong = Vec::new();
    let files = project_files();
    for file in files.iter().filter(|file| has_extension(file, &["rs", "py", "mjs", "java"])) {
        for (number, line) in read(file).lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                wrong.push(format!("{}:{}: {columns} columns", file.display(), number + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // Put together here, so that this file does not name them either.
    let homes = ["home", "root", "work", "Users"].map(|top| format!("/{top}/"));
    let mut wrong = Vec::new();
    for file in project_files() {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for home in &homes {
            // Part of a longer path (`src/work/x`) is no place on a machine.
            let absolute = text.match_indices(home.as_str()).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                before.is_none_or(|c| !(c.is_alphanumeric() || "._-/}>)".contains(c)))
            });
            if absolute {
                wrong.push(format!("{}: {home}", file.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut wrong = Vec::new();
    let files = project_files();
    for file in files.iter().filter(|file| has_extension(file, &["md"])) {
        let text = read(file);
        // Between backticks stand code and names: every odd piece of the text.
        for name in text.split('`').skip(1).step_by(2).filter(|name| names_a_file(name)) {
            // A text about one room names its files from there: the end of a path will do.
            if !files.iter().any(|file| file.ends_with(name)) {
                wrong.push(format!("{}: `{name}` does not exist", file.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_table_of_layers_names_every_room_and_no_other() {
    let rooms: BTreeSet<String> = source_files().iter().map(|file| room_of(file)).collect();
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for (room, allowed) in WHO_MAY_USE {
        if !rooms.contains(*room) {
            wrong.push(format!("`{room}` is in WHO_MAY_USE and not in src"));
        }
        if !named.insert((*room).to_owned()) {
            wrong.push(format!("`{room}` is in WHO_MAY_USE twice"));
        }
        for entry in *allowed {
            let below = entry.split("::").next().unwrap_or(entry);
            if below != "*" && !rooms.contains(below) {
                wrong.push(format!("`{room}` may use `{entry}`, which is no room"));
            }
        }
    }
    for room in PURE.iter().chain(FOR_ALL).filter(|room| !rooms.contains(**room)) {
        wrong.push(format!("`{room}` is in PURE or FOR_ALL and not in src"));
    }
    for room in rooms.iter().filter(|room| *room != "lib" && !named.contains(*room)) {
        wrong.push(format!("`{room}` is not in WHO_MAY_USE"));
    }
    assert_none(&wrong);
}

#[test]
fn the_reader_of_paths_sees_what_the_rules_are_about() {
    let check = |code: &str, expected: &[&str]| {
        assert_eq!(crate_paths(code), expected.iter().map(|p| (*p).to_owned()).collect(), "{code}");
    };
    check("use crate::ids::Lsn;", &["ids::Lsn"]);
    check("use crate::{ids::{Lsn, Millis}, limits};", &["ids::Lsn", "ids::Millis", "limits"]);
    check("let x = crate::wal::open(crate::io::real());", &["wal::open", "io::real"]);
    check("pub(crate) fn f() {} pub(in crate::wal) fn g() {}", &["wal"]);
    check("use escrowmq::cli;", &["cli"]);
    check("use ::escrowmq::broker::delta::Delta as D;", &["broker::delta::Delta"]);
    check("let my_crate = 1; mycrate::x();", &[]);

    assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), "fn a() {}");
    assert_eq!(without_comments("a(); // crate::x\n/// crate::y\nb(\"http://c\");"), {
        "a();\n\nb(\"http://c\");"
    });
    assert!(has_word("use std::time::Instant;", "Instant"));
    assert!(!has_word("struct InstantReply; fn tokio_like()", "Instant"));
}

#[test]
fn the_reader_of_functions_sees_where_each_begins_and_ends() {
    let found = |code: &str| -> Vec<(String, usize, usize)> {
        functions(code).into_iter().map(|it| (it.name, it.line, it.lines)).collect()
    };
    let expected = |name: &str, line, lines| (name.to_owned(), line, lines);
    assert_eq!(found("fn a() {}\nlet fnord = 1;"), [expected("a", 1, 1)]);
    let signature = "impl X {\n    pub(in crate::y) const fn b(\n        z: Z,\n    ) {";
    let body = "\n        if z {\n        }\n    }\n}";
    assert_eq!(found(&format!("{signature}{body}")), [expected("b", 2, 6)]);
    let bodyless = "trait T {\n    fn c(\n        z: Z,\n    );";
    let next = "\n    async fn d() {\n        x();\n    }\n}";
    let both = [expected("c", 2, 3), expected("d", 5, 3)];
    assert_eq!(found(&format!("{bodyless}{next}")), both);
    // One inside another counts for both.
    assert_eq!(
        found("fn e() {\n    fn f<T>() {\n        x();\n    }\n}"),
        [expected("e", 1, 5), expected("f", 2, 3)]
    );
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project, without what builds and runs leave behind.
fn project_files() -> Vec<PathBuf> {
    const LEFT_BEHIND: &[&str] =
        &[".git", "target", "escrowmq-data", "node_modules", "__pycache__"];
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry of a folder").path();
            let name = path.file_name().unwrap_or_default();
            if LEFT_BEHIND.iter().any(|left| name == *left) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(!files.is_empty(), "an empty tree would pass every rule");
    files.sort();
    files
}

fn rust_files() -> Vec<PathBuf> {
    project_files().into_iter().filter(|file| has_extension(file, &["rs"])).collect()
}

fn source_files() -> Vec<PathBuf> {
    let src = root().join("src");
    rust_files().into_iter().filter(|file| file.starts_with(&src)).collect()
}

fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    file.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The top module that a file of `src/` belongs to.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).expect("a file of src");
    let first = inside.components().next().expect("a name");
    let first = Path::new(first.as_os_str());
    first.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// What of a file the rules are about: no comments, no tests.
fn code_of(file: &Path) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests = file.components().any(|part| part.as_os_str() == "tests");
    if name == "tests" || name.ends_with("_tests") || in_tests {
        return String::new();
    }
    without_comments(without_tests(&read(file)))
}

/// Tests stand at the end of a file, in one module.
fn without_tests(text: &str) -> &str {
    let end = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\npub(crate) mod "];
    let at = end.iter().filter_map(|end| find_inline_module(text, end)).min();
    at.map_or(text, |at| &text[..at])
}

/// Where a test module with a body begins; `mod tests;` is only a line.
fn find_inline_module(text: &str, opening: &str) -> Option<usize> {
    let found = |(at, _): &(usize, &str)| {
        text[at + opening.len()..].lines().next().is_some_and(|line| line.ends_with('{'))
    };
    text.match_indices(opening).find(found).map(|(at, _)| at)
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| {
        // `//` after a colon is the middle of an address in a string.
        let starts = line.match_indices("//").map(|(at, _)| at);
        let comment = starts.into_iter().find(|at| !line[..*at].ends_with(':'));
        line[..comment.unwrap_or(line.len())].trim_end().to_owned()
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// The paths below the crate that a piece of code mentions, in `use` trees and in place.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for opening in ["crate::", "escrowmq::"] {
        for (at, _) in code.match_indices(opening) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(is_word) {
                use_tree(&code[at + opening.len()..], "", &mut paths);
            }
        }
    }
    paths
}

/// Reads one use tree or path, adds the full paths of its leaves, and returns what follows it.
fn use_tree<'a>(text: &'a str, prefix: &str, paths: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => rest = use_tree(rest, prefix, paths),
            }
        }
    }
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = match (prefix, name) {
        (prefix, "self" | "") => prefix.to_owned(),
        ("", name) => name.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    if let Some(rest) = rest.strip_prefix("::") {
        return use_tree(rest, &path, paths);
    }
    paths.insert(path);
    // Skips what cannot begin a further leaf: `*`, `as Name`.
    let rest = rest.strip_prefix('*').unwrap_or(rest);
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias.trim_start_matches(is_word),
        None => rest,
    }
}

/// A function as the eye finds it.
struct Function {
    name: String,
    /// Counted from 1, as are its lines.
    line: usize,
    lines: usize,
}

/// The functions of formatted code: one ends with the first closing brace that stands as far from
/// the margin as its `fn`.
fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let margin = &line[..line.len() - line.trim_start().len()];
        let rest = &lines[at..];
        let head = rest.iter().position(|line| line.ends_with(['{', '}', ';']));
        let head = head.expect("a function has a body or none");
        let end = if rest[head].ends_with('{') {
            let closes = |line: &&str| line.strip_prefix(margin) == Some("}");
            rest.iter().position(closes).expect("formatted code")
        } else {
            head
        };
        found.push(Function { name, line: at + 1, lines: end + 1 });
    }
    found
}

/// The name of the function that begins on a line.
fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let qualifiers = before.replace("pub(in ", "pub(");
    let is_qualifier = |word: &str| {
        ["pub", "const", "async", "unsafe", "extern"].contains(&word)
            || word.starts_with("pub(")
            || word.starts_with('"')
    };
    if !qualifiers.split_whitespace().all(is_qualifier) || qualifiers.ends_with(is_word) {
        return None;
    }
    let name: String = after.chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether a word in a document means a file of this repository.
fn names_a_file(word: &str) -> bool {
    let plain = word.chars().all(|c| is_word(c) || "./-".contains(c));
    let file = [".rs", ".py", ".mjs"].iter().any(|end| word.ends_with(end));
    plain && file && !word.starts_with(['.', '/'])
}
