//! The log in numbers, for the crate `metrics`: with the feature of that name.
//!
//! An append does not come here. What it counts is read at the next sync. A recorder is code of the application, and may call
//! the log: so it is called as a subscriber of events is, with nothing locked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use super::stats::{Counters, Totals};
use crate::events;
use crate::lsn::Lsn;

const METADATA: Metadata<'_> = Metadata::new("mapwal", Level::INFO, Some(module_path!()));

/// What one log tells the recorder that there was when it was opened.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Handles>);

struct Handles {
    counters: Arc<Counters>,
    syncs: Counter,
    synced_records: Counter,
    synced_bytes: Counter,
    stalls: Counter,
    zeros_written: Counter,
    recycled_segments: Counter,
    removed_segments: Counter,
    first_lsn: Gauge,
    next_lsn: Gauge,
    durable_lsn: Gauge,
    disk: Gauge,
    spare: Gauge,
    pins: Gauge,
    pinned_lsn: Gauge,
    unlinked: Gauge,
    torn: Gauge,
    poisoned: Gauge,
    sync_time: Histogram,
    sync_records: Histogram,
}

/// A sync that made something durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced {
    pub(crate) took: Duration,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) extent: Extent,
}

/// Where the log begins and ends, what it takes, and what keeps it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) first: Lsn,
    pub(crate) next: Lsn,
    pub(crate) durable: Lsn,
    /// Of segments that have been begun.
    pub(crate) disk_bytes: u64,
    pub(crate) spare_bytes: u64,
    /// How many pins there are, and the oldest record that one keeps; `None` while they are changed.
    pub(crate) pins: Option<(usize, Option<Lsn>)>,
}

impl Meter {
    /// Makes the log in `directory`, whose numbers are in `counters`, known to the recorder.
    pub(crate) fn new(directory: &Path, counters: Arc<Counters>) -> Self {
        let label = Label::new("directory", directory.display().to_string());
        metrics::with_recorder(|recorder| Self(Arc::new(Handles::register(recorder, &label, counters))))
    }

    /// The log has been opened, and `torn_bytes` of it were dropped.
    pub(crate) fn opened(&self, extent: Extent, torn_bytes: u64) {
        self.tell(move |handles| {
            handles.poisoned.set(0.0);
            handles.torn.set(float(torn_bytes));
            handles.tell_extent(extent);
            handles.tell_counters();
        });
    }

    pub(crate) fn synced(&self, synced: Synced) {
        self.tell(move |handles| {
            handles.sync_time.record(synced.took);
            handles.sync_records.record(float(synced.records));
            handles.synced_records.increment(synced.records);
            handles.synced_bytes.increment(synced.bytes);
            handles.tell_extent(synced.extent);
            handles.tell_counters();
        });
    }

    pub(crate) fn poisoned(&self) {
        self.tell(|handles| handles.poisoned.set(1.0));
    }

    fn tell(&self, what: impl FnOnce(&Handles) + Send + 'static) {
        let handles = Arc::clone(&self.0);
        events::put_aside_always(move || what(&handles));
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Handles {
    fn register(recorder: &dyn Recorder, label: &Label, counters: Arc<Counters>) -> Self {
        let key = |name: &'static str| Key::from_parts(name, vec![label.clone()]);
        let counter = |name, unit: Option<Unit>, text: &'static str| {
            recorder.describe_counter(KeyName::from_const_str(name), unit, text.into());
            recorder.register_counter(&key(name), &METADATA)
        };
        let gauge = |name, unit: Option<Unit>, text: &'static str| {
            recorder.describe_gauge(KeyName::from_const_str(name), unit, text.into());
            recorder.register_gauge(&key(name), &METADATA)
        };
        let histogram = |name, unit: Option<Unit>, text: &'static str| {
            recorder.describe_histogram(KeyName::from_const_str(name), unit, text.into());
            recorder.register_histogram(&key(name), &METADATA)
        };
        let (bytes, count, seconds) = (Some(Unit::Bytes), Some(Unit::Count), Some(Unit::Seconds));
        Self {
            counters,
            syncs: counter("mapwal_syncs_total", count, "syncs that had something to sync"),
            synced_records: counter("mapwal_synced_records_total", count, "records that they made durable"),
            synced_bytes: counter("mapwal_synced_bytes_total", bytes, "bytes of frames that they made durable"),
            stalls: counter("mapwal_stalls_total", count, "how often an append had to wait for room"),
            zeros_written: counter("mapwal_zeros_written_bytes_total", bytes, "zeros written ahead of records"),
            recycled_segments: counter(
                "mapwal_recycled_segments_total",
                count,
                "segments begun in a dropped one's file",
            ),
            removed_segments: counter("mapwal_removed_segments_total", count, "files of dropped segments removed"),
            first_lsn: gauge("mapwal_first_lsn", None, "the oldest record"),
            next_lsn: gauge("mapwal_next_lsn", None, "the number of the next record"),
            durable_lsn: gauge("mapwal_durable_lsn", None, "the last record that is durable"),
            disk: gauge("mapwal_disk_bytes", bytes, "the length of the segments that have been begun"),
            spare: gauge(
                "mapwal_spare_bytes",
                bytes,
                "the length of those that are ready, and of dropped ones that are kept",
            ),
            pins: gauge("mapwal_pins", None, "pins, with a name or without"),
            pinned_lsn: gauge("mapwal_pinned_lsn", None, "the oldest record that a pin keeps, or 0"),
            unlinked: gauge("mapwal_unlinked_bytes", bytes, "what dropped segments take that views still hold"),
            torn: gauge("mapwal_torn_bytes", bytes, "what was dropped as a torn end when the log was opened"),
            poisoned: gauge("mapwal_poisoned", None, "1 once a sync has failed"),
            sync_time: histogram("mapwal_sync_seconds", seconds, "how long a sync took"),
            sync_records: histogram("mapwal_sync_records", count, "how many records a sync made durable"),
        }
    }

    fn tell_extent(&self, Extent { first, next, durable, disk_bytes, spare_bytes, pins }: Extent) {
        self.first_lsn.set(float(first.0));
        self.next_lsn.set(float(next.0));
        self.durable_lsn.set(float(durable.0));
        self.disk.set(float(disk_bytes));
        self.spare.set(float(spare_bytes));
        if let Some((count, oldest)) = pins {
            self.pins.set(float(count as u64));
            self.pinned_lsn.set(float(oldest.map_or(0, |lsn| lsn.0)));
        }
    }

    fn tell_counters(&self) {
        let Totals { syncs, stalls, zeros_written_bytes, recycled_segments, removed_segments } = self.counters.totals();
        self.syncs.absolute(syncs);
        self.stalls.absolute(stalls);
        self.zeros_written.absolute(zeros_written_bytes);
        self.recycled_segments.absolute(recycled_segments);
        self.removed_segments.absolute(removed_segments);
        self.unlinked.set(float(self.counters.unlinked_bytes()));
    }
}

/// As recorders want it.
#[expect(clippy::cast_precision_loss, reason = "lossless up to 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}
