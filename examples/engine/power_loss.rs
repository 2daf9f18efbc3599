//! The loss of power, simulated on the files of a log whose process is dead: what was not durable is gone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Failure;

/// Where the control page says what is durable; `docs/design/format.md` has both places.
const WATERMARK_OFFSETS: [usize; 2] = [80 * size_of::<u64>(), 88 * size_of::<u64>()];
/// Durable since the segment got its name.
const SEGMENT_HEADER_LEN: u64 = 4096;

/// Zeroes what is in the segments of `log` beyond the durable position, as if it had never been written. Page writes
/// need not be taken back: the page file has kept them from the disk itself.
pub(crate) fn strike(log: &Path) -> Result<(), Failure> {
    let page = match fs::read(log.join("control")) {
        Ok(page) => page,
        // Killed before the first append.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let position = durable_position(&page);
    let (durable_segment, durable_offset) = (position >> 32, position & 0xffff_ffff);
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        match number.filter(|_| is_segment) {
            Some(number) if number == durable_segment => zero_from(&path, durable_offset)?,
            Some(number) if number > durable_segment => zero_from(&path, SEGMENT_HEADER_LEN)?,
            _ => {}
        }
    }
    Ok(())
}

/// The position in the last watermark that was written as a whole; 0 before the first. Number, position and record are two words each, the
/// lower half first, and each word has a checksum of its own in its upper half. The seventh word is that of the six.
fn durable_position(page: &[u8]) -> u64 {
    let watermark = |offset: usize| {
        let words = page.get(offset..offset + 6 * size_of::<u64>())?;
        let half =
            |at: usize| page.get(offset + at * size_of::<u64>()..)?.first_chunk().map(|half| u32::from_le_bytes(*half));
        let value = |at: usize| Some(u64::from(half(at)?) | u64::from(half(at + 1)?) << 32);
        let is_whole = half(6)? == crc32fast::hash(&[&page[8..24], words].concat());
        is_whole.then_some((value(0)?, value(2)?))
    };
    WATERMARK_OFFSETS.into_iter().filter_map(watermark).max().map_or(0, |(_, position)| position)
}

fn zero_from(path: &Path, offset: u64) -> Result<(), Failure> {
    let file = File::options().write(true).open(path)?;
    let offset = offset.max(SEGMENT_HEADER_LEN);
    let len = file.metadata()?.len().saturating_sub(offset);
    file.write_all_at(&vec![0; usize::try_from(len)?], offset)?;
    Ok(())
}
