//! A task as the threads see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Weak};
use std::time::Instant;

use super::word::Word;

/// Work of a log that comes up again and again, and is done step by step, by whichever thread is free.
pub(crate) trait Work: Send + Sync {
    /// Does a little of it, with nothing locked by the caller. Never called by two threads at the same time, nor after the
    /// task is stopped. After a panic it is not called again.
    fn step(&self) -> Next;
}

/// What comes after a step, unless the task is woken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another step, once the tasks that wait had theirs.
    Again(Urgency),
    /// Another one at this time.
    At(Instant),
    Rest,
}

/// Which tasks come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Those that a call waits for, or soon will.
    Urgent,
    Ordinary,
}

/// Whose code a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The log's own.
    Own,
    /// Of the application, which may take as long as it likes, or never return.
    Application,
}

/// The last number given. Relaxed: a count.
static LAST: AtomicU64 = AtomicU64::new(0);

pub(super) struct TaskCore {
    /// No other task has it.
    pub(super) number: u64,
    /// For tests and for debugging.
    pub(super) name: &'static str,
    pub(super) code: Code,
    /// Of what the log owns, which stops the task before it goes.
    pub(super) work: Weak<dyn Work>,
    pub(super) word: Word,
    /// Whether it is on the queue of what is urgent, and on the other one. Changed with the lock of the threads, so relaxed.
    queued: [AtomicBool; 2],
    /// With the lock of the threads: the step is over that was being run when the task was stopped.
    pub(super) ended: Condvar,
}

impl TaskCore {
    pub(super) fn new(name: &'static str, code: Code, work: Weak<dyn Work>) -> Self {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self { number, name, code, work, word: Word::new(), queued: Default::default(), ended: Condvar::new() }
    }

    /// Notes whether it is on the queue for `urgency`; whether it was.
    pub(super) fn note_queued(&self, urgency: Urgency, is_queued: bool) -> bool {
        self.queued[usize::from(urgency == Urgency::Ordinary)].swap(is_queued, Ordering::Relaxed)
    }
}
