//! The steps of what changes a directory by several.

/// For tests, which end this process at each of its steps, or stop it there until they have it go on.
#[cfg(feature = "testing")]
pub(crate) fn step() {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};
    static STEPS: AtomicU64 = AtomicU64::new(1);
    let at = STEPS.fetch_add(1, Ordering::Relaxed);
    for (variable, signal) in [("MAPWAL_END_AT_STEP", Signal::KILL), ("MAPWAL_STOP_AT_STEP", Signal::STOP)] {
        if std::env::var(variable).ok().and_then(|text| text.parse().ok()) == Some(at) {
            // Of the first it does not return.
            let _ = kill_process(getpid(), signal);
        }
    }
}

#[cfg(not(feature = "testing"))]
pub(crate) fn step() {}
