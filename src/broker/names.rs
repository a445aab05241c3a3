//! Names in the durable state: what is taken, by what, and what is remembered of it.
//!
//! A name is taken in its scope by the very record that makes true what it stands for, and by a
//! transaction's sends and commit as soon as they are in the log. Always: a transaction that is
//! rolled back gives its names free at once; what is forgotten is the oldest of its scope, and a
//! record says so, so that the same log remembers the same whatever the settings are; a name that
//! waits for a transaction is never forgotten. All names are in memory: whether one is taken must
//! be known before anything else is decided.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::Limits;
use crate::broker::delta::{NameRow, Resolution, Scope};
use crate::broker::durable::Durable;
use crate::identity::{Identity, Mark};
use crate::ids::{Lsn, Millis, QueueId, TransactionId};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Forgotten, Named};

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    scopes: BTreeMap<Scope, Known>,
    /// What is left of the names of queues that are gone: to drop many takes its time.
    gone: Vec<Known>,
    /// The first of each scope.
    oldest: BTreeSet<(Millis, Scope)>,
    /// Those of messages of which a transaction decides, by the births of these.
    staged: BTreeMap<Lsn, (Scope, u64)>,
    /// Those of the commits of transactions that are not over.
    commits: BTreeMap<TransactionId, u64>,
    count: usize,
    /// Of these, how many wait for a transaction.
    pending: usize,
    /// When the newest of the commits was made that are not remembered any more. In the durable
    /// state it is a row of its own, [`UNTIL`].
    commits_until: Option<Millis>,
    /// The newest of the answers that there never will be a commit and that are not remembered any
    /// more, as commits and answers were counted ([`Names::counted`]).
    void_until: u64,
    /// Those that were counted before all of them were forgotten, and their numbers began anew.
    before: u64,
    /// The highest number of a commit or answer since.
    last: u64,
}

/// The number of the row among the commits that names none of them: its time is that of the newest
/// that is not remembered any more.
const UNTIL: u64 = 0;

/// The names of a scope.
#[derive(Debug, Default)]
struct Known {
    rows: BTreeMap<u64, NameRow>,
    /// Those that wait for a transaction.
    pending: BTreeMap<u64, NameRow>,
    /// The newest row of each name: one that was rolled back may be there, too, until it is gone.
    by_id: BTreeMap<Identity, u64>,
}

/// What a name that is not free stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Something that has happened, or will whatever comes.
    Done,
    /// Something of which this transaction has not decided.
    Pending(TransactionId),
}

/// Names that are to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) forgotten: Forgotten,
    /// How many of them are younger than they should get.
    pub(super) early: u64,
}

impl NameRow {
    /// Of no name: only its time means something.
    fn until(at: Millis) -> Self {
        let (id, birth) = (Identity([0; 16]), Lsn(0));
        Self { id, birth, at, transaction: None, operations: None }
    }
}

impl Known {
    fn row(&self, number: u64) -> Option<&NameRow> {
        self.rows.get(&number).or_else(|| self.pending.get(&number))
    }

    /// When the first of those that may be forgotten was taken.
    fn oldest(&self) -> Option<Millis> {
        self.rows.first_key_value().map(|(_, row)| row.at)
    }
}

