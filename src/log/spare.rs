//! A thread that keeps one prepared segment ahead of the appenders. When they outrun it they get the segment as far as it
//! is filled: the rest of its pages then come one by one as they are stored to, while the thread fills the next.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::name;
use crate::memory::Region;
use crate::segment::prepare::{Prepared, STEP_BYTES, abandon, prepare, settle};
use crate::segment::{Frontier, Segment};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::{Storage, StorageFile};

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
    /// Segments to be walked, oldest first. Taken for a moment, with or without the state locked.
    sealed: Mutex<VecDeque<Weak<Segment>>>,
    /// Set once, with the lock held; read without it while a segment is being filled.
    stopping: AtomicBool,
    /// Somebody waits for a spare: one that is not filled will do. Relaxed: it only ends the filling early.
    hurry: AtomicBool,
}

#[derive(Debug)]
struct State {
    ready: Option<Prepared>,
    /// Why the last attempt failed.
    failure: Option<Error>,
    /// An attempt is wanted or under way.
    wanted: bool,
    next_number: u64,
    /// The segment that was filled when the log was opened, until it is settled.
    first: Option<Settling>,
    /// The event that says that the spare is ready has been reported.
    announced: bool,
}

/// A segment in use, up to where it is settled.
#[derive(Debug)]
struct Settling {
    file: Arc<dyn StorageFile>,
    region: Arc<Region>,
    settled: usize,
}

/// Between two steps of settling: 64 MiB take a third of a second.
const PAUSE: Duration = Duration::from_millis(1);

impl Spares {
    /// Begins with segment `next_number`, above every number ever used.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        log_id: u128,
        segment_size: u64,
        next_number: u64,
    ) -> io::Result<Self> {
        let state = State { ready: None, failure: None, wanted: true, next_number, first: None, announced: false };
        let shared = Arc::new(Shared {
            storage,
            log_id,
            segment_size,
            state: Mutex::new(state),
            changed: Condvar::new(),
            sealed: Mutex::default(),
            stopping: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
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
                self.shared.hurry.store(false, Ordering::Relaxed);
                state.wanted = true;
                self.shared.changed.notify_all();
                return Ok(prepared);
            }
            if let Some(failure) = state.failure.take()
                && tried
            {
                self.shared.hurry.store(false, Ordering::Relaxed);
                return Err(failure);
            }
            tried |= state.wanted;
            if !state.wanted {
                state.wanted = true;
                tried = true;
                self.shared.changed.notify_all();
            }
            self.shared.hurry.store(true, Ordering::Relaxed);
            self.shared.changed.wait(&mut state);
        }
    }

    /// Settles the first segment of the log, which is in use already, behind the first spare.
    pub(crate) fn settle_first(&self, file: Arc<dyn StorageFile>, region: Arc<Region>) {
        self.shared.state.lock().first = Some(Settling { file, region, settled: 0 });
        self.shared.changed.notify_all();
    }

    /// Walks `segment`, which takes no more frames and is too large for the thread that rotates to do it: until that is
    /// done, its slot among the appenders' is not free.
    pub(crate) fn walk_later(&self, segment: &Arc<Segment>) {
        self.shared.sealed.lock().push_back(Arc::downgrade(segment));
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
                if self.settle_on(&mut state) {
                    self.changed.wait_for(&mut state, PAUSE);
                } else {
                    self.changed.wait(&mut state);
                }
                continue;
            }
            let number = state.next_number;
            drop(state);
            state = self.attempt(number);
            self.changed.notify_all();
        }
    }

    /// Settles a little more of what is filled; false if there is nothing left to settle. With the state locked, so that
    /// the spare is not taken meanwhile: for as long as the system takes to queue some pages.
    fn settle_on(&self, state: &mut State) -> bool {
        if let Some(first) = &mut state.first {
            let range = first.settled..(first.settled + STEP_BYTES).min(first.region.len());
            first.settled = range.end;
            if settle(&*self.storage, &*first.file, first.region.mapping(), range) {
                return true;
            }
            state.first = None;
        }
        let Some(ready) = &mut state.ready else { return false };
        let goes_on = ready.settle_on(&*self.storage);
        if !goes_on && !std::mem::replace(&mut state.announced, true) {
            tracing::debug!(segment = ready.number, size_bytes = ready.size, "segment prepared");
        }
        goes_on
    }

    /// Prepares segment `number`, and notes how that went.
    fn attempt(&self, number: u64) -> MutexGuard<'_, State> {
        let made = prepare(&*self.storage, self.log_id, number, self.segment_size).and_then(|made| self.fill(made));
        let mut state = self.state.lock();
        state.wanted = false;
        match made {
            Ok(prepared) => {
                state.announced = false;
                state.next_number = number + 1;
                state.ready = Some(prepared);
            }
            Err(error) => {
                let file = name::segment(number);
                tracing::warn!(error = &error as &dyn std::error::Error, file, "cannot prepare a segment");
                state.failure = Some(error);
            }
        }
        state
    }

    /// Whether somebody waits for this thread.
    fn is_wanted(&self) -> bool {
        self.hurry.load(Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed)
    }

    /// Walks sealed segments for as long as nobody waits for this thread.
    fn walk(&self) {
        while !self.is_wanted() {
            let Some(segment) = self.sealed.lock().front().cloned() else { return };
            // It may be gone, or durable and at rest: then it has been walked. What an error was about comes up again when
            // the segment is synced or read.
            let walked = segment.upgrade().and_then(|segment| {
                let (offset, (region, _)) = (segment.frontier().offset, segment.unsynced()?);
                let enough = |frontier: Frontier| frontier.offset >= offset + STEP_BYTES;
                let frontier = segment.advance(&region, enough).ok()?;
                Some(frontier.offset > offset && !segment.ends_by(frontier.offset))
            });
            if walked != Some(true) {
                self.sealed.lock().pop_front();
            }
        }
    }

    /// Fills `prepared` for as long as nobody waits for it.
    fn fill(&self, mut prepared: Prepared) -> Result<Prepared> {
        self.walk();
        while !self.is_wanted() {
            let filled = prepared.fill_on(&*self.storage);
            if !filled.inspect_err(|_| abandon(&*self.storage, prepared.number))? {
                break;
            }
        }
        Ok(prepared)
    }
}
