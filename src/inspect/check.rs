//! Checking one segment whose bytes come piece by piece.

use std::ops::Range;
use std::path::Path;

use crate::error::{Damage, Error, Result};
use crate::format::frame::{Frame, FrameKind, HEADER_LEN, padded};
use crate::format::link::Link;
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::walk::{Check, Walk, may_be_cut_off};
use crate::lsn::Lsn;
use crate::read::SegmentTip;

/// Memory that is reserved for the rest of a frame: a damaged one may say that it is longer.
const RESERVED_MAX: usize = 16 << 20;

/// A check of a segment whose bytes come in pieces, from its first one on: each frame is checked once all of it has come. It
/// keeps the bytes of one frame at most. A clone goes on from the same place.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::inspect::SegmentCheck;
/// use mapwal::{Error, Lsn};
///
/// log.append(1, b"to be archived")?;
/// log.rotate()?;
/// log.sync()?; // what is sealed counts as such once it is durable
/// let sealed = &log.sealed(0)?[0];
/// let mut check = SegmentCheck::new();
/// for piece in sealed.bytes().chunks(100) {
///     check.push(piece)?;
/// }
/// check.expect_end(sealed.next_lsn(), Some(sealed.tip().checksum))?;
/// assert_eq!((check.first_lsn(), check.number(), check.offset()), (Some(Lsn(1)), Some(1), sealed.tip().end_bytes));
/// assert_eq!((check.file_len_bytes(), check.predecessor()), (Some(64 << 10), None)); // it is the first one
/// println!("of log {:032x}", check.log_id().expect("the header has come"));
///
/// let mut short = SegmentCheck::new();
/// short.push(&sealed.bytes()[..sealed.bytes().len() - 1])?;
/// assert!(matches!(short.expect_end(sealed.next_lsn(), None), Err(Error::Corrupt(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct SegmentCheck {
    /// What has come of the frame at the offset, or of the header.
    pending: Vec<u8>,
    begun: Option<Begun>,
    digest: Option<(Range<Lsn>, RecordDigest)>,
}

/// What records have, whatever segments they are in: their numbers, tags and payloads. Those of records that come after each other are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordDigest {
    /// How many they are.
    pub records: u64,
    /// The sum of a checksum of each, modulo 2^64.
    pub sum: u64,
}

impl std::ops::Add for RecordDigest {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { records: self.records.saturating_add(other.records), sum: self.sum.wrapping_add(other.sum) }
    }
}

impl RecordDigest {
    fn of(frame: &Frame<'_>) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&frame.lsn().0.to_le_bytes());
        hasher.update(&frame.tag().to_le_bytes());
        hasher.update(frame.payload());
        Self { records: 1, sum: hasher.finalize().into() }
    }
}

/// What the header and the first frame say, and how far the frames have been checked.
#[derive(Clone)]
struct Begun {
    log_id: u128,
    number: u64,
    size: u64,
    /// Of the first frame: the segment's first record, and the end of the segment before.
    first: Option<(Lsn, Option<SegmentTip>)>,
    layout: Layout,
    walk: Walk,
}

