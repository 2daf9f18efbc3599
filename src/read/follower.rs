//! A reader that goes on as the log grows.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CHUNK_BYTES;
use super::record::{Record, RecordRef};
use super::ship::Frames;
use crate::error::{Damage, Error, Result};
use crate::format::frame::FrameKind;
use crate::format::position::Position;
use crate::format::segment_header;
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::control::Channel;
use crate::segment::{Segment, Segments};

/// How often a follower looks before it waits: a few microseconds.
const SPINS: u32 = 50;
/// The longest wait before it looks at the log again, in case that whoever should wake it is gone.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Which records a [`Follower`] hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All that readers can see. A power failure may still take them back.
    Published,
    /// Those known to be durable: no crash takes them back.
    Durable,
}

/// Where a follower gets its segments: the log of this process, or the directory of another's.
pub(crate) trait Source: Debug + Send + Sync {
    /// The segments that count, as known.
    fn segments(&self) -> Arc<Segments>;

    /// Finds out what has changed since, as far as this source does not know by itself.
    fn refresh(&self) -> Result<()>;

    /// Waits until something happens on `channel`, at most for `timeout`, and not at all if `ready`.
    fn wait(&self, channel: Channel, timeout: Duration, ready: &mut dyn FnMut() -> Result<bool>) -> Result<()>;

    /// How often a suffix of the log has been replaced, as far as is known.
    fn truncations(&self) -> u64;

    /// The lowest number replaced by any truncation behind the first `seen`.
    fn replaced_since(&self, seen: u64) -> Option<Lsn>;

    /// The last record known to be durable, and where its segment was durable to.
    fn durable(&self) -> (Lsn, Position);
}

/// Follows a log from one record to the next, over rotations, without a gap and without a repeat.
#[derive(Debug)]
pub struct Follower {
    source: Arc<dyn Source>,
    visibility: Visibility,
    /// The next record to be handed out.
    next: Lsn,
    at: Option<At>,
    /// The truncations that it has taken account of.
    truncations: u64,
    /// The last record that may be handed out: known to be durable, in the log as it was after `truncations`.
    limit: Lsn,
}

/// What came of one look for the next record.
enum Step<T> {
    Found(T),
    /// The segment before is done with.
    Entered,
    /// There is nothing more, as far as is known.
    Stalled,
}

/// Frames in a row, by their offsets in the segment and their numbers.
struct Run {
    start: usize,
    end: usize,
    first: Lsn,
    next: Lsn,
}

/// Where a follower is.
#[derive(Debug)]
struct At {
    segment: Arc<Segment>,
    region: Arc<Region>,
    offset: usize,
    /// Byte offset up to which frames have been checked.
    checked: usize,
}

impl Follower {
    pub(crate) fn new(source: Arc<dyn Source>, from: Lsn, visibility: Visibility) -> Self {
        let truncations = source.truncations();
        let limit = limit_unknown(visibility);
        Self { source, visibility, next: from, at: None, truncations, limit }
    }

