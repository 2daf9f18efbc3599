//! A log that ends with a seal, and the segment that the seal names.

use std::sync::Arc;

use crate::error::{Damage, Error, Result};
use crate::format::link::Seal;
use crate::format::name;
use crate::segment::{Segment, Segments};

/// The newest segment, if it is known to end with a seal.
pub(super) struct SealedTip {
    segment: Arc<Segment>,
    named: u64,
}

impl SealedTip {
    pub(super) fn of(segments: &Segments) -> Option<Self> {
        let segment = Arc::clone(segments.last()?);
        let named = segment.sealed_into().filter(|_| segment.end().is_none())?;
        Some(Self { segment, named })
    }

    pub(super) fn number(&self) -> u64 {
        self.segment.number()
    }

    /// An error if the segment named is missing. `active` is the newest that the control page knows of.
    pub(super) fn check(&self, is_archive: bool, active: Option<u64>, is_there: impl Fn(u64) -> bool) -> Result<()> {
        let version = self.segment.info().layout.version;
        if !Seal::has_successor(version, is_archive, self.named, active) || is_there(self.named) {
            return Ok(());
        }
        let path = self.segment.path().with_file_name(name::segment(self.named));
        let next_lsn = self.segment.lsn_at(self.segment.frontier());
        Err(Error::corrupt(&path, 0, Some(next_lsn), Damage::MissingSegment { referrer: self.number() }))
    }
}
