//! A log that found no room for a segment when it was opened: it is read and trimmed, and goes on once there is room.
//!
//! It has what recovery found, whose last segment is shown to appenders as one that is full. Nothing that recovery left out
//! has been removed, and no byte of a segment changed: `docs/design/durability.md` says why that is enough.

use std::sync::Arc;

use parking_lot::MappedMutexGuard;

use super::plan::Pending;
use crate::error::{Error, Result};
use crate::events::report;
use crate::format::name;
use crate::format::position::Position;
use crate::log::preparer::Need;
use crate::log::shared::{Rotation, Shared};
use crate::memory::Region;
use crate::segment::Segment;
use crate::segment::leftovers::remove_all;
use crate::storage::Access;

impl Shared {
    /// The rotation, locked, of a log that has a segment to append to.
    ///
    /// # Errors
    /// As [`Preparer::take`](crate::log::preparer::Preparer::take), and as a sync.
    pub(crate) fn lock_begun_rotation(&self, need: Need) -> Result<MappedMutexGuard<'_, Rotation>> {
        loop {
            let rotation = self.lock_rotation();
            if rotation.pending.is_none() {
                return Ok(rotation);
            }
            drop(rotation);
            self.begin(need)?;
        }
    }

    /// Whether the log has no segment to append to.
    pub(crate) fn is_pending(&self) -> bool {
        self.lock_rotation().pending.is_some()
    }

    /// Lets the log wait for room: appenders find `last`, which holds its last record, full.
    pub(crate) fn wait_for_room(&self, rotation: &mut Rotation, last: &Segment, pending: Pending) -> Result<()> {
        let info = last.info();
        let end = usize::try_from(pending.previous.end).expect("within a segment, whose length was checked");
        let failed = |operation| move |source| Error::io(operation, &last.path(), source);
        let file = self.storage.open(&name::segment(info.number), Access::Read).map_err(failed("open"))?;
        // Read-only: there is no room in which anybody could store.
        let mapping = file.map(info.size, Access::Read).map_err(failed("map"))?;
        let ordinal = u32::try_from(pending.next_lsn.0 - info.base_lsn.0).expect("a segment has fewer records");
        rotation.open(info, Arc::new(Region::live(mapping, end)), end, ordinal);
        rotation.begin = Position::new(info.number, end as u64);
        rotation.pending = Some(pending);
        self.counters.segment_opened(ordinal, end);
        let path = self.storage.path().to_owned();
        report!(warn, directory = %path.display(), "no room for a segment: the log can be read and trimmed, and takes appends once there is");
        Ok(())
    }

    /// Goes on in a segment of its own, if the log has none yet. As after a truncation, its link is made durable with the
    /// right to sync, and then those files go that do not count.
    #[cold]
    fn begin(&self, need: Need) -> Result<()> {
        let leading = self.durability.lead();
        self.durability.check()?;
        let mut rotation = self.lock_rotation();
        if rotation.pending.is_none() {
            return Ok(());
        }
        let meta_len = self.meta.lock().encoded_len();
        let spare = self.take_spare(need, 0, meta_len)?;
        let Some(Pending { previous, next_lsn, leftovers }) = rotation.pending.take() else { return Ok(()) };
        if let Some(taken) = rotation.cursor_control.close(0) {
            self.counters.segment_full(taken.ordinal, taken.offset);
        }
        self.open_segment(&mut rotation, spare, Some(previous), next_lsn, None);
        rotation.cursor_control.retire();
        drop(rotation);
        self.sync_all().inspect_err(|_| {
            self.lock_rotation().cursor_control.close(0);
        })?;
        drop(leading);
        remove_all(&*self.storage, &leftovers);
        Ok(())
    }
}
