//! Appending what another log has shipped: same numbers, same bytes.

use std::ops::Range;

use super::Log;
use super::shared::Shared;
use crate::error::{Damage, Error, ReplicaFault, Result};
use crate::format::frame::{self, Frame, FrameHead, FrameKind};
use crate::format::shipment::ShipmentHeader;
use crate::format::walk::{Check, Walk};
use crate::lsn::Lsn;
use crate::read::get_ref;

impl Log {
    /// Appends records that another log has shipped, header and frames as in [`Frames`](crate::Frames), under the numbers
    /// that they have there. All of them are checked before the first is appended. Those that are here already are
    /// compared instead. Returns the numbers that were added; durable with the next sync, as after an append.
    ///
    /// The log must not be appended to by other means at the same time. Metadata slots are not shipped: a [`Wal`](crate::wal::Wal) that is
    /// opened over a replica finds no checkpoint, and recovers from the oldest record kept.
    ///
    /// # Errors
    /// [`Error::Replica`] when they are not what was shipped, when records are missing before them, when a record
    /// differs from the one that is here, or when something else has appended. With the batches before it appended:
    /// [`Error::NoSpace`], [`Error::RecordTooLarge`], [`Error::Poisoned`], [`Error::Io`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::{Follower, Frames, Log, Lsn, Options, Visibility};
    ///
    /// # log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
    /// # log.sync()?;
    /// # let other = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// let replica = unsafe { Log::open(other.path(), &Options::new()) }?;
    ///
    /// let mut follower: Follower = log.follow(Lsn(1), Visibility::Durable)?;
    /// let frames: Frames<'_> = follower.next_batch(1 << 20)?.expect("records that are durable");
    /// let sent = [&frames.header(), frames.bytes()].concat();
    ///
    /// // At the other end:
    /// let received = sent;
    /// assert_eq!(replica.append_frames(&received)?, Lsn(1)..Lsn(3));
    /// replica.sync()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append_frames(&self, shipped: &[u8]) -> Result<Range<Lsn>> {
        let _entered = self.shared.enter()?;
        let invalid = ReplicaFault::Damaged { offset: 0, damage: Damage::FrameContents };
        let (header, frames) = ShipmentHeader::split(shipped).ok_or(Error::Replica { lsn: None, fault: invalid })?;
        let first = header.first_lsn();
        check(header, frames)?;
        let next = self.next_lsn();
        if first > next {
            return Err(Error::Replica { lsn: Some(first), fault: ReplicaFault::Gap { next } });
        }
        let mut walk = Walk::new(header.layout(), Check::None, 0, first);
        while walk.place().offset < frames.len() {
            let batch = next_batch(&mut walk, frames);
            self.append_batch_frames(batch, next)?;
        }
        Ok(next..self.next_lsn())
    }

    /// Compares or appends one batch, or one record, or none.
    fn append_batch_frames(&self, batch: &[u8], next: Lsn) -> Result<()> {
        let Some(first) = records(batch).next().map(|frame| frame.lsn()) else { return Ok(()) };
        if first >= next {
            return self.shared.append_frames_at(batch, first);
        }
        let segments = self.shared.segments.load();
        for frame in records(batch) {
            if frame.lsn() < segments.first_lsn() {
                continue;
            }
            let known = get_ref(&segments, next, frame.lsn())?;
            let same = match (&known, frame.kind()) {
                (Some(known), FrameKind::Data) => known.tag() == frame.tag() && known.payload() == frame.payload(),
                (None, FrameKind::Void) => true,
                _ => false,
            };
            if !same {
                return Err(conflict(frame.lsn()));
            }
        }
        Ok(())
    }
}

fn conflict(lsn: Lsn) -> Error {
    Error::Replica { lsn: Some(lsn), fault: ReplicaFault::Conflict }
}

/// Checks all frames, without a look at the log.
fn check(header: &ShipmentHeader, frames: &[u8]) -> Result<()> {
    let mut walk = Walk::new(header.layout(), Check::Frames, 0, header.first_lsn());
    while walk.place().offset < frames.len() {
        let place = walk.place();
        let offset = (frame::HEADER_LEN + place.offset) as u64;
        let invalid = |damage| ReplicaFault::Damaged { offset, damage };
        let refused = |damage| Error::Replica { lsn: Some(place.next_lsn), fault: invalid(damage) };
        walk.step(&frames[place.offset..]).map_err(refused)?;
    }
    // A batch without an end is one that a truncation has cut: what it kept counts.
    Ok(())
}

/// The frames up to the end of the batch before which the walk is.
fn next_batch<'f>(walk: &mut Walk, frames: &'f [u8]) -> &'f [u8] {
    let start = walk.place().offset;
    loop {
        let offset = walk.place().offset;
        walk.step(&frames[offset..]).expect("checked before");
        if walk.boundary() == walk.place() || walk.place().offset == frames.len() {
            return &frames[start..walk.place().offset];
        }
    }
}

/// The head that `frame` gets here: the lag is filled in when it is published, and the last frame of a batch ends it.
fn head_of(frame: &Frame<'_>, is_last: bool) -> FrameHead {
    let flags = if is_last { 0 } else { frame::FLAG_BATCH_CONTINUES };
    FrameHead { kind: frame.kind(), flags, tag: frame.tag(), lsn: frame.lsn(), durable_lag: 0 }
}

/// The frames of a run that have a number.
fn records(run: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let frame = Frame::parse(run.get(offset..)?).ok()?;
        offset += frame.padded_len();
        Some(frame)
    })
    .filter(|frame| frame.kind().takes_lsn())
}

impl Shared {
    /// Appends the records of a batch, of which the first has number `first`.
    fn append_frames_at(&self, batch: &[u8], first: Lsn) -> Result<()> {
        let frames: Vec<Frame<'_>> = records(batch).collect();
        let len: usize = frames.iter().map(Frame::padded_len).sum();
        let max = frame::padded(frame::HEADER_LEN + self.payload_len_max() as usize);
        let count = match u32::try_from(frames.len()) {
            Ok(count) if len <= max => count,
            _ => {
                let len = (len - frame::HEADER_LEN) as u64;
                return Err(Error::RecordTooLarge { len, max: self.payload_len_max() });
            }
        };
        let mut place = self.reserve_at(len, count, first).map_err(|error| match error {
            Error::NotNext { expected, .. } => conflict(expected),
            other => other,
        })?;
        // Last first, as in a batch that is appended here.
        let Some((start, rest)) = frames.split_first() else { return Ok(()) };
        for (frame, index) in rest.iter().zip(1..count).rev() {
            let len_before = place.len() - frame.padded_len();
            let (before, own) = place.split(len_before, index);
            self.publish(own, head_of(frame, index + 1 == count), frame.payload());
            place = before;
        }
        self.publish(place, head_of(start, count == 1), start.payload());
        self.unless_lost(())
    }
}
