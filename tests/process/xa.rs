//! Global transactions over two brokers, whose transaction manager is killed again and again; and
//! what operators see of branches and decide of them.
//!
//! The manager is the program `examples/xa_transfer.rs`, run by this test's own binary.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::broker::{Broker, assert_no_damage, run_to_end, said};
use crate::support::fresh_dir;
use crate::support::random::{Random, number_from_env};
use serde_json::Value;

use escrowmq::blocking;
use escrowmq::{Destination, Vote, XaError, Xid};

#[allow(dead_code, unreachable_pub, reason = "it is a program too, with a `main`")]
#[path = "../../examples/xa_transfer.rs"]
mod xa_transfer;

/// Says in which directory this process is to be the program.
const DIRECTORY: &str = "ESCROW_XA_TRANSFER";

/// Not a promise of its own: the program that the next one kills.
#[test]
fn transfers_go_on_until_somebody_ends_them() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let told = &mut |line| println!("\ntold {line}");
    xa_transfer::run(Path::new(&directory), u64::MAX, told).unwrap();
}

fn start_transfers(directory: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "xa::transfers_go_on_until_somebody_ends_them", "--nocapture"]);
    command.env(DIRECTORY, directory).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("start the transfers");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let told = lines.map_while(Result::ok);
    (child, told.filter_map(|line| line.strip_prefix("told ").map(ToOwned::to_owned)))
}

#[test]
fn money_moved_between_brokers_under_kills_of_their_manager_is_in_exactly_one_place() {
    let rounds = number_from_env("ESCROW_CRASH_ROUNDS").unwrap_or(12);
    let mut random = Random::from_env();
    let dir = fresh_dir();
    let directory = dir.path().join("banks");
    let (mut committed, mut rolled_back, mut moved) = (0, 0, 0);
    // On until both kinds of unfinished business were met.
    let enough =
        |round, committed, rolled_back| round >= rounds && committed > 0 && rolled_back > 0;
    for round in 0..rounds + 500 {
        if enough(round, committed, rolled_back) {
            break;
        }
        let (mut child, mut told) = start_transfers(&directory);
        let first = random.below(8);
        for line in told.by_ref().take(usize::try_from(first).unwrap()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["recovered:", yes, "committed,", no, ..] => {
                    committed += yes.parse::<u64>().unwrap();
                    rolled_back += no.parse::<u64>().unwrap();
                }
                ["moved", ..] => moved += 1,
                _ => panic!("{line}"),
            }
        }
        // A kill a little later meets it elsewhere.
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill().expect("SIGKILL");
        child.wait().expect("the killed process");
    }
    println!("{moved} moves seen, {committed} branches recovered to commit, {rolled_back} to not");
    assert!(enough(rounds, committed, rolled_back), "unfinished business was hardly met");
    let balances = xa_transfer::run(&directory, 0, &mut |_| ()).unwrap();
    assert_eq!(balances.0 + balances.1, xa_transfer::TOTAL, "{balances:?}");
    for (name, amount) in [("north", balances.0), ("south", balances.1)] {
        let data = directory.join(name);
        let list = run_to_end(&["xa", "list", "--store", data.to_str().unwrap()]);
        assert!(said(&list).contains("0 prepared, 0 decided"), "{list:?}");
        let broker = Broker::start(&data);
        let whole: Vec<_> = (amount > 0).then(|| amount.to_string()).into_iter().collect();
        assert_eq!(bodies(&broker, "account"), whole, "{name} has one message at most");
        let queues = broker.queues().len();
        assert_eq!(queues, 1, "no money was set apart");
        assert!(broker.terminate().success());
        assert_no_damage(&data);
    }
}

/// A broker embedded in this test, on the store that a process is to have next.
struct Here {
    broker: blocking::Broker,
    connection: blocking::Connection,
}

impl Here {
    fn open(data: &Path) -> Self {
        let builder = escrowmq::Broker::builder(data).segment_size(1 << 20).disk_reserve(2 << 20);
        let broker = builder.wait_for_store(crate::support::PATIENCE).open_blocking().unwrap();
        let connection = broker.connect().unwrap();
        Self { broker, connection }
    }

    fn start(&self, number: u32) -> blocking::Branch {
        self.connection.xa().named("a \u{1b}[31mtest").start(&xid(number)).unwrap()
    }

    fn vote(&self, branch: blocking::Branch) {
        let xid = branch.xid().clone();
        branch.end().unwrap();
        assert_eq!(self.connection.xa().prepare(&xid).unwrap(), Vote::Ok);
    }

    /// A prepared branch that has sent so many messages to `out`.
    fn prepare(&self, number: u32, sends: u32) {
        let branch = self.start(number);
        for body in 0..sends {
            branch.send(Destination::queue("out"), body.to_string()).unwrap();
        }
        self.vote(branch);
    }
}

