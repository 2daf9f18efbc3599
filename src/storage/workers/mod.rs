//! The threads that the logs of this process share, a handful whatever their number: `docs/design/concurrency.md` says which,
//! and why no log holds up another.
//!
//! What a log has to do in the background is a [`Task`]: it rests until it is woken, does one step at a time, and waits for its
//! next turn. A step that takes long, on a disk that does not answer or in code of the application, keeps one thread, and another
//! one takes its place.

mod crew;
mod run;
mod task;
mod threads;
mod word;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use task::TaskCore;
pub(crate) use task::{Code, Next, Urgency, Work};
use threads::Threads;
#[cfg(feature = "testing")]
pub use threads::task_of_this_thread;

/// Those of this process, or of the one that it was forked from. Locked before theirs.
static THREADS: Mutex<Option<Arc<Threads>>> = Mutex::new(None);

/// A share in the threads, for one kind of work of one log. It is stopped when this is dropped.
pub(crate) struct Task {
    threads: Option<Arc<Threads>>,
    core: Arc<TaskCore>,
    is_stopped: AtomicBool,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("name", &self.core.name).finish_non_exhaustive()
    }
}

impl Task {
    /// A task that does `work`, which owns it, once it is woken. An error if there is no thread for it and none can be started.
    pub(crate) fn new(name: &'static str, code: Code, work: Weak<dyn Work>) -> io::Result<Self> {
        let threads = Some(enter(code)?);
        Ok(Self { threads, core: Arc::new(TaskCore::new(name, code, work)), is_stopped: AtomicBool::new(false) })
    }

    /// Has a step done soon that sees what has been changed before. Takes no memory.
    pub(crate) fn wake(&self, urgency: Urgency) {
        self.threads().wake(&self.core, urgency);
    }

    /// Has no step begin any more. On return none is being done, unless this thread is in it.
    pub(crate) fn stop(&self) {
        self.finish(false);
    }

    /// As [`Self::stop`], without waiting for a step that is being done.
    pub(crate) fn leave(&self) {
        self.finish(true);
    }

    fn finish(&self, is_left: bool) {
        self.threads().stop(&self.core, is_left);
        if !self.is_stopped.swap(true, Ordering::Relaxed) {
            self.threads().leave();
        }
    }

    fn threads(&self) -> &Threads {
        self.threads.as_ref().expect("until it is dropped")
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.threads().process.is_current() {
            // The threads are not here, and may have had their lock when this process was made.
            std::mem::forget(self.threads.take());
        } else if !self.is_stopped.load(Ordering::Relaxed) {
            self.stop();
        }
    }
}

/// The threads, with one more task and a thread for `code`.
fn enter(code: Code) -> io::Result<Arc<Threads>> {
    let mut slot = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(threads) = slot.as_ref().filter(|threads| threads.process.is_current())
        && threads.enter(code, |code, number| run::start(threads, code, number))?
    {
        return Ok(Arc::clone(threads));
    }
    let threads = Threads::new();
    threads.enter(code, |code, number| run::start(&threads, code, number))?;
    if let Some(before) = slot.replace(Arc::clone(&threads)).filter(|before| !before.process.is_current()) {
        // What they hold of threads is not of this process.
        std::mem::forget(before);
    }
    Ok(threads)
}
