//! Files of dropped segments, kept to become the next ones: to write over blocks that have been written before needs no
//! metadata and no zeros.
//!
//! How many are kept follows from how many segments were begun between two trims, lately: the number goes up at once, and down
//! by a tenth at a time. A log that is trimmed at checkpoints keeps as many as it uses from one to the next, and one that shrinks
//! gives them back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::events::report;
use crate::log::stats::Counters;
use crate::segment::retire::{self, Fitness, Retired};
use crate::storage::Storage;

/// Bytes of files kept at most, unless the options ask for more.
const BYTES_MAX: u64 = 1 << 30;
/// Files kept besides because readers still see them.
const IN_USE_MAX: usize = 64;
/// The estimate counts in parts of a segment, of which it has this many.
const PARTS: u64 = 16;

/// The files kept.
#[derive(Debug)]
pub(crate) struct Pool {
    storage: Arc<dyn Storage>,
    counters: Arc<Counters>,
    /// The size of segments once the log has grown, in bytes.
    size_max: u64,
    /// Kept in any case.
    count_min: usize,
    state: Mutex<State>,
    /// How many there are, for callers that cannot wait for the lock: it is held across looks at the files. Relaxed: a number by itself.
    count: AtomicUsize,
    /// Their length in bytes. Relaxed: as above.
    bytes: AtomicU64,
    /// The size of the newest of them, or 0 if not all of its blocks are there, or none of them is to be kept, or none could be taken when
    /// that was tried last. Relaxed: a hint.
    newest_size: AtomicU64,
}

/// The state, locked for a change of the files.
struct Changing<'p> {
    pool: &'p Pool,
    state: MutexGuard<'p, State>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.pool.count.store(self.state.retired.len(), Ordering::Relaxed);
        self.pool.bytes.store(bytes_of(&self.state.retired), Ordering::Relaxed);
        let is_any_wanted = self.pool.wanted(&self.state) > 0;
        let size = if is_any_wanted { newest_size(&self.state.retired) } else { 0 };
        self.pool.newest_size.store(size, Ordering::Relaxed);
    }
}

fn newest_size(retired: &VecDeque<Retired>) -> u64 {
    retired.back().filter(|retired| retired.is_whole()).map_or(0, Retired::size)
}

fn bytes_of(retired: &VecDeque<Retired>) -> u64 {
    retired.iter().map(Retired::size).sum()
}

#[derive(Debug, Default)]
struct State {
    /// Those dropped first come first.
    retired: VecDeque<Retired>,
    /// Segments begun since the last trim that dropped some.
    begun: u64,
    /// Whether a segment was begun since the last look.
    is_used: bool,
    /// How many are begun from one trim to the next, in parts.
    estimate: u64,
}

impl Pool {
    /// With `count_min` files of `size_max` zeros, as far as there is room for them, under numbers from `next_number` on.
    pub(crate) fn stocked(
        storage: &Arc<dyn Storage>,
        counters: &Arc<Counters>,
        size_max: u64,
        count_min: usize,
        next_number: &mut u64,
    ) -> Self {
        let mut retired = VecDeque::new();
        while retired.len() < count_min {
            match retire::stock(&**storage, *next_number, size_max) {
                Ok(made) => retired.push_back(made),
                Err(error) => {
                    report!(warn, error = &error as &dyn std::error::Error, "cannot make a spare segment");
                    break;
                }
            }
            *next_number += 1;
        }
        let count = AtomicUsize::new(retired.len());
        let (newest_size, bytes) = (AtomicU64::new(newest_size(&retired)), AtomicU64::new(bytes_of(&retired)));
        let state = Mutex::new(State { retired, ..State::default() });
        let (storage, counters) = (Arc::clone(storage), Arc::clone(counters));
        Self { storage, counters, size_max, count_min, state, count, bytes, newest_size }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The length of all files.
    #[cfg(feature = "metrics")]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a segment of `size` bytes can be made of one of them, which takes no more room, as far as is known.
    pub(crate) fn has_size(&self, size: u64) -> bool {
        self.len() > 0 && self.newest_size.load(Ordering::Relaxed) == size
    }

    /// The files are about to change: they are counted once that has happened.
    fn change(&self) -> Changing<'_> {
        Changing { pool: self, state: self.state.lock() }
    }

