//! Waiting until a log has done what it does ahead of appends, which it reports as events.

use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};

/// The highest segments reported since the last [`forget`]: all of which is ready, and which is there as a spare.
static REPORTED: Mutex<[u64; 2]> = Mutex::new([0, 0]);
static CHANGED: Condvar = Condvar::new();
/// A disk on which preparing a segment takes longer than this is not worth measuring.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens to the events of all logs from now on.
pub(crate) fn watch() {
    tracing::subscriber::set_global_default(Watch).expect("nobody else in this program listens");
}

/// To be called before a log is opened or reopened.
pub(crate) fn forget() {
    *REPORTED.lock() = [0, 0];
}

/// Returns once all of segment `number`, which takes appends, is ready, and the spare after it is there.
pub(crate) fn wait_for(number: u64) {
    let mut reported = REPORTED.lock();
    let is_missing = |reported: &mut [u64; 2]| reported[0] < number || reported[1] <= number;
    let waited = CHANGED.wait_while_for(&mut reported, is_missing, PATIENCE);
    assert!(!waited.timed_out(), "segment {number} is not ready after {PATIENCE:?}");
}

struct Watch;

impl Subscriber for Watch {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("mapwal") && metadata.fields().field("segment").is_some()
    }

    fn event(&self, event: &Event<'_>) {
        let mut report = Report::default();
        event.record(&mut report);
        if let Some(at) = report.about {
            let mut reported = REPORTED.lock();
            reported[at] = report.segment.max(reported[at]);
            CHANGED.notify_all();
        }
    }

    // No span is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Report {
    segment: u64,
    about: Option<usize>,
}

impl Visit for Report {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "segment" {
            self.segment = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let message = format!("{value:?}");
            self.about = ["segment ready", "segment prepared"].iter().position(|known| *known == message);
        }
    }
}
