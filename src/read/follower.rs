//! A reader that goes on as the log grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::place::{FollowerPlace, Run};
use super::record::{Record, RecordRef};
use super::ship::Frames;
use super::source::Source;
use super::visibility::Visibility;
use crate::error::{Damage, Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Process;
use crate::segment::control::Channel;

/// How often a follower looks before it waits: a few microseconds.
const SPINS: u32 = 50;
/// The longest wait before it looks at the log again, in case that the writer that should wake it is gone.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Follows a log from one record to the next, over rotations, without a gap and without a repeat.
///
/// It is not told when the log is poisoned: it goes on waiting until the log is closed or dropped.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use std::time::Duration;
///
/// use mapwal::{Follower, Lsn, RecordRef, Visibility};
///
/// let mut follower: Follower = log.follow(Lsn(1), Visibility::Published)?;
/// assert!(follower.next()?.is_none()); // nothing yet
/// log.append(1, b"a")?;
/// assert_eq!(follower.next()?.expect("a record").payload(), b"a");
/// assert_eq!(follower.next_lsn(), Lsn(2));
///
/// std::thread::scope(|scope| {
///     scope.spawn(|| log.append(1, b"b"));
///     follower.next_blocking().map(|record| assert_eq!(record.payload(), b"b"))
/// })?;
/// assert!(follower.next_timeout(Duration::from_millis(1))?.is_none());
///
/// log.append_batch(&[(1, b"c".as_slice()), (1, b"d")])?;
/// let kept: Option<RecordRef> = follower.next_ref()?; // to be kept beyond the next call
/// let also = follower.next_ref_timeout(Duration::from_secs(1))?;
/// assert_eq!([kept, also].map(|record| record.expect("a record").lsn()), [Lsn(3), Lsn(4)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Follower {
    source: Arc<dyn Source>,
    pub(super) visibility: Visibility,
    /// The next record to be handed out.
    next: Lsn,
    at: Option<FollowerPlace>,
    /// The truncations that it has taken account of.
    truncations: u64,
    /// The last record that may be handed out: known to be durable, in the log as it was after `truncations`.
    limit: Lsn,
    /// That which has made it.
    process: Process,
}

/// What came of one look for the next record.
enum Step<T> {
    Found(T),
    /// The segment before is done with.
    Entered,
    /// There is nothing more, as far as is known.
    Stalled,
}

impl Follower {
    pub(crate) fn new(source: Arc<dyn Source>, from: Lsn, visibility: Visibility) -> Self {
        let truncations = source.truncations();
        let limit = visibility.limit_unknown();
        source.ahead().expect(&source.segments());
        Self { source, visibility, next: from, at: None, truncations, limit, process: Process::current() }
    }

