//! Standard streams that were closed when the program began.
//!
//! The standard library puts `/dev/null` in the place of each, so that no file gets its number: what is written is lost, and what
//! is read is empty, without an error. So they are looked at before.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, fcntl_getfd};
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
    STDIN_WAS_CLOSED.store(fcntl_getfd(stdin()) == Err(Errno::BADF), Ordering::Relaxed);
    STDOUT_WAS_CLOSED.store(fcntl_getfd(stdout()) == Err(Errno::BADF), Ordering::Relaxed);
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
    if was_closed.load(Ordering::Relaxed) { Err(io::Error::other("it is closed")) } else { Ok(()) }
}
