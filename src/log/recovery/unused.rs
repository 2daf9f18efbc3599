//! Which segments may have blocks that hold no frame, and never held one of theirs: those go back once the log is open.

use super::walked::Walked;
use crate::format::frame::FrameKind;
use crate::segment::SegmentInfo;

/// The byte of a segment from which on there has never been a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unused {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) start: u64,
}

/// What recovery comes across.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sealed: Vec<Unused>,
    /// The byte after the last that may have been of a frame, in the segment with the cut.
    end: u64,
}

impl Seen {
    /// A segment that is not proven durable: if it `is_whole`, as its successor says, it may have been left before its end was given
    /// back. What a truncation has cut off stays: no seal comes before that.
    pub(super) fn walked(&mut self, info: &SegmentInfo, walked: &Walked, is_whole: bool) {
        if is_whole && walked.last_kind == FrameKind::Seal {
            self.sealed.push(Unused { number: info.number, size: info.size, start: walked.place.offset as u64 });
        }
    }

    pub(super) fn cut_up_to(&mut self, end: usize) {
        self.end = end as u64;
    }

    /// Of the segments before the one with the cut.
    pub(super) fn before(&mut self, number: u64) -> Vec<Unused> {
        self.sealed.extract_if(.., |unused| unused.number < number).collect()
    }

    /// Of the one with the cut, which is `info`.
    pub(super) fn at_cut(&self, info: &SegmentInfo) -> Unused {
        Unused { number: info.number, size: info.size, start: self.end }
    }
}
