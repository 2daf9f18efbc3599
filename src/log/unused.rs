//! Giving back what ended segments leave unused, once the link of a later one is durable.

use super::recovery::unused::Unused;
use super::shared::{Rotation, Shared};
use crate::segment::giving_back;

impl Shared {
    /// Notes what is unused of a segment that ends, or has ended.
    pub(crate) fn note_unused(&self, Unused { number, size, start }: Unused) {
        if giving_back::hole_start(size, start).is_some() {
            self.preparer.ended().push(number, start);
        }
    }

    /// Gives back what is unused of segments that are durably ended; what a rotation is just changing is left to that, or to the
    /// next sync. Called by the leader.
    pub(crate) fn give_back_unused(&self) {
        if self.preparer.ended().is_empty() {
            return;
        }
        if let Some(mut rotation) = self.try_lock_rotation() {
            self.give_back_unused_locked(&mut rotation);
        }
    }

    /// With the rotation locked, so that no segment leaves the list meanwhile, whose file would be another segment soon.
    pub(crate) fn give_back_unused_locked(&self, _rotation: &mut Rotation) {
        let ended = self.preparer.ended().take_before(self.durability.position().segment());
        if ended.is_empty() {
            return;
        }
        let segments = self.segments.load();
        for (number, end) in ended {
            // One that is not there has been dropped meanwhile.
            if let Ok(at) = segments.as_slice().binary_search_by_key(&number, |segment| segment.number()) {
                segments.as_slice()[at].give_back(end);
            }
        }
        self.note_extent();
    }
}
