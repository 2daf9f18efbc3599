//! What recovery has found in one segment.

use crate::error::Damage;
use crate::format::Version;
use crate::format::frame::{Frame, FrameKind};
use crate::format::link::{self, Close, MetaSlots, Seal, SegmentEnd};
use crate::format::tally::Tally;
use crate::format::walk::Place;

/// What walking one segment found.
#[derive(Debug)]
pub(super) struct Walked {
    /// After the last frame that counts, as far as this segment knows.
    pub(super) place: Place,
    /// Byte offset after the last good frame: after `place` come those of a batch that is not all there.
    pub(super) good_end: usize,
    /// What is wrong there.
    pub(super) damage: Damage,
    pub(super) last_kind: FrameKind,
    /// Byte offset of the last good frame.
    pub(super) last_start: usize,
    pub(super) meta: MetaSlots,
    /// The segment that a seal names.
    pub(super) sealed_into: Option<u64>,
    pub(super) only_link: bool,
    /// Zeros follow up to the end of the page in which it ends.
    pub(super) ends_clear: bool,
    /// What its frames come to.
    pub(super) tally: Option<Tally>,
}

impl Walked {
    pub(super) fn end(&self) -> SegmentEnd {
        let Place { offset, next_lsn, last_crc } = self.place;
        SegmentEnd { offset: offset as u64, next_lsn, crc: last_crc }
    }

    /// Takes account of a control frame, which the walk has checked.
    pub(super) fn note(&mut self, frame: &Frame<'_>, version: Version) -> Result<(), Damage> {
        match frame.kind() {
            FrameKind::Meta => {
                let (slot, value) = link::parse_meta(frame.payload(), version)?;
                self.meta.set(slot, value);
            }
            FrameKind::Seal => self.sealed_into = Some(Seal::parse(frame.payload(), version)?.next),
            FrameKind::Close => {
                if let Some(meta) = Close::parse(frame.payload(), version)?.meta {
                    self.meta = meta;
                }
            }
            FrameKind::Link | FrameKind::Data | FrameKind::Void | FrameKind::Truncate => {}
        }
        self.only_link &= frame.kind() == FrameKind::Link;
        Ok(())
    }
}
