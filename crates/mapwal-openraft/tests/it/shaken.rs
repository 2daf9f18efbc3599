//! A store that something happens to before every call, of whatever openraft.

use std::sync::Arc;

use mapwal::testing::SimulatedDisk;
use parking_lot::Mutex;

use crate::support::{Store, open_on};

/// What happens to a store before every call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before {
    /// It is closed, and opened again.
    Reopening,
    /// A segment ends.
    Rotation,
    /// The power fails.
    PowerCut,
}

/// A store that something happens to before every call.
#[derive(Clone)]
pub(crate) struct Shaken {
    before: Before,
    state: Arc<Mutex<(SimulatedDisk, Option<Store>)>>,
}

impl Shaken {
    pub(crate) fn new(before: Before, seed: u64) -> Self {
        Self { before, state: Arc::new(Mutex::new((SimulatedDisk::new(seed), None))) }
    }

    /// The store for the next call.
    pub(crate) fn store(&self) -> Store {
        let mut state = self.state.lock();
        let (disk, store) = &mut *state;
        match (self.before, store.take()) {
            (_, None) => {}
            (Before::Reopening, Some(store)) => store.log().close().expect("closed"),
            (Before::Rotation, Some(kept)) => {
                kept.log().rotate().expect("rotated");
                *store = Some(kept);
            }
            (Before::PowerCut, Some(_)) => *disk = disk.restart(),
        }
        store.get_or_insert_with(|| open_on(disk)).clone()
    }
}