impl SegmentCheck {
    /// Of a segment of which nothing has come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which also takes the digest of the records with these numbers.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::Lsn;
    /// use mapwal::inspect::{RecordDigest, SegmentCheck};
    ///
    /// log.append(1, b"a")?;
    /// log.append(1, b"b")?;
    /// log.rotate()?;
    /// log.sync()?;
    /// let digest = |lsns: std::ops::Range<Lsn>| -> mapwal::Result<RecordDigest> {
    ///     let mut check = SegmentCheck::of_records(lsns);
    ///     check.push(log.sealed(0)?[0].bytes())?;
    ///     Ok(check.digest())
    /// };
    /// assert_eq!(digest(Lsn(1)..Lsn(3))?, digest(Lsn(1)..Lsn(2))? + digest(Lsn(2)..Lsn(3))?);
    /// assert_eq!(digest(Lsn(2)..Lsn(9))?.records, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of_records(lsns: Range<Lsn>) -> Self {
        Self { digest: Some((lsns, RecordDigest::default())), ..Self::default() }
    }

    /// That of the records which were asked for, as far as they have come.
    #[must_use]
    pub fn digest(&self) -> RecordDigest {
        self.digest.as_ref().map_or_else(RecordDigest::default, |(_, digest)| *digest)
    }

    /// Checks the frames that `bytes` complete; they come after all that was pushed before.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format), or [`Error::Corrupt`](crate::Error::Corrupt) with the offset in the segment of the first frame that is not sound, and an
    /// empty path. The check does not go on after that.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !self.pending.is_empty() && !bytes.is_empty() {
            // No more than completes it.
            let (more, rest) = bytes.split_at(self.lacking(&self.pending).min(bytes.len()));
            bytes = rest;
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(more);
            let passed = self.pass(&pending)?;
            if passed < pending.len() {
                pending.drain(..passed);
                self.pending = pending;
            }
        }
        let passed = self.pass(bytes)?;
        if passed < bytes.len() {
            let rest = &bytes[passed..];
            let len = rest.len() + self.lacking(rest).min(RESERVED_MAX);
            self.pending = Vec::with_capacity(len);
            self.pending.extend_from_slice(rest);
        }
        Ok(())
    }

    /// How many bytes have to follow `rest`, so that its first frame is whole, or more of that is known.
    fn lacking(&self, rest: &[u8]) -> usize {
        if self.begun.is_none() {
            return segment_header::LEN - rest.len();
        }
        match Frame::parse(rest) {
            Err(Damage::FrameLength(len)) => padded(len as usize).saturating_sub(rest.len()).max(1),
            _ => HEADER_LEN.saturating_sub(rest.len()).max(1),
        }
    }

    /// An error if the segment does not end between two frames, or not with the record before `next_lsn`, or, where that is given, not
    /// with a frame of this `checksum`.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn expect_end(&self, next_lsn: Lsn, checksum: Option<u32>) -> Result<()> {
        let Some((begun, place)) = self.begun.as_ref().map(|begun| (begun, begun.walk.place())) else {
            let (expected, found) = (segment_header::LEN as u64, self.pending.len() as u64);
            return Err(corrupt(0, None, Damage::FileLength { expected, found }));
        };
        let at_end = |damage| corrupt(place.offset, Some(place.next_lsn).filter(|_| begun.first.is_some()), damage);
        if begun.first.is_none() {
            return Err(at_end(Damage::MissingFrame));
        }
        if !self.pending.is_empty() {
            return Err(at_end(Frame::parse(&self.pending).err().unwrap_or(Damage::MissingFrame)));
        }
        if place.next_lsn != next_lsn {
            return Err(at_end(Damage::FrameLsn { expected: next_lsn, found: place.next_lsn }));
        }
        match checksum {
            Some(expected) if expected != place.last_crc => {
                Err(at_end(Damage::Checksum { expected, found: place.last_crc }))
            }
            _ => Ok(()),
        }
    }

    /// Byte offset after the last frame that has been checked.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.begun.as_ref().map_or(0, |begun| begun.walk.place().offset as u64)
    }

    /// The record that comes next; `None` until the first frame has been checked.
    #[must_use]
    pub fn next_lsn(&self) -> Option<Lsn> {
        self.begun.as_ref().filter(|begun| begun.first.is_some()).map(|begun| begun.walk.place().next_lsn)
    }

    /// The number of the segment's first record; `None` until its first frame has been checked.
    #[must_use]
    pub fn first_lsn(&self) -> Option<Lsn> {
        self.begun.as_ref()?.first.map(|(lsn, _)| lsn)
    }

    /// The tip of the segment before it, as its first frame says.
    #[must_use]
    pub fn predecessor(&self) -> Option<SegmentTip> {
        self.begun.as_ref()?.first?.1
    }

    /// The identity of the log that it belongs to; `None` until the header has come.
    #[must_use]
    pub fn log_id(&self) -> Option<u128> {
        self.begun.as_ref().map(|begun| begun.log_id)
    }

    /// The length of its file in bytes; `None` until the header has come.
    #[must_use]
    pub fn file_len_bytes(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.size)
    }

    /// Its number; `None` until the header has come.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.number)
    }

    /// Passes over what is whole at the start of `bytes`; how many bytes that is.
    fn pass(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut passed = 0;
        if self.begun.is_none() {
            let Some((header, _)) = bytes.split_first_chunk::<{ segment_header::LEN }>() else { return Ok(0) };
            let header = SegmentHeader::parse(header).map_err(|fault| fault.into_error(Path::new("")))?;
            let layout = header.layout();
            let walk = Walk::new(layout, Check::Full, segment_header::LEN, Lsn::ZERO);
            let (log_id, number, size) = (header.log_id(), header.number(), header.segment_size());
            self.begun = Some(Begun { log_id, number, size, layout, first: None, walk });
            passed = segment_header::LEN;
        }
        let begun = self.begun.as_mut().expect("it has begun");
        while passed < bytes.len() {
            if self.digest.is_none() {
                passed += begun.pass_records(&bytes[passed..]);
            }
            match begun.pass_frame(&bytes[passed..], &mut self.digest)? {
                Some(len) => passed += len,
                None => break,
            }
        }
        Ok(passed)
    }
}

