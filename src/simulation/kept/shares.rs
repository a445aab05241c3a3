//! What a store says of who holds payloads of publications, compared with who does.

use std::collections::BTreeMap;

use crate::broker::delta::{Entry, QueueRow, Share};
use crate::ids::Lsn;
use crate::simulation::bodies::Claims;
use crate::simulation::node::{Contents, Node, options};

impl Node {
    pub(in crate::simulation) fn find_kept(
        &self,
        row: &QueueRow,
        entry: &Entry,
        bodies: &mut Claims,
        contents: &mut Contents,
    ) -> Result<(), String> {
        let frame = self.reader.read(entry.birth, entry.size);
        let frame = frame.map_err(|error| format!("{} {entry:?}: {error}", row.name))?;
        let number = bodies.claim(&self.reader, entry, &frame.payload)?;
        let key = (row.name.to_string(), number);
        *contents.kept.entry(key).or_default() += 1;
        Ok(())
    }

    /// Payloads of publications are counted by who holds them, and are live once; until a
    /// checkpoint adds the numbers up, one that nobody holds any more counts as well.
    pub(in crate::simulation) fn check_shares(
        &self,
        found: &BTreeMap<Lsn, (i64, u32)>,
        live: &mut BTreeMap<u64, u64>,
    ) -> Result<(), String> {
        // A checkpoint may be under way, and the index have it or not.
        let [behind, ahead] = [false, true].map(|ahead| self.count_shares(ahead, found));
        for (birth, share) in behind.or(ahead)? {
            *live.entry(birth.0 / options().segment_size).or_default() += u64::from(share.size);
        }
        Ok(())
    }

    fn count_shares(
        &self,
        ahead: bool,
        found: &BTreeMap<Lsn, (i64, u32)>,
    ) -> Result<BTreeMap<Lsn, Share>, String> {
        let mut counted = self.engine.broker().shares(ahead);
        let each = self.index.each_share(&mut |birth, share| {
            counted.entry(birth).or_insert(Share { holders: 0, ..share }).holders += share.holders;
        });
        each.map_err(|error| error.to_string())?;
        for (birth, share) in &counted {
            let holders = found.get(birth).map_or(0, |(holders, _)| *holders);
            if share.holders != holders {
                return Err(format!("{birth} is held by {holders}, not {}", share.holders));
            }
        }
        match found.keys().find(|birth| !counted.contains_key(birth)) {
            Some(birth) => Err(format!("{birth} is held, and nobody counts by how many")),
            None => Ok(counted),
        }
    }
}
