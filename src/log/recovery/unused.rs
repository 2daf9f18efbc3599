//! Giving back what a crash has left unused of the last segment.

use super::plan::Plan;
use crate::log::shared::Shared;

impl Shared {
    /// Gives back the end of the last segment that the plan has ended, if another one follows it, durably.
    pub(crate) fn give_back_unused(&self, plan: &Plan) {
        let (Some(unused), Some((last, _))) = (plan.unused, plan.sealed.last()) else { return };
        if self.is_pending() {
            return;
        }
        let segments = self.segments.load();
        if let Some(segment) = segments.as_slice().iter().find(|segment| segment.number() == last.number) {
            segment.give_back(unused as u64);
        }
    }
}
