//! Making records durable.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::Log;
use super::durability::Goal;
use super::durability::copying::CopyWait;
use super::durability::future::Durable;
use super::durability::teller::Callback;
use super::mark::Mark;
#[cfg(feature = "metrics")]
use super::meter::Synced;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::events::{calling, in_words, report};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::Segment;

impl Log {
    /// Makes durable everything that was appended before the call. Returns the last durable record's number.
    ///
    /// Threads that call it at the same time share one `msync` (group commit): while one runs, the next group gathers.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when this sync or an earlier one failed: from then on no call reports success, and only
    /// dropping the log and opening it again finds out what is durable. [`Error::Truncated`] when some of the records were
    /// truncated meanwhile, unless others are durable under their numbers already; [`Error::InsideAppend`].
    pub fn sync(&self) -> Result<Lsn> {
        self.shared.check_call()?;
        self.shared.check_open()?;
        let _calling = calling();
        self.shared.wait(self.shared.everything())?;
        Ok(self.durable_lsn())
    }

    /// Returns once all up to `mark` is durable, and makes it so if no other thread does. A mark is a record's number, the range
    /// of a batch, or a [`Mark`].
    ///
    /// # Errors
    /// [`Error::NotAppended`]; [`Error::InvalidArgument`] for a place of another log; [`Error::Truncated`] when a record waited
    /// for is truncated meanwhile; and as [`Log::sync`].
    pub fn wait_durable(&self, mark: impl Into<Mark>) -> Result<()> {
        self.shared.check_call()?;
        self.shared.check_open()?;
        let _calling = calling();
        self.shared.wait(self.shared.goal_of(mark.into())?)
    }

    /// Has `callback` called once, with `Ok` when all up to `mark`, as in [`Log::wait_durable`], is durable, or with the error that
    /// keeps it from that: [`Error::Poisoned`], [`Error::Truncated`], or [`Error::Closed`] when the log is dropped
    /// before. Does not wait. A thread of the log syncs if no other call does it. The callback runs
    /// on another thread, with nothing locked, and may use the log, and drop it. It may wait for a sync, for a
    /// [`Durable`], and whatever else the log has to be waited for; but it must not wait, as by a channel, for another callback of the
    /// same log, or for a thread that awaits a future of it: these are called after it, and it would wait for ever. The next callbacks wait for it, and so
    /// does a close or a drop of the log by any other thread; nothing else does. If it panics, the log goes on.
    ///
    /// # Errors
    /// [`Error::NotAppended`], [`Error::InvalidArgument`]; [`Error::Io`] when the thread cannot be started. The callback is not
    /// called then.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use std::sync::mpsc;
    ///
    /// let (done, waiting) = mpsc::channel();
    /// let lsn = log.append(1, b"order 7")?;
    /// log.on_durable(lsn, move |outcome| drop(done.send(outcome.is_ok())))?;
    /// log.sync()?;
    /// assert!(waiting.recv()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_durable(&self, mark: impl Into<Mark>, callback: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.shared.check_open()?;
        let mark = mark.into();
        self.shared.call_when_durable(|| self.shared.goal_of(mark), Callback::Call(Box::new(callback)))
    }

    /// A future that is ready once all up to `mark`, as in [`Log::wait_durable`], is durable, or will not be. Does not wait, and
    /// never fails: what is wrong is the outcome of the future. What is durable already starts no thread.
    pub fn durable(&self, mark: impl Into<Mark>) -> Durable {
        let mark = mark.into();
        let shared = &self.shared;
        Durable::begin(shared, |waiting| {
            shared.check_open()?;
            if shared.durability.is_reached(shared.goal_of(mark)?)? {
                return Ok(Some(Ok(())));
            }
            shared.call_when_durable(|| shared.goal_of(mark), Callback::Future(waiting)).map(|()| None)
        })
    }
}

/// A sync that runs. One that panics has failed.
struct Syncing<'s>(&'s Shared);

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(io::Error::other("a sync has panicked"));
            self.0.lock_rotation().cursor_control.close(0);
        }
    }
}

/// Up to which byte offset `segment` holds what comes before `target`.
fn goal_in(segment: &Segment, target: Position) -> usize {
    let ended = || segment.end().map_or(0, |end| end.offset);
    let goal = if segment.number() == target.segment() { target.offset() } else { ended() };
    // Within a segment, which is mapped.
    goal as usize
}

impl Shared {
    /// Returns once `goal` is durable.
    pub(crate) fn wait(&self, goal: Goal) -> Result<()> {
        self.durability.wait(goal, || {
            let synced = self.look_around().and_then(|()| self.sync_all()).inspect_err(|_| {
                // Appenders find the segment closed, look why, and see the poison.
                self.lock_rotation().cursor_control.close(0);
            });
            self.leave_large_pages();
            synced
        })
    }

