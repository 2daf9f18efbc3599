//! A recorder for the crate `metrics` that notes all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

/// For the log that is opened under it.
#[derive(Clone, Default)]
pub(crate) struct Debugging(pub(crate) Arc<Notes>);

#[derive(Default)]
pub(crate) struct Notes {
    /// By name and value of the label.
    pub(crate) values: Mutex<BTreeMap<(String, String), Vec<f64>>>,
    pub(crate) units: Mutex<BTreeMap<String, Option<Unit>>>,
    calls: AtomicU64,
    /// What it does besides, each time.
    pub(crate) besides: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Handle {
    notes: Arc<Notes>,
    key: (String, String),
}

impl Handle {
    fn note(&self, change: impl FnOnce(&mut Vec<f64>)) {
        self.notes.calls.fetch_add(1, Ordering::Relaxed);
        change(self.notes.values.lock().entry(self.key.clone()).or_default());
        if let Some(besides) = self.notes.besides.get() {
            besides();
        }
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        self.note(|values| *values = vec![values.first().unwrap_or(&0.0) + value as f64]);
    }

    fn absolute(&self, value: u64) {
        self.note(|values| *values = vec![value as f64]);
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn set(&self, value: f64) {
        self.note(|values| *values = vec![value]);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.note(|values| values.push(value));
    }
}

impl Debugging {
    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels: Vec<_> = key.labels().collect();
        let [label] = labels[..] else { panic!("{labels:?}") };
        assert_eq!(label.key(), "directory");
        let key = (key.name().to_owned(), label.value().to_owned());
        Arc::new(Handle { notes: Arc::clone(&self.0), key })
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        self.0.units.lock().insert(name.as_str().to_owned(), unit);
    }

    /// What there is of `name`.
    pub(crate) fn of(&self, name: &str) -> Vec<f64> {
        self.0
            .values
            .lock()
            .iter()
            .filter(|((found, _), _)| found == name)
            .flat_map(|(_, values)| values.clone())
            .collect()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }
}

impl Recorder for Debugging {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}