impl Names {
    /// Whether something is left of queues that are gone.
    pub(super) fn has_rest(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Drops some of that; false where there is none.
    pub(super) fn drop_some(&mut self) -> bool {
        let Some(known) = self.gone.last_mut() else { return false };
        for _ in 0..limits::STEP_MESSAGES_MAX {
            known.rows.pop_first();
            known.by_id.pop_first();
        }
        self.gone.pop_if(|known| known.rows.is_empty() && known.by_id.is_empty());
        true
    }

    pub(super) fn new(rows: &BTreeMap<(Scope, u64), NameRow>) -> Self {
        let mut names = Self::default();
        for ((scope, number), row) in rows {
            match (scope, *number) {
                (Scope::Commits, UNTIL) => names.commits_until = Some(row.at),
                (_, number) => names.add(*scope, number, *row),
            }
        }
        names
    }

    /// When the newest of the commits was made that are not remembered any more.
    pub(super) fn commits_until(&self) -> Option<Millis> {
        self.commits_until
    }

    /// The number of the next commit, or answer that there is none: where a transaction begins.
    pub(super) fn next_commit(&self) -> u64 {
        self.counted(self.next(Scope::Commits))
    }

    /// The place in the order of all commits and answers of this life of one that has this number.
    fn counted(&self, number: u64) -> u64 {
        self.before + number
    }

    /// Whether it may have been said of a commit, since its transaction began there
    /// ([`Self::next_commit`]), that there never will be one.
    pub(super) fn may_be_void(&self, began: u64) -> bool {
        self.void_until >= began
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn next(&self, scope: Scope) -> u64 {
        let Some(known) = self.scopes.get(&scope) else { return 1 };
        let last = |rows: &BTreeMap<u64, _>| rows.last_key_value().map_or(0, |(number, _)| *number);
        last(&known.rows).max(last(&known.pending)) + 1
    }

    /// Whether more may wait for transactions.
    pub(super) fn may_wait(&self, limits: &Limits) -> bool {
        (self.pending as u64 + 1) * limits::NAME_BYTES <= limits::pending_bytes(limits.names_bytes)
    }

    fn add(&mut self, scope: Scope, number: u64, row: NameRow) {
        if scope == Scope::Commits {
            self.last = self.last.max(number);
        }
        let known = self.scopes.entry(scope).or_default();
        if row.transaction.is_some() {
            known.pending.insert(number, row);
            self.pending += 1;
        } else {
            let before = known.oldest();
            known.rows.insert(number, row);
            move_on(&mut self.oldest, scope, before, known.oldest());
        }
        known.by_id.insert(row.id, number);
        self.count += 1;
        match (row.transaction, scope) {
            (None, _) => {}
            (Some(transaction), Scope::Commits) => {
                self.commits.insert(transaction, number);
            }
            (Some(_), Scope::Queue(_) | Scope::Topic(_)) => {
                self.staged.insert(row.birth, (scope, number));
            }
        }
    }

    fn remove(&mut self, scope: Scope, number: u64) {
        let Some(known) = self.scopes.get_mut(&scope) else { return };
        let before = known.oldest();
        let settled = known.rows.remove(&number);
        let Some(row) = settled.or_else(|| known.pending.remove(&number)) else { return };
        if known.by_id.get(&row.id) == Some(&number) {
            known.by_id.remove(&row.id);
        }
        self.count -= 1;
        if let Some(transaction) = row.transaction {
            self.pending -= 1;
            self.staged.remove(&row.birth);
            if scope == Scope::Commits {
                self.commits.remove(&transaction);
            }
        }
        move_on(&mut self.oldest, scope, before, known.oldest());
        if known.by_id.is_empty() && known.rows.is_empty() && known.pending.is_empty() {
            self.scopes.remove(&scope);
            if scope == Scope::Commits {
                self.before += std::mem::take(&mut self.last);
            }
        }
    }

    /// When the first of them has been remembered for long enough.
    pub(super) fn next_deadline(&self, limits: &Limits) -> Option<Millis> {
        // Some time later, so that many go together.
        let rest = limits.names_millis.saturating_add(limits::FORGET_REST_MILLIS);
        self.oldest.first().map(|(at, _)| Millis(at.0.saturating_add(rest)))
    }

    /// Names that are more than there may be, or old enough, some at a time. `scope` is where a
    /// name was taken last.
    pub(super) fn excess(&self, now: Millis, limits: &Limits) -> Option<Excess> {
        let step = limits::STEP_MESSAGES_MAX;
        let (_, oldest) = self.oldest.first()?;
        if self.next_deadline(limits).is_some_and(|at| at <= now) {
            let is_old = |row: &NameRow| row.at.0.saturating_add(limits.names_millis) <= now.0;
            return self.first_of(*oldest, step, is_old).map(|through| Excess {
                forgotten: Forgotten { scope: *oldest, through },
                early: 0,
            });
        }
        let room = limits.names_bytes / limits::NAME_BYTES;
        if (self.count - self.pending) as u64 >= room.saturating_add(step as u64) {
            return self.early(*oldest, now, limits);
        }
        None
    }

    /// As `excess`, of the names of a scope that has too many.
    pub(super) fn crowded(&self, scope: Scope, now: Millis, limits: &Limits) -> Option<Excess> {
        let known = self.scopes.get(&scope)?;
        let full = limits.names_per_scope.saturating_add(limits::STEP_MESSAGES_MAX);
        (known.rows.len() >= full).then(|| self.early(scope, now, limits)).flatten()
    }

    fn early(&self, scope: Scope, now: Millis, limits: &Limits) -> Option<Excess> {
        let step = limits::STEP_MESSAGES_MAX;
        let through = self.first_of(scope, step, |_| true)?;
        let rows = self.scopes[&scope].rows.range(..=through);
        let young = |row: &NameRow| row.at.0.saturating_add(limits.names_millis) > now.0;
        let early = rows.filter(|(_, row)| young(row)).count() as u64;
        Some(Excess { forgotten: Forgotten { scope, through }, early })
    }

    /// The last of the first names of a scope that are all so, that many at most; those that wait
    /// for transactions are not looked at.
    fn first_of(&self, scope: Scope, count: usize, so: impl Fn(&NameRow) -> bool) -> Option<u64> {
        let rows = self.scopes.get(&scope)?.rows.iter();
        rows.take(count).take_while(|(_, row)| so(row)).last().map(|(number, _)| *number)
    }
}

impl Durable {
    /// What a name stands for, and its row; `None` where it is free.
    pub(super) fn standing(&self, scope: Scope, id: Identity) -> Option<(Standing, &NameRow)> {
        let known = self.names.scopes.get(&scope)?;
        let row = known.row(*known.by_id.get(&id)?).expect("both sides agree");
        let Some(transaction) = row.transaction else { return Some((Standing::Done, row)) };
        let known = self.transactions.get(transaction);
        match known.and_then(|transaction| transaction.resolution()) {
            Some(Resolution::Commit) => Some((Standing::Done, row)),
            Some(Resolution::Rollback) if mutant::is(Mutant::KeepNames) => {
                Some((Standing::Done, row))
            }
            Some(Resolution::Rollback) => None,
            None => Some((Standing::Pending(transaction), row)),
        }
    }

    pub(super) fn fit_name(&self, scope: Scope, id: Identity) -> Result<(), &'static str> {
        match self.standing(scope, id) {
            Some(_) => Err("its name is taken"),
            None => Ok(()),
        }
    }

    /// Whether what a message is sent under is free.
    pub(super) fn fit_mark(&self, scope: Scope, once: Option<Mark>) -> Result<(), &'static str> {
        match once {
            None => Ok(()),
            Some(Mark::Name(id)) => self.fit_name(scope, id),
            Some(Mark::Number(it)) => self.fit_number(it),
        }
    }

