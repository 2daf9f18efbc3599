//! Writing pages of a file out ahead of a sync.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Has the dirty pages of `range` begin to be written to the device, and waits for nothing. Advice to drop pages would do that as
/// well, but drop those that are clean and not mapped: the next access to one reads what surrounds it, in ever larger pages.
pub(crate) fn start_writing(file: &File, range: Range<u64>) -> io::Result<()> {
    let [start, len] = [range.start, range.end - range.start]
        .map(|bytes| libc::off64_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput)));
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and nothing else is given that the call could access.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), start?, len?, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A sandbox may not let it through.
    if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) { Ok(()) } else { Err(error) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use memmap2::MmapOptions;

    use super::*;
    use crate::memory::Mapping;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn what_is_written_stays_in_the_page_cache() {
        const LEN: usize = 512 << 10;
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; LEN]).expect("there is room");
        let file = File::options().read(true).write(true).open(&path).expect("it is there");
        file.sync_all().expect("the disk works");
        let mapping = Mapping::from_file(MmapOptions::new().map_raw(&file).expect("it can be mapped"), 0);
        assert!(mapping.is_resident(0..LEN), "it was written just now");
        start_writing(&file, 0..LEN as u64).expect("a hint");
        assert!(mapping.is_resident(0..LEN));
    }
}
