//! Whether a process has the log open for writing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mapwal::Inspection;

/// Who writes to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The process of this number has it open.
    Alive(u32),
    /// The last one, of this number, has not closed it.
    Crashed(u32),
    /// Nobody, or it is not known who was the last.
    Closed,
}

impl Writer {
    /// Of the log in `directory`. The lock itself is not tried, which could keep a writer from opening the log at that
    /// moment: the system is asked who holds it.
    pub(crate) fn find(directory: &Path, inspection: &Inspection) -> Self {
        let stated = inspection.writer_pid();
        match (holder(&directory.join("LOCK"), stated), stated) {
            (Some(holder), _) => Self::Alive(holder),
            (None, Some(pid)) => Self::Crashed(pid),
            (None, None) => Self::Closed,
        }
    }

    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Alive(_))
    }
}

/// The process that holds the lock on the file at `path`, by the list of all locks.
#[cfg(target_os = "linux")]
fn holder(path: &Path, _stated: Option<u32>) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = format!("{:02x}:{:02x}", rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    locks.lines().find_map(|line| holder_in(line, &device, file.ino()))
}

/// Elsewhere, the one that says that it writes, if there is a process of that number.
#[cfg(not(target_os = "linux"))]
fn holder(path: &Path, stated: Option<u32>) -> Option<u32> {
    fs::metadata(path).ok()?.ino();
    let pid = i32::try_from(stated?).ok().and_then(rustix::process::Pid::from_raw)?;
    rustix::process::test_kill_process(pid).is_ok().then_some(stated?)
}

/// From a line such as `3: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`.
#[cfg(target_os = "linux")]
fn holder_in(line: &str, device: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let kind = (words.next()?, words.next()?, words.next()?);
    let (pid, file) = (words.next()?, words.next()?);
    let (held_device, held_inode) = file.rsplit_once(':')?;
    let is_it = kind == ("FLOCK", "ADVISORY", "WRITE") && held_device == device && held_inode.parse() == Ok(inode);
    is_it.then(|| pid.parse().ok()).flatten()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_list() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF";
        assert_eq!(holder_in(line, "fe:00", 131), Some(4711));
        assert_eq!(holder_in(line, "fe:00", 132), None);
        assert_eq!(holder_in(line, "fe:01", 131), None);
        assert_eq!(holder_in("3: POSIX  ADVISORY  WRITE 4711 fe:00:131 0 EOF", "fe:00", 131), None);
        assert_eq!(holder_in("3: -> FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF", "fe:00", 131), None, "it waits");
        assert_eq!(holder_in("", "fe:00", 131), None);
    }
}
