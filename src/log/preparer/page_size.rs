//! Leaving a segment whose pages are too large for the syncs that come.

use super::Need;
use crate::events::report;
use crate::log::shared::Shared;

impl Shared {
    /// Goes on in another segment when single pages would serve better: each sync writes a large page as a whole, so when
    /// several in a row were small, the rest of the segment costs more than it is worth. Called by the leader only, after a sync.
    pub(crate) fn leave_large_pages(&self) {
        if !self.preparer.wants_single_pages() {
            return;
        }
        // A log that must wait for a spare, or has no room on the disk, is better off here.
        if self.preparer.has_spare_at_hand() && self.durability.check().is_ok() {
            let mut rotation = self.lock_rotation();
            // A log that is being closed needs no other segment.
            let is_left = self.check_open().is_ok() && self.rotate(&mut rotation, Need::Ordinary, 0).is_ok();
            drop(rotation);
            report!(debug, is_left, "small syncs in large pages");
        }
    }
}
