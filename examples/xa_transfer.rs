//! Money moves between two banks, each a broker with a store of its own, and no crash at any moment
//! makes any or loses some.
//!
//! Each transfer is one global transaction (XA) with a branch in each bank, and this program is its
//! transaction manager: it asks both for their votes, makes its decision durable in a file, and
//! then commits both. Only commits are decided: what the file does not know was rolled back
//! (*presumed abort*). `cargo run --example xa_transfer -- DIRECTORY 10` makes ten transfers there;
//! kill it whenever you like, and start it again.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escrowmq::blocking::{Branch, Broker, Connection, Consumer, Delivery, Xa};
use escrowmq::{Destination, Redelivery, Vote, XaError, Xid};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// All the money there is.
pub const TOTAL: u64 = 1000;

/// Tells our xids from those of other transaction managers.
pub const FORMAT: i32 = 7001;

/// The transaction by which the money comes into the world.
const OPENING: &str = "opening";

/// How long money may take to arrive that must be there.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().unwrap_or_else(|| "./xa-transfer-data".to_owned());
    let transfers = args.next().map_or(Ok(3), |count| count.parse())?;
    let (north, south) = run(Path::new(&directory), transfers, &mut |line| println!("{line}"))?;
    println!("north has {north}, south has {south}");
    Ok(())
}

/// Recovers what an earlier run has left, makes transfers, and tells what each bank has in the end.
pub fn run(directory: &Path, transfers: u64, tell: &mut dyn FnMut(String)) -> Outcome<(u64, u64)> {
    fs::create_dir_all(directory)?;
    let mut decisions = Decisions::open(directory)?;
    let mut north = Bank::open(directory, "north")?;
    let mut south = Bank::open(directory, "south")?;

    let (mut committed, mut rolled_back) = (0, 0);
    for bank in [&north, &south] {
        let (yes, no) = bank.recover(&decisions)?;
        (committed, rolled_back) = (committed + yes, rolled_back + no);
    }
    tell(format!("recovered: {committed} committed, {rolled_back} rolled back"));
    // Nothing waits for the decisions of earlier runs any more.
    decisions.begin_run()?;

    if !decisions.committed.contains(OPENING) {
        let opening = north.start(OPENING)?;
        opening.send(&north.account, TOTAL.to_string())?;
        opening.end()?;
        finish(OPENING, &[&north], &mut decisions)?;
    }
    for number in 0..transfers {
        let name = format!("{}-{number}", decisions.run);
        let moved = match transfer(&name, &mut north, &mut south, &mut decisions)? {
            Some(amount) => format!("moved {amount} from north to south"),
            None => match transfer(&name, &mut south, &mut north, &mut decisions)? {
                Some(amount) => format!("moved {amount} from south to north"),
                None => return Err("there is no money".into()),
            },
        };
        tell(moved);
    }
    let balances = balances(&mut north, &mut south)?;
    north.broker.close()?;
    south.broker.close()?;
    Ok(balances)
}

/// Moves more than half of what is in a few messages, all of it in the end; `None` where nothing is
/// there.
fn transfer(
    name: &str,
    from: &mut Bank,
    to: &mut Bank,
    decisions: &mut Decisions,
) -> Outcome<Option<u64>> {
    let Some(first) = from.money.recv_timeout(Duration::from_millis(200))? else {
        return Ok(None);
    };
    let mut taken = vec![first];
    while let Some(more) = from.money.try_recv()? {
        taken.push(more);
    }
    let there = sum(&taken)?;
    let moved = there / 2 + 1;

    // Dropped before its end, work in a branch has failed, and the branch can only be rolled back.
    let paying = from.start(name)?;
    for money in &taken {
        paying.acknowledge(money)?;
    }
    if there > moved {
        paying.send(&from.account, (there - moved).to_string())?;
    }
    paying.end()?;
    let receiving = to.start(name)?;
    receiving.send(&to.account, moved.to_string())?;
    receiving.end()?;

    finish(name, &[from, to], decisions)?;
    Ok(Some(moved))
}

/// The two phases: all vote, the decision becomes durable, all hear of it.
fn finish(name: &str, banks: &[&Bank], decisions: &mut Decisions) -> Outcome<()> {
    let mut prepared = Vec::new();
    for bank in banks {
        match bank.xa.prepare(&bank.xid(name)?) {
            Ok(Vote::Ok) => prepared.push(bank),
            // It has done nothing and wants to hear nothing.
            Ok(Vote::ReadOnly) => {}
            Err(no) => {
                for bank in banks {
                    // Those that are over already say that there is no such branch.
                    let _ = bank.xa.rollback(&bank.xid(name)?);
                }
                return Err(no.into());
            }
        }
    }
    decisions.commit(name)?;
    for bank in prepared {
        // An error here changes nothing of the decision: the next run tells the bank again.
        bank.xa.commit(&bank.xid(name)?)?;
    }
    Ok(())
}

