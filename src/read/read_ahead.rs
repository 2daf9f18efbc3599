//! A thread that reads and checks segments before they are wanted.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::memory::Process;
use crate::segment::{Segment, Segments};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::{self, Storage};

/// Walked at a time.
const STEP_LEN: usize = 256 << 10;

/// Reads ahead of readers that go through a log from segment to segment.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    shared: Arc<ReadAheadCore>,
    /// Started when it may have something to do.
    thread: OnceLock<Option<JoinHandle<()>>>,
    is_allowed: bool,
    /// That which has started the thread.
    process: Process,
}

/// The thread is parked while nothing is wanted: waking a thread up that is takes no memory, unlike the first notice through a
/// `Condvar`.
#[derive(Debug, Default)]
struct ReadAheadCore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<Weak<Segment>>,
    stopping: bool,
}

impl ReadAhead {
    /// For a log on `storage`, which may want all that happens on it to happen in one order.
    #[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "only simulated disks want that"))]
    pub(crate) fn new(storage: &dyn Storage) -> Self {
        #[cfg(feature = "testing")]
        let is_allowed = storage.preparation() == Preparation::Background;
        #[cfg(not(feature = "testing"))]
        let is_allowed = true;
        Self { shared: Arc::default(), thread: OnceLock::new(), is_allowed, process: Process::current() }
    }

    /// A reader begins with `segments`, which may have to be read ahead: a single one never is.
    pub(crate) fn expect(&self, segments: &Segments) {
        if segments.as_slice().len() < 2 || !self.is_allowed {
            return;
        }
        self.thread.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            // Without it, the reader does all of it.
            storage::spawn("mapwal-ahead", move || shared.run()).ok()
        });
    }

    /// `segment` will be wanted next; the reader has come to the one that was named before.
    #[cold]
    pub(crate) fn read(&self, segment: &Arc<Segment>) {
        if let Some(Some(thread)) = self.thread.get() {
            self.shared.state.lock().wanted = Some(Arc::downgrade(segment));
            thread.thread().unpark();
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // The thread is not here to be waited for.
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.state.lock().stopping = true;
        if let Some(thread) = self.thread.take().flatten() {
            thread.thread().unpark();
            // A panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl ReadAheadCore {
    fn run(&self) {
        loop {
            let state = self.state.lock();
            if state.stopping {
                return;
            }
            let segment = state.wanted.as_ref().and_then(Weak::upgrade);
            drop(state);
            let Some(segment) = segment else {
                std::thread::park();
                continue;
            };
            // The reader will find again what is wrong.
            let walked = segment.region().and_then(|region| segment.read_ahead(&region, STEP_LEN));
            if !walked.unwrap_or(false) {
                self.state.lock().wanted.take_if(|wanted| wanted.as_ptr() == Arc::as_ptr(&segment));
            }
        }
    }
}
