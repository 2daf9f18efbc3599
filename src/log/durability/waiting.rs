//! What a future waits with for its outcome.

use std::mem;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::error::Result;

/// What a future shares with the callback that ends the waiting.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<State>);

enum State {
    /// With the waker of the last poll.
    Waits(Option<Waker>),
    Over(Result<()>),
    Told,
}

impl Default for State {
    fn default() -> Self {
        Self::Waits(None)
    }
}

impl Waiting {
    /// The waker to be called: wakers are the application's code, which runs with nothing locked, and so does their drop.
    pub(super) fn end(&self, outcome: Result<()>) -> Option<Waker> {
        let mut state = self.0.lock();
        match &mut *state {
            State::Waits(waker) => {
                let waker = waker.take();
                *state = State::Over(outcome);
                waker
            }
            // The future was dropped, or an outcome came before.
            State::Over(_) | State::Told => None,
        }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(*self.0.lock(), State::Waits(_))
    }

    /// The outcome, and the waker that is not needed.
    pub(super) fn poll(&self, waker: Waker) -> (Poll<Result<()>>, Option<Waker>) {
        let mut state = self.0.lock();
        match &mut *state {
            State::Waits(slot) => (Poll::Pending, slot.replace(waker)),
            State::Told => {
                drop(state);
                panic!("polled after it was ready");
            }
            State::Over(_) => match mem::replace(&mut *state, State::Told) {
                State::Over(outcome) => (Poll::Ready(outcome), Some(waker)),
                _ => unreachable!("it is locked"),
            },
        }
    }

    /// Nobody asks for the outcome any more.
    pub(super) fn give_up(&self) {
        let before = mem::replace(&mut *self.0.lock(), State::Told);
        drop(before);
    }
}
