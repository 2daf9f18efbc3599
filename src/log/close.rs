//! Shutting down cleanly.

use super::Log;
use super::durability::Goal;
use crate::error::Result;
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::name;
use crate::lsn::Lsn;
use crate::memory::Taken;

impl Log {
    /// Makes everything durable and shuts the log down cleanly: the next open goes on where this one ended.
    ///
    /// # Errors
    /// As [`Log::sync`]; the log is then left as a drop leaves it.
    pub fn close(self) -> Result<()> {
        let shared = &*self.shared;
        shared.wait(shared.everything())?;
        let end = {
            let mut rotation = shared.lock_rotation();
            let (segment, _) = shared.reserved();
            let closed = rotation.rotor.close(frame::HEADER_LEN);
            let Some(Taken { offset, ordinal, trailer: Some(place) }) = closed else {
                return shared.durability.check();
            };
            let next_lsn = Lsn(segment.base_lsn().0 + u64::from(ordinal));
            shared.publish(place, FrameHead::note(FrameKind::Close, next_lsn, 0), &[]);
            segment.position(offset + frame::HEADER_LEN)
        };
        shared.wait(Goal { lsn: Lsn::ZERO, position: end })?;
        shared.background.stop(&shared.durability);
        if let Some(spare) = shared.preparer.stop() {
            let name = name::segment(spare.number);
            let removed = shared.storage.remove(&name).and_then(|()| shared.storage.sync_directory());
            // A spare that stays is removed at the next open.
            if let Err(error) = removed {
                tracing::warn!(error = &error as &dyn std::error::Error, file = name, "cannot remove a spare");
            }
        }
        shared.control.set_closed();
        tracing::info!(directory = %self.directory().display(), next_lsn = shared.next_lsn().0, "log closed");
        Ok(())
    }
}
