//! The bare disk: what a write and a sync cost without a broker.
//!
//! Writes into a file that was filled with zeros beforehand, as the log's segments are: then a
//! sync carries the data alone and no journal entry of the file system.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A zero-filled file that is overwritten piece by piece.
#[derive(Debug)]
pub(crate) struct BareDisk {
    file: File,
    piece: Vec<u8>,
    offset: u64,
    size: u64,
}

impl BareDisk {
    /// A file of `size` bytes in `dir` for pieces of `piece` bytes, which take whole blocks of
    /// 4 KiB each.
    pub(crate) fn new(dir: &Path, size: u64, piece: usize) -> Self {
        let file = File::create_new(dir.join("bare")).expect("a file for calibration");
        let zeros = vec![0; 1 << 20];
        for offset in (0..size).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset).expect("zeros");
        }
        file.sync_all().expect("zeros on the disk");
        Self { file, piece: vec![0x5a; piece.next_multiple_of(4096)], offset: 0, size }
    }

    /// Writes the next piece and makes it durable.
    pub(crate) fn write_and_sync(&mut self) -> Duration {
        let began = Instant::now();
        let length = self.piece.len() as u64;
        if self.offset + length > self.size {
            self.offset = 0;
        }
        self.file.write_all_at(&self.piece, self.offset).expect("write");
        self.file.sync_data().expect("fdatasync");
        self.offset += length;
        began.elapsed()
    }
}
