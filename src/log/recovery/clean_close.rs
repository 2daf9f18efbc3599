//! A log that was shut down cleanly: its end is where the control page says, and nothing has to be walked.
//!
//! The page names a close only while that frame is durable and is the last one; so if the device has the close where
//! the page says, nothing follows it, and everything before it was durable. That is checked when it is read, as in any
//! segment that is no longer written.

use super::plan::{Plan, Resume};
use crate::error::{Error, Result};
use crate::format::frame::{Frame, FrameHasher, FrameHeader, FrameKind, padded};
use crate::format::link::{self, MetaSlots, SegmentEnd};
use crate::format::position::Position;
use crate::format::tally::Tally;
use crate::format::{meta_len_max, name};
use crate::log::shared::append_limit;
use crate::segment::Origin;
use crate::segment::chain::{Chain, ChainLink};
use crate::storage::{Access, DeviceBuffer, Storage};

const PAGE_LEN: u64 = 4096;
/// Read from the device for a close, unless it carries much metadata.
const READ_LEN: usize = 2 * PAGE_LEN as usize;

/// What to do with `chain`, of which the control page says that it was shut down by the close at `position`. `None` if that
/// is not what is there: then it has to be walked.
pub(super) fn plan(storage: &dyn Storage, chain: &Chain, position: Position) -> Result<Option<Plan>> {
    let Some((last, sealed)) = chain.links.split_last() else { return Ok(None) };
    if !chain.beyond.is_empty() || last.info.number != position.segment() {
        return Ok(None);
    }
    let Some(close) = read_close(storage, last, position)? else { return Ok(None) };
    let sealed = sealed.iter().map(|link| Some((link.info, link.end?)));
    let Some(mut sealed): Option<Vec<_>> = sealed.collect() else { return Ok(None) };
    let resume = if Resume::may_go_on_in(&last.info) {
        Resume::InPlace { info: last.info, end: close.end, origin: Origin::Recovered, tally: close.tally }
    } else {
        sealed.push((last.info, close.end));
        Resume::after(&last.info, close.end)
    };
    Ok(Some(Plan {
        sealed,
        resume,
        unused: Vec::new(),
        next_lsn: close.end.next_lsn,
        meta: close.meta,
        spare: None,
        remove: chain.superseded.clone(),
        clean: true,
        bytes_scanned: READ_LEN as u64,
        torn_bytes: 0,
        last_number: last.info.number,
    }))
}

/// A close.
struct Close {
    end: SegmentEnd,
    meta: MetaSlots,
    /// What the frames of the segment come to, the close included.
    tally: Option<Tally>,
}

/// The close at `position`, which is in the last segment, as the device has it, if nothing follows it.
fn read_close(storage: &dyn Storage, last: &ChainLink, position: Position) -> Result<Option<Close>> {
    let name = name::segment(last.info.number);
    let failed = |operation| {
        let path = storage.path().join(&name);
        move |source| Error::io(operation, &path, source)
    };
    let file = storage.open(&name, Access::Read).map_err(failed("open"))?;
    let skipped = position.offset() % PAGE_LEN;
    let mut wanted = READ_LEN;
    loop {
        let mut buffer = DeviceBuffer::new(wanted);
        let read = file.read_device_at(&mut buffer, position.offset() - skipped).map_err(failed("read"))?;
        // A page's offset, so it fits.
        let bytes = buffer.bytes()[..read].get(skipped as usize..).unwrap_or_default();
        // It and the rest of the page in which it ends.
        let stated = FrameHeader::stated(bytes).map_or(0, |header| padded(header.len() as usize));
        let needed = (skipped as usize + stated).next_multiple_of(PAGE_LEN as usize);
        if needed <= wanted || stated > close_len_max(last) {
            return Ok(parse_close(bytes, last, position));
        }
        wanted = needed;
    }
}

/// The longest that a close can be in segment `last`.
fn close_len_max(last: &ChainLink) -> usize {
    link::frame_len(usize::try_from(meta_len_max(last.info.size)).unwrap_or(usize::MAX))
}

fn parse_close(bytes: &[u8], last: &ChainLink, position: Position) -> Option<Close> {
    let stated = Frame::parse(bytes).ok()?;
    let frame = Frame::parse_checked(bytes, last.info.layout.salt, &FrameHasher::new(), stated.lsn()).ok()?;
    let is_close = frame.kind() == FrameKind::Close && frame.durable_then(position) == Some(position);
    // In a segment that is full, a close says nothing of what else the log has to know.
    let link::Close { tally, meta } = link::Close::parse(frame.payload(), last.info.layout.version).ok()?;
    let meta = meta?;
    // What it counts are the frames before it.
    let tally = tally.filter(|tally| tally.end == position.offset()).map(|mut tally| {
        tally.pass(&frame);
        tally
    });
    let end =
        SegmentEnd { offset: position.offset() + frame.padded_len() as u64, next_lsn: frame.lsn(), crc: frame.crc() };
    let is_within = end.offset <= append_limit(last.info.size) as u64 && end.next_lsn >= last.info.base_lsn;
    // The page in which the log goes on; the others are written anew before that.
    let to_page_end = (end.offset.next_multiple_of(PAGE_LEN) - end.offset) as usize;
    let is_last = bytes[frame.padded_len()..].iter().take(to_page_end).all(|&byte| byte == 0);
    (is_close && is_within && is_last).then_some(Close { end, meta, tally })
}
