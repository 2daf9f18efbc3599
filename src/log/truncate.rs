//! Dropping a suffix, or everything: a fresh segment takes the place of what is gone.

use std::sync::Arc;

use super::Log;
use super::durability::copying::CopyWait;
use super::preparer::Need;
use super::recovery::unused::Unused;
use super::shared::{Rotation, Shared, check_lsn};
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::format::link::{MetaSlots, Predecessor, SegmentEnd};
use crate::lsn::Lsn;
use crate::segment::Segment;
use crate::segment::control;
use crate::segment::leftovers::remove_all;
use crate::segment::pins::files::PinLock;
use crate::segment::pins::report_lost;
use crate::segment::prepare::Prepared;

impl Log {
    /// Drops all records after `lsn`; the next one appended gets the number after it. Durable on return.
    ///
    /// Metadata stays as it is. A caller that waits for a dropped record gets [`Error::Truncated`]; views that have dropped
    /// records keep them; a follower that has passed `lsn` is told so by [`Error::Rewound`]; named pins beyond `lsn + 1` are
    /// moved back to it. An append that runs at the same time comes before, and may be dropped, or after, and gets a
    /// number handed out again. `lsn` at or after the last record drops nothing. A [`Wal`](crate::wal::Wal)
    /// over this log is opened again afterwards: with [`RecoverFrom::OldestRecord`](crate::wal::RecoverFrom::OldestRecord) if its last
    /// checkpoint was dropped, which is [`WalError::NoCheckpoint`](crate::wal::WalError::NoCheckpoint) otherwise.
    ///
    /// # Errors
    /// [`Error::Trimmed`] when `lsn` is more than one below the first record kept; [`Error::NoSpace`], with nothing
    /// changed; [`Error::Poisoned`], [`Error::Corrupt`], [`Error::InsideAppend`]; [`Error::Io`], with nothing changed when the control
    /// page cannot be written, the named pins cannot be read or written, or another process changes them for more than a second (`TimedOut`).
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::Lsn;
    ///
    /// log.append_batch(&[(1, b"kept".as_slice()), (1, b"of the old leader")])?;
    /// log.truncate_after(Lsn(1))?;
    /// assert_eq!(log.append(1, b"of the new one")?, Lsn(2));
    ///
    /// log.reset_to(Lsn(500))?; // as after a snapshot that was installed
    /// assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(500), Lsn(500)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn truncate_after(&self, lsn: Lsn) -> Result<()> {
        self.truncate_after_with(lsn, &[])
    }

    /// As [`Log::truncate_after`], and sets metadata slots, each by its number, to these values: [`Log::trim_before_with`] has an
    /// example. A crash leaves the truncation and all of the values, or neither. If no record is dropped, the values are set one by
    /// one, durably.
    ///
    /// # Errors
    /// As [`Log::truncate_after`] and [`Log::put_meta`].
    pub fn truncate_after_with(&self, lsn: Lsn, meta: &[(usize, &[u8])]) -> Result<()> {
        let _calling = calling();
        let _entered = self.shared.enter()?;
        let is_replaced = self.shared.replace_suffix(meta, |segments| {
            let first = segments.first().map_or(Lsn::FIRST, |segment| segment.base_lsn());
            if lsn.next() < first {
                return Err(Error::Trimmed { lsn, first });
            }
            // Appends go on meanwhile, so this only grows.
            if lsn.next() >= self.shared.next_lsn() {
                Ok(None)
            } else {
                self.shared.kept_up_to(segments, lsn).map(Some)
            }
        })?;
        if is_replaced { Ok(()) } else { self.shared.put_durably(meta) }
    }

    /// Drops all records and goes on with number `lsn`, for a follower that has installed a snapshot. Durable on
    /// return. Metadata stays as it is; a [`Pin`](super::Pin) does not stop it, and all named pins are lost by it. Waiting calls,
    /// views, followers and a [`Wal`](crate::wal::Wal) over this log, which then has no checkpoint, as with [`Log::truncate_after`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `lsn` is 0, [`Error::Exhausted`] when it is near 2^64; [`Error::NoSpace`], with nothing changed; [`Error::Poisoned`],
    /// [`Error::InsideAppend`]; [`Error::Io`], as for [`Log::truncate_after`].
    pub fn reset_to(&self, lsn: Lsn) -> Result<()> {
        self.reset_to_with(lsn, &[])
    }

    /// As [`Log::reset_to`], and sets metadata slots, each by its number, to these values: [`Log::trim_before_with`] has an example.
    /// A crash leaves the reset and all of the values, or neither.
    ///
    /// # Errors
    /// As [`Log::reset_to`]; [`Error::Meta`], with nothing changed.
    pub fn reset_to_with(&self, lsn: Lsn, meta: &[(usize, &[u8])]) -> Result<()> {
        let _calling = calling();
        let _entered = self.shared.enter()?;
        if lsn == Lsn::ZERO {
            return Err(Error::InvalidArgument { name: "lsn", value: 0, expected: "at least 1" });
        }
        check_lsn(lsn)?;
        let kept = Kept { segments: Vec::new(), next_lsn: lsn, last: Lsn::ZERO, is_reset: true };
        self.shared.replace_suffix(meta, |_| Ok(Some(kept))).map(drop)
    }
}

/// What a truncation leaves.
struct Kept {
    segments: Vec<Arc<Segment>>,
    next_lsn: Lsn,
    /// The last of the present records that keeps its number.
    last: Lsn,
    /// Nothing is kept, and numbers go on anywhere.
    is_reset: bool,
}

