//! For how long a store has not answered. Its client may try again by itself, and fail only after minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An answer that takes no longer is none that is told of.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least that a store takes in a second, in bytes: a long object may take a while.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The request of an archiver that is out: one at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<Option<Request>>>);

#[derive(Debug)]
struct Request {
    what: String,
    since: Instant,
    due: Duration,
}

/// Until it is dropped the request is out.
#[derive(Debug)]
pub(crate) struct Out(Waiting);

impl Waiting {
    /// A request begins that sends `len` bytes.
    pub(crate) fn begin(&self, operation: &str, key: &impl std::fmt::Display, len: u64) -> Out {
        let due = PATIENCE + Duration::from_secs(len / BYTES_PER_SECOND);
        *self.0.lock() = Some(Request { what: format!("{operation} {key}"), since: Instant::now(), due });
        Out(self.clone())
    }

    /// What is waited for, and for how long, if that is longer than it should be.
    pub(crate) fn overdue(&self) -> Option<(String, Duration)> {
        let request = self.0.lock();
        let request = request.as_ref().filter(|request| request.since.elapsed() >= request.due)?;
        Some((request.what.clone(), request.since.elapsed()))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_overdue_after_some_seconds_and_those_that_its_bytes_take() {
        let waiting = Waiting::default();
        let age = |seconds| {
            let mut request = waiting.0.lock();
            let request = request.as_mut().expect("one is out");
            request.since = Instant::now().checked_sub(Duration::from_secs(seconds)).expect("long ago");
        };
        let out = waiting.begin("list", &"a", 0);
        assert!(waiting.overdue().is_none());
        age(6);
        assert!(waiting.overdue().is_some_and(|(what, time)| what == "list a" && time.as_secs() == 6));
        drop(out);
        assert!(waiting.overdue().is_none(), "it was answered");
        let _out = waiting.begin("write", &"b", 60 << 20);
        age(60);
        assert!(waiting.overdue().is_none());
        age(66);
        assert!(waiting.overdue().is_some());
    }
}
