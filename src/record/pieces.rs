//! The records of the pieces of large bodies; their layouts are in the table of `record`.

use super::{Reader, Record, Writer};
use crate::broker::delta::PieceAt;
use crate::ids::{Lsn, UploadId};

impl Record {
    pub(super) fn encode_pieces(&self, w: &mut Writer<'_>) {
        match self {
            Self::Piece { upload, number, bytes } => {
                w.u64(upload.get());
                w.u32(*number);
                w.u32(*bytes);
            }
            Self::Abandoned { uploads } => uploads.iter().for_each(|id| w.u64(id.get())),
            Self::PiecesGone { upload, first, gone, last } => {
                w.u64(upload.get());
                w.u32(*first);
                w.0.push(u8::from(*last));
                for piece in gone {
                    w.u64(piece.birth.0);
                    w.u32(piece.size);
                }
            }
            _ => unreachable!("of the other kinds there is more to say"),
        }
    }
}

impl Reader<'_> {
    pub(super) fn piece(&mut self) -> Option<Record> {
        let upload = UploadId::new(self.u64()?)?;
        Some(Record::Piece { upload, number: self.u32()?, bytes: self.u32()? })
    }

    pub(super) fn abandoned(&mut self) -> Option<Record> {
        let mut uploads = Vec::new();
        while !self.0.is_empty() {
            uploads.push(UploadId::new(self.u64()?)?);
        }
        Some(Record::Abandoned { uploads })
    }

    pub(super) fn pieces_gone(&mut self) -> Option<Record> {
        let (upload, first) = (UploadId::new(self.u64()?)?, self.u32()?);
        let last = match self.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut gone = Vec::new();
        while !self.0.is_empty() {
            gone.push(PieceAt { birth: Lsn(self.u64()?), size: self.u32()? });
        }
        Some(Record::PiecesGone { upload, first, gone, last })
    }
}