/// Sorts by its number. The format is one that command lines mistake for an option.
fn xid(number: u32) -> Xid {
    Xid::new(-7, format!("{number:08}").as_bytes(), b"a test").unwrap()
}

fn list(broker: &Broker, args: &[&str]) -> Vec<Value> {
    let output = broker.command(&[&["xa", "list", "--json"], args].concat());
    assert!(output.status.success(), "{output:?}");
    json_lines(&output.stdout)
}

/// What a command that must fail says.
fn refused(broker: &Broker, args: &[&str]) -> String {
    let output = broker.command(args);
    assert!(!output.status.success(), "{output:?}");
    said(&output)
}

#[test]
fn operators_see_what_a_branch_does_and_decide_of_it() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let here = Here::open(&data);
    for body in ["taken", "left"] {
        here.connection.send(Destination::queue("in"), body).unwrap();
    }
    let mut consumer = here.connection.subscribe_with(Destination::queue("in"), 1).unwrap();
    let taken = consumer.recv().unwrap();
    let branch = here.start(1);
    branch.acknowledge(&taken).unwrap();
    (0..300).for_each(|n| branch.send(Destination::queue("out"), n.to_string()).unwrap());
    branch.send(Destination::queue("other"), "one").unwrap();
    here.vote(branch);
    here.prepare(2, 1);
    here.broker.close().unwrap();

    let broker = Broker::start(&data);
    let found = list(&broker, &[]);
    let (first, second) = (xid(1).to_string(), xid(2).to_string());
    assert_eq!(found.iter().map(|it| &it["xid"]).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!((&found[0]["sent"], &found[0]["settled"]), (&301.into(), &1.into()));
    assert_eq!((&found[0]["state"], &found[0]["broken_down"]), (&"prepared".into(), &302.into()));
    let queues = found[0]["queues"].as_array().unwrap();
    let named = |name: &str| queues.iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!((&named("out")["sent"], &named("in")["settled"]), (&300.into(), &1.into()));
    assert_eq!(queues.len(), 3);
    let shown = said(&broker.command(&["xa", "list"]));
    assert!(shown.contains(&format!("{first}  prepared ")), "{shown}");
    assert!(shown.contains("begun by a \\u{1b}[31mtest"), "{shown}");
    assert!(shown.contains("2 prepared, 0 decided"), "{shown}");
    let browsed = said(&broker.command(&["queue", "browse", "in"]));
    let states = browsed.lines().filter_map(|line| line.split("  ").nth(1));
    assert_eq!(states.collect::<Vec<_>>(), ["settled", "waits"], "{browsed}");

    // Its queues are not deleted, and nothing in them either.
    for queue in ["in", "out", "other"] {
        let why = said(&broker.queue_command(&["delete", queue]));
        assert!(why.contains("transactions") && why.contains("xa list"), "{why}");
    }
    assert_eq!(bodies(&broker, "in"), ["taken", "left"]);

    let shown = said(&broker.queue_command(&["show", "in", "--over", "0"]));
    assert!(shown.contains("2 (1 wait, 0 are lent)"), "{shown}");
    assert!(shown.contains("0 sent and 1 settled by transactions"), "{shown}");

    // Without --yes nothing happens.
    let planned = refused(&broker, &["xa", "commit", &first]);
    assert!(planned.contains("would commit") && planned.contains("301 sent"), "{planned}");
    assert_eq!(list(&broker, &[]), found);
    let done = broker.command(&["xa", "commit", &first, "--yes"]);
    assert!(done.status.success() && said(&done).contains("XA_HEURCOM"), "{done:?}");
    assert_eq!(bodies(&broker, "in"), ["left"]);
    assert_eq!(broker.queues()[2].1, 300);
    let done = broker.command(&["xa", "rollback", "--yes", &second]);
    assert!(done.status.success() && said(&done).contains("XA_HEURRB"), "{done:?}");

    let again = refused(&broker, &["xa", "rollback", &first, "--yes"]);
    assert!(again.contains("committed") && again.contains("xa forget"), "{again}");
    let states: Vec<_> = list(&broker, &[]).iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["heuristically_committed", "heuristically_rolled_back"]);
    assert!(broker.terminate().success());

    // Their manager hears of it when it comes back.
    let here = Here::open(&data);
    let xa = here.connection.xa();
    assert_eq!(xa.commit(&xid(1)).unwrap_err().code(), XaError::HeurCommit);
    assert_eq!(xa.commit(&xid(2)).unwrap_err().code(), XaError::HeurRollback);
    xa.forget(&xid(1)).unwrap();
    here.broker.close().unwrap();
    let broker = Broker::start(&data);
    assert!(refused(&broker, &["xa", "forget", &second]).contains("would forget"));
    assert!(broker.command(&["xa", "forget", &second, "--yes"]).status.success());
    assert_eq!(list(&broker, &[]), [Value::Null; 0]);
    assert!(broker.terminate().success());
    assert_no_damage(&data);
}

