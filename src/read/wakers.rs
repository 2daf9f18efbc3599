//! Calling wakers: code of the application, which may take as long as it likes, or never return.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::storage::{spawn, survive};

/// How long a waker may take before those after it are called by another thread.
const PATIENCE: Duration = Duration::from_millis(10);
/// Threads at a time, all but one of them inside of wakers that do not return: beyond, the next wakers wait for one that does.
const THREADS_MAX: usize = 64;

/// Calls wakers one after the other. One thread is in charge; once it has been in a waker for too long, another one takes
/// over, and the first ends when its waker returns.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waker>,
    /// The number of the thread that is in charge, 0 before there is one.
    in_charge: u64,
    /// Since when it has been inside of a waker.
    busy_since: Option<Instant>,
    /// All threads, those included that are in charge no more.
    threads: usize,
}

impl Wakers {
    /// With the first thread; an error if it cannot be started.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let wakers = Arc::<Self>::default();
        wakers.put_another_in_charge(&mut wakers.state.lock())?;
        Ok(wakers)
    }

    /// Ends the thread in charge.
    pub(super) fn stop(&self) {
        self.state.lock().in_charge = 0;
        self.changed.notify_all();
    }

    /// Has `waker` called soon.
    pub(super) fn call(&self, waker: Waker) {
        self.state.lock().waiting.push_back(waker);
        self.changed.notify_all();
    }

    /// Has another thread take over if the one in charge does not come back. Returns when to look again, if there is anything
    /// to look after: the caller of [`Self::call`] does that.
    pub(super) fn look_after(self: &Arc<Self>) -> Option<Duration> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return None;
        }
        let Some(since) = state.busy_since else { return Some(PATIENCE) };
        let left = PATIENCE.saturating_sub(since.elapsed());
        if left.is_zero() && state.threads < THREADS_MAX {
            // If it cannot be started: tried again the next time.
            let _ = self.put_another_in_charge(&mut state);
        }
        Some(if left.is_zero() { PATIENCE } else { left })
    }

    fn put_another_in_charge(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let (wakers, number) = (Arc::clone(self), state.in_charge + 1);
        spawn("mapwal-wakers", move || wakers.run(number))?;
        (state.in_charge, state.busy_since) = (number, None);
        state.threads += 1;
        Ok(())
    }

    fn run(&self, number: u64) {
        let mut state = self.state.lock();
        while state.in_charge == number {
            if let Some(waker) = state.waiting.pop_front() {
                state.busy_since = Some(Instant::now());
                drop(state);
                // One that panics has been called, which is all that its stream can ask for.
                survive(|| waker.wake());
                state = self.state.lock();
                if state.in_charge == number {
                    state.busy_since = None;
                }
            } else {
                self.changed.wait(&mut state);
            }
        }
        state.threads -= 1;
    }
}
