//! Opening logs: where the contract of the library is passed on to the operator.

use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::inspect::Inspection;
use mapwal::{Error, Log, LogReader, Options};

use crate::failure::{Explain, Failure, Result, counted};

/// How often a log is looked at whose writer trims faster than that.
pub(crate) const LOOKS_MAX: u32 = 1000;
const LOOKS_MIN: u32 = 4;
const LOOKS_TIME: Duration = Duration::from_secs(10);

/// Opens a log for reading, also one that is being written; or copies of sealed segments.
pub(crate) fn reader(directory: &Path, is_archive: bool) -> Result<LogReader> {
    try_reader(directory, is_archive).about(directory)
}

/// As [`reader`], with the error of the library.
pub(crate) fn try_reader(directory: &Path, is_archive: bool) -> mapwal::Result<LogReader> {
    if is_archive {
        // SAFETY: as below.
        unsafe { LogReader::open_archive(directory) }
    } else {
        // SAFETY: by naming the directory to this program the user says, as its manual asks for, that it is on a local file
        // system, and that nothing but mapwal writes to its files meanwhile.
        unsafe { LogReader::open(directory) }
    }
}

/// Opens a log for writing. Tells people of a torn end, which is dropped by that.
pub(crate) fn writer(directory: &Path, options: &Options) -> Result<Log> {
    // SAFETY: as for `reader`.
    let log = unsafe { Log::open(directory, options) }.about(directory)?;
    let dropped = log.recovery().torn_bytes;
    if dropped > 0 {
        let what = counted(dropped, "byte", "bytes");
        Failure::new("torn end dropped", format!("{what} after the last sound frame"), directory).tell();
    }
    Ok(log)
}

/// The size of the segments that an existing log goes on with.
pub(crate) fn newest_segment_size(directory: &Path) -> Option<u64> {
    let inspection = Inspection::open(directory).ok()?;
    inspection.segments().iter().rev().map(|file| file.file_len_bytes).find(|&len| len > 0)
}

/// For a log that goes on with segments of `size` bytes, and whose records may be longer.
pub(crate) fn growing_from(size: u64) -> Options {
    // Shorter ones than the first by default have been asked for, and stay as they are.
    let max = if size < 256 << 10 { size } else { size.max(64 << 20) };
    Options::new().segment_size_bytes(max)
}

/// How often a log has been looked at that changed too fast, and since when.
pub(crate) struct Looks {
    began: Instant,
    count: u32,
}

impl Looks {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), count: 0 }
    }

    /// Whether to look once more: a few times in any case, since one look may take long.
    pub(crate) fn go_on(&mut self) -> bool {
        self.count += 1;
        self.count < LOOKS_MIN || (self.count < LOOKS_MAX && self.began.elapsed() < LOOKS_TIME)
    }
}

/// Looks again, for some time, where what was found has been trimmed before it could be used.
pub(crate) fn again<T>(mut look: impl FnMut() -> mapwal::Result<T>) -> mapwal::Result<T> {
    let mut looks = Looks::begin();
    loop {
        match look() {
            Err(Error::Trimmed { .. }) if looks.go_on() => {}
            looked => return looked,
        }
    }
}
