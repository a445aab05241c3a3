//! Branches of global transactions in a store that no broker uses: what a start would find.

use std::io;
use std::path::Path;

use super::{CliError, Looked, Ticker, look, replayed};
use crate::broker::Broker;
use crate::broker::command::{BranchInfo, Tally};
use crate::ids::Xid;
use crate::io::real::LockError;
use crate::limits;
use crate::server::words::{BranchLine, BranchesEnd, shown};
use crate::store::index::Index;
use crate::wal::Peek;

/// Shows the branches of the store or backup in `dir` that wait for their managers, after the one
/// that is named, so many at most.
pub(in crate::cli) fn branches(
    dir: &Path,
    after: Option<&Xid>,
    count: u64,
    visit: &mut dyn FnMut(BranchLine) -> io::Result<()>,
) -> Result<BranchesEnd, CliError> {
    let store = look(dir).map_err(|error| match error.downcast_ref::<LockError>() {
        Some(LockError::Held { .. }) => format!(
            "{dir}: the store is in use: `escrowmq xa list --data {dir}` asks its broker",
            dir = dir.display()
        )
        .into(),
        _ => error,
    })?;
    each(&store, after, count, visit).map_err(|error| {
        format!("{}: {error}; `escrowmq store verify` shows all damage", dir.display()).into()
    })
}

fn each(
    store: &Looked,
    after: Option<&Xid>,
    count: u64,
    visit: &mut dyn FnMut(BranchLine) -> io::Result<()>,
) -> Result<BranchesEnd, CliError> {
    let peek = Peek::open(&store.storage)?;
    let identity = peek.identity();
    let Some((index, base)) = store.index(identity.store)? else {
        if peek.epoch() > 0 {
            return Err("index.redb is missing".into());
        }
        return Ok(BranchesEnd::default());
    };
    let mut records = peek.records(base.replay)?;
    let (broker, _) = replayed(&base, &mut records, identity.segment_size, &mut Ticker::new())?;
    let (mut after, mut left) = (after.cloned(), count);
    let more = loop {
        let page = broker.branches_after(after.as_ref(), limits::BRANCHES_A_PAGE);
        let Some(last) = page.last() else { break false };
        after = Some(last.xid.clone());
        for info in &page {
            if left == 0 {
                return Ok(end_of(&broker, true));
            }
            left -= 1;
            match visit(line(&broker, &index, info)?) {
                // A reader that has seen enough is no error.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                result => result?,
            }
        }
    };
    Ok(end_of(&broker, more))
}

fn end_of(broker: &Broker, more: bool) -> BranchesEnd {
    let known = broker.in_doubt();
    BranchesEnd { prepared: known.prepared as u64, decided: known.decided as u64, more }
}

fn line(broker: &Broker, index: &Index, info: &BranchInfo) -> Result<BranchLine, CliError> {
    let mut tally = Tally::default();
    while let Some(transaction) = info.transaction {
        let most = limits::GLIMPSE_OPERATIONS;
        let mut glimpse = broker.glimpse(transaction, tally.counted, most);
        if !glimpse.complete {
            glimpse.join(&index.operations(transaction, tally.counted, most)?);
        }
        if !tally.add(&glimpse) {
            break;
        }
    }
    let named = shown(tally).into_iter();
    let named = named.filter_map(|(id, work)| Some((broker.queue_name(id)?.to_owned(), work)));
    Ok(BranchLine::new(info, named.collect()))
}
