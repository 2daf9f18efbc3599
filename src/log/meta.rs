//! Metadata slots: a few small values in the stream of records.

use std::sync::atomic::Ordering;

use super::Log;
use super::mark::Mark;
use super::preparer::Need;
use super::shared::{Rotation, Shared};
use crate::error::{Error, MetaFault, Result};
use crate::events::calling;
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::link::MetaSlots;
use crate::format::position::Position;
use crate::format::{self, META_SLOTS, link};
use crate::lsn::Lsn;

impl Log {
    /// Sets metadata slot `slot`, one of 16, to `value`. The last value wins. Each segment begins with all of them, so together they take
    /// at most a quarter of a segment, and 16 MiB, less eight bytes for each.
    ///
    /// It is appended after the records that were appended before, and a sync makes both durable in this order; until
    /// then a crash may take it back. The mark that is returned can be waited for. Trimming, truncation and reset leave the value
    /// as it is, but for [`Log::trim_before_with`], [`Log::truncate_after_with`] and [`Log::reset_to_with`], which set it with what
    /// they do. It is not shipped to replicas.
    ///
    /// # Errors
    /// [`Error::Meta`]; otherwise as [`Log::append`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// log.append(1, b"an event")?;
    /// log.put_meta(3, b"applied up to 1")?;
    /// log.sync()?; // both
    /// assert_eq!(log.meta(3).as_deref(), Some(b"applied up to 1".as_slice()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_meta(&self, slot: usize, value: &[u8]) -> Result<Mark> {
        let _calling = calling();
        let _entered = self.shared.enter()?;
        self.shared.put_meta(slot, value, Need::Ordinary)
    }

    /// As [`Self::put_meta`], also with the room that is held back.
    pub(crate) fn put_meta_for(&self, need: Need, slot: usize, value: &[u8]) -> Result<Mark> {
        let _calling = calling();
        let _entered = self.shared.enter()?;
        self.shared.put_meta(slot, value, need)
    }

    /// The value of metadata slot `slot`, whether durable or not; `None` if it was never set, and in a forked child.
    #[must_use]
    pub fn meta(&self, slot: usize) -> Option<Vec<u8>> {
        // A thread that is not there may hold the lock.
        self.shared.check_process().ok()?;
        self.shared.meta.lock().get(slot).map(<[u8]>::to_vec)
    }
}

impl Shared {
    fn put_meta(&self, slot: usize, value: &[u8], need: Need) -> Result<Mark> {
        // The rotation is locked so that values are written in the order in which they count.
        let mut rotation = self.lock_begun_rotation(need)?;
        self.check_meta(&self.meta.lock(), slot, value.len())?;
        let payload = link::encode_meta(slot, value);
        let len = frame::padded(frame::HEADER_LEN + payload.len());
        self.make_room_for_meta(&mut rotation, need, slot, value.len(), len)?;
        let place = self.reserve_control_frame(&mut rotation, len, need)?;
        let next_lsn = Lsn(place.context().base_lsn.0 + u64::from(place.ordinal()));
        let end = Position(place.context().start.0 + (place.offset() + place.len()) as u64);
        self.publish(place, FrameHead::control(FrameKind::Meta, next_lsn, 0), &payload);
        self.change_meta(|meta| meta.set(slot, value));
        drop(rotation);
        self.unless_lost(self.mark_at(end))
    }

    /// Goes on in a longer segment if the metadata, with a value of `value_len` bytes in `slot`, takes more than a quarter of the one
    /// that takes appends: a log can be opened with segments as long as its newest. The frame takes `len` bytes.
    fn make_room_for_meta(
        &self,
        rotation: &mut Rotation,
        need: Need,
        slot: usize,
        value_len: usize,
        len: usize,
    ) -> Result<()> {
        let meta_len = others_len(&self.meta.lock(), slot) + value_len;
        let size = self.reserved().0.info().size;
        if meta_len as u64 <= format::meta_len_max(size) {
            return Ok(());
        }
        self.rotate(rotation, need, format::segment_size_for(len, meta_len))
    }

    /// Appends each of `values`, and returns once they are durable, with all before them.
    pub(super) fn put_durably(&self, values: &[(usize, &[u8])]) -> Result<()> {
        let mut mark = None;
        for &(slot, value) in values {
            mark = Some(self.put_meta(slot, value, Need::Ordinary)?);
        }
        mark.map_or(Ok(()), |mark| self.wait(self.goal_of(mark)?))
    }

    /// The metadata with these slots set, if there is room for it. The rotation is locked.
    pub(super) fn meta_with(&self, values: &[(usize, &[u8])]) -> Result<MetaSlots> {
        let mut meta = self.meta.lock().clone();
        for &(slot, value) in values {
            self.check_meta(&meta, slot, value.len())?;
            meta.set(slot, value);
        }
        Ok(meta)
    }

    /// The rotation is locked.
    pub(super) fn change_meta(&self, change: impl FnOnce(&mut MetaSlots)) {
        let mut meta = self.meta.lock();
        change(&mut meta);
        let payload_len_max = format::payload_len_max(self.preparer.size_max(), meta.encoded_len());
        self.payload_len_max.store(payload_len_max, Ordering::Relaxed);
    }

    /// An error unless `meta` has room for a value of `len` bytes in `slot`.
    fn check_meta(&self, meta: &MetaSlots, slot: usize, len: usize) -> Result<()> {
        let others = others_len(meta, slot);
        let len_max = usize::try_from(self.meta_len_max).unwrap_or(usize::MAX).saturating_sub(others);
        let fault = match slot {
            META_SLOTS.. => MetaFault::NoSlot { slots: META_SLOTS },
            _ if len > len_max => MetaFault::TooLong { len, len_max },
            _ => return Ok(()),
        };
        Err(Error::Meta { slot, fault })
    }
}

/// What the metadata takes without the value of `slot`, whose head is counted.
fn others_len(meta: &MetaSlots, slot: usize) -> usize {
    let now = meta.get(slot).map_or(0, |value| link::META_HEAD_LEN + value.len());
    meta.encoded_len() - now + link::META_HEAD_LEN
}
