//! What the preparing task and the appenders know of: the spares, and the segment that takes appends.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::growth::Growth;
use crate::error::Error;
use crate::memory::Region;
use crate::segment::filling::Filling;
use crate::segment::prepare::Resting;
use crate::segment::{Segment, giving_back};
use crate::storage::{Storage, StorageFile};

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
pub(super) struct State {
    /// Appends have begun: until then nothing is made ready that may not be needed.
    pub(super) in_use: bool,
    pub(super) spare: Spare,
    /// Those that are older than the spare and come first, up to as many as are held back for what is essential.
    pub(super) held: VecDeque<Resting>,
    pub(super) held_max: usize,
    /// Appenders that wait for the spare.
    pub(super) takers: usize,
    /// Why the last attempt to make one failed.
    pub(super) failure: Option<Error>,
    /// The last attempt failed, and that has been reported.
    pub(super) is_failing: bool,
    pub(super) next_number: u64,
    /// How large the next one is.
    pub(super) growth: Growth,
    /// The number of the segment that takes appends, or 0, and the room in it.
    pub(super) active_number: u64,
    pub(super) room: usize,
    /// That segment; `None` also while more of it is made ready.
    pub(super) active: Option<ActiveFilling>,
    /// The event that says that all of it is ready has been reported.
    pub(super) announced: bool,
    /// Frames are to be walked before more is made ready.
    pub(super) is_walk_due: bool,
    /// The task has ended, by a panic if it was not stopped: what it had in hand does not come back.
    pub(super) is_gone: bool,
    /// Until then no spare is made, unless the log is used.
    pub(super) grace: Option<Instant>,
    /// Until then the device is left to others, by what can wait.
    pub(super) pause: Option<Instant>,
}

/// A spare that has been taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) spare: Resting,
    /// Those whose files go.
    pub(super) short: Vec<Resting>,
}

/// The segment to go on in.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Spare {
    /// There is none, and the last attempt to make one has failed, or none was asked for.
    Missing,
    /// An attempt is wanted.
    Wanted,
    /// It is under way.
    UnderWay,
    Ready(Resting),
    /// The task has it for one step, to make more of it ready; its length in bytes.
    Borrowed(#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "told to recorders"))] u64),
}

impl State {
    pub(super) fn new(next_number: u64, growth: Growth) -> Self {
        Self {
            in_use: false,
            spare: Spare::Missing,
            held: VecDeque::new(),
            held_max: 0,
            takers: 0,
            failure: None,
            is_failing: false,
            next_number,
            growth,
            active_number: 0,
            room: 0,
            active: None,
            announced: false,
            is_walk_due: false,
            is_gone: false,
            grace: None,
            pause: None,
        }
    }

    /// The oldest that is ready and as long as is needed, if that leaves `keep`; then another one is wanted. Those before it are too
    /// short, and are not used any more.
    pub(super) fn take_spare(&mut self, keep: usize) -> Option<Taken> {
        let is_long = |spare: &Resting| spare.size >= self.growth.needed();
        let at = self.held.iter().position(is_long).unwrap_or(self.held.len());
        let is_none_long = at == self.held.len() && matches!(&self.spare, Spare::Ready(spare) if !is_long(spare));
        if is_none_long || self.ready() <= keep + at {
            // Until there is one that is newer.
            let newest = self.take_newest();
            self.held.extend(newest);
            return None;
        }
        let short: Vec<Resting> = self.held.drain(..at).collect();
        let Some(spare) = self.held.pop_front().or_else(|| self.take_newest()) else {
            self.held.extend(short);
            return None;
        };
        self.growth.take();
        self.fill_held();
        self.want_spare();
        Some(Taken { spare, short })
    }

