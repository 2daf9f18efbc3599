//! What a log writes, stored to a mapping in the simplest way: the bytes of each sync are copied to a file that was written before,
//! whose pages are all mapped or in the page cache, and synced with `msync`. No log that stores to a mapping can be faster.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::{MmapRaw, UncheckedAdvice};

use super::bare::START;

const PAGE_LEN: usize = 4096;
const PAGE_LEN_MAX: usize = 512 << 10;
/// From so many pages on it pays to take them out of the page tables before they are written out.
const RELEASED_PAGES_MIN: usize = 4;

pub(super) struct MappedFile {
    map: MmapRaw,
    bytes: Vec<u8>,
    offset: usize,
    /// Where it begins anew.
    end: usize,
}

impl MappedFile {
    /// A file of a little more than `len` bytes.
    pub(super) fn reused(directory: &Path, bytes: Vec<u8>, len: usize) -> Self {
        // The page cache holds them in pages of that size, and writes each out as a whole.
        let chunk = vec![0x5a; (bytes.len() / 8).clamp(PAGE_LEN, PAGE_LEN_MAX)];
        let file: File = tempfile::tempfile_in(directory).expect("the bench directory is writable");
        let total = START + len + 2 * bytes.len();
        for offset in (0..total).step_by(chunk.len()) {
            file.write_all_at(&chunk, offset as u64).expect("there is room");
        }
        file.sync_all().expect("the disk takes it");
        let map = MmapRaw::map_raw(&file).expect("a small file can be mapped");
        Self { map, bytes, offset: START, end: START + len }
    }

    #[expect(unsafe_code, reason = "stores to a mapping are")]
    pub(super) fn write(&mut self) {
        if self.offset >= self.end {
            self.offset = START;
        }
        assert!(
            self.offset + self.bytes.len() <= self.map.len(),
            "the file is longer than its end by what is written at once"
        );
        let place = self.map.as_mut_ptr().wrapping_add(self.offset);
        // SAFETY: the range lies within the mapping, and nothing else accesses it.
        unsafe { std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), place, self.bytes.len()) };
        self.offset += self.bytes.len();
    }

    #[expect(unsafe_code, reason = "advice that drops pages is")]
    pub(super) fn sync(&self) {
        let start = (self.offset - self.bytes.len()) / PAGE_LEN * PAGE_LEN;
        let len = self.offset - start;
        if len >= RELEASED_PAGES_MIN * PAGE_LEN {
            // SAFETY: the mapping is shared and of a file, so that its bytes stay as they are.
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) }
                .expect("the range is mapped");
        }
        self.map.flush_range(start, len).expect("the disk takes it");
    }
}
