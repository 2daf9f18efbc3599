//! Retention: dropping whole segments from the front.

use std::sync::Arc;

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::format::segment_header;
use crate::lsn::Lsn;
use crate::segment::{Segment, Segments};

/// Segments that are out of the list, oldest first.
struct Trimmed {
    segments: Vec<Arc<Segment>>,
    /// The control page says so, durably.
    is_noted: bool,
}

impl Log {
    /// Drops the segments whose records are all below `lsn`, oldest first, and returns how many. Never the one that
    /// takes appends, and none that a [`Pin`](super::Pin) or a [named pin](Log::create_pin) keeps: one that holds back more than its limit
    /// is lost, and a damaged one keeps everything. Views that have a dropped segment can still read it.
    /// Durable on return: no crash brings it back. It may sync everything first, and then takes as long. The files go later: a thread of
    /// the log removes them, or keeps them to be the next segments. A file that could not be removed goes at the next call or open. Below a
    /// [`Wal`](crate::wal::Wal), use [`truncate_before_checkpoint`](crate::wal::Wal::truncate_before_checkpoint), which
    /// knows what recovery needs: after a trim past that, only
    /// [`RecoverFrom::OldestRecord`](crate::wal::RecoverFrom::OldestRecord) opens the rest.
    ///
    /// # Errors
    /// [`Error::NotAppended`] when `lsn` is beyond the next record; [`Error::Io`] when a file that an earlier call
    /// dropped, or this one where the log has no control page, could not be removed: what is asked for now has been done all the same,
    /// and that file is tried once more. [`Error::Io`] also when the control page can be neither written nor removed, when the named
    /// pins cannot be read, or when another process changes them for more than a second (`TimedOut`): then nothing has been done.
    /// [`Error::Poisoned`], [`Error::InsideAppend`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// for _ in 0..100 {
    ///     log.append(1, &[0; 1000])?;
    /// }
    /// log.rotate()?; // so that all of them are in segments that are full
    /// assert_eq!(log.trim_before(log.next_lsn())?, 2);
    /// assert_eq!(log.first_lsn(), log.next_lsn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim_before(&self, lsn: Lsn) -> Result<usize> {
        self.trim_before_with(lsn, &[])
    }

    /// As [`Log::trim_before`], and sets metadata slots, each by its number, to these values: what a log that has dropped records
    /// must still know of them. No crash leaves the trim without the values. It may leave them without the trim, or the first of
    /// them, as it may if [`Log::put_meta`] sets them and a later call trims; so write them so that they hold for a log that is not
    /// trimmed yet. All is durable on return, also if no segment goes.
    ///
    /// # Errors
    /// As [`Log::trim_before`] and [`Log::put_meta`]. Unlike a trim, it needs room: with [`Error::NoSpace`] nothing has been trimmed. Any
    /// error may leave the values set, or the first of them, and an error of the trim itself does: [`Log::meta`] tells.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::Lsn;
    ///
    /// # (0..10).try_for_each(|_| log.append(1, b"entry").map(drop))?;
    /// const PURGED: usize = 0; // the term and number of the last entry that is not needed any more
    /// log.trim_before_with(Lsn(8), &[(PURGED, b"term 3, number 7")])?;
    ///
    /// // A snapshot is installed: the log goes on after it, and knows of it.
    /// log.reset_to_with(Lsn(501), &[(PURGED, b"term 4, number 500")])?;
    /// assert_eq!((log.next_lsn(), log.meta(PURGED).as_deref()), (Lsn(501), Some(&b"term 4, number 500"[..])));
    ///
    /// # log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
    /// const VOTE: usize = 1;
    /// log.truncate_after_with(Lsn(501), &[(VOTE, b"term 5")])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim_before_with(&self, lsn: Lsn, meta: &[(usize, &[u8])]) -> Result<usize> {
        let _calling = calling();
        self.shared.trim(lsn, meta)
    }
}

