//! What the clients have done and seen: for each key, all operations on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use parking_lot::Mutex;
use serde::Serialize;

/// So many keys are in use at a time.
const KEYS: usize = 4;
/// A key is not used any more after as many operations, and after as many of which nobody knows: a check takes longer the
/// more there are.
const OPERATIONS: usize = 160;
const UNKNOWN: usize = 6;

/// What was done. Values are known by the number of the write that they come from; none is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    /// Read, with what was found.
    Get(u64),
    Put(u64),
    /// Compare-and-set, and whether it took effect, if that is known.
    Swap {
        expected: u64,
        new: u64,
        done: Option<bool>,
    },
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Operation {
    pub(super) client: u64,
    /// When it began, on a clock that counts beginnings and ends.
    pub(super) begin: u64,
    /// When its answer was there. Without one it may take effect at any time after it began, or never.
    pub(super) end: Option<u64>,
    pub(super) kind: Kind,
}

impl Operation {
    /// The write that was acknowledged, if it is one that took effect.
    pub(super) fn acknowledged(&self) -> Option<u64> {
        match self.kind {
            Kind::Put(number) | Kind::Swap { new: number, done: Some(true), .. } if self.end.is_some() => Some(number),
            _ => None,
        }
    }
}

#[derive(Default)]
struct OfKey {
    operations: Vec<Operation>,
    under_way: usize,
    unknown: usize,
    is_checked: bool,
}

impl OfKey {
    fn is_used_up(&self) -> bool {
        self.operations.len() >= OPERATIONS || self.unknown >= UNKNOWN
    }
}

/// All of it.
pub(super) struct History {
    clock: AtomicU64,
    numbers: AtomicU64,
    keys: Mutex<BTreeMap<u64, OfKey>>,
}

impl History {
    pub(super) fn new() -> Self {
        let keys = (0..KEYS as u64).map(|key| (key, OfKey::default())).collect();
        Self { clock: AtomicU64::new(0), numbers: AtomicU64::new(1), keys: Mutex::new(keys) }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A number for a write that no other one has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A key for an operation, which [`Self::end`] ends.
    pub(super) fn begin(&self, rng: &mut Rng) -> u64 {
        let mut keys = self.keys.lock();
        let next = keys.last_key_value().map_or(0, |(key, _)| key + 1);
        let in_use: Vec<u64> = keys.iter().filter(|(_, key)| !key.is_used_up()).map(|(key, _)| *key).collect();
        let key = if in_use.len() < KEYS { next } else { in_use[rng.usize(..KEYS)] };
        keys.entry(key).or_default().under_way += 1;
        key
    }

    /// The operation on `key` is over; `None` if it has had no effect and seen nothing.
    pub(super) fn end(&self, key: u64, operation: Option<Operation>) {
        let mut keys = self.keys.lock();
        let of_key = keys.entry(key).or_default();
        of_key.under_way -= 1;
        if let Some(operation) = operation {
            of_key.unknown += usize::from(operation.end.is_none());
            of_key.operations.push(operation);
        }
    }

    /// Keys that are not used any more, and were not given before.
    pub(super) fn over(&self) -> Vec<(u64, Vec<Operation>)> {
        let mut keys = self.keys.lock();
        let over = keys.iter_mut().filter(|(_, key)| key.is_used_up() && key.under_way == 0 && !key.is_checked);
        over.map(|(key, of_key)| {
            of_key.is_checked = true;
            (*key, of_key.operations.clone())
        })
        .collect()
    }

    /// All keys with all that was done.
    pub(super) fn all(&self) -> Vec<(u64, Vec<Operation>)> {
        self.keys.lock().iter().map(|(key, of_key)| (*key, of_key.operations.clone())).collect()
    }

    /// Adds what a read in the end has found.
    pub(super) fn add(&self, key: u64, operation: Operation) {
        self.keys.lock().entry(key).or_default().operations.push(operation);
    }
}