    /// A segment has been begun.
    pub(crate) fn note_begun(&self) {
        let mut state = self.state.lock();
        state.begun += 1;
        state.is_used = true;
    }

    /// Segments have been dropped.
    pub(crate) fn note_trim(&self) {
        let mut state = self.state.lock();
        let used = std::mem::take(&mut state.begun) * PARTS;
        state.estimate = used.max((9 * state.estimate + used) / 10);
    }

    /// Keeps `retired`.
    pub(crate) fn put(&self, retired: Retired) {
        self.change().state.retired.push_back(retired);
    }

    /// A file that can be made a segment of `size` bytes now. Those that never can are removed, and shorter ones: the segments of
    /// a log do not become shorter.
    pub(crate) fn take(&self, size: u64) -> Option<Retired> {
        let mut unfit = Vec::new();
        let mut changing = self.change();
        let state = &mut changing.state;
        let mut at = 0;
        let taken = loop {
            let Some(retired) = state.retired.get(at) else { break None };
            match retired.fitness(&*self.storage) {
                Fitness::Unfit => unfit.extend(state.retired.remove(at)),
                Fitness::Free if retired.size() == size => break state.retired.remove(at),
                Fitness::Free if retired.size() < size => unfit.extend(state.retired.remove(at)),
                Fitness::Free | Fitness::InUse => at += 1,
            }
        };
        drop(changing);
        if taken.is_none() {
            // Until something changes, or there is another look.
            self.newest_size.store(0, Ordering::Relaxed);
        }
        for retired in unfit {
            self.remove(retired);
        }
        taken
    }

    /// What was in use may be free by now.
    pub(crate) fn look_again(&self) {
        if self.len() > 0
            && let Some(state) = self.state.try_lock()
        {
            drop(Changing { pool: self, state });
        }
    }

    /// One that is not kept any longer, if there are too many besides those that readers still see: these take room
    /// with or without a name.
    pub(crate) fn surplus(&self) -> Option<Retired> {
        let mut changing = self.change();
        let state = &mut changing.state;
        let wanted = self.wanted(state);
        let excess = state.retired.len().checked_sub(wanted).filter(|&excess| excess > 0)?;
        let fitness = |retired: &Retired| retired.fitness(&*self.storage);
        let seen = state.retired.iter().filter(|retired| fitness(retired) == Fitness::InUse).count();
        let at = if excess > IN_USE_MAX {
            Some(0)
        } else if excess > seen {
            state.retired.iter().position(|retired| fitness(retired) != Fitness::InUse)
        } else {
            None
        };
        at.and_then(|at| state.retired.remove(at))
    }

    /// Removes a file that is not kept.
    pub(crate) fn remove(&self, retired: Retired) {
        retired.remove(&*self.storage);
        self.counters.removed();
    }

    /// Removes the oldest, for the room that it takes; false if there is none.
    pub(crate) fn give_up_one(&self) -> bool {
        self.take_any().map(|retired| self.remove(retired)).is_some()
    }

    /// Any of them: the log ends.
    pub(crate) fn take_any(&self) -> Option<Retired> {
        self.change().state.retired.pop_front()
    }

    /// Whether time changes nothing in how many are kept.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.state.lock();
        state.estimate == 0 || state.retired.is_empty()
    }

    /// There was no trim for a while: if no segment was begun either, fewer are kept.
    pub(crate) fn age(&self) {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.is_used) {
            state.estimate /= 2;
        }
    }

    /// Room is wanted: no more are kept than the options ask for, until trims say otherwise.
    pub(crate) fn forget_use(&self) {
        self.state.lock().estimate = 0;
    }

    fn wanted(&self, state: &State) -> usize {
        let bound = (BYTES_MAX / self.size_max).max(1);
        // One is being filled while the next is wanted already.
        let used = if state.estimate == 0 { 0 } else { state.estimate.div_ceil(PARTS) + 1 };
        usize::try_from(used.min(bound)).unwrap_or(usize::MAX).max(self.count_min)
    }
}
