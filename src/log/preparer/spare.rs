//! Making the segments that appends go on in, of files that were segments before or of new ones.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

#[cfg(feature = "testing")]
use super::state::Taken;
use super::state::{Spare, State};
use super::task::PreparerCore;
use crate::error::Result;
use crate::events::{in_words, report};
use crate::format::name;
use crate::segment::filling::LARGE_PAGE_LEN;
use crate::segment::prepare::{Prepared, Resting, abandon, prepare, renew};
#[cfg(feature = "testing")]
use crate::storage::Preparation;

impl PreparerCore {
    /// Of a file that was a segment before, if there is one; else of a new one, if there `is_room` for that.
    fn make(&self, number: u64, size: u64, is_room: bool) -> Result<Option<Prepared>> {
        let Some(retired) = self.pool.take(size) else {
            return is_room.then(|| prepare(&*self.storage, self.log_id, number, size)).transpose();
        };
        let renewed = match renew(&*self.storage, &retired, self.log_id, number, size) {
            Err(error) => {
                let file = retired.name().to_owned();
                report!(warn, error = &error as &dyn std::error::Error, file, "cannot make a segment of a file");
                prepare(&*self.storage, self.log_id, number, size)
            }
            renewed => {
                self.counters.recycled();
                renewed
            }
        };
        renewed.map(Some)
    }

    /// As [`Self::make`]; one that is to be held back has all of its room: it is for when the disk is full.
    fn make_for(&self, number: u64, size: u64, is_held: bool, is_room: bool) -> Result<Option<Prepared>> {
        let mut made = self.make(number, size, is_room)?;
        if let Some(made) = made.as_mut().filter(|_| is_held) {
            let filled = made.fill_to(usize::MAX, &*self.storage, LARGE_PAGE_LEN);
            filled.inspect_err(|_| abandon(&*self.storage, number))?;
        }
        Ok(made)
    }

    /// Prepares segment `number`, and notes how that went. If nobody waits for it, a new file is made only if there is room for it in the
    /// bound: the files kept, for which it was begun, may all be in use.
    pub(super) fn attempt(&self, number: u64, is_awaited: bool) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        let (is_held, size) = (state.wants_held(), self.size_to_make(&state));
        let is_room = is_awaited || state.held_max > 0 || state.growth.size_ahead().is_some();
        drop(state);
        let made = self.make_for(number, size, is_held, is_room).map(|made| made.map(Prepared::rest));
        let mut state = self.state.lock();
        match made {
            Ok(None) => state.spare = Spare::Wanted,
            Ok(Some(prepared)) => {
                let size_bytes = prepared.size;
                report!(debug, segment = number, size_bytes, "segment prepared");
                if std::mem::take(&mut state.is_failing) {
                    report!(info, segment = number, "segments can be prepared again");
                }
                // Nobody has asked for the one before it: what failed then is over.
                state.failure = None;
                state.next_number = number + 1;
                state.put_spare(prepared);
            }
            Err(error) => {
                let file = name::segment(number);
                // Once, however many appends are refused.
                if !std::mem::replace(&mut state.is_failing, true) {
                    let error = in_words(&error);
                    report!(warn, error, file, "cannot prepare a segment");
                }
                state.failure = Some(error);
                state.spare = Spare::Missing;
            }
        }
        self.note(&state);
        state
    }

    /// Whether a spare may be made that no caller waits for.
    pub(super) fn is_spare_due(&self, state: &State) -> bool {
        // Without what is held back a wal waits.
        state.held_max > 0 || state.growth.size_ahead().is_some() || self.pool.has_size(state.growth.next_size())
    }

    fn size_to_make(&self, state: &State) -> u64 {
        let size = state.growth.next_size();
        if self.pool.has_size(size) { size } else { state.growth.size_ahead().unwrap_or(size) }
    }

    /// A spare that has been taken, to be used; `None` if its file is gone. If that cannot be opened it is kept for the next attempt.
    pub(super) fn open(&self, spare: Resting) -> Result<Option<Prepared>> {
        match spare.open(&*self.storage) {
            Ok(file) => Ok(file.map(|file| spare.with(file))),
            Err(error) => {
                let mut state = self.state.lock();
                state.put_back(spare);
                self.note(&state);
                Err(error)
            }
        }
    }

    /// Removes spares that are too short for what one was needed for.
    pub(super) fn abandon(&self, short: Vec<Resting>) {
        for Resting { number, .. } in short {
            abandon(&*self.storage, number);
        }
    }

    /// Takes down whether as many spares are ready as are to be.
    pub(super) fn note(&self, state: &State) {
        self.is_complete.store(state.is_complete(), Ordering::Relaxed);
    }
}

/// Without a thread, so that all that happens on a simulated disk happens in one order.
#[cfg(feature = "testing")]
impl PreparerCore {
    pub(super) fn prepare_ahead(&self) {
        let state = self.state.lock();
        if self.is_spare_due(&state) && self.storage.preparation() == Preparation::Ahead {
            let keep = state.held_max;
            drop(state);
            // What fails is told by the appender that needs it.
            drop(self.make_until_more_than(keep, false));
        }
    }

    pub(super) fn take_in_line(&self, keep: usize) -> crate::error::Result<Prepared> {
        let mut state = self.state.lock();
        let needed = state.growth.needed();
        let spare = loop {
            if let Some(Taken { spare, short }) = state.take_spare(keep) {
                self.note(&state);
                drop(state);
                self.abandon(short);
                if let Some(spare) = self.open(spare)? {
                    break spare;
                }
                state = self.state.lock();
                state.growth.give_up();
                state.growth.need(needed);
            }
            let number = state.next_number;
            drop(state);
            state = self.attempt(number, true);
            if let Some(failure) = state.failure.take() {
                state.growth.need(0);
                return Err(failure);
            }
        };
        self.prepare_ahead();
        Ok(spare)
    }

    /// Makes spares until more than `keep` are ready, or one fails or, if nobody waits, has no room.
    pub(super) fn make_until_more_than(&self, keep: usize, is_awaited: bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.ready() <= keep {
            let (number, before) = (state.next_number, state.ready());
            drop(state);
            state = self.attempt(number, is_awaited);
            if state.is_failing || state.ready() == before {
                break;
            }
        }
        state
    }
}