/// What each bank has. It makes one message of all its money.
fn balances(north: &mut Bank, south: &mut Bank) -> Outcome<(u64, u64)> {
    let mut all = [Vec::new(), Vec::new()];
    while sum(&all[0])? + sum(&all[1])? < TOTAL {
        let before = all[0].len() + all[1].len();
        all[0].extend(north.money.recv_timeout(Duration::from_millis(100))?);
        let patience = if all[0].len() > before { Duration::ZERO } else { PATIENCE };
        all[1].extend(south.money.recv_timeout(patience)?);
        if all[0].len() + all[1].len() == before {
            return Err("money is missing".into());
        }
    }
    let balances = (sum(&all[0])?, sum(&all[1])?);
    for (bank, taken) in [north, south].into_iter().zip(&all) {
        if taken.is_empty() {
            continue;
        }
        let transaction = bank.connection.transaction()?;
        for money in taken {
            transaction.acknowledge(money)?;
        }
        transaction.send(&bank.account, sum(taken)?.to_string())?;
        transaction.commit()?;
    }
    Ok(balances)
}

fn sum(money: &[Delivery]) -> Outcome<u64> {
    money.iter().map(|amount| Ok(amount.text().ok_or("an amount is text")?.parse::<u64>()?)).sum()
}

/// One of the resource managers.
struct Bank {
    name: &'static str,
    broker: Broker,
    connection: Connection,
    xa: Xa,
    account: Destination,
    money: Consumer,
}

impl Bank {
    fn open(directory: &Path, name: &'static str) -> Outcome<Self> {
        // Small files, because there is little money.
        let builder = escrowmq::Broker::builder(directory.join(name)).segment_size(1 << 20);
        // However often transfers are rolled back, no money is to be set apart.
        let any_number = Redelivery::new().maximum(0);
        let broker = builder.redelivery("queue://account", any_number).open_blocking()?;
        let connection = broker.connect()?;
        let account = Destination::queue("account");
        let money = connection.subscribe(&account)?;
        let xa = connection.xa().named("xa_transfer");
        Ok(Self { name, broker, connection, xa, account, money })
    }

    /// The branch of a transaction in this bank.
    fn xid(&self, transaction: &str) -> Outcome<Xid> {
        Ok(Xid::new(FORMAT, transaction.as_bytes(), self.name.as_bytes())?)
    }

    fn start(&self, transaction: &str) -> Outcome<Branch> {
        Ok(self.xa.start(&self.xid(transaction)?)?)
    }

    /// Commits the branches that were decided so, and rolls back the others: how many of each.
    fn recover(&self, decisions: &Decisions) -> Outcome<(u64, u64)> {
        let (mut committed, mut rolled_back) = (0, 0);
        // What is decided leaves the list, so all of it is taken first.
        let waiting: Vec<_> = self.xa.recover().collect::<Result<_, _>>()?;
        for branch in waiting {
            let xid = branch.xid();
            if xid.format() != FORMAT {
                continue;
            }
            let name = std::str::from_utf8(xid.global())?;
            let commit = decisions.committed.contains(name);
            match branch.heuristic() {
                None if commit => self.xa.commit(xid)?,
                None => self.xa.rollback(xid)?,
                // An operator was quicker, and has decided the same.
                Some(XaError::HeurCommit) if commit => self.xa.forget(xid)?,
                Some(XaError::HeurRollback) if !commit => self.xa.forget(xid)?,
                Some(_) => {
                    return Err(format!("{xid} in {} was decided otherwise", self.name).into());
                }
            }
            *if commit { &mut committed } else { &mut rolled_back } += 1;
        }
        Ok((committed, rolled_back))
    }
}

/// The decisions of the transaction manager: a file of lines, `run N` and `commit NAME`.
struct Decisions {
    directory: PathBuf,
    file: File,
    /// Counts the runs, so that no transaction has the name of another.
    run: u64,
    committed: BTreeSet<String>,
}

impl Decisions {
    fn open(directory: &Path) -> Outcome<Self> {
        let path = directory.join("decisions");
        let file = File::options().create(true).append(true).open(&path)?;
        // What a run has written and not synced before it was killed may be acted on now: then it
        // must not be lost any more.
        file.sync_all()?;
        let text = fs::read_to_string(&path)?;
        let (mut run, mut committed) = (0, BTreeSet::new());
        // A line without an end was cut off: half a name is another name.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match line.split_once(' ') {
                Some(("run", number)) => run = number.parse()?,
                Some(("commit", name)) => drop(committed.insert(name.to_owned())),
                _ => return Err(format!("{}: what is {line:?}?", path.display()).into()),
            }
        }
        Ok(Self { directory: directory.to_owned(), file, run, committed })
    }

    /// Begins a run, and forgets what was decided before, except that there is money.
    fn begin_run(&mut self) -> Outcome<()> {
        self.run += 1;
        self.committed.retain(|name| name == OPENING);
        let (path, new) = (self.directory.join("decisions"), self.directory.join("decisions.new"));
        let mut file = File::create(&new)?;
        let mut text = format!("run {}\n", self.run);
        for name in &self.committed {
            text += &format!("commit {name}\n");
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.directory)?.sync_all()?;
        self.file = file;
        Ok(())
    }

    /// Makes a decision, which is durable then.
    fn commit(&mut self, name: &str) -> Outcome<()> {
        self.file.write_all(format!("commit {name}\n").as_bytes())?;
        self.file.sync_all()?;
        self.committed.insert(name.to_owned());
        Ok(())
    }
}
