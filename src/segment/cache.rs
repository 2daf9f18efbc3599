//! Mappings of segments at rest that are kept although they are not in use.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::memory::Region;

/// Mappings kept at most: a quarter of what Linux gives a process by default (65,530).
const MAPPINGS_MAX: usize = 16_000;

/// The mappings made last, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct MapCache(Mutex<VecDeque<Arc<Region>>>);

impl MapCache {
    /// Keeps `region` mapped until a number of others have come after it.
    pub(crate) fn remember(&self, region: &Arc<Region>) {
        let mut regions = self.0.lock();
        regions.push_back(Arc::clone(region));
        let evicted = (regions.len() > MAPPINGS_MAX).then(|| regions.pop_front());
        // Unmapping is a system call; it happens without the lock.
        drop(regions);
        drop(evicted);
    }

    /// Lets go of one region.
    pub(crate) fn forget(&self, region: &Weak<Region>) {
        let mut regions = self.0.lock();
        let found = regions.iter().position(|kept| std::ptr::eq(Arc::as_ptr(kept), region.as_ptr()));
        let forgotten = found.and_then(|at| regions.remove(at));
        drop(regions);
        drop(forgotten);
    }
}
