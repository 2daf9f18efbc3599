//! A thread that keeps one prepared segment ahead of the appenders.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::name;
use crate::segment::prepare::{Prepared, prepare};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::Storage;

/// Hands out prepared segments.
#[derive(Debug)]
pub(crate) struct Spares {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    log_id: u128,
    segment_size: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// Set once, with the lock held; read without it while a segment is being zeroed.
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    ready: Option<Prepared>,
    /// Why the last attempt failed.
    failure: Option<Error>,
    /// An attempt is wanted or under way.
    wanted: bool,
    next_number: u64,
}

impl Spares {
    /// Begins with segment `next_number`, above every number ever used.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        log_id: u128,
        segment_size: u64,
        next_number: u64,
    ) -> io::Result<Self> {
        let state = State { ready: None, failure: None, wanted: true, next_number };
        let shared = Arc::new(Shared {
            storage,
            log_id,
            segment_size,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        #[cfg(feature = "testing")]
        if shared.storage.preparation() != Preparation::Background {
            shared.prepare_ahead();
            return Ok(Self { shared, thread: Mutex::new(None) });
        }
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("mapwal-prepare".into()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The spare; waits for one if there is none. A failure of an earlier attempt is not reported but tried again, so
    /// that a disk that was full is found to have room again.
    pub(crate) fn take(&self) -> Result<Prepared> {
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            return self.shared.take_in_line();
        }
        let mut state = self.shared.state.lock();
        let mut tried = false;
        loop {
            if let Some(prepared) = state.ready.take() {
                state.wanted = true;
                self.shared.changed.notify_all();
                return Ok(prepared);
            }
            if let Some(failure) = state.failure.take()
                && tried
            {
                return Err(failure);
            }
            tried |= state.wanted;
            if !state.wanted {
                state.wanted = true;
                tried = true;
                self.shared.changed.notify_all();
            }
            self.shared.changed.wait(&mut state);
        }
    }

    /// Whether a spare is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.state.lock().ready.is_some()
    }

    /// Stops the thread; returns the spare that nobody took.
    pub(crate) fn stop(&self) -> Option<Prepared> {
        let mut state = self.shared.state.lock();
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        drop(state);
        if let Some(thread) = self.thread.lock().take() {
            // A panic in it has been reported by the panic hook; the log goes on without a spare.
            let _ = thread.join();
        }
        state = self.shared.state.lock();
        state.ready.take()
    }
}

/// Without a thread, so that all that happens on a simulated disk happens in one order.
#[cfg(feature = "testing")]
impl Shared {
    fn prepare_ahead(&self) {
        if self.storage.preparation() == Preparation::Ahead {
            let number = self.state.lock().next_number;
            drop(self.attempt(number));
        }
    }

    fn take_in_line(&self) -> Result<Prepared> {
        let mut state = self.state.lock();
        if state.ready.is_none() {
            let number = state.next_number;
            drop(state);
            state = self.attempt(number);
        }
        let failure = state.failure.take();
        let Some(prepared) = state.ready.take() else { return Err(failure.expect("nobody cancels it")) };
        drop(state);
        self.prepare_ahead();
        Ok(prepared)
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if !state.wanted {
                self.changed.wait(&mut state);
                continue;
            }
            let number = state.next_number;
            drop(state);
            state = self.attempt(number);
            self.changed.notify_all();
        }
    }

    /// Prepares segment `number`, and notes how that went.
    fn attempt(&self, number: u64) -> MutexGuard<'_, State> {
        let made = prepare(&*self.storage, self.log_id, number, self.segment_size, &self.stopping);
        let mut state = self.state.lock();
        state.wanted = false;
        match made {
            Ok(prepared) => {
                state.next_number = number + 1;
                state.ready = prepared;
            }
            Err(error) => {
                let file = name::segment(number);
                tracing::warn!(error = &error as &dyn std::error::Error, file, "cannot prepare a segment");
                state.failure = Some(error);
            }
        }
        state
    }
}