#[test]
fn what_an_operator_says_of_no_branch_is_refused_with_what_to_do() {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    for (wrong, part) in [
        ("x", "FORMAT:GLOBAL:BRANCH"),
        ("1:2:3", "FORMAT:GLOBAL:BRANCH"),
        ("1:aa", "FORMAT:GLOBAL:BRANCH"),
        ("-1:aa:bb", "FORMAT:GLOBAL:BRANCH"),
        (&format!("1:{}:", "a".repeat(130)), "FORMAT:GLOBAL:BRANCH"),
        ("1:aa:bb", "`escrowmq xa list` shows"),
    ] {
        for command in ["commit", "rollback", "forget"] {
            let why = refused(&broker, &["xa", command, wrong, "--yes"]);
            assert!(why.contains(part) || why.contains("nothing to forget"), "{wrong}: {why}");
            crate::support::broker::assert_no_panic(&why);
        }
    }
    assert!(broker.terminate().success());
    let why = said(&run_to_end(&["xa", "list", "--data", data.to_str().unwrap()]));
    assert!(why.contains("no broker is running"), "{why}");
    let why = said(&run_to_end(&["xa", "list", "--store", "/nowhere"]));
    assert!(why.contains("/nowhere"), "{why}");
}

/// The list goes through pages, whatever is asked for, and the same of a store at rest, a backup
/// and what is restored of it.
#[test]
fn thousands_of_prepared_branches_are_listed_in_pages_everywhere() {
    let branches = number_from_env("ESCROW_BRANCHES").unwrap_or(600) as u32;
    let dir = fresh_dir();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let data = dir.path().join("data");
    let here = Here::open(&data);
    (0..branches).for_each(|number| here.prepare(number, 1 + u32::from(number == 0) * 5000));
    here.broker.close().unwrap();

    let at_rest =
        run_to_end(&["xa", "list", "--store", &path("data"), "--json", "--count", "99999"]);
    let settings = "xa.warn_after = 1\nmetrics = \"127.0.0.1:0\"\n";
    let broker = Broker::start_configured(&data, settings);
    let all = list(&broker, &["--count", "99999"]);
    assert_eq!(all.len() as u32, branches);
    assert_eq!(json_lines(&at_rest.stdout), all, "{}", said(&at_rest));
    assert_eq!((&all[0]["sent"], &all[0]["broken_down"]), (&5001.into(), &4096.into()));

    let some = broker.command(&["xa", "list", "--json", "--count", "300"]);
    assert_eq!(json_lines(&some.stdout), all[..300]);
    let last = all[299]["xid"].as_str().unwrap();
    assert!(said(&some).contains(&format!("--after {last}")), "{}", said(&some));
    assert_eq!(list(&broker, &["--after", last, "--count", "99999"]), all[300..]);
    let in_use = said(&run_to_end(&["xa", "list", "--store", &path("data")]));
    assert!(in_use.contains("in use") && in_use.contains("--data"), "{in_use}");

    // All of them are warned of when they have waited for so long, in few lines.
    crate::support::wait_until("the log warns", || broker.log().contains("xa.warn_after"));
    assert!(broker.log().matches("xa.warn_after").count() <= 3, "{}", broker.log());
    crate::support::wait_until("the metrics count them", || {
        let page = crate::support::exposition::scrape(broker.metrics_port());
        page["escrowmq_xa_overdue"] as u32 == branches && page["escrowmq_xa_prepared"] >= 600.0
    });

    assert!(run_to_end(&["store", "backup", &path("data"), &path("copy")]).status.success());
    let restored = said(&run_to_end(&["store", "restore", &path("copy"), &path("new")]));
    assert!(restored.contains(&format!("outcome: {branches} ")), "{restored}");
    assert!(restored.contains(&xid(0).to_string()) && restored.contains("--store"), "{restored}");
    for store in ["copy", "new"] {
        let list = ["xa", "list", "--store", &path(store), "--json", "--count", "99999"];
        assert_eq!(json_lines(&run_to_end(&list).stdout), all, "{store}");
    }
    let stats = run_to_end(&["store", "stats", &path("new"), "--json", "--quick"]);
    assert_eq!(json_lines(&stats.stdout)[0]["prepared"].as_array().unwrap().len(), all.len());
}

/// The bodies of a queue as a browse shows them.
fn bodies(broker: &Broker, queue: &str) -> Vec<String> {
    let output = broker.queue_command(&["browse", queue, "--body", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let lines = json_lines(&output.stdout);
    lines.iter().map(|line| line["body"]["text"].as_str().unwrap().to_owned()).collect()
}

fn json_lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}