impl Shared {
    /// As [`Log::trim_before_with`].
    pub(super) fn trim(&self, lsn: Lsn, meta: &[(usize, &[u8])]) -> Result<usize> {
        let _entered = self.enter()?;
        let next = self.next_lsn();
        if lsn > next {
            return Err(Error::NotAppended { lsn, next });
        }
        self.durability.check()?;
        // Before the trim, which is durable by itself.
        self.put_durably(meta)?;
        if self.has_nothing_below(lsn) {
            return self.look_around().map(|()| 0);
        }
        while self.has_unsynced_below(lsn) {
            // What stays must be durable with the link that leads to it, before what it leads from may go.
            match self.wait(self.everything()) {
                Ok(()) => break,
                // Some of it is gone, and something else is in its place.
                Err(Error::Truncated { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let pins = self.pins.lock_files()?;
        self.look_around()?;
        // The page is going to say what is gone.
        self.look_for_control()?;
        let mut rotation = self.lock_rotation();
        rotation.cursor_control.retire();
        let Trimmed { segments: dropped, is_noted } = self.take_below(lsn)?;
        drop(pins);
        let count = dropped.len();
        if let Some(last) = dropped.last() {
            rotation.oldest = last.number() + 1;
            self.note_extent();
        }
        let failure = self.housekeeper.take_failure();
        if count > 0 {
            self.preparer.pool().note_trim();
        }
        // With the rotation locked, so that the oldest come first over all calls.
        self.housekeeper.drop_segments(dropped);
        drop(rotation);
        if count > 0 {
            let first_lsn = self.segments.with(Segments::first_lsn).0;
            report!(info, segments = count, first_lsn, "log trimmed");
        }
        if !is_noted {
            // Nothing says that they are gone but that they are.
            self.housekeeper.finish()?;
        }
        failure.map_or(Ok(count), Err)
    }

    /// Whether no segment ends below `lsn`, and nothing of an earlier trim is left to be done or reported.
    fn has_nothing_below(&self, lsn: Lsn) -> bool {
        let ends_above =
            self.segments.with(|segments| !segments.as_slice().first().is_some_and(|s| ends_below(s, lsn)));
        ends_above && self.housekeeper.is_at_rest()
    }

    /// Whether a segment that `lsn` would let go cannot go yet, because its successor is not durable.
    fn has_unsynced_below(&self, lsn: Lsn) -> bool {
        self.segments.with(|segments| {
            segments.as_slice().windows(2).any(|pair| ends_below(&pair[0], lsn) && !self.is_linked_durably(&pair[1]))
        })
    }

    fn is_linked_durably(&self, segment: &Segment) -> bool {
        self.durability.position() > segment.position(segment_header::LEN)
    }

    /// Takes the segments that may go out of the list, once it is durable that they may be gone. The files of pins and
    /// the rotation are locked.
    fn take_below(&self, lsn: Lsn) -> Result<Trimmed> {
        let pins = self.pins.lock();
        let segments = self.segments.load();
        let pinned = [pins.oldest_guarded(), pins.named.oldest(&segments)];
        let bound = pinned.into_iter().flatten().fold(lsn, Lsn::min);
        let segments = segments.as_slice();
        let goes = |pair: &[Arc<Segment>]| ends_below(&pair[0], bound) && self.is_linked_durably(&pair[1]);
        let count = segments.windows(2).take_while(|pair| goes(pair)).count();
        // Without a page, what an earlier call has let go is to be gone as well.
        let mut is_noted = self.control.has_name();
        if count > 0 {
            let oldest = segments[count].number();
            is_noted = self.control.retain_from(&*self.storage, oldest, || self.housekeeper.finish())?;
            pins.named.report_lost(segments[0].base_lsn(), segments[count].base_lsn());
        }
        Ok(Trimmed { segments: self.segments.change(|segments| segments.drain(..count).collect()), is_noted })
    }
}

fn ends_below(segment: &Segment, lsn: Lsn) -> bool {
    segment.end().is_some_and(|end| end.next_lsn <= lsn)
}