impl Shared {
    /// The segments up to record `lsn`, the last of them cut. Record `lsn + 1` has been reserved.
    fn kept_up_to(&self, segments: &[Arc<Segment>], lsn: Lsn) -> Result<Kept> {
        let next_lsn = lsn.next();
        // Segments without a record share their base with the next one: the first of them goes, if all its records do.
        let at = segments.partition_point(|segment| segment.base_lsn() < next_lsn);
        let mut kept = segments[..at].to_vec();
        let goes_on = segments.get(at).is_some_and(|segment| segment.base_lsn() == next_lsn);
        if let Some(segment) = kept.last().filter(|_| !goes_on) {
            let region = segment.region()?;
            let mut wait = CopyWait::new();
            let end = loop {
                if let Some(end) = segment.end_before(&region, next_lsn)? {
                    break end;
                }
                self.wait_for_copy(&mut wait)?;
            };
            let cut = Arc::new(segment.cut(end));
            kept.pop();
            kept.push(cut);
        }
        Ok(Kept { segments: kept, next_lsn, last: lsn, is_reset: false })
    }

    /// Lets `decide` say what is kept of the segments, and goes on after that in a fresh one, which begins with the metadata as it is
    /// with `values`. False if nothing was to be replaced.
    fn replace_suffix(
        &self,
        values: &[(usize, &[u8])],
        decide: impl FnOnce(&[Arc<Segment>]) -> Result<Option<Kept>>,
    ) -> Result<bool> {
        // Until the suffix is gone: a pin that is made meanwhile would have to be taken back as well.
        let pin_files = self.pins.lock_files()?;
        // The leader: no sync runs meanwhile that would take an old record for a new one.
        let leading = self.durability.lead();
        self.durability.check()?;
        let mut rotation = self.lock_rotation();
        let decided = decide(self.segments.load().as_slice());
        let Some(kept) = decided.inspect_err(|_| self.close_if_poisoned(&mut rotation))? else { return Ok(false) };
        let meta = self.meta_with(values)?;
        self.wait_for_slot(&mut rotation)?;
        let spare = self.take_spare(Need::Essential, 0, meta.encoded_len())?;
        if let Err(error) = self.tell_of_truncation(&kept, &pin_files) {
            self.preparer.put_back(spare);
            return Err(error);
        }
        let next_lsn = kept.next_lsn.0;
        let dropped = self.replace_locked(&mut rotation, kept, meta, spare);
        rotation.cursor_control.retire();
        let pending = rotation.pending.take();
        drop(rotation);
        drop(pin_files);
        self.sync_all().inspect_err(|_| {
            self.lock_rotation().cursor_control.close(0);
        })?;
        drop(leading);
        report!(info, next_lsn, "log truncated");
        remove_all(&*self.storage, &pending.map_or_else(Vec::new, |pending| pending.leftovers));
        // The truncation is done. A file that stays does not count, and is removed at the next open.
        self.housekeeper.drop_segments(dropped);
        Ok(true)
    }

    /// Before the suffix goes: changes the named pins by what is `kept`, and takes back what other processes take for durable. If it
    /// fails nothing has changed, unless a pin cannot be written back.
    fn tell_of_truncation(&self, kept: &Kept, pin_files: &PinLock<'_>) -> Result<()> {
        let mut pins = self.pins.lock();
        let first = self.segments.load().first_lsn();
        let lost = if kept.is_reset { pins.named.kept_from(first) } else { Vec::new() };
        pins.named.change(pin_files, |named| {
            if kept.is_reset {
                // What named pins kept goes; their owners must find out.
                named.lose_all(pin_files)?;
            } else {
                // A crash after this leaves pins that keep more than they must.
                named.rewind_to(pin_files, kept.next_lsn)?;
            }
            // From here on no other process takes for durable what is dropped. Last: a reader that sees it has to wait.
            let position = self.durability.position();
            self.control.set_durable(self.durability.lsn().min(kept.last), position).map_err(|source| {
                // It may have been written in part.
                let _ = self.control.set_durable(self.durability.lsn(), position);
                control::write_error(&*self.storage, source)
            })
        })?;
        report_lost(lost, first);
        Ok(())
    }

    /// Appenders that find the segment closed look why.
    fn close_if_poisoned(&self, rotation: &mut Rotation) {
        if self.durability.check().is_err() {
            rotation.cursor_control.close(0);
        }
    }

    /// Puts `spare`, which begins with `meta`, after what is kept; returns the segments that are dropped.
    fn replace_locked(
        &self,
        rotation: &mut Rotation,
        kept: Kept,
        meta: MetaSlots,
        spare: Prepared,
    ) -> Vec<Arc<Segment>> {
        let (active, _) = self.reserved();
        if let Some(taken) = rotation.cursor_control.close(0) {
            // What is cut off of it stays. Without a segment of its own the log knows of the last already.
            if rotation.pending.is_none() {
                let (number, size) = (active.number(), active.info().size);
                self.note_unused(Unused { number, size, start: taken.offset as u64 });
            }
            self.counters.segment_full(taken.ordinal, taken.offset);
        }
        // Before the list changes, so that no number counts as durable that means another record now.
        self.durability.cut(kept.last);
        // Until the new segment is there, no callback is added for a record of the old one.
        let callbacks = self.background.cut(kept.last);
        let previous = kept.segments.last().and_then(|segment| {
            let SegmentEnd { offset, crc, .. } = segment.end()?;
            Some(Predecessor { number: segment.number(), end: offset, crc })
        });
        if previous.is_none() {
            rotation.oldest = spare.number;
        }
        let numbers: Vec<u64> = kept.segments.iter().map(|segment| segment.number()).collect();
        self.change_meta(|now| *now = meta);
        let old = self.open_segment(rotation, spare, previous, kept.next_lsn, Some(kept.segments));
        drop(callbacks);
        old.into_iter().filter(|segment| !numbers.contains(&segment.number())).collect()
    }
}
