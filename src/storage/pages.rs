//! Pages of a mapped file: brought in before they are read, and made ready before they are stored to.

use std::io;
use std::ops::Range;

use memmap2::Advice;
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use crate::memory::Mapping;

/// How much of a file the system maps by one fault, as far as it is in memory, unless it was told otherwise.
#[cfg(target_os = "linux")]
const FAULT_AROUND_BYTES: usize = 64 << 10;

/// As [`Storage::load`](super::Storage::load).
#[cfg(target_os = "linux")]
pub(super) fn load(mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
    let Some(raw) = mapping.as_file() else { return Ok(()) };
    let populate = |start, len| match raw.advise_range(Advice::PopulateRead, start, len) {
        // A kernel before 5.14: the pages come in one by one as they are read.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        other => other,
    };
    // A page brings those along that are in memory beside it. To have each of them looked up takes three times as long.
    for start in range.clone().step_by(FAULT_AROUND_BYTES) {
        populate(start, 1)?;
    }
    // Asked again after it, since another thread may have changed the user.
    let is_there = !mapping.hides_residency() && mapping.is_resident(range.clone()) && !mapping.hides_residency();
    if is_there { Ok(()) } else { populate(range.start, range.len()) }
}

/// As [`Storage::load`](super::Storage::load).
#[cfg(not(target_os = "linux"))]
pub(super) fn load(mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
    mapping.as_file().map_or(Ok(()), |raw| raw.advise_range(Advice::WillNeed, range.start, range.len()))
}

/// As [`Storage::populate`](super::Storage::populate).
pub(super) fn populate(mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(raw) = mapping.as_file() {
        return match raw.advise_range(Advice::PopulateWrite, range.start, range.len()) {
            // What a store would have been killed for: a full disk, or a file system that takes no writes any more.
            Err(error) if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            populated => populated,
        };
    }
    let _ = (mapping, range);
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use memmap2::MmapOptions;
    use rustix::process::{Uid, geteuid};
    use rustix::thread::set_thread_res_uid;

    use super::*;

    const LEN: usize = 1 << 20;
    /// Where a file may end.
    const MISSING: [usize; 3] = [FAULT_AROUND_BYTES, FAULT_AROUND_BYTES - 4096, LEN - 4096];

    /// A file of which the page cache has the first page of each piece that is mapped by one fault, and no other.
    fn pages_here_and_there() -> File {
        let file = tempfile::tempfile().expect("there is room");
        file.set_len(LEN as u64).expect("there is room");
        for offset in (0..LEN).step_by(FAULT_AROUND_BYTES) {
            file.write_all_at(&[1], offset as u64).expect("there is room");
        }
        file
    }

    fn map(file: &File, owner: u32) -> Mapping {
        let raw = MmapOptions::new().map_raw_read_only(file).expect("it can be mapped");
        Mapping::from_file(raw, owner)
    }

    /// By the user to whom the file belongs, and as by another one.
    fn owners() -> [u32; 2] {
        let own = geteuid().as_raw();
        [own, own + 1]
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn all_pages_are_loaded_also_those_that_no_fault_beside_them_brings_along() {
        for owner in owners() {
            let file = pages_here_and_there();
            let told = map(&file, owner);
            assert!(!told.is_resident(0..LEN), "those that were written, and no others");
            load(&map(&file, owner), 0..LEN).expect("the disk works");
            assert!(told.is_resident(0..LEN), "{owner}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_page_that_the_file_does_not_have_is_an_error_wherever_it_is() {
        for owner in owners() {
            for missing in MISSING {
                let file = pages_here_and_there();
                let mapping = map(&file, owner);
                file.set_len(missing as u64).expect("it gets shorter");
                load(&mapping, 0..LEN).expect_err("not all of it is there");
            }
        }
    }

    /// To such a process the system says that all of a file is in memory.
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_page_is_not_believed_to_be_there_by_a_process_that_has_become_another_user() {
        if !geteuid().is_root() {
            return eprintln!("skipped: this process cannot become another user");
        }
        // The second one as where the owner is shown as that user, since it is none that is known there.
        for (owner, user) in [(0, 1), (65534, 65534)] {
            let file = pages_here_and_there();
            let mapping = Mapping::from_file(MmapOptions::new().map_raw(&file).expect("it can be mapped"), owner);
            let load_as_another = || {
                // Of this thread alone.
                set_thread_res_uid(None, Uid::from_raw(user), None).expect("root may");
                MISSING.map(|missing| {
                    file.set_len(missing as u64).expect("it is open for writing");
                    assert!(mapping.is_resident(0..LEN), "so it says");
                    load(&mapping, 0..LEN).is_err()
                })
            };
            let refused = std::thread::scope(|scope| scope.spawn(load_as_another).join().expect("no panic"));
            assert_eq!(refused, [true; 3], "{user}");
        }
    }
}
