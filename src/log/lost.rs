//! Pages of the log's files that were lost while somebody stored to them: the guard against `SIGBUS` has replaced them.

use std::io;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::error::Result;
use crate::memory::{Region, replaced_pages};

/// What a log is poisoned with.
fn lost() -> io::Error {
    io::Error::other("a page of a mapped file was lost: SIGBUS")
}

impl Shared {
    /// `done`, unless a page that appends store to has been lost.
    #[inline]
    pub(super) fn unless_lost<T>(&self, done: T) -> Result<T> {
        if replaced_pages() == self.replaced_seen.load(Ordering::Relaxed) {
            return Ok(done);
        }
        self.look_for_lost().map(|()| done)
    }

    /// Pages of other logs, and such as were only read, are none of this one's writers' business.
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
            self.lock_rotation().rotor.close(0);
            return Err(error);
        }
        self.replaced_seen.store(seen, Ordering::Relaxed);
        self.durability.check()
    }

    /// Asked by the leader after each `msync`, which passes over pages that have been replaced.
    pub(super) fn check_not_lost(&self, region: &Region) -> Result<()> {
        if region.has_failed() || self.control.has_failed() { Err(self.poison(lost())) } else { Ok(()) }
    }
}
