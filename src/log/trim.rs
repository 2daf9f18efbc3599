//! Retention: dropping whole segments from the front.

use std::io;
use std::sync::Arc;

use super::shared::Shared;
use super::{Log, append};
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::format::name;
use crate::format::segment_header;
use crate::lsn::Lsn;
use crate::sabotage::{Break, is};
use crate::segment::Segment;

impl Log {
    /// Drops the segments all of whose records are below `lsn`, oldest first, and returns how many went. Never the one
    /// that takes appends, and none that a [`Pin`](super::Pin) keeps. What is dropped stays readable for the views that
    /// have it. Durable on return; after a crash in the middle, some of the segments may still be there.
    ///
    /// # Errors
    /// [`Error::NotAppended`] when `lsn` is beyond the next record; [`Error::Io`] when a file cannot be removed: its segment
    /// and those behind are out of the log all the same, and the next call begins with their files;
    /// [`Error::Poisoned`], [`Error::InsideAppend`].
    pub fn trim_before(&self, lsn: Lsn) -> Result<usize> {
        append::check_outside()?;
        let _calling = calling();
        let shared = &*self.shared;
        let next = shared.next_lsn();
        if lsn > next {
            return Err(Error::NotAppended { lsn, next });
        }
        shared.durability.check()?;
        while shared.has_unsynced_below(lsn) {
            // What stays must be durable with the link that leads to it, before what it leads from may go.
            match shared.wait(shared.everything()) {
                Ok(()) => break,
                // Some of it is gone, and something else stands in its place.
                Err(Error::Truncated { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let pins = shared.pins.lock_files()?;
        shared.look_around()?;
        let mut rotation = shared.lock_rotation();
        rotation.rotor.retire();
        let mut dropped = shared.take_below(lsn)?;
        drop(pins);
        let count = dropped.len();
        if let Some(last) = dropped.last() {
            rotation.oldest = last.number() + 1;
        }
        if is(Break::TrimNewestFirst) {
            dropped.reverse();
        }
        // Oldest first, over all calls: without a control page, a segment that is missing behind one that is there is lost.
        rotation.trimmed.extend(dropped);
        while let Some(segment) = rotation.trimmed.front() {
            shared.unlink(segment)?;
            rotation.trimmed.pop_front();
        }
        if count > 0 {
            let first_lsn = self.first_lsn().0;
            report!(info, segments = count, first_lsn, "log trimmed");
        }
        Ok(count)
    }
}

impl Shared {
    /// Whether a segment that `lsn` would let go cannot go yet, because its successor is not durable.
    fn has_unsynced_below(&self, lsn: Lsn) -> bool {
        self.segments.with(|segments| {
            segments.as_slice().windows(2).any(|pair| ends_below(&pair[0], lsn) && !self.is_linked_durably(&pair[1]))
        })
    }

    fn is_linked_durably(&self, segment: &Segment) -> bool {
        self.durability.position() > segment.position(segment_header::LEN)
    }

    /// Takes the segments that may go out of the list; the files of pins and the rotation are locked. That they may be gone is durable then.
    fn take_below(&self, lsn: Lsn) -> Result<Vec<Arc<Segment>>> {
        let pins = self.pins.lock();
        let segments = self.segments.load();
        let pinned = [pins.oldest_guarded(), pins.named.oldest(&segments)];
        let bound = pinned.into_iter().flatten().fold(lsn, Lsn::min);
        let segments = segments.as_slice();
        let goes = |pair: &[Arc<Segment>]| ends_below(&pair[0], bound) && self.is_linked_durably(&pair[1]);
        let count = segments.windows(2).take_while(|pair| goes(pair)).count();
        if count > 0 && !is(Break::TrimWithoutRetain) {
            pins.named.report_lost(segments[0].base_lsn(), segments[count].base_lsn());
            let oldest = segments[count].number();
            let path = self.storage.path().join(name::CONTROL);
            self.control.retain_from(&*self.storage, oldest).map_err(|source| Error::io("sync", &path, source))?;
        }
        Ok(self.segments.change(|segments| segments.drain(..count).collect()))
    }

    /// Removes the file of a segment that is in the list no more. Nobody new can reach it; those who can keep it.
    pub(super) fn unlink(&self, segment: &Arc<Segment>) -> Result<()> {
        if segment.is_shared() {
            segment.keep()?;
        } else {
            segment.forget();
        }
        match self.storage.remove(&name::segment(segment.number())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ if is(Break::UnlinkWithoutDirectorySync) => Ok(()),
            // Synced each time, so that no later one is gone while an earlier one is still there.
            _ => self.storage.sync_directory(),
        }
        .map_err(|source| Error::io("remove", &segment.path(), source))?;
        if let Some(region) = segment.mapped() {
            self.counters.unlinked(Arc::downgrade(&region), segment.info().size);
        }
        Ok(())
    }
}

fn ends_below(segment: &Segment, lsn: Lsn) -> bool {
    segment.end().is_some_and(|end| end.next_lsn <= lsn)
}
