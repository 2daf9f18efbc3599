//! Segments that have ended with room left, whose unused end goes back to the file system once that is durable.

use parking_lot::Mutex;

/// By number, with the byte from which on there has never been a frame.
#[derive(Debug, Default)]
pub(crate) struct Ended(Mutex<Vec<(u64, u64)>>);

impl Ended {
    /// Before the next segment takes appends.
    pub(crate) fn push(&self, number: u64, end: u64) {
        self.0.lock().push((number, end));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Those before segment `number`, which are noted no longer.
    pub(crate) fn take_before(&self, number: u64) -> Vec<(u64, u64)> {
        self.0.lock().extract_if(.., |&mut (ended, _)| ended < number).collect()
    }
}
