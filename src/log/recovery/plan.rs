//! What recovery decides: which segments count, and where the log goes on.

use super::unused::Unused;
use crate::format::link::{MetaSlots, Predecessor, SegmentEnd};
use crate::format::tally::Tally;
use crate::format::{Version, segment_header};
use crate::lsn::Lsn;
use crate::segment::directory::Found;
use crate::segment::{Origin, SegmentInfo};

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The segments that count and take no more frames, oldest first.
    pub(crate) sealed: Vec<(SegmentInfo, SegmentEnd)>,
    pub(crate) resume: Resume,
    /// What those may have too much.
    pub(crate) unused: Vec<Unused>,
    pub(crate) next_lsn: Lsn,
    pub(crate) meta: MetaSlots,
    /// A segment in which nothing has been written, for the log to go on in.
    pub(crate) spare: Option<Found>,
    /// Segments that do not count: removed once the log goes on.
    pub(crate) remove: Vec<u64>,
    pub(crate) clean: bool,
    pub(crate) bytes_scanned: u64,
    pub(crate) torn_bytes: u64,
    /// The largest number that a segment of the log may have had, as far as anything tells: frames may have been stored under
    /// it, and it does not come back.
    pub(crate) last_number: u64,
}

/// Where appends go on.
#[derive(Debug)]
pub(crate) enum Resume {
    /// In the newest segment, after its close; what it holds has been checked, or has not.
    InPlace { info: SegmentInfo, end: SegmentEnd, origin: Origin, tally: Option<Tally> },
    /// In a new segment.
    Fresh(Option<Predecessor>),
}

/// Where a log goes on once there is room for a segment.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The last segment that counts, with its end.
    pub(crate) previous: Predecessor,
    pub(crate) next_lsn: Lsn,
    /// Files that do not count, and whose removal waits for the link that says so.
    pub(crate) leftovers: Vec<String>,
}

impl Plan {
    /// Goes on in a new segment after `info`, which was closed at `end`.
    pub(crate) fn leave(&mut self, info: SegmentInfo, end: SegmentEnd) {
        self.sealed.push((info, end));
        self.unused.push(Unused { number: info.number, size: info.size, start: end.offset });
        self.resume = Resume::after(&info, end);
    }

    /// Bytes of frames that count, but for those of a segment in which the log goes on.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.sealed.iter().map(|(_, end)| end.offset.saturating_sub(segment_header::LEN as u64)).sum()
    }

    /// How long the last segment is that takes no more frames; 0 if there is none.
    pub(crate) fn last_size(&self) -> u64 {
        self.sealed.last().map_or(0, |(info, _)| info.size)
    }

    /// The number of the first record kept.
    pub(crate) fn first_lsn(&self) -> Lsn {
        match (self.sealed.first(), &self.resume) {
            (Some((info, _)), _) | (None, Resume::InPlace { info, .. }) => info.base_lsn,
            (None, Resume::Fresh(_)) => self.next_lsn,
        }
    }
}

impl Resume {
    /// Whether frames may follow those of this segment: nothing is appended to one of an older version.
    pub(crate) fn may_go_on_in(info: &SegmentInfo) -> bool {
        info.layout.version == Version::V3
    }

    /// In a new segment, after those of the segment that ends at `end`.
    pub(crate) fn after(info: &SegmentInfo, end: SegmentEnd) -> Self {
        Self::Fresh(Some(Predecessor { number: info.number, end: end.offset, crc: end.crc }))
    }
}
