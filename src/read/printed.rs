//! What a log line says of each reader: where it is, never what it holds.

use std::fmt::{Debug, Formatter, Result};

use super::archivable::{DurablePrefix, SealedSegment};
use super::follower::Follower;
use super::reader::LogReader;
use super::scan::SegmentScan;
use super::snapshot::{Iter, Snapshot};
#[cfg(feature = "async")]
use super::stream::FollowerStream;

impl Debug for Snapshot {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Snapshot");
        out.field("first_lsn", &self.first_lsn()).field("next_lsn", &self.next_lsn()).finish_non_exhaustive()
    }
}

impl Debug for Iter<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Iter").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Debug for Follower {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Follower")
            .field("next_lsn", &self.next_lsn())
            .field("visibility", &self.visibility)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "async")]
impl Debug for FollowerStream {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // Not waited for: a thread may hold it while it waits for a record, and in a forked child for ever.
        let follower = self.0.follower.try_lock();
        let next = follower.as_ref().map(|follower| follower.next_lsn());
        f.debug_struct("FollowerStream").field("next_lsn", &next).finish_non_exhaustive()
    }
}

impl Debug for LogReader {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("LogReader").field("directory", &self.directory()).finish_non_exhaustive()
    }
}

impl Debug for SealedSegment {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("SealedSegment");
        out.field("number", &self.number()).field("first_lsn", &self.first_lsn()).field("next_lsn", &self.next_lsn());
        out.field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

impl Debug for DurablePrefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("DurablePrefix");
        out.field("number", &self.number()).field("first_lsn", &self.first_lsn()).field("next_lsn", &self.next_lsn());
        out.field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

impl Debug for SegmentScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("SegmentScan");
        out.field("number", &self.number()).field("offset", &self.offset()).finish_non_exhaustive()
    }
}
