//! Calls back, one callback after the other, on a thread for code of the application: what it does there keeps nothing from
//! becoming durable.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::storage::survive;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};

pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// How long callbacks are told before those of other logs have their turn.
const TURN: Duration = Duration::from_millis(1);

/// What is told, and how.
#[derive(Default)]
pub(super) struct Teller {
    core: Arc<TellerCore>,
    /// Begun with the first callback.
    task: OnceLock<Task>,
}

#[derive(Default)]
struct TellerCore {
    state: Mutex<State>,
    all_told: Condvar,
}

#[derive(Default)]
struct State {
    /// In this order.
    told: VecDeque<(Callback, Result<()>)>,
    /// The thread that is inside of a callback.
    telling: Option<ThreadId>,
    /// No more come, and what is left is told at one go.
    is_last: bool,
}

impl Teller {
    /// Begins the task unless it has begun. By one thread at a time.
    pub(super) fn ensure(&self) -> io::Result<()> {
        if self.task.get().is_none() {
            let work: Weak<TellerCore> = Arc::downgrade(&self.core);
            let task = Task::new("tell", Code::Application, work)?;
            self.task.get_or_init(|| task);
        }
        Ok(())
    }

    /// Has these called back, after those that are still to be.
    pub(super) fn tell(&self, more: impl Iterator<Item = (Callback, Result<()>)>) {
        let mut state = self.core.state.lock();
        let before = state.told.len();
        state.told.extend(more);
        let is_more = state.told.len() > before;
        drop(state);
        if is_more && let Some(task) = self.task.get() {
            task.wake(Urgency::Urgent);
        }
    }

    /// On return all have been called back, unless one of them makes this call: then the rest follow it.
    pub(super) fn finish(&self) {
        let Some(task) = self.task.get() else { return };
        let mut state = self.core.state.lock();
        state.is_last = true;
        let this = std::thread::current().id();
        while state.telling != Some(this) && (state.telling.is_some() || !state.told.is_empty()) {
            self.core.all_told.wait(&mut state);
        }
        drop(state);
        task.stop();
    }
}

impl Work for TellerCore {
    fn step(&self) -> Next {
        let began = Instant::now();
        let mut state = self.state.lock();
        while let Some((callback, outcome)) = state.told.pop_front() {
            state.telling = Some(std::thread::current().id());
            drop(state);
            // The callback is gone in any case.
            survive(|| callback(outcome));
            state = self.state.lock();
            state.telling = None;
            if !state.is_last && began.elapsed() >= TURN {
                return Next::Again(Urgency::Urgent);
            }
        }
        self.all_told.notify_all();
        Next::Rest
    }
}
