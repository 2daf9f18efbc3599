//! What somebody without rights can do: as root, a process may read and write whatever its mode says.

use std::io::Write;

use super::scratch::{open_small, scratch};

/// What `act` returns on a thread of its own that belongs to nobody; `None`, said on standard error, where this process may
/// not give up its rights.
pub(crate) fn without_rights<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
    // The threads that all logs of this process share are to have been started with its rights.
    let dir = scratch();
    let _log = open_small(dir.path());
    let done = std::thread::scope(|scope| {
        scope.spawn(|| give_up_rights().map(|()| act())).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    done.map_err(skip).ok()
}

#[cfg(target_os = "linux")]
fn give_up_rights() -> rustix::io::Result<()> {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // Of this thread alone, as the system call is.
    let nobody = rustix::process::Uid::from_raw(NOBODY);
    rustix::thread::set_thread_res_uid(nobody, nobody, nobody)
}

#[cfg(not(target_os = "linux"))]
fn give_up_rights() -> rustix::io::Result<()> {
    if rustix::process::geteuid().is_root() { Err(rustix::io::Errno::NOSYS) } else { Ok(()) }
}

/// Standard error is written to directly: the test harness would keep what a macro prints to itself.
fn skip(error: rustix::io::Errno) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: cannot give up rights: {error}");
}
