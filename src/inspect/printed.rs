//! What a log line says of a log that is looked at: how much there is of each, and not the lists.

use std::fmt::{Debug, Formatter, Result};

use super::{Inspection, Remains, SegmentCheck, VerifyReport};

impl Debug for Inspection {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Inspection");
        out.field("directory", &self.storage.path()).field("segments", &self.segments().len());
        out.field("faults", &self.faults().count()).finish_non_exhaustive()
    }
}

impl Debug for Remains {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Remains");
        out.field("segments", &self.segments().len()).field("copies", &self.copies().len());
        out.field("lost_beginning", &self.lost_beginning()).finish_non_exhaustive()
    }
}

impl Debug for SegmentCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("SegmentCheck");
        out.field("number", &self.number()).field("offset", &self.offset());
        out.field("next_lsn", &self.next_lsn()).finish_non_exhaustive()
    }
}

impl Debug for VerifyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("VerifyReport");
        out.field("segments", &self.segments.len()).field("records", &self.records());
        out.field("torn_bytes", &self.torn_bytes()).field("damage", &self.damage.len());
        out.field("first_damage", &self.damage.first()).field("closed", &self.closed).finish_non_exhaustive()
    }
}
