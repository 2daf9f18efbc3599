//! Waiting for frames that other threads are copying.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::log::Log;
use crate::log::shared::{Rotation, Shared};
use crate::storage::is_full;

/// How often to look again before the processor is given away.
const SPINS: u32 = 100;
/// How long a copy may take before it is asked whether it can end at all.
const PATIENCE: Duration = Duration::from_millis(100);

/// A wait for a frame that has been reserved and is not there.
///
/// A copy takes as long as a memcpy takes, or as the application's closure: no time-out can tell that it will not end.
/// But a file system that has shut itself down may drop pages that were stored to, so that frames which were there read
/// as zeros, and no thread is copying them. So a thread that waits for long asks whether the file system takes writes;
/// if not, nothing that it waits for can become durable, and the log is poisoned.
pub(crate) struct CopyWait {
    looks: u32,
    asked: Option<Instant>,
}

impl CopyWait {
    pub(crate) fn new() -> Self {
        Self { looks: 0, asked: None }
    }

    fn is_long(&mut self) -> bool {
        self.looks = self.looks.saturating_add(1);
        if self.looks < SPINS {
            std::hint::spin_loop();
            return false;
        }
        std::thread::yield_now();
        let now = Instant::now();
        let is_long = now.duration_since(*self.asked.get_or_insert(now)) > PATIENCE;
        if is_long {
            self.asked = Some(now);
        }
        is_long
    }
}

impl Log {
    /// As [`Shared::wait_for_copy`].
    pub(crate) fn wait_for_copy(&self, wait: &mut CopyWait) -> Result<()> {
        self.shared.wait_for_copy(wait)
    }
}

impl Shared {
    /// Passes some time between two looks for a frame.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) when it will not come.
    pub(crate) fn wait_for_copy(&self, wait: &mut CopyWait) -> Result<()> {
        if !wait.is_long() {
            return Ok(());
        }
        self.durability.check()?;
        match self.control.check_writable() {
            // Where what is written is copied, a full disk is no end.
            Err(error) if is_full(&error) => Ok(()),
            asked => asked.map_err(|source| self.poison(source)),
        }
    }

    /// Returns once the appenders can be given another segment, or more room in theirs: that needs a slot which the
    /// appenders of an old generation must have left.
    pub(crate) fn wait_for_slot(&self, rotation: &mut Rotation) -> Result<()> {
        let mut wait = CopyWait::new();
        while !rotation.cursor_control.has_slot() {
            self.wait_for_copy(&mut wait).inspect_err(|_| _ = rotation.cursor_control.close(0))?;
        }
        Ok(())
    }
}
