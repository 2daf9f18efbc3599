//! The loss of power, simulated on the files of a log whose process is dead: what was not durable is gone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Failure;

/// The word of the control page that says up to which position the log is durable; `docs/design/format.md` has both.
const DURABLE_POSITION_OFFSET: u64 = 5 * size_of::<u64>() as u64;
/// Durable since the segment got its name.
const SEGMENT_HEADER_LEN: u64 = 4096;

/// Zeroes what stands in the segments of `log` behind the durable position, as if it had never been written. Of page
/// writes nothing is left to take back: the page file has kept them from the disk itself.
pub(crate) fn strike(log: &Path) -> Result<(), Failure> {
    let mut word = [0; 8];
    match File::open(log.join("control")) {
        Ok(control) => control.read_exact_at(&mut word, DURABLE_POSITION_OFFSET)?,
        // Killed before the first append.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let position = u64::from_le_bytes(word);
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

fn zero_from(path: &Path, offset: u64) -> Result<(), Failure> {
    let file = File::options().write(true).open(path)?;
    let offset = offset.max(SEGMENT_HEADER_LEN);
    let len = file.metadata()?.len().saturating_sub(offset);
    file.write_all_at(&vec![0; usize::try_from(len)?], offset)?;
    Ok(())
}
