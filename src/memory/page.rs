//! How long the system's pages are.

/// Bytes of a page.
#[inline]
pub(super) fn page_size() -> usize {
    // Not by `rustix`, which looks at the program's own headers: under `valgrind` some are not where it looks.
    // SAFETY: it takes a number and returns one.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(len).ok().filter(|len| len.is_power_of_two()).expect("every system has pages")
}
