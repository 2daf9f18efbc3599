//! Making the segments that appends go on in, of files that were segments before or of new ones.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::state::{Spare, State};
use super::task::PreparerCore;
use crate::error::Result;
use crate::events::{in_words, report};
use crate::format::name;
use crate::segment::filling::LARGE_PAGE_LEN;
use crate::segment::prepare::{Prepared, abandon, prepare, renew};
#[cfg(feature = "testing")]
use crate::storage::Preparation;

impl PreparerCore {
    /// Of a file that was a segment before, if there is one; else of a new one.
    fn make(&self, number: u64) -> Result<Prepared> {
        let Some(retired) = self.pool.take() else {
            return prepare(&*self.storage, self.log_id, number, self.segment_size);
        };
        match renew(&*self.storage, &retired, self.log_id, number, self.segment_size) {
            Err(error) => {
                let file = retired.name().to_owned();
                report!(warn, error = &error as &dyn std::error::Error, file, "cannot make a segment of a file");
                prepare(&*self.storage, self.log_id, number, self.segment_size)
            }
            renewed => {
                self.counters.recycled();
                renewed
            }
        }
    }

    /// As [`Self::make`]; one that is to be held back has all of its room: it is for when the disk is full.
    fn make_for(&self, number: u64, is_held: bool) -> Result<Prepared> {
        let mut made = self.make(number)?;
        if is_held {
            let filled = made.fill_to(usize::MAX, &*self.storage, LARGE_PAGE_LEN);
            filled.inspect_err(|_| abandon(&*self.storage, number))?;
        }
        Ok(made)
    }

    /// Prepares segment `number`, and notes how that went.
    pub(super) fn attempt(&self, number: u64) -> MutexGuard<'_, State> {
        let is_held = self.state.lock().wants_held();
        let made = self.make_for(number, is_held);
        let mut state = self.state.lock();
        match made {
            Ok(prepared) => {
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

    /// Takes down whether as many spares are ready as are to be.
    pub(super) fn note(&self, state: &State) {
        self.is_complete.store(state.is_complete(), Ordering::Relaxed);
    }
}

/// Without a thread, so that all that happens on a simulated disk happens in one order.
#[cfg(feature = "testing")]
impl PreparerCore {
    pub(super) fn prepare_ahead(&self) {
        if self.storage.preparation() == Preparation::Ahead {
            // What fails is told by the appender that needs it.
            let keep = self.state.lock().held_max;
            drop(self.make_until_more_than(keep));
        }
    }

    pub(super) fn take_in_line(&self, keep: usize) -> crate::error::Result<Prepared> {
        let mut state = self.make_until_more_than(keep);
        let failure = state.failure.take();
        let Some(prepared) = state.take_spare(keep) else { return Err(failure.expect("nobody cancels it")) };
        self.note(&state);
        drop(state);
        self.prepare_ahead();
        Ok(prepared)
    }

    /// Makes spares until more than `keep` are ready, or one fails.
    pub(super) fn make_until_more_than(&self, keep: usize) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.ready() <= keep {
            let number = state.next_number;
            drop(state);
            state = self.attempt(number);
            if state.is_failing {
                break;
            }
        }
        state
    }
}
