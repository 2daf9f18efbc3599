//! What the program was started with: standard streams that are closed, or open for the other direction, signals that are ignored. Shared with `mapwal-archive`.
//!
//! The standard library puts `/dev/null` in the place of each, so that no file gets its number: what is written is lost, and what
//! is read is empty, without an error; the same where a stream is only open for the other direction. So they are looked at before.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};

// Set before `main`, on the only thread that there is.
static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: the loader calls each function in this section once, in the C convention and with arguments that this one does not read,
// before the runtime of the standard library begins. It uses nothing of that: two system calls by number and two static flags.
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[used]
static BEFORE_MAIN: extern "C" fn() = look;

extern "C" fn look() {
    STDIN_WAS_CLOSED.store(!is_open(fcntl_getfl(stdin()), OFlags::WRONLY), Ordering::Relaxed);
    STDOUT_WAS_CLOSED.store(!is_open(fcntl_getfl(stdout()), OFlags::RDONLY), Ordering::Relaxed);
}

/// Whether it is open, and not only for the `other` direction.
fn is_open(flags: rustix::io::Result<OFlags>, other: OFlags) -> bool {
    flags.map_or_else(|error| error != Errno::BADF, |flags| flags & OFlags::RWMODE != other)
}

/// An error if nothing that is printed would go anywhere.
pub(crate) fn check_output() -> io::Result<()> {
    check(&STDOUT_WAS_CLOSED)
}

/// An error if nothing could be read.
pub(crate) fn check_input() -> io::Result<()> {
    check(&STDIN_WAS_CLOSED)
}

fn check(was_closed: &AtomicBool) -> io::Result<()> {
    if was_closed.load(Ordering::Relaxed) {
        Err(io::Error::other("it is closed, or open for the other direction only"))
    } else {
        Ok(())
    }
}

/// The signals that have a command end in order.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Has `listen` set handlers for the signals that end the program, and leaves those ignored that were, as by `nohup` or by a shell
/// for what it runs in the background.
pub(crate) fn leave_ignored<T>(listen: impl FnOnce() -> T) -> T {
    let ignored: Vec<_> = ENDING.into_iter().filter(|&signal| is_ignored(signal)).collect();
    // One that comes before it is ignored again waits, and is dropped by that.
    mask(libc::SIG_BLOCK, &ignored);
    let listening = listen();
    for &signal in &ignored {
        // SAFETY: the disposition has no function that could be called at a wrong moment.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    mask(libc::SIG_UNBLOCK, &ignored);
    listening
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: the type is one of C whose members may all be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and the place for the answer is of its type.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Blocks the signals for this thread, and those that it starts, or no longer.
fn mask(how: libc::c_int, signals: &[libc::c_int]) {
    // SAFETY: as for the action.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: it is a set of this function.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the same.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the set is read, and what was set before is not asked for.
    unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
}
