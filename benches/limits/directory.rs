//! Logs in directories of their own.

use std::path::Path;
use std::time::Duration;

use mapwal::{Log, Options};
use tempfile::TempDir;

use crate::commit::commit;
use crate::spare;

/// Opens the log in `path`, a directory that only this program touches.
#[expect(unsafe_code, reason = "opening a log is")]
pub(crate) fn open(path: &Path, options: &Options) -> Log {
    spare::forget();
    // SAFETY: the directory is a temporary one of this program, on the disk, and only the log changes its files.
    unsafe { Log::open(path, options) }.expect("the log opens")
}

/// A new directory inside of `parent`, removed when it is dropped.
pub(crate) fn fresh(parent: &Path) -> TempDir {
    TempDir::new_in(parent).expect("the bench directory is writable")
}

/// A new log that nobody has appended to.
pub(crate) fn fresh_log(parent: &Path, options: &Options) -> (Log, TempDir) {
    let directory = fresh(parent);
    settle_file_system(directory.path());
    let log = open(directory.path(), options);
    (log, directory)
}

/// A new log in use whose segments have their largest size, with nothing left to prepare: all of its first segment and its first spare
/// are ready. It holds one record, of [`USED_BYTES`].
pub(crate) fn ready_log(parent: &Path, options: &Options) -> (Log, TempDir) {
    let fresh = fresh_log(parent, &options.clone().first_segment_size_bytes(SEGMENT_BYTES));
    fresh.0.append(0, &vec![0; USED_BYTES]).expect("there is room");
    spare::wait_for(1);
    fresh
}

/// The largest size of a segment by default.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Enough for a log to count on more.
pub(crate) const USED_BYTES: usize = 2 << 20;

/// Waits until the files that were removed before are freed: a file system may do that, and tell the device, in the middle
/// of a later sync.
fn settle_file_system(path: &Path) {
    #[cfg(target_os = "linux")]
    {
        let directory = std::fs::File::open(path).expect("it was made before");
        rustix::fs::syncfs(&directory).expect("the disk works");
    }
}

/// A log in its steady state, which goes over blocks that have been written before, and has seen enough commits to be as ready
/// for them as it will be.
pub(crate) fn settled_log(parent: &Path, options: &Options) -> (Log, TempDir) {
    let fresh = fresh_log(parent, &options.clone().spare_segments(1));
    (0..USUAL_COMMITS).for_each(|_| commit(&fresh.0, &[0; 200]));
    std::thread::sleep(SETTLING);
    fresh
}

const USUAL_COMMITS: usize = 200;

/// Longer than a device of a GB/s takes for two segments.
const SETTLING: Duration = Duration::from_millis(250);
