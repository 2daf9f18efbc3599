//! Walking the frames of one segment in order.

use super::frame::{self, Frame, FrameKind, Summer};
use super::segment_header::Layout;
use crate::error::Damage;
use crate::lsn::Lsn;

/// Whether frames are checked as they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Everything that can be checked.
    Full,
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

/// A walk from one frame to the next.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    layout: Layout,
    summer: Summer,
    check: Check,
    place: Place,
    /// The last place that no batch straddles.
    boundary: Place,
}

impl Walk {
    /// From `offset`, where the record `next_lsn` or a frame in front of it starts.
    pub(crate) fn new(layout: Layout, check: Check, offset: usize, next_lsn: Lsn) -> Self {
        let place = Place { offset, next_lsn, last_crc: 0 };
        Self { layout, summer: Summer::new(), check, place, boundary: place }
    }

    /// Passes over the frame at the start of `rest`, the bytes from the current offset on.
    #[inline]
    pub(crate) fn step<'a>(&mut self, rest: &'a [u8]) -> Result<Frame<'a>, Damage> {
        let frame = match self.check {
            Check::Full => Frame::parse_checked(rest, self.layout.salt, &self.summer, self.place.next_lsn)?,
            Check::None => Frame::parse(rest)?,
        };
        let kind = frame.kind();
        self.place.offset += frame.padded_len();
        self.place.last_crc = frame.crc();
        if kind.takes_lsn() {
            self.place.next_lsn = self.place.next_lsn.next();
        }
        // The log's own notes never stand inside a batch; one there shows that the batch was left unfinished.
        if !frame.batch_continues() || !matches!(kind, FrameKind::Data | FrameKind::Void) {
            self.boundary = self.place;
        }
        Ok(frame)
    }

    /// Behind the last frame passed.
    #[inline]
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Behind the last frame passed that ends a batch or is in none.
    #[inline]
    pub(crate) fn boundary(&self) -> Place {
        self.boundary
    }
}
