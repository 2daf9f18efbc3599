//! Walking the frames of one segment in order.

use super::frame::{self, Frame, FrameHasher, FrameKind};
use super::link::{self, Close, Link, Seal, SegmentEnd};
use super::segment_header::{self, Layout};
use super::tally::Tally;
use crate::error::Damage;
use crate::lsn::Lsn;

/// Whether frames are checked as they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Everything that can be checked: each frame, and which may follow which.
    Full,
    /// Each frame by itself.
    Frames,
    /// Nothing: this process wrote the frames, or has checked them before.
    None,
}

/// Whether a frame of which `available` bytes were given may be a good one that only reaches beyond them.
pub(crate) fn may_be_cut_off(damage: &Damage, available: usize) -> bool {
    match damage {
        Damage::MissingFrame => available < frame::HEADER_LEN,
        Damage::FrameLength(len) => available < frame::padded(*len as usize),
        _ => false,
    }
}

/// A place between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Byte offset in the segment.
    pub(crate) offset: usize,
    /// The number of the next record.
    pub(crate) next_lsn: Lsn,
    /// The checksum of the frame before; meaningless at the start of a walk.
    pub(crate) last_crc: u32,
}

impl Place {
    /// What is wrong with frames that end here, at the offset of `end`, where a segment should end.
    pub(crate) fn damage_at(&self, end: SegmentEnd) -> Option<Damage> {
        if self.next_lsn != end.next_lsn {
            return Some(Damage::FrameLsn { expected: end.next_lsn, found: self.next_lsn });
        }
        (self.last_crc != end.crc).then_some(Damage::Checksum { expected: end.crc, found: self.last_crc })
    }
}

/// A walk from one frame to the next.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    layout: Layout,
    hasher: FrameHasher,
    check: Check,
    place: Place,
    /// The last place that no batch straddles.
    boundary: Place,
    /// The frame before, if the walk has passed one.
    before: Option<FrameKind>,
    /// What the frames come to, if the walk checks all of them from the first on.
    tally: Option<Tally>,
}

impl Walk {
    /// From `offset`, where the record `next_lsn` or a control frame before it starts.
    pub(crate) fn new(layout: Layout, check: Check, offset: usize, next_lsn: Lsn) -> Self {
        let place = Place { offset, next_lsn, last_crc: 0 };
        let tally = (check == Check::Full && offset == segment_header::LEN).then_some(Tally::START);
        Self { layout, hasher: FrameHasher::new(), check, place, boundary: place, before: None, tally }
    }

    /// Passes over the frame at the start of `rest`, the bytes from the current offset on.
    #[inline]
    pub(crate) fn step<'a>(&mut self, rest: &'a [u8]) -> Result<Frame<'a>, Damage> {
        let frame = match self.check {
            Check::Full | Check::Frames => {
                Frame::parse_checked(rest, self.layout.salt, &self.hasher, self.place.next_lsn)?
            }
            Check::None => Frame::parse(rest)?,
        };
        let kind = frame.kind();
        if self.check == Check::Full {
            self.check_place(&frame)?;
            if let Some(tally) = &mut self.tally {
                tally.pass(&frame);
            }
        }
        self.place.offset += frame.padded_len();
        self.place.last_crc = frame.crc();
        if kind.takes_lsn() {
            self.place.next_lsn = self.place.next_lsn.next();
        }
        // A control frame is never inside a batch; one there shows that the batch was left unfinished.
        if !frame.batch_continues() || !matches!(kind, FrameKind::Data | FrameKind::Void) {
            self.boundary = self.place;
        }
        Ok(frame)
    }

    /// Whether `frame` may be here, and has the form of its kind.
    #[inline]
    fn check_place(&mut self, frame: &Frame<'_>) -> Result<(), Damage> {
        let kind = frame.kind();
        let is_first = self.place.offset == segment_header::LEN;
        if is_first != (kind == FrameKind::Link) || self.before == Some(FrameKind::Seal) {
            return Err(Damage::FrameKind(kind as u8));
        }
        if !kind.takes_lsn() {
            self.check_control_frame(frame)?;
        }
        self.before = Some(kind);
        Ok(())
    }

    /// As [`Self::check_place`], for a control frame.
    fn check_control_frame(&mut self, frame: &Frame<'_>) -> Result<(), Damage> {
        let (kind, payload, version) = (frame.kind(), frame.payload(), self.layout.version);
        if self.boundary != self.place {
            // Frames of a batch follow each other.
            return Err(Damage::FrameKind(kind as u8));
        }
        let stated = match kind {
            FrameKind::Link => Link::parse(payload, version).map(|_| None)?,
            FrameKind::Truncate => self.check_truncation(frame).map(|()| None)?,
            FrameKind::Meta => link::parse_meta(payload, version).map(|_| None)?,
            FrameKind::Seal => Seal::parse(payload, version)?.tally,
            FrameKind::Close => Close::parse(payload, version)?.tally,
            FrameKind::Data | FrameKind::Void => None,
        };
        match (stated, self.tally) {
            (Some(stated), Some(found)) if stated != found => Err(Damage::SegmentSum),
            _ => Ok(()),
        }
    }

    /// Whether a truncation may be here: after the link, which a walk that begins with it cannot tell, and with the
    /// number before the segment's first record.
    fn check_truncation(&self, frame: &Frame<'_>) -> Result<(), Damage> {
        if self.before.is_some_and(|before| before != FrameKind::Link) {
            return Err(Damage::FrameKind(FrameKind::Truncate as u8));
        }
        let last_kept = link::parse_number(frame.payload())?;
        if last_kept == frame.lsn().previous().0 { Ok(()) } else { Err(Damage::FrameContents) }
    }

    /// What the frames passed come to; `None` if they have not all been checked from the first on.
    pub(crate) fn tally(&self) -> Option<Tally> {
        self.tally
    }

    /// After the last frame passed.
    #[inline]
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// After the last frame passed that ends a batch or is in none.
    #[inline]
    pub(crate) fn boundary(&self) -> Place {
        self.boundary
    }
}
