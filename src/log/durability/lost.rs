//! Pages of the log's files that cannot be stored to: those that are asked for before a store, and those that were lost
//! during a store, which the guard against `SIGBUS` has replaced.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::log::shared::{Active, Shared};
use crate::memory::{Mapping, Region, Reservation, replaced_pages};

const PAGE_LEN: usize = 4096;

/// What a log is poisoned with.
fn lost() -> io::Error {
    io::Error::other("a page of a mapped file was lost: SIGBUS")
}

impl Shared {
    /// `done`, unless a page that appends store to has been lost.
    #[inline]
    pub(crate) fn unless_lost<T>(&self, done: T) -> Result<T> {
        if replaced_pages() == self.replaced_seen.load(Ordering::Relaxed) {
            return Ok(done);
        }
        self.look_for_lost().map(|()| done)
    }

    /// Pages of other logs, and pages that were only read, do not matter to appends of this one.
    #[cold]
    fn look_for_lost(&self) -> Result<()> {
        let seen = replaced_pages();
        let is_lost = |region: &Region| region.has_failed();
        let unsynced = self.segments.with(|segments| {
            // Those that are durable are at rest.
            let mut newest_first = segments.as_slice().iter().rev().map_while(|segment| segment.unsynced());
            newest_first.any(|(region, _)| is_lost(&region))
        });
        if unsynced || self.control.has_failed() {
            let error = self.poison(lost());
            self.lock_rotation().cursor_control.close(0);
            return Err(error);
        }
        self.replaced_seen.store(seen, Ordering::Relaxed);
        self.durability.check()
    }

    /// Has the system provide `range` of `mapping` for control frames, which no appender has asked for: an error where a
    /// store there would be a signal.
    pub(crate) fn ask_for_pages(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        match self.storage.populate(mapping, range.start - range.start % PAGE_LEN..range.end) {
            // A full disk, or a file system that takes no writes any more: then it takes none to the control page.
            Err(full) if full.kind() == ErrorKind::StorageFull => {
                Err(self.control.check_writable().err().unwrap_or(full))
            }
            // Whatever else there is, the pages come one by one.
            _ => Ok(()),
        }
    }

    /// As [`Self::ask_for_pages`], for the last frame of a segment that has been closed to appenders. Without it the log cannot
    /// go on, so it is poisoned.
    pub(crate) fn ask_for_last(&self, place: &Reservation<'_, Active>) -> Result<()> {
        let range = place.offset()..place.offset() + place.len();
        self.ask_for_pages(place.mapping(), range).map_err(|source| self.poison(source))
    }

    /// Asked by the leader after each `msync`, which passes over pages that have been replaced.
    pub(crate) fn check_not_lost(&self, region: &Region) -> Result<()> {
        if region.has_failed() || self.control.has_failed() { Err(self.poison(lost())) } else { Ok(()) }
    }
}
