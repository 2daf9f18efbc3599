//! Trying again: later each time, and not at the same time as others.

use std::time::Duration;

use crate::error::{Error, Result};

/// How often a call that its caller waits for is tried in all.
const TRIES: u32 = 8;
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), next: first }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: half of it is left to chance, so that many that failed together do not come back together.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

/// Tries `call` a few times, as long as it fails in a way that may pass.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    for _ in 1..TRIES {
        match call().await {
            Err(error) if may_pass(&error) => tokio::time::sleep(backoff.pause()).await,
            done => return done,
        }
    }
    call().await
}

fn may_pass(error: &Error) -> bool {
    let is_final = |source: &object_store::Error| {
        use object_store::Error as Store;
        matches!(source, Store::NotFound { .. } | Store::PermissionDenied { .. } | Store::Unauthenticated { .. })
    };
    match error {
        Error::Store { source, .. } => {
            error.is_transient() && !is_final(source) && !error.is_full() && !error.is_denied()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        for nominal in [10, 20, 35, 35] {
            let (pause, nominal) = (backoff.pause(), Duration::from_millis(nominal));
            assert!(pause >= nominal / 2 && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(10));
    }
}
