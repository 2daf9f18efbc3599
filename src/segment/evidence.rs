//! Is it a torn end (torn tail), or damage? What follows the first bad frame tells.
//!
//! Every frame's header says how far the log was durable when the frame was appended. A frame after the bad one that
//! says "durable beyond it" proves that the bad one was acknowledged. The idea is that of protocol-aware recovery
//! (Alagappan et al., FAST '18), with the proof in every header instead of in a separate commit.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::error::{Damage, Error, Evidence, Result};
use crate::format::frame::Frame;
use crate::format::name;
use crate::format::position::Position;
use crate::format::search;
use crate::format::segment_header::Layout;
use crate::format::zeros;
use crate::memory::FrozenRegion;
use crate::segment::control::Stated;
use crate::storage::{Access, DeviceBuffer, Storage, StorageFile, is_full};

/// Bytes read from the device, or written to it, at a time.
const READ_LEN: usize = 1 << 20;

/// What shows that the log had been durable beyond `suspect`, where bytes are missing or bad: the claim of a frame, or what its
/// control page has `stated`. `None` if nothing does: then a crash may have left that.
pub(crate) fn proof(claim: &StrongestClaim, stated: Option<Stated>, suspect: Position) -> Option<Evidence> {
    let heard = claim.evidence.clone().filter(|_| claim.durable > suspect);
    heard.or_else(|| stated.filter(|stated| stated.position > suspect).map(Stated::evidence))
}

/// The strongest claim found: everything before `durable` had been durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StrongestClaim {
    pub(crate) durable: Position,
    pub(crate) evidence: Option<Evidence>,
}

impl StrongestClaim {
    /// Takes the claim of a frame at `offset` of segment `number` into account.
    pub(crate) fn hear(&mut self, number: u64, offset: usize, frame: &Frame<'_>) {
        let position = Position::new(number, offset as u64);
        if let Some(durable) = frame.durable_then(position).filter(|&durable| durable > self.durable) {
            let evidence = Evidence::Frame { segment: number, offset: offset as u64, lsn: frame.lsn() };
            *self = Self { durable, evidence: Some(evidence) };
        }
    }
}

/// After the last byte of the file at or after `start` that is not zero on the device; `start` if there is none.
pub(crate) fn nonzero_end(file: &dyn StorageFile, path: &Path, start: usize, size: u64) -> Result<usize> {
    let mut end = start;
    each_chunk(file, path, start, size, |offset, bytes| {
        if let Some(len) = zeros::nonzero_len(bytes) {
            end = end.max(offset + len);
        }
        true
    })?;
    Ok(end)
}

/// The offset of the first byte in `start..end` that the device and `region` hold differently.
pub(crate) fn first_difference(
    file: &dyn StorageFile,
    path: &Path,
    region: &FrozenRegion,
    start: usize,
    end: usize,
) -> Result<Option<usize>> {
    let cached = region.bytes();
    let mut difference = None;
    each_chunk(file, path, start, end as u64, |offset, bytes| {
        let cached = cached.get(offset..offset + bytes.len()).unwrap_or_default();
        if bytes != cached {
            difference = bytes.iter().zip(cached).position(|(a, b)| a != b).map(|at| offset + at);
        }
        difference.is_none()
    })?;
    Ok(difference)
}

/// On return the device has what `region` shows in `range`: where it cannot be asked, it is given that once more. Nothing
/// changes by it, nor by a part of it. Where there is no room for that, what was dropped from the cache has to do.
pub(crate) fn write_again(
    storage: &dyn Storage,
    number: u64,
    region: &FrozenRegion,
    range: Range<usize>,
) -> io::Result<()> {
    let file = storage.open(&name::segment(number), Access::Write)?;
    let bytes = &region.bytes()[range.clone()];
    for (chunk, index) in bytes.chunks(READ_LEN).zip(0..) {
        match file.write_at(chunk, (range.start + index * READ_LEN) as u64) {
            Err(error) if is_full(&error) => break,
            written => written?,
        }
    }
    file.sync()
}

/// Shows the device's bytes from `start` to `end` to `look`, with their offset, until it says stop.
fn each_chunk(
    file: &dyn StorageFile,
    path: &Path,
    start: usize,
    end: u64,
    mut look: impl FnMut(usize, &[u8]) -> bool,
) -> Result<()> {
    let mut buffer = DeviceBuffer::new(READ_LEN);
    let mut offset = start - start % 4096;
    while (offset as u64) < end {
        let read = file.read_device_at(&mut buffer, offset as u64).map_err(|e| Error::io("read", path, e))?;
        let wanted = usize::try_from(end - offset as u64).unwrap_or(usize::MAX).min(READ_LEN);
        if read < wanted {
            let found = (offset + read) as u64;
            return Err(Error::corrupt(path, found, None, Damage::FileLength { expected: end, found }));
        }
        let skip = start.saturating_sub(offset);
        if !look(offset + skip, &buffer.bytes()[skip..wanted]) {
            break;
        }
        offset += READ_LEN;
    }
    Ok(())
}

/// Hears every intact frame of segment `number` that begins in `range`, at whatever 8-byte step, and whose claim would matter.
/// Returns the end of the last one, or where the search began.
///
/// In a recycled segment each intact frame matters: what is not intact there may be older than the segment, and proves nothing.
pub(crate) fn search(
    claim: &mut StrongestClaim,
    region: &FrozenRegion,
    (number, layout): (u64, Layout),
    range: Range<usize>,
    suspect: Position,
) -> usize {
    let bytes = region.bytes();
    let is_claim = |frame: &Frame<'_>, offset: usize| {
        frame.durable_then(Position::new(number, offset as u64)).is_some_and(|durable| durable > suspect)
    };
    let mut end = range.start;
    let matters = |frame: &Frame<'_>, offset: usize| layout.is_recycled || is_claim(frame, offset);
    search::search(bytes, layout.salt, range, matters, |frame, offset| {
        if is_claim(frame, offset) {
            claim.hear(number, offset, frame);
        }
        end = offset + frame.padded_len();
    });
    end
}
