//! The guard's part on systems that have none.

use std::io;

/// A mapping's place in the table.
#[derive(Debug)]
pub(super) struct Slot;

impl Slot {
    pub(super) fn take(_start: usize, _len: usize) -> &'static Self {
        &Self
    }

    pub(super) fn give_back(&'static self, _is_child: bool) {}

    pub(super) fn has_failed(&self) -> bool {
        false
    }
}

#[inline]
pub(crate) fn replaced_pages() -> u32 {
    0
}

/// Has a `SIGBUS` in a mapping of a log be an error instead of the end of the process: on Linux only.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`].
///
/// # Safety
/// None here; see it on Linux.
pub unsafe fn guard_against_sigbus() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
