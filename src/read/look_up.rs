//! Where a record is, by its number.

use super::record::{Record, RecordRef};
use crate::error::{Damage, Error, Result};
use crate::format::frame::{Frame, FrameKind};
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::{Segment, Segments};

/// Record `lsn` of `segments`, whose records below `next` are published, with a share in its mapping.
pub(crate) fn get_ref(segments: &Segments, next: Lsn, lsn: Lsn) -> Result<Option<RecordRef>> {
    let segment = &segments.as_slice()[index_of(segments, next, lsn)?];
    let region = segment.region()?;
    let found =
        record_in(segment, &region, lsn, Segment::locate)?.map(|(record, offset)| (offset, record.frame_bytes().len()));
    Ok(found.map(|(offset, len)| RecordRef::new(region, offset, crate::format::frame::padded(len))))
}

/// As [`get_ref`], if the record or one of its neighbours has been looked up before, so that it has been walked, and its segment is
/// mapped.
pub(crate) fn get_known_ref(segments: &Segments, lsn: Lsn) -> Option<RecordRef> {
    let segment = segments.as_slice().get(segments.find(lsn)?).filter(|segment| segment.is_reached())?;
    let offset = segment.known(lsn)?;
    let region = segment.mapped().filter(|region| !region.has_failed())?;
    let len = Frame::parse_record(region.bytes(0..region.published())?.get(offset..)?)?.padded_len();
    Some(RecordRef::new(region, offset, len))
}

/// The index of the segment that holds record `lsn`.
pub(super) fn index_of(segments: &Segments, next: Lsn, lsn: Lsn) -> Result<usize> {
    if lsn >= next {
        return Err(Error::NotAppended { lsn, next });
    }
    segments.find(lsn).ok_or(Error::Trimmed { lsn, first: segments.first_lsn() })
}

/// Record `lsn`, which the segment holds, and the offset of its frame, which `locate` finds; `None` if it was given up.
pub(super) fn record_in<'r>(
    segment: &Segment,
    region: &'r Region,
    lsn: Lsn,
    locate: impl FnOnce(&Segment, &Region, Lsn) -> Result<Option<usize>>,
) -> Result<Option<(Record<'r>, usize)>> {
    let missing = || Error::corrupt(&segment.path(), 0, Some(lsn), Damage::MissingFrame);
    let offset = locate(segment, region, lsn)?.ok_or_else(missing)?;
    let bytes = region.bytes(0..region.published()).ok_or_else(missing)?;
    let frame = segment.frame_at(region, bytes, offset)?;
    Ok((frame.kind() == FrameKind::Data).then(|| (Record::new(frame), offset)))
}
