//! Waiting until the log has prepared a segment, which it reports as an event.

use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};

/// The highest segment reported since the last [`forget`].
static PREPARED: Mutex<u64> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();
/// A disk on which preparing a segment takes longer than this is not worth measuring.
const PATIENCE: Duration = Duration::from_mins(1);

/// Listens to the events of all logs from now on.
pub(crate) fn watch() {
    tracing::subscriber::set_global_default(Watch).expect("nobody else in this program listens");
}

/// To be called before a log is opened or reopened.
pub(crate) fn forget() {
    *PREPARED.lock() = 0;
}

/// Returns once segment `number` is ready for appends.
pub(crate) fn wait_for(number: u64) {
    let mut prepared = PREPARED.lock();
    let waited = CHANGED.wait_while_for(&mut prepared, |prepared| *prepared < number, PATIENCE);
    assert!(!waited.timed_out(), "no segment {number} after {PATIENCE:?}");
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
        if report.prepared {
            let mut prepared = PREPARED.lock();
            *prepared = report.segment.max(*prepared);
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
    prepared: bool,
}

impl Visit for Report {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "segment" {
            self.segment = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.prepared = format!("{value:?}") == "segment prepared";
        }
    }
}
