//! Starting threads, and keeping them from being ended by what they call.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use memmap2::{Mmap, MmapMut};

/// More mappings than a thread takes to start: its stack and the guard of it, another stack for signals and its guard, and what
/// the allocator maps for it.
const MAPPINGS: usize = 32;
const PAGE_LEN: usize = 4096;

/// A mapping that does not merge with its neighbours.
enum Probe {
    Readable(#[expect(dead_code, reason = "held, not looked at")] Mmap),
    Writable(#[expect(dead_code, reason = "held, not looked at")] MmapMut),
}

/// Starts a thread; an error where mappings have nearly run out: the standard library ends the process if a thread that has
/// started cannot map what it needs.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let room = (0..MAPPINGS).map(probe).collect::<io::Result<Vec<Probe>>>()?;
    drop(room);
    Builder::new().name(name.into()).spawn(run)
}

/// What `run` returns, or `None` if it panics, which the panic hook has reported. Whatever it has in hand then is gone.
pub(crate) fn survive<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(panic) => {
            // What was thrown may be of the application, and panic when it is dropped.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

fn probe(number: usize) -> io::Result<Probe> {
    let mapping = MmapMut::map_anon(PAGE_LEN)?;
    if number.is_multiple_of(2) { Ok(Probe::Writable(mapping)) } else { mapping.make_read_only().map(Probe::Readable) }
}