    /// The number of the next record that it will hand out, or pass over if it was given up.
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
        let Some((start, end)) = self.find()? else { return Ok(None) };
        let at = self.at.as_ref().expect("a frame was found in it");
        Ok(Some(RecordRef::new(Arc::clone(&at.region), start, end - start)))
    }

    /// The next record; waits for it up to `timeout`, and returns `None` when none has come. While it waits it uses no
    /// processor: it is woken by the writer, also in another process.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record<'_>>> {
        let Some((start, end)) = self.find_waiting(Some(timeout))? else { return Ok(None) };
        self.record(start, end).map(Some)
    }

    /// The next record; waits for it as long as it takes.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_blocking(&mut self) -> Result<Record<'_>> {
        loop {
            if let Some((start, end)) = self.find_waiting(None)? {
                return self.record(start, end);
            }
        }
    }

    /// The frames from the next record on, in one piece: whole batches, of at most `max_bytes` unless the first is longer.
    /// Does not wait. The follower goes on behind them.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Option<Frames<'_>>> {
        let Some(run) = self.find_by(|follower| follower.run_in_segment(max_bytes))? else {
            return Ok(None);
        };
        let at = self.at.as_ref().expect("a run was found in it");
        let bytes = at.region.bytes(run.start..run.end).expect("checked frames are published");
        Ok(Some(Frames::new(&at.segment, run.start, bytes, run.first, run.next)))
    }

    fn record(&self, start: usize, end: usize) -> Result<Record<'_>> {
        let at = self.at.as_ref().expect("a frame was found in it");
        let bytes = at.region.bytes(0..end).expect("checked frames are published");
        Ok(Record::new(at.segment.frame_at(bytes, start)?))
    }

    /// As [`Self::find`]; waits up to `timeout`, or for a while without one.
    fn find_waiting(&mut self, timeout: Option<Duration>) -> Result<Option<(usize, usize)>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let source = Arc::clone(&self.source);
        let channel = match self.visibility {
            Visibility::Published => Channel::Published,
            Visibility::Durable => Channel::Durable,
        };
        for _ in 0..SPINS {
            if let Some(frame) = self.find()? {
                return Ok(Some(frame));
            }
            std::hint::spin_loop();
        }
        loop {
            let left = deadline.map_or(WAIT_MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            let mut found = None;
            source.wait(channel, left.min(WAIT_MAX), &mut || {
                found = self.find()?;
                Ok(found.is_some())
            })?;
            if found.is_none() {
                found = self.find()?;
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
        let mut durable_before = None;
        loop {
            if self.next > self.limit && !self.raise_limit()? {
                return Ok(None);
            }
            let next = self.next;
            let step = self.step(&look);
            // Looked at behind the frame: a truncation is counted before anything is appended behind it, so that a frame
            // of the log after it is never handed out before it has been heeded.
            if self.source.truncations() != self.truncations {
                self.next = next;
                self.heed_truncations()?;
                continue;
            }
            match (step?, durable_before) {
                (Step::Found(found), _) => return Ok(Some(found)),
                (Step::Entered, _) => {}
                (Step::Stalled, Some(durable)) => return self.check_stall(durable).map(|()| None),
                (Step::Stalled, None) => {
                    // What is durable before the look for new segments can be found after it.
                    durable_before = Some(self.source.durable().1);
                    self.source.refresh()?;
                    if self.source.truncations() != self.truncations {
                        self.next = next;
                    }
                    self.heed_truncations()?;
                }
            }
        }
    }

    fn step<T>(&mut self, look: impl Fn(&mut Self) -> Result<Option<T>>) -> Result<Step<T>> {
        if let Some(found) = look(self)? {
            return Ok(Step::Found(found));
        }
        Ok(if self.go_on()? { Step::Entered } else { Step::Stalled })
    }

    /// Finds out how far the log is durable now, and tells whether the next record is.
    fn raise_limit(&mut self) -> Result<bool> {
        loop {
            let (durable, _) = self.source.durable();
            // Behind the watermark: what it says of the log after a truncation shows after that only. Also for a source
            // that knows no watermark yet, and looks for it here.
            self.source.refresh()?;
            if !self.heed_truncations()? {
                self.limit = durable;
                return Ok(self.next <= durable);
            }
        }
    }

    /// The next record's frame, if it is in the current segment and there.
    fn next_in_segment(&mut self) -> Result<Option<(usize, usize)>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        loop {
            if at.offset >= at.checked {
                at.checked = at.segment.readable_from(&at.region, at.offset, CHUNK_BYTES)?;
                if at.offset >= at.checked {
                    return Ok(None);
                }
            }
            let bytes = at.region.bytes(0..at.checked).expect("checked frames are published");
            let frame = at.segment.frame_at(bytes, at.offset)?;
            if frame.kind().takes_lsn() && frame.lsn() > self.limit {
                return Ok(None);
            }
            let start = at.offset;
            at.offset += frame.padded_len();
            // Before the one wanted stand those that were published since it was asked for.
            if !frame.kind().takes_lsn() || frame.lsn() < self.next {
                continue;
            }
            self.next = frame.lsn().next();
            if frame.kind() == FrameKind::Data {
                return Ok(Some((start, at.offset)));
            }
        }
    }

    /// The frames from here on that are there, up to a batch's end; passes over them.
    fn run_in_segment(&mut self, max_bytes: usize) -> Result<Option<Run>> {
        let first = self.next;
        let Some(at) = &mut self.at else { return Ok(None) };
        at.checked = at.segment.readable_from(&at.region, at.offset, max_bytes.max(CHUNK_BYTES))?;
        let bytes = at.region.bytes(0..at.checked).expect("checked frames are published");
        let mut run = Run { start: at.offset, end: at.offset, first, next: first };
        let (mut offset, mut next) = (run.end, run.next);
        while offset < at.checked {
            let frame = at.segment.frame_at(bytes, offset)?;
            offset += frame.padded_len();
            if frame.kind().takes_lsn() {
                if frame.lsn() > self.limit {
                    break;
                }
                next = frame.lsn().next();
            }
            let is_full = offset - run.start > max_bytes && run.next > first;
            if is_full {
                break;
            }
            if !frame.batch_continues() {
                (run.end, run.next) = (offset, next);
            }
        }
        if run.next == first {
            // Nothing but the log's own notes: they are passed over.
            at.offset = run.end;
            return Ok(None);
        }
        (at.offset, self.next) = (run.end, run.next);
        Ok(Some(run))
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
        self.limit = limit_unknown(self.visibility);
        match replaced.filter(|&to| to < self.next) {
            None => Ok(true),
            Some(to) => {
                self.next = to;
                Err(Error::Rewound { to })
            }
        }
    }

    /// An error if nothing comes in front of what was durable.
    fn check_stall(&self, durable: Position) -> Result<()> {
        let Some(at) = &self.at else { return Ok(()) };
        let stalled = at.offset >= at.checked && at.segment.position(at.offset) < durable;
        if stalled && at.segment.advance(&at.region, |f| f.offset > at.offset)?.offset <= at.offset {
            // Unless the segment was replaced, and what is durable stands in another.
            self.source.refresh()?;
            if self.source.truncations() != self.truncations {
                return Ok(());
            }
            let path = at.segment.path();
            return Err(Error::corrupt(&path, at.offset as u64, Some(self.next), Damage::MissingFrame));
        }
        Ok(())
    }

    /// Enters the segment that holds the next record, or will; false if that is the current one.
    fn go_on(&mut self) -> Result<bool> {
        if self.at.as_ref().is_some_and(|at| !at.segment.ends_by(at.offset)) {
            return Ok(false);
        }
        let segments = self.source.segments();
        if segments.as_slice().is_empty() {
            // Somebody is just creating the log.
            return Ok(false);
        }
        let index = segments.find(self.next).ok_or(Error::Trimmed { lsn: self.next, first: segments.first_lsn() })?;
        let segment = Arc::clone(&segments.as_slice()[index]);
        if self.at.as_ref().is_some_and(|at| at.segment.number() == segment.number()) {
            return Ok(false);
        }
        let region = segment.region()?;
        let offset = if self.next == segment.base_lsn() {
            segment_header::LEN
        } else {
            match segment.locate(&region, self.next)? {
                Some(offset) => offset,
                None => segment.frontier().offset,
            }
        };
        self.at = Some(At { segment, region, offset, checked: 0 });
        Ok(true)
    }
}

/// How far a follower may go as long as it does not know how far the log is durable.
fn limit_unknown(visibility: Visibility) -> Lsn {
    match visibility {
        Visibility::Published => Lsn(u64::MAX),
        Visibility::Durable => Lsn::ZERO,
    }
}
