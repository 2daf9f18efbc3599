//! The task that takes requests to trim, and how far they may.

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::lsn::Lsn;
use crate::storage::workers::{Code, Task, Urgency, Work};

/// What requests may have trimmed, and the task that takes them.
pub(crate) struct Requests {
    /// The first record that they must leave. Held while one trims. Taken after `checkpointing` of a `Wal`, and before every other
    /// lock of the log.
    pub(super) up_to: Mutex<Lsn>,
    /// With what it does. `None` if none are taken.
    task: OnceLock<(Task, Arc<dyn Work>)>,
}

impl Requests {
    pub(super) fn new(up_to: Option<Lsn>) -> Self {
        Self { up_to: Mutex::new(up_to.unwrap_or(Lsn::ZERO)), task: OnceLock::new() }
    }

    /// Has `work` take them.
    pub(super) fn begin(&self, work: Arc<dyn Work>) -> io::Result<()> {
        let task = Task::new("requests", Code::Own, Arc::<dyn Work>::downgrade(&work))?;
        self.task.get_or_init(|| (task, work)).0.wake(Urgency::Ordinary);
        Ok(())
    }

    /// Ends the task. A trim that it is at is over then.
    pub(super) fn stop(&self) {
        if let Some((task, _)) = self.task.get() {
            task.stop();
        }
    }
}
