//! What a log writes, written to a file in the simplest way: the bytes of each sync at once, then `fdatasync`.
//! `benches/peers` measures it beside other logs, too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the first bytes are: as in a segment, after a page and a frame, so that a sync ends in the middle of a page.
pub(super) const START: usize = 4096 + 88;

/// A file that grows, or one that was written before.
pub(super) struct BareFile {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
    /// Where it begins anew, if it is to stay as long as it is.
    end: Option<u64>,
}

impl BareFile {
    /// *grow*: an empty file, to which `bytes` are appended each time.
    pub(super) fn growing(directory: &Path, bytes: Vec<u8>) -> Self {
        let file = tempfile::tempfile_in(directory).expect("the bench directory is writable");
        Self { file, bytes, offset: START as u64, end: None }
    }

    /// *reuse*: a file of `len` bytes, which are overwritten.
    pub(super) fn reused(directory: &Path, bytes: Vec<u8>, len: u64) -> Self {
        let mut written = Self::growing(directory, bytes);
        while written.offset < len + written.bytes.len() as u64 {
            written.write();
        }
        written.sync();
        Self { end: Some(len), offset: START as u64, ..written }
    }

    pub(super) fn write(&mut self) {
        if self.end.is_some_and(|end| self.offset >= end) {
            self.offset = START as u64;
        }
        self.file.write_all_at(&self.bytes, self.offset).expect("there is room");
        self.offset += self.bytes.len() as u64;
    }

    pub(super) fn sync(&self) {
        self.file.sync_data().expect("the disk takes it");
    }
}
