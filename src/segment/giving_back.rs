//! Giving the unused end of a segment that takes no more frames back to the file system.
//!
//! Only bytes are given back that have never held a frame of this segment, so nobody can have borrowed them: `docs/design/growth.md`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Segment;
use super::filling::{PAGE_LEN, STOP_LEN};
use crate::events::report;
use crate::format::name;
use crate::storage::{Access, StorageFile};

/// Less of a segment is not worth a hole: most files end up full, and are used again as they are.
const PART: u64 = 4;

/// Where the hole of a segment of `size` bytes begins whose used part ends at `end`; `None` if it is not worth one. A reader that does
/// not know the end looks at the word after it: on a tmpfs that takes room if it is in a hole, and there may be none.
pub(crate) fn hole_start(size: u64, end: u64) -> Option<u64> {
    let start = (end + STOP_LEN as u64).next_multiple_of(PAGE_LEN as u64);
    (start <= size - size / PART).then_some(start)
}

impl Segment {
    /// How many bytes of its file have not been given back, as far as is known.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The same number, for what makes more of the file ready.
    pub(crate) fn taken_from_now_on(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// Whether all blocks of its file are there that have been allocated.
    pub(super) fn is_whole(&self) -> bool {
        self.taken() == self.info.size
    }

    /// Gives back what follows byte `end`, from which on there has never been a frame. Where that does not work it stays.
    pub(crate) fn give_back(&self, end: u64) {
        let Some(start) = hole_start(self.info.size, end) else { return };
        // First: a thread that just writes there finds it when it is done, and gives that back.
        let before = self.taken.swap(start, Ordering::Relaxed);
        let given = match self.unsynced() {
            Some((_, file)) => give_back(&*file, start..self.info.size),
            None => self.reopen().and_then(|file| give_back(&*file, start..self.info.size)),
        };
        if !matches!(given, Ok(true)) {
            self.taken.store(before, Ordering::Relaxed);
        }
        if let Err(error) = given {
            let file = name::segment(self.info.number);
            report!(debug, error = &error as &dyn std::error::Error, file, "cannot give back the end of a segment");
        }
    }

    fn reopen(&self) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.storage.open(&name::segment(self.info.number), Access::Write)?.into())
    }
}

/// Whether `range` of the file has been given back: not where it has another name, under which it is a copy.
pub(crate) fn give_back(file: &dyn StorageFile, range: std::ops::Range<u64>) -> io::Result<bool> {
    if file.users()?.is_linked {
        return Ok(false);
    }
    file.give_back(range).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_after_the_end_is_not_given_back() {
        assert_eq!(hole_start(64 << 10, 8184), Some(8192));
        assert_eq!(hole_start(64 << 10, 8192), Some(12288));
    }

    #[test]
    fn less_than_a_quarter_stays() {
        assert_eq!(hole_start(64 << 10, 48 << 10), None);
        assert_eq!(hole_start(64 << 10, (48 << 10) - 8), Some(48 << 10));
        assert_eq!(hole_start(64 << 10, 64 << 10), None);
    }
}
