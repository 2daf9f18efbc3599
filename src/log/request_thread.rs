//! The thread that takes requests to trim.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::lsn::Lsn;
use crate::memory::Process;
use crate::storage;

/// How often it is looked for one.
const INTERVAL: Duration = Duration::from_millis(500);

/// The thread that takes requests.
pub(crate) struct Requests {
    /// The first record that they must leave. Held while one trims. Taken after `checkpointing` of a `Wal`, and before every other
    /// lock of the log.
    pub(super) up_to: Mutex<Lsn>,
    state: Mutex<State>,
    changed: Condvar,
    /// That which may have started the thread.
    process: Process,
}

#[derive(Default)]
struct State {
    stopping: bool,
    thread: Option<JoinHandle<()>>,
}

impl Requests {
    pub(crate) fn new(up_to: Option<Lsn>) -> Self {
        let up_to = Mutex::new(up_to.unwrap_or(Lsn::ZERO));
        Self { up_to, state: Mutex::default(), changed: Condvar::new(), process: Process::current() }
    }

    /// Starts the thread.
    pub(super) fn start(&self, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.state.lock().thread = Some(storage::spawn("mapwal-requests", run)?);
        Ok(())
    }

    /// Ends the thread. A trim that it is at is over then.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_all();
        if let Some(thread) = thread {
            // It runs nothing of the application, so this is not called by it. A panic in it has been reported.
            let _ = thread.join();
        }
    }

    /// Waits for some time; false if the thread is to end.
    pub(super) fn goes_on(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stopping {
            self.changed.wait_for(&mut state, INTERVAL);
        }
        !state.stopping
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // The thread is not here to be waited for.
            std::mem::forget(self.state.get_mut().thread.take());
        }
    }
}