    pub(super) fn fit_named(&self, named: &Named) -> Result<(), &'static str> {
        let unknown = |id: TransactionId| self.transactions.get(id).is_none();
        if named.transaction.is_some_and(unknown) {
            return Err("no such transaction");
        }
        self.fit_name(Scope::Commits, named.id)
    }

    /// A name is taken from now on.
    pub(super) fn take_name(&mut self, scope: Scope, row: NameRow) {
        let number = self.names.next(scope);
        self.names.add(scope, number, row);
        self.delta.names.insert((scope, number), Some(row));
    }

    /// A transaction has decided of a message that it has sent.
    pub(super) fn settle_name(&mut self, birth: Lsn, resolution: Resolution) {
        if let Some((scope, number)) = self.names.staged.remove(&birth) {
            self.end_name(scope, number, resolution);
        }
    }

    /// A transaction is over.
    pub(super) fn settle_commit(&mut self, transaction: TransactionId, resolution: Resolution) {
        if let Some(number) = self.names.commits.remove(&transaction) {
            self.end_name(Scope::Commits, number, resolution);
        }
    }

    fn end_name(&mut self, scope: Scope, number: u64, resolution: Resolution) {
        let row = self.names.scopes.get(&scope).and_then(|it| it.pending.get(&number));
        let row = *row.expect("what waits for a transaction is there");
        self.names.remove(scope, number);
        // It is remembered from now on, however long it has waited.
        let row = NameRow { transaction: None, at: Millis(self.scalars.last_at), ..row };
        let stays = resolution == Resolution::Commit || mutant::is(Mutant::KeepNames);
        if stays {
            self.names.add(scope, number, row);
        }
        self.delta.names.insert((scope, number), stays.then_some(row));
    }

    /// The names up to a number are not remembered any more, but for those that wait.
    pub(super) fn forget_names(&mut self, scope: Scope, through: u64) {
        while let Some(number) = self.names.first_of(scope, 1, |_| true).filter(|n| *n <= through) {
            if scope == Scope::Commits {
                self.commit_forgotten(number);
            }
            self.names.remove(scope, number);
            self.delta.names.insert((scope, number), None);
        }
    }

    fn commit_forgotten(&mut self, number: u64) {
        let scopes = self.names.scopes.get(&Scope::Commits);
        let Some(row) = scopes.and_then(|known| known.rows.get(&number)).copied() else { return };
        if row.operations.is_none() {
            self.names.void_until = self.names.void_until.max(self.names.counted(number));
        }
        if self.names.commits_until >= Some(row.at) {
            return;
        }
        self.names.commits_until = Some(row.at);
        self.delta.names.insert((Scope::Commits, UNTIL), Some(NameRow::until(row.at)));
    }

    /// A queue is gone: its names mean nothing any more. The index forgets them with the queue.
    pub(super) fn forget_scope(&mut self, queue: QueueId) {
        let scope = Scope::Queue(queue);
        if let Some(known) = self.names.scopes.remove(&scope) {
            self.names.count -= known.rows.len() + known.pending.len();
            self.names.pending -= known.pending.len();
            move_on(&mut self.names.oldest, scope, known.oldest(), None);
            self.names.gone.push(known);
        }
    }

    /// A defect on purpose.
    pub(super) fn forget_all_names(&mut self) {
        if mutant::is(Mutant::ForgetNames) {
            self.names = Names::default();
        }
    }

    /// Whether what is remembered is what the index and the deltas say; for checks.
    #[cfg(test)]
    pub(crate) fn names_agree(
        &self,
        index: &BTreeMap<(Scope, u64), NameRow>,
        queues: impl Fn(QueueId) -> bool,
    ) -> bool {
        let mut all = index.clone();
        let deltas = self.frozen.iter().map(|frozen| &frozen.names).chain([&self.delta.names]);
        for (key, row) in deltas.flatten() {
            match row {
                Some(row) => drop(all.insert(*key, *row)),
                None => drop(all.remove(key)),
            }
        }
        all.retain(|(scope, _), _| !matches!(scope, Scope::Queue(id) if !queues(*id)));
        let until = all.remove(&(Scope::Commits, UNTIL)).map(|row| row.at);
        let scopes = self.names.scopes.iter();
        let rows = |it: &'_ Known| it.rows.clone().into_iter().chain(it.pending.clone());
        let known = scopes.flat_map(|(scope, it)| rows(it).map(|(n, row)| ((*scope, n), row)));
        let pending = all.values().filter(|row| row.transaction.is_some()).count();
        let counted = (self.names.count, self.names.pending) == (all.len(), pending);
        let same = until == self.names.commits_until;
        known.collect::<BTreeMap<_, _>>() == all && counted && same
    }
}

/// The first of a scope is another, or none.
fn move_on(
    oldest: &mut BTreeSet<(Millis, Scope)>,
    scope: Scope,
    before: Option<Millis>,
    after: Option<Millis>,
) {
    if before != after {
        if let Some(at) = before {
            oldest.remove(&(at, scope));
        }
        oldest.extend(after.map(|at| (at, scope)));
    }
}