    /// One that has been taken comes back: it is older than those that are here. Another one is not wanted any more.
    pub(super) fn put_back(&mut self, spare: Resting) {
        self.growth.give_up();
        self.held.push_front(spare);
        if self.held.len() > self.held_max
            && matches!(self.spare, Spare::Missing | Spare::Wanted)
            && let Some(newest) = self.held.pop_back()
        {
            self.spare = Spare::Ready(newest);
        }
    }

    /// How many are ready.
    pub(super) fn ready(&self) -> usize {
        self.held.len() + usize::from(matches!(self.spare, Spare::Ready(_) | Spare::Borrowed(_)))
    }

    /// The length of their files.
    #[cfg(feature = "metrics")]
    pub(super) fn ready_bytes(&self) -> u64 {
        let newest = match &self.spare {
            Spare::Ready(spare) => spare.size,
            Spare::Borrowed(size) => *size,
            _ => 0,
        };
        newest + self.held.iter().map(|spare| spare.size).sum::<u64>()
    }

    /// Whether one may be taken that is not held back.
    pub(super) fn is_complete(&self) -> bool {
        self.ready() > self.held_max
    }

    /// Whether [`Self::take_spare`] gives one that is not held back, at once.
    pub(super) fn has_spare_at_hand(&self) -> bool {
        self.is_complete() && !(self.held.is_empty() && matches!(self.spare, Spare::Borrowed(_)))
    }

    /// Whether the next one that is made may be held back.
    pub(super) fn wants_held(&self) -> bool {
        self.ready() < self.held_max
    }

    /// Holds the spare back if too few are.
    pub(super) fn fill_held(&mut self) {
        if self.held.len() < self.held_max {
            let newest = self.take_newest();
            self.held.extend(newest);
        }
    }

    /// The spare that has been made, or comes back with more of it ready: meanwhile those before it may have been taken.
    pub(super) fn put_spare(&mut self, spare: Resting) {
        self.spare = Spare::Ready(spare);
        self.fill_held();
    }

    /// The newest, if it is ready; then another one is wanted.
    pub(super) fn take_newest(&mut self) -> Option<Resting> {
        match std::mem::replace(&mut self.spare, Spare::Wanted) {
            Spare::Ready(prepared) => Some(prepared),
            other => {
                self.spare = other;
                None
            }
        }
    }

    /// Has one made if there is none; whether an attempt is wanted that has not begun yet.
    pub(super) fn want_spare(&mut self) -> bool {
        if matches!(self.spare, Spare::Missing) {
            self.spare = Spare::Wanted;
        }
        matches!(self.spare, Spare::Wanted)
    }

    /// The spare, for making it ready up to `end`, if that has not been done and no caller waits for it.
    pub(super) fn borrow_spare(&mut self, end: usize) -> Option<Resting> {
        match &self.spare {
            Spare::Ready(spare) if self.takers == 0 && spare.filling.is_short_of(end) => {}
            _ => return None,
        }
        let spare = self.take_newest()?;
        self.spare = Spare::Borrowed(spare.size);
        Some(spare)
    }
}

/// The segment that takes appends, as far as it is ready.
#[derive(Debug)]
pub(super) struct ActiveFilling {
    pub(super) number: u64,
    pub(super) filling: Filling,
    pub(super) region: Arc<Region>,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) segment: Weak<Segment>,
    /// How many bytes of its file have not been given back.
    pub(super) taken: Arc<AtomicU64>,
}

impl ActiveFilling {
    pub(super) fn step(&mut self, storage: &dyn Storage, page_len: usize) -> io::Result<()> {
        self.filling.step(storage, &*self.file, self.region.mapping(), page_len)
    }

    /// Gives back what has been written beyond the end of the segment, which takes no more appends, if that has been given back
    /// meanwhile.
    pub(super) fn give_back(&self) {
        let (start, end) = (self.taken.load(Ordering::Relaxed), self.filling.end() as u64);
        if start < end {
            // It stays where that does not work.
            let _ = giving_back::give_back(&*self.file, start..end);
        }
    }
}
