//! Reads and checks segments before they are wanted, as a task on the threads that all logs share.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::CHUNK_BYTES;
use crate::error::Result;
use crate::segment::{Segment, Segments};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::Storage;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};

/// Chunks walked at a time.
const STEP_CHUNKS: usize = 16;

/// Reads ahead of readers that go through a log from segment to segment.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    shared: Arc<ReadAheadCore>,
    /// Begun when it may have something to do. It ends with this.
    task: OnceLock<Option<Task>>,
    is_allowed: bool,
}

#[derive(Debug, Default)]
struct ReadAheadCore {
    wanted: Mutex<Option<Weak<Segment>>>,
}

impl ReadAhead {
    /// For a log on `storage`, which may want all that happens on it to happen in one order.
    #[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "only simulated disks want that"))]
    pub(crate) fn new(storage: &dyn Storage) -> Self {
        #[cfg(feature = "testing")]
        let is_allowed = storage.preparation() == Preparation::Background;
        #[cfg(not(feature = "testing"))]
        let is_allowed = true;
        Self { shared: Arc::default(), task: OnceLock::new(), is_allowed }
    }

    /// A reader begins with `segments`, which may have to be read ahead: a single one never is.
    pub(crate) fn expect(&self, segments: &Segments) {
        if segments.as_slice().len() < 2 || !self.is_allowed {
            return;
        }
        self.task.get_or_init(|| {
            let work: Weak<ReadAheadCore> = Arc::downgrade(&self.shared);
            // Without it, the reader does all of it.
            Task::new("ahead", Code::Own, work).ok()
        });
    }

    /// `segment` will be wanted next; the reader has come to the one that was named before, and checks what is left of it.
    #[cold]
    pub(crate) fn read(&self, segment: &Arc<Segment>) {
        if let Some(Some(task)) = self.task.get() {
            *self.shared.wanted.lock() = Some(Arc::downgrade(segment));
            task.wake(Urgency::Ordinary);
        }
    }
}

impl ReadAheadCore {
    /// Checks some more of `segment`; false if there is no more to be checked of it here. A reader that comes to it goes on
    /// where this has come to, and has it read another one: no record is checked twice, but for those of one chunk.
    fn advance(&self, segment: &Arc<Segment>) -> Result<bool> {
        let region = segment.region()?;
        for _ in 0..STEP_CHUNKS {
            let is_wanted = self.wanted.lock().as_ref().is_some_and(|wanted| wanted.as_ptr() == Arc::as_ptr(segment));
            if !is_wanted || !segment.read_ahead(&region, CHUNK_BYTES)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Work for ReadAheadCore {
    fn step(&self) -> Next {
        let wanted = self.wanted.lock().clone();
        let Some(segment) = wanted.as_ref().and_then(Weak::upgrade) else { return Next::Rest };
        // The reader will find again what is wrong.
        if self.advance(&segment).unwrap_or(false) {
            return Next::Again(Urgency::Ordinary);
        }
        self.wanted.lock().take_if(|wanted| wanted.as_ptr() == Arc::as_ptr(&segment));
        // Another one may be wanted by now, for which this has been woken.
        Next::Rest
    }
}