impl Begun {
    /// Passes over the records at the start of `rest` for which nothing has to be judged; how many bytes that is.
    fn pass_records(&mut self, rest: &[u8]) -> usize {
        let begin = self.walk.place().offset;
        self.walk.pass_records(rest, begin, |_| false, |_, _| {});
        self.walk.place().offset - begin
    }

    /// The length of the frame at the start of `rest`; `None` if more of it has to come.
    fn pass_frame(&mut self, rest: &[u8], digest: &mut Option<(Range<Lsn>, RecordDigest)>) -> Result<Option<usize>> {
        if self.first.is_none() {
            // The first frame's own number is the segment's first.
            match Frame::parse(rest) {
                Ok(frame) => self.walk = Walk::new(self.layout, Check::Full, segment_header::LEN, frame.lsn()),
                Err(damage) => return self.judge(damage, rest.len()),
            }
        }
        let frame = match self.walk.step(rest) {
            Ok(frame) => frame,
            Err(damage) => return self.judge(damage, rest.len()),
        };
        if self.first.is_none() {
            let link = Link::parse(frame.payload(), self.layout.version);
            let link = link.map_err(|damage| corrupt(segment_header::LEN, None, damage))?;
            self.first = Some((frame.lsn(), SegmentTip::before(&link)));
        }
        if let Some((lsns, digest)) = digest
            && frame.kind() == FrameKind::Data
            && lsns.contains(&frame.lsn())
        {
            *digest = *digest + RecordDigest::of(&frame);
        }
        Ok(Some(frame.padded_len()))
    }

    /// `None` if no more is wrong than that the frame goes on after the `available` bytes.
    fn judge(&self, damage: Damage, available: usize) -> Result<Option<usize>> {
        let place = self.walk.place();
        let has_room = match damage {
            Damage::FrameLength(len) => place.offset as u64 + u64::from(len) <= self.size,
            _ => true,
        };
        if has_room && may_be_cut_off(&damage, available) {
            return Ok(None);
        }
        Err(corrupt(place.offset, Some(place.next_lsn).filter(|_| self.first.is_some()), damage))
    }
}

fn corrupt(offset: usize, lsn: Option<Lsn>, damage: Damage) -> Error {
    Error::corrupt(Path::new(""), offset as u64, lsn, damage)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::format::frame::{FrameHead, FrameKind};

    /// A segment with records, the first of which has number 1, and their offsets.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let header = SegmentHeader::new(7, 1, 64 << 10, 0);
        let salt = header.layout().salt;
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(FrameHead::control(FrameKind::Link, Lsn(1), 0).encode(salt, &Link::default().encode()));
        let mut offsets = Vec::new();
        for record in 1..=40_u8 {
            let head = FrameHead { kind: FrameKind::Data, flags: 0, tag: 0, lsn: Lsn(record.into()), durable_lag: 0 };
            offsets.push(bytes.len());
            bytes.extend(head.encode(salt, &vec![record; usize::from(record) * 7]));
        }
        (bytes, offsets)
    }

    #[test]
    fn the_first_record_that_is_not_sound_is_named_wherever_the_pieces_end() {
        let (good, offsets) = segment();
        for piece in [1, 24, 100, 1000, good.len()] {
            let mut check = SegmentCheck::new();
            good.chunks(piece).for_each(|piece| check.push(piece).expect("it is sound"));
            check.expect_end(Lsn(41), None).expect("all of it has come");
            assert_eq!(check.offset(), good.len() as u64);
            for (record, &offset) in (1..).zip(&offsets) {
                let mut bytes = good.clone();
                bytes[offset + HEADER_LEN] ^= 1;
                let mut check = SegmentCheck::new();
                let checked = bytes.chunks(piece).try_for_each(|piece| check.push(piece));
                let Err(Error::Corrupt(corruption)) = checked else { panic!("record {record} is damaged") };
                assert_eq!((corruption.offset, corruption.lsn), (offset as u64, Some(Lsn(record))));
            }
        }
    }
}
