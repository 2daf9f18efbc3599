//! Calls back, one callback after the other, on a thread for code of the application: what it does there keeps nothing from
//! becoming durable.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::waiting::Waiting;
use crate::error::Result;
use crate::storage::survive;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};

/// What is to learn of an outcome.
pub(crate) enum Callback {
    Call(Box<dyn FnOnce(Result<()>) + Send>),
    Future(Arc<Waiting>),
}

/// Code of the application that is to be run.
enum Due {
    Call(Box<dyn FnOnce(Result<()>) + Send>, Result<()>),
    Wake(Waker),
}

impl Callback {
    /// What is to be run for it. A future has its outcome from now on, and its waker is left.
    fn end(self, outcome: Result<()>) -> Option<Due> {
        match self {
            Self::Call(call) => Some(Due::Call(call, outcome)),
            Self::Future(waiting) => waiting.end(outcome).map(Due::Wake),
        }
    }
}

impl Due {
    fn run(self) {
        match self {
            Self::Call(call, outcome) => call(outcome),
            Self::Wake(waker) => waker.wake(),
        }
    }
}

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
    told: VecDeque<Due>,
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

    /// Has these called back, after those that are still to be, once [`Self::wake`] is called.
    pub(super) fn tell(&self, more: impl Iterator<Item = (Callback, Result<()>)>) {
        let mut state = self.core.state.lock();
        state.told.extend(more.filter_map(|(callback, outcome)| callback.end(outcome)));
    }

    pub(super) fn wake(&self) {
        let is_more = !self.core.state.lock().told.is_empty();
        if is_more && let Some(task) = self.task.get() {
            task.wake(Urgency::Urgent);
        }
    }

    /// Whether this is called from inside of a callback or a waker: none is called before that returns.
    pub(super) fn is_inside(&self) -> bool {
        self.core.state.lock().telling == Some(std::thread::current().id())
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
        while let Some(due) = state.told.pop_front() {
            state.telling = Some(std::thread::current().id());
            drop(state);
            // It is gone in any case.
            survive(|| due.run());
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
