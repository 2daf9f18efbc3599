//! Starting threads.

use std::io;
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

fn probe(number: usize) -> io::Result<Probe> {
    let mapping = MmapMut::map_anon(PAGE_LEN)?;
    if number.is_multiple_of(2) { Ok(Probe::Writable(mapping)) } else { mapping.make_read_only().map(Probe::Readable) }
}
