//! Waiting for what other threads do: until it is so, and never for a time after which it should be.

use std::time::{Duration, Instant};

/// Far longer than anything takes that works, also on a machine that has much else to do.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Returns once `is_true`, which may have to trigger again what it waits for: what was triggered before may have come to a
/// thread that was in the middle of something else. Fails, and says `what` does not come, if that takes too long.
#[track_caller]
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < LONG, "this does not come: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
