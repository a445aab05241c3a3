//! What a peer has told us to remember, where both sides want the marshalling cache.
//!
//! This broker never wants it: it costs a table of what peers choose, for every connection, and
//! every known client does without when asked. What is here reads the frames of those who use it.

use bytes::Bytes;

use super::kinds::{Field, Object};
use super::write::Writer;
use super::{DecodeError, Format};
use crate::limits::OPENWIRE_CACHE_BYTES_MAX;

/// The slots of one direction of a connection; empty at first.
///
/// Each holds a field in the loose encoding, copied: no frame is kept in memory for it. Null can be
/// in a slot like anything else.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Option<Bytes>>,
    /// Bytes in all slots, and what the slots themselves take.
    bytes: usize,
}

impl Cache {
    /// How slots are written while `format` is spoken.
    pub(super) fn format(format: Format) -> Format {
        Format { tight: false, cache_slots: None, ..format }
    }

    /// Remembers a field; slot -1 is none.
    pub(super) fn put<T: Object>(
        &mut self,
        slot: i16,
        object: &Option<T>,
        format: Format,
    ) -> Result<(), DecodeError> {
        if slot == -1 {
            return Ok(());
        }
        let at = usize::try_from(slot)
            .ok()
            .filter(|at| format.cache_slots.is_some_and(|slots| *at < usize::from(slots)));
        let at = at.ok_or(DecodeError::NoSuchSlot { slot })?;
        let mut writer = Writer::new(Self::format(format));
        object.write(&mut writer);
        // What has just been read fits its length fields.
        let Ok((_, bytes)) = writer.finish() else { return Err(DecodeError::TooMuch) };
        let more = (at + 1).saturating_sub(self.slots.len()) * size_of::<Option<Bytes>>();
        let before = self.slots.get(at).and_then(Option::as_ref).map_or(0, Bytes::len);
        let total = self.bytes + more + bytes.len() - before;
        if total > OPENWIRE_CACHE_BYTES_MAX {
            return Err(DecodeError::TooMuch);
        }
        self.bytes = total;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        self.slots[at] = Some(bytes.freeze());
        Ok(())
    }

    pub(super) fn get(&self, slot: i16) -> Result<Bytes, DecodeError> {
        let found = usize::try_from(slot).ok().and_then(|at| self.slots.get(at)?.clone());
        found.ok_or(DecodeError::NoSuchSlot { slot })
    }
}