    /// Makes everything durable that has been reserved so far. Called by the leader only, which after an error closes
    /// the active segment.
    pub(crate) fn sync_all(&self) -> Result<()> {
        let _syncing = Syncing(self);
        let target = self.reserved_end();
        let segments = self.segments.load();
        let begin = segments.as_slice().partition_point(|s| s.number() < self.durability.position().segment());
        let wanted = segments.as_slice()[begin..].iter().take_while(|segment| segment.number() <= target.segment());
        let mut wanted = wanted.peekable();
        while let Some(segment) = wanted.next() {
            if let Some(next) = wanted.peek() {
                self.start_writing(next, target)?;
            }
            self.sync_segment(segment, target)?;
        }
        self.set_due();
        self.give_back_unused();
        Ok(())
    }

    /// Has what `segment` holds before `target` begin to be written, while a sync waits for the segment before it: two of them take
    /// as long as one then.
    fn start_writing(&self, segment: &Segment, target: Position) -> Result<()> {
        let Some((region, file)) = segment.unsynced() else { return Ok(()) };
        let end = goal_in(segment, target);
        self.release_pages(segment, &region, 0..end);
        file.start_writing(0..end as u64).map_err(|source| self.poison(source))
    }

    /// Takes the pages of `range` out of the page tables, with all of the first and the last large page, each of which is mapped, and protected
    /// against stores, as a whole.
    fn release_pages(&self, segment: &Segment, region: &Region, range: Range<usize>) {
        let page_len = self.preparer.page_len_at(segment.number(), range.end);
        let pages = range.start - range.start % page_len..range.end.next_multiple_of(page_len);
        self.storage.release(region.mapping(), pages);
    }

    fn sync_segment(&self, segment: &Segment, target: Position) -> Result<()> {
        let Some((region, file)) = segment.unsynced() else { return Ok(()) };
        let goal = goal_in(segment, target);
        let mut wait = CopyWait::new();
        let frontier = loop {
            let frontier = segment.advance_to_end(&region).map_err(|e| self.poison(io::Error::other(e)))?;
            if frontier.offset >= goal {
                break frontier;
            }
            // Frames that were there may be gone.
            self.check_not_lost(&region)?;
            self.wait_for_copy(&mut wait)?;
        };
        // While these frames are near: what a segment comes to stands in its seal.
        segment.count(&region, usize::MAX);
        let durable = self.durability.position();
        let begin = if durable.segment() == segment.number() { durable.offset() as usize } else { 0 };
        if begin < frontier.offset {
            let clock = Instant::now();
            self.release_pages(segment, &region, begin..frontier.offset);
            let written = file.sync_mapping(region.mapping(), begin..frontier.offset);
            let settled = || self.preparer.check_settled(segment.number(), frontier.offset);
            written.and_then(|()| settled()).map_err(|source| self.poison(source))?;
            self.check_not_lost(&region)?;
            let lsn = segment.lsn_at(frontier).previous();
            let before = self.durability.lsn().max(segment.base_lsn().previous());
            let time = clock.elapsed();
            let records = lsn.0.saturating_sub(before.0);
            self.counters.synced(records, time);
            let position = segment.position(frontier.offset);
            // The page first: should this process die in between, it does not say less than a caller was told, unless it
            // cannot be written: on a file system that copies what is written, it may take room that is not there.
            let _ = self.control.set_durable(lsn, position);
            self.durability.advance(lsn, position);
            self.control.wake_durable(&*self.storage);
            if self.counters.are_due() {
                self.tell_activity();
            }
            #[cfg(feature = "metrics")]
            self.meter.synced(Synced {
                took: time,
                records,
                bytes: (frontier.offset - begin) as u64,
                extent: self.extent(),
            });
            self.preparer.note_sync(segment.number(), frontier.offset, frontier.offset - begin, time);
            self.page_cache.let_go_of_durable(segment, &region, &*file, frontier.offset);
        }
        if segment.ends_by(frontier.offset) {
            // For backups that go by the time of the last change. Nothing else needs it, so a failure is no error.
            let _ = file.touch();
            segment.release_file();
            self.page_cache.let_go_of_ended(&region, &*file);
        }
        Ok(())
    }

    /// Tells operators what has been done. Called by one thread at a time.
    pub(super) fn tell_activity(&self) {
        self.control.set_activity(self.counters.activity(self.preparer.spare_count()));
    }

    /// Refuses all writes from now on.
    pub(super) fn poison(&self, source: io::Error) -> Error {
        let is_first = self.durability.check().is_ok();
        self.control.set_poisoned();
        let poisoned = self.durability.poison(source);
        if is_first {
            let (error, directory) = (in_words(&poisoned), self.storage.path().to_owned());
            report!(error, error, directory = %directory.display(), "log poisoned");
            #[cfg(feature = "metrics")]
            self.meter.poisoned();
        }
        poisoned
    }
}