    /// The number of the next record that it will hand out, or pass over if it was voided.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The next record, if it is there. Does not wait.
    ///
    /// # Errors
    /// [`Error::Trimmed`] when the next record has been trimmed: there is a gap, and the follower stays where it is;
    /// [`Error::Rewound`], once, when records that it has handed out or passed were truncated;
    /// [`Error::Corrupt`] when a record fails its checks; [`Error::Io`].
    #[expect(clippy::should_implement_trait, reason = "it lends; an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        let Some((start, end)) = self.find()? else { return Ok(None) };
        self.record(start, end).map(Some)
    }

    /// As [`Self::next`], as an owned record.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_ref(&mut self) -> Result<Option<RecordRef>> {
        let found = self.find()?;
        Ok(found.map(|(start, end)| self.record_ref(start, end)))
    }

    /// As [`Self::next_timeout`], as an owned record.
    ///
    /// # Errors
    /// As [`Self::next_timeout`].
    pub fn next_ref_timeout(&mut self, timeout: Duration) -> Result<Option<RecordRef>> {
        let found = self.find_waiting(Some(timeout), Self::next_in_segment)?;
        Ok(found.map(|(start, end)| self.record_ref(start, end)))
    }

    /// The next record; waits for it up to `timeout`, and returns `None` when none has come. While it waits it sleeps: it is
    /// woken by the writer, also in another process, and looks by itself every 500 ms; every 2 ms where it cannot be woken (no `control`
    /// file that can be written), and every 5 ms or less if not on Linux.
    ///
    /// # Errors
    /// As [`Self::next`]; [`Error::InsideAppend`] when it would wait inside of a closure of
    /// [`Log::append_with`](crate::Log::append_with); [`Error::Closed`] when the [`Log`](crate::Log) that it comes from was closed or dropped, and it
    /// has had all records. One that comes from a [`LogReader`](crate::LogReader) waits for the next writer.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record<'_>>> {
        let Some((start, end)) = self.find_waiting(Some(timeout), Self::next_in_segment)? else { return Ok(None) };
        self.record(start, end).map(Some)
    }

    /// The next record; waits for it as long as it takes.
    ///
    /// # Errors
    /// As [`Self::next_timeout`].
    pub fn next_blocking(&mut self) -> Result<Record<'_>> {
        loop {
            if let Some((start, end)) = self.find_waiting(None, Self::next_in_segment)? {
                return self.record(start, end);
            }
        }
    }

    /// The frames from the next record on, in one piece: whole batches, of at most `max_bytes` unless the first is
    /// longer. Does not wait. The follower goes on after them.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Option<Frames<'_>>> {
        let run = self.find_by(|follower| follower.run_in_segment(max_bytes))?;
        Ok(run.map(|run| self.frames(&run)))
    }

    /// As [`Self::next_batch`]; waits for the next record up to `timeout`, and returns `None` when none has come.
    ///
    /// # Errors
    /// As [`Self::next_timeout`].
    pub fn next_batch_timeout(&mut self, max_bytes: usize, timeout: Duration) -> Result<Option<Frames<'_>>> {
        let run = self.find_waiting(Some(timeout), |follower| follower.run_in_segment(max_bytes))?;
        Ok(run.map(|run| self.frames(&run)))
    }

    fn frames(&self, run: &Run) -> Frames<'_> {
        self.at.as_ref().expect("a run was found in it").frames(run)
    }

    fn record_ref(&self, start: usize, end: usize) -> RecordRef {
        self.at.as_ref().expect("a frame was found in it").record_ref(start, end)
    }

    /// What it reads from.
    #[cfg(feature = "async")]
    pub(super) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source)
    }

    /// The error of a thread that cannot be started for it.
    #[cfg(feature = "async")]
    pub(super) fn thread_error(&self, source: std::io::Error) -> Error {
        let path = self.at.as_ref().map(|at| at.segment.path()).unwrap_or_default();
        Error::io("start a thread to wait for", &path, source)
    }

    fn record(&self, start: usize, end: usize) -> Result<Record<'_>> {
        self.at.as_ref().expect("a frame was found in it").record(start, end)
    }

    /// As [`Self::find_by`]; waits up to `timeout`, or for a while without one.
    fn find_waiting<T>(
        &mut self,
        timeout: Option<Duration>,
        look: impl Fn(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let source = Arc::clone(&self.source);
        let channel = match self.visibility {
            Visibility::Published => Channel::Published,
            Visibility::Durable => Channel::Durable,
        };
        for _ in 0..SPINS {
            if let Some(found) = self.find_by(&look)? {
                return Ok(Some(found));
            }
            std::hint::spin_loop();
        }
        if timeout != Some(Duration::ZERO) {
            source.check_wait()?;
        }
        loop {
            let left = deadline.map_or(WAIT_MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            // Before the look: what was appended before the end is found.
            let is_over = source.is_over();
            let mut found = None;
            source.wait_or_sleep(channel, left.min(WAIT_MAX), &mut || {
                found = self.find_by(&look)?;
                Ok(found.is_some() || source.is_over())
            })?;
            if found.is_none() {
                found = self.find_by(&look)?;
            }
            if found.is_none() && is_over {
                return Err(Error::Closed);
            }
            if found.is_some() || left.is_zero() || (deadline.is_none() && timeout.is_none()) {
                return Ok(found);
            }
        }
    }

    /// The bounds of the next record's frame, padding included; passes over it.
    fn find(&mut self) -> Result<Option<(usize, usize)>> {
        self.find_by(Self::next_in_segment)
    }

    /// What `look` finds in the segment that holds the next record.
    fn find_by<T>(&mut self, look: impl Fn(&mut Self) -> Result<Option<T>>) -> Result<Option<T>> {
        if !self.process.is_current() {
            return Err(Error::Forked);
        }
        let mut durable_before = None;
        let mut listed_anew = false;
        loop {
            if self.next > self.limit && !self.raise_limit()? {
                return Ok(None);
            }
            let next = self.next;
            let step = self.step(&look);
            // Read after the frame: a truncation is counted before anything is appended after it, so that a frame of
            // the log after it is never handed out before the follower knows of it.
            if self.source.truncations() != self.truncations {
                self.next = next;
                self.heed_truncations()?;
                continue;
            }
            match (step, durable_before) {
                (Ok(Step::Found(found)), _) => return Ok(Some(found)),
                (Ok(Step::Entered), _) => {}
                (Ok(Step::Stalled), Some(durable)) => match self.has_moved_on(durable) {
                    Ok(true) => durable_before = None,
                    Ok(false) => return Ok(None),
                    Err(error) => return Err(self.source.explain(error)),
                },
                (Ok(Step::Stalled), None) => {
                    // What is durable before the look for new segments can be found after it.
                    durable_before = Some(self.source.durable().1);
                    self.refresh(next, false)?;
                }
                // Trimmed, or truncated: the list as it is now tells.
                (Err(Error::Trimmed { .. }), _) if !listed_anew => {
                    listed_anew = true;
                    self.refresh(next, true)?;
                }
                (Err(Error::Trimmed { .. }), _) => {
                    // If it has not been trimmed by the list as it is, the next look finds it.
                    let (lsn, first) = (self.next, self.source.segments().first_lsn());
                    return if lsn < first { Err(Error::Trimmed { lsn, first }) } else { Ok(None) };
                }
                (Err(Error::Corrupt(found)), _) if FollowerPlace::is_torn(self.at.as_ref(), &*self.source, &found)? => {
                    if !self.at.as_mut().is_some_and(FollowerPlace::take_sound) {
                        return Ok(None);
                    }
                }
                (Err(error), _) => return Err(self.source.explain(error)),
            }
        }
    }

    /// Brings what is known up to date; `next` was the next record before the last look.
    fn refresh(&mut self, next: Lsn, is_stale: bool) -> Result<()> {
        self.source.refresh(is_stale)?;
        if self.source.truncations() != self.truncations {
            self.next = next;
        }
        self.heed_truncations().map(drop)
    }

    fn step<T>(&mut self, look: impl Fn(&mut Self) -> Result<Option<T>>) -> Result<Step<T>> {
        if let Some(found) = look(self)? {
            return Ok(Step::Found(found));
        }
        Ok(if self.enter_next_segment()? { Step::Entered } else { Step::Stalled })
    }

    /// Finds out how far the log is durable now, and tells whether the next record is.
    fn raise_limit(&mut self) -> Result<bool> {
        loop {
            let (durable, _) = self.source.durable();
            // After the watermark was read: a truncation that the watermark already reflects is seen here. Also for a
            // source that knows no watermark yet, and looks for it here.
            self.source.refresh(false)?;
            if !self.heed_truncations()? {
                self.limit = durable;
                return Ok(self.next <= durable);
            }
        }
    }

    /// The next record's frame, if it is in the current segment and there.
    fn next_in_segment(&mut self) -> Result<Option<(usize, usize)>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        at.read_ahead(&*self.source);
        at.next_record(&mut self.next, self.limit)
    }

    /// The frames from here on that are there, up to a batch's end; passes over them.
    fn run_in_segment(&mut self, max_bytes: usize) -> Result<Option<Run>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        at.read_ahead(&*self.source);
        let run = at.next_run(self.next, self.limit, max_bytes)?;
        if let Some(run) = &run {
            self.next = run.next;
        }
        Ok(run)
    }

    /// Goes on in the log as it is after a truncation, and tells whether there was one; an error, once, if that took
    /// back what has been handed out.
    fn heed_truncations(&mut self) -> Result<bool> {
        let truncations = self.source.truncations();
        if truncations == self.truncations {
            return Ok(false);
        }
        let replaced = self.source.replaced_since(self.truncations);
        self.truncations = truncations;
        self.at = None;
        self.limit = self.visibility.limit_unknown();
        match replaced.filter(|&to| to < self.next) {
            None => Ok(true),
            Some(to) => {
                self.next = to;
                Err(Error::Rewound { to })
            }
        }
    }

    /// Whether the log has left the place at which nothing more came. An error if it has not, and what was `durable`
    /// should be there.
    fn has_moved_on(&self, durable: Position) -> Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        if at.offset < at.checked {
            return Ok(false);
        }
        let is_missed = |durable| at.segment.position(at.offset) < durable;
        // Where segments follow, their frames tell as well.
        let is_followed = || self.source.segments().last().is_some_and(|last| last.number() > at.segment.number());
        let is_missing = is_missed(durable) || is_followed() && self.source.proven()?.is_some_and(is_missed);
        if !is_missing {
            return Ok(false);
        }
        // What is durable may be in a segment that the list did not have.
        self.source.refresh(true)?;
        if at.is_over_for(&self.source.segments()) || self.source.truncations() != self.truncations {
            return Ok(true);
        }
        if at.segment.advance(&at.region, |frontier| frontier.offset > at.offset)?.offset > at.offset {
            return Ok(true);
        }
        Err(Error::corrupt(&at.segment.path(), at.offset as u64, Some(self.next), Damage::MissingFrame))
    }

    /// Enters the segment that holds the next record, or will; false if that is the current one.
    fn enter_next_segment(&mut self) -> Result<bool> {
        let segments = self.source.segments();
        if self.at.as_ref().is_some_and(|at| !at.is_over_for(&segments)) {
            return Ok(false);
        }
        if segments.as_slice().is_empty() {
            // The log is being created.
            return Ok(false);
        }
        // Later it comes to a segment by the end of the one before, so that it has passed all that comes before.
        if self.at.is_none() && !self.source.has_published(self.next)? {
            return Ok(false);
        }
        let index = segments.find(self.next).ok_or(Error::Trimmed { lsn: self.next, first: segments.first_lsn() })?;
        let segment = &segments.as_slice()[index];
        if self.at.as_ref().is_some_and(|at| at.segment.number() == segment.number()) {
            return Ok(false);
        }
        let mut place = FollowerPlace::before(self.next, Arc::clone(segment))?;
        if self.at.is_some() {
            place.ahead_from = 0;
        }
        if let Some(left) = self.at.replace(place) {
            left.release();
        }
        Ok(true)
    }
}
