//! What the system counts: page faults, waits and memory. `None` where it does not tell.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::path::Path;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Page faults of the calling thread so far, those that read from the disk included.
pub(crate) fn page_faults() -> Option<u64> {
    let stat = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // After the name, which may contain anything: state is the 3rd field, minflt the 10th, majflt the 12th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(10)? + field(12)?)
}

/// How often the calling thread has given the processor away to wait for something.
pub(crate) fn voluntary_switches() -> Option<u64> {
    Some(switches()?.0)
}

/// The same, and how often the processor was taken from it.
pub(crate) fn switches() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    field(&status, "voluntary_ctxt_switches:").zip(field(&status, "nonvoluntary_ctxt_switches:"))
}

/// KiB of memory of this process that belongs to no file.
pub(crate) fn anonymous_kib() -> Option<u64> {
    status_field("/proc/self/status", "RssAnon:")
}

/// MiB of memory that count as this process's, mapped pages of files included.
pub(crate) fn resident_mib() -> Option<f64> {
    Some(status_field("/proc/self/status", "VmRSS:")? as f64 / 1024.0)
}

/// MiB of `files` that the page cache holds: what can be read without a wait for the device.
pub(crate) fn cached_mib(files: impl Iterator<Item = impl AsRef<Path>>) -> Option<f64> {
    const PAGE_BYTES: u64 = 4096;
    let mut pages = 0_u32;
    for path in files {
        let file = File::open(path).ok()?;
        // A read would bring in what comes after it.
        rustix::fs::fadvise(&file, 0, None, Advice::Random).ok()?;
        for offset in (0..file.metadata().ok()?.len()).step_by(PAGE_BYTES as usize) {
            let mut byte = [0];
            match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
                Ok(_) => pages += 1,
                Err(Errno::AGAIN) => {}
                Err(_) => return None,
            }
        }
    }
    Some(f64::from(pages) * PAGE_BYTES as f64 / f64::from(1 << 20))
}

/// Has the host of a virtual machine provide memory for what writes `len` bytes next. Memory that it has taken back
/// costs ten times as much to touch first, in any process, and the system mixes it with what it has just got back: so
/// it takes several times as much.
pub(crate) fn provide_memory(len: usize) {
    const TIMES: usize = 5;
    let available = status_field("/proc/meminfo", "MemAvailable:").unwrap_or(0) << 10;
    let bound = usize::try_from(available / 4).unwrap_or(usize::MAX);
    std::hint::black_box(vec![1_u8; (TIMES * len).min(bound)]);
}

fn status_field(path: &str, name: &str) -> Option<u64> {
    field(&fs::read_to_string(path).ok()?, name)
}

/// The number after `name`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
