//! What the threads do: steps of tasks, and keeping time.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::task::{Code, Next, TaskCore};
use super::threads::{Threads, Tick, as_current, thread_name};
use crate::storage::thread::{spawn, survive};

/// Starts member `number` for `code`, or the clock.
pub(super) fn start(threads: &Arc<Threads>, code: Option<Code>, number: u64) -> io::Result<JoinHandle<()>> {
    let threads = Arc::clone(threads);
    match code {
        Some(code) => spawn(thread_name(code), move || work(&threads, code, number)),
        None => spawn("mapwal-clock", move || keep_time(&threads)),
    }
}

fn work(threads: &Threads, code: Code, number: u64) {
    let mut state = threads.lock();
    while let Some(task) = threads.next(state, code, number) {
        let next = step(&task);
        let Some(after) = threads.end(&task, number, next) else { return };
        state = after;
    }
}

/// `None` if there is to be no other one.
fn step(task: &TaskCore) -> Option<Next> {
    as_current(task, || {
        let work = task.work.upgrade()?;
        let next = survive(|| work.step());
        // Before the step counts as over: then nothing that the log owns is used here any more.
        survive(|| drop(work));
        next
    })
}

/// Wakes tasks at their times, and starts threads where some are missing. It does nothing else, so that it is always there for it.
fn keep_time(threads: &Arc<Threads>) {
    while let Tick::Start(code, number) = threads.tick() {
        // If it cannot be started, the tasks wait for the threads that there are; it is tried again.
        threads.started(code, number, start(threads, Some(code), number).ok());
    }
}
