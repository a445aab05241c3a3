//! `escrowmq store dump`: the log, line by line, for a person to read.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bytes::Bytes;

use super::describe::{self, Names};
use super::{CliError, Looked, line_of, needed};
use crate::record::Record;
use crate::wal::{self, Item};

pub(super) fn dump(store: &Looked) -> Result<ExitCode, CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = lines(store, &mut out)?.and_then(|()| out.flush());
    // Nothing is left to be said to what was in the buffer of a reader that has gone.
    let _ = out.into_parts();
    match written {
        // A reader that has seen enough is no error.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn lines(store: &Looked, out: &mut dyn Write) -> Result<io::Result<()>, CliError> {
    let identity = wal::identity_read(&*store.storage)?.ok_or(wal::SurveyError::NotAStore)?;
    let size = identity.segment_size;
    let mut begin = || writeln!(out, "store {:032x} segment size {size}", identity.store);
    if let Err(e) = begin() {
        return Ok(Err(e));
    }
    let mut names = Names::new();
    // The log may begin long after a queue did, and segments that nobody needs may be gone.
    let needed = match store.index(identity.store) {
        Ok(Some((_index, base))) => {
            let needed = needed(&base);
            names.extend(base.queues.into_iter().map(|(id, queue)| (id, (&*queue.name).into())));
            Some(needed)
        }
        Ok(None) => None,
        Err(error) => {
            eprintln!("escrowmq: {error}");
            None
        }
    };
    let mut result = Ok(());
    let visit = &mut |item: Item<'_>| {
        result = line(out, item, &mut names);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    wal::survey(&store.storage, needed.as_ref(), &mut |_| {}, visit)?;
    Ok(result)
}

fn line(out: &mut dyn Write, item: Item<'_>, names: &mut Names) -> io::Result<()> {
    match item {
        Item::Segment { file, header, sealed } => {
            let (epoch, ordinal, first) = (header.epoch, header.ordinal, header.first_lsn());
            write!(out, "segment {file} epoch {epoch} ordinal {ordinal} first lsn {first}")?;
            match sealed {
                Some(length) => writeln!(out, " sealed at offset {length}"),
                None => writeln!(out, " not sealed"),
            }
        }
        Item::Batch { offset, header, chain } => {
            let wal::format::BatchHeader { lsn, length, count, durable, .. } = header;
            let what = if *count == 0 { " goodbye" } else { "" };
            writeln!(
                out,
                "  batch {lsn} offset {offset} length {length} frames {count} mark {durable} \
                 chain {chain:08x}{what}"
            )
        }
        Item::Frame { lsn, kind, record, payload, payload_good } => {
            write!(out, "    {lsn} ")?;
            frame(out, (kind, record), (payload, payload_good), names)
        }
        Item::Pack { file, header } => {
            let (epoch, number) = (header.id.epoch, header.id.number);
            let ordinals: Vec<String> = header.ordinals.iter().map(u64::to_string).collect();
            let ordinals = ordinals.join(" ");
            writeln!(out, "pack {file} epoch {epoch} number {number} of segments {ordinals}")
        }
        Item::Packed { offset, lsn, kind, record, payload, payload_good } => {
            write!(out, "    {lsn} offset {offset} ")?;
            frame(out, (kind, record), (payload, payload_good), names)
        }
        Item::Problem(finding) => writeln!(out, "DAMAGED {}", line_of(&finding)),
        Item::End { file, offset, torn } => {
            let torn =
                if torn { ", in a batch that was being written and never confirmed" } else { "" };
            writeln!(out, "end {file} at offset {offset}{torn}")
        }
    }
}

/// What a frame says and what it carries.
fn frame(
    out: &mut dyn Write,
    (kind, record): (u16, &[u8]),
    (payload, payload_good): (&Bytes, bool),
    names: &mut Names,
) -> io::Result<()> {
    let mut is_piece = false;
    match Record::decode(kind, record) {
        Ok(record) => {
            is_piece = matches!(record, Record::Piece { .. });
            if let Record::QueueCreated { queue, name, .. } = &record {
                names.insert(*queue, name.clone());
            }
            write!(out, "{}", describe::record(&record, names))?;
        }
        Err(error) => write!(out, "DAMAGED: {error}")?,
    }
    match (payload.is_empty(), payload_good) {
        (true, _) => writeln!(out),
        (false, true) if is_piece => writeln!(out),
        (false, true) => writeln!(out, " | {}", describe::payload(payload)),
        (false, false) => writeln!(out, " | DAMAGED payload of {} bytes", payload.len()),
    }
}
