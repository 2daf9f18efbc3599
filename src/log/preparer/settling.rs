//! Whether what is settled, that is written to the device ahead of syncs, could begin to be written.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::format::position::Position;

/// Appenders may come to pages that are being settled, and the error of a page need be told once only: to whom settles it, or to the sync.
#[derive(Debug)]
pub(super) struct Settling {
    /// Locked while pages begin to be written.
    failure: Mutex<Option<io::Error>>,
    has_failed: AtomicBool,
    /// Where the pages begin that are just being written; the last position if none are.
    begin: AtomicU64,
}

impl Settling {
    pub(super) fn new() -> Self {
        Self { failure: Mutex::default(), has_failed: AtomicBool::new(false), begin: AtomicU64::new(u64::MAX) }
    }

    /// Runs `write`, which has pages from `begin` on begin to be written.
    pub(super) fn run(&self, begin: Position, write: impl FnOnce() -> io::Result<()>) {
        let mut failure = self.failure.lock();
        self.begin.store(begin.0, Ordering::SeqCst);
        if let Err(error) = write() {
            *failure = Some(error);
            self.has_failed.store(true, Ordering::Release);
        }
        self.begin.store(u64::MAX, Ordering::Release);
    }

    /// An error, once, if what was settled so far could not be written. Called by a sync after its own writing of what comes before `end`:
    /// it waits only for pages that it may have found written.
    pub(super) fn check(&self, end: Position) -> io::Result<()> {
        if self.begin.load(Ordering::SeqCst) >= end.0 && !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut failure = self.failure.lock();
        self.has_failed.store(false, Ordering::Relaxed);
        failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_is_told_once_wherever_the_sync_ends() {
        let settling = Settling::new();
        settling.run(Position::new(1, 8192), || Err(io::ErrorKind::StorageFull.into()));
        let told = settling.check(Position::new(1, 4096)).map_err(|error| error.kind());
        assert_eq!(told, Err(io::ErrorKind::StorageFull));
        assert!(settling.check(Position::new(1, 16384)).is_ok(), "once");
    }

    #[test]
    fn a_sync_waits_for_pages_that_it_may_have_found_written_and_for_no_others() {
        let settling = &Settling::new();
        let (begun, wait_begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                settling.run(Position::new(1, 8192), || {
                    begun.send(()).expect("it is waited for");
                    // No longer than the test could take: it may have failed.
                    let _ = wait.recv_timeout(Duration::from_secs(10));
                    Err(io::ErrorKind::StorageFull.into())
                });
            });
            wait_begun.recv().expect("it begins");
            assert!(settling.check(Position::new(1, 8192)).is_ok(), "no page of these is being settled");
            let waiting = scope.spawn(|| settling.check(Position::new(1, 8193)).map_err(|error| error.kind()));
            thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished(), "what becomes of the page is not known yet");
            go_on.send(()).expect("it waits");
            assert_eq!(waiting.join().expect("it does not panic"), Err(io::ErrorKind::StorageFull));
        });
    }
}
