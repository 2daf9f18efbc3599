//! Which process this is. A forked child has a copy of everything, and owns nothing: its threads are not there, and what it
//! has open belongs to its parent as well.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The process in which it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// The number of this process, or 0 in a child that has none yet.
    word: &'static AtomicU64,
    number: u64,
    /// Where the system does not wipe the word in a child.
    pid: Option<u32>,
}

/// The word and whether a child finds zeros in its place.
type Place = (&'static AtomicU64, bool);

static PLACE: OnceLock<Place> = OnceLock::new();
/// The last number given. A child goes on with its copy, so that none of its numbers is one of its parents'. Relaxed: a
/// count.
static LAST: AtomicU64 = AtomicU64::new(0);

impl Process {
    /// This process.
    pub(crate) fn current() -> Self {
        let &(word, is_wiped) =
            PLACE.get_or_init(|| wiped_word().map_or_else(|| (kept_word(), false), |word| (word, true)));
        let number = match word.load(Ordering::Relaxed) {
            0 => {
                let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                // Another thread may have been faster.
                word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|now| now, |_| fresh)
            }
            number => number,
        };
        Self { word, number, pid: (!is_wiped).then(std::process::id) }
    }

    /// Whether this is still that process, and none that was forked from it. Relaxed: in a child it has been wiped before the
    /// child runs.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.number && self.pid.is_none_or(|pid| pid == std::process::id())
    }
}

/// A word in a page of its own, which stays for as long as the process, and which a child finds filled with zeros; `None` where
/// the system has no such pages.
#[cfg(all(target_os = "linux", not(miri)))]
fn wiped_word() -> Option<&'static AtomicU64> {
    use rustix::mm::{Advice, madvise};

    let page = memmap2::MmapOptions::new().len(size_of::<AtomicU64>()).map_anon().ok()?;
    let page = Box::leak(Box::new(page));
    let (start, len) = (page.as_mut_ptr(), page.len());
    // SAFETY: the range is that of an anonymous private mapping, all of which is meant; what a child finds instead of the bytes
    // is a valid word as well.
    unsafe { madvise(start.cast(), len, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the first bytes of a page, aligned, valid for ever since the mapping is leaked, and accessed by this atomic only.
    Some(unsafe { AtomicU64::from_ptr(start.cast()) })
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn wiped_word() -> Option<&'static AtomicU64> {
    None
}

/// A word that a child finds as it was.
fn kept_word() -> &'static AtomicU64 {
    Box::leak(Box::new(AtomicU64::new(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_made_in_a_process_is_of_it() {
        let [one, other] = [Process::current(), Process::current()];
        assert!(one.is_current() && other.is_current());
        assert_eq!(one.number, other.number);
    }
}
