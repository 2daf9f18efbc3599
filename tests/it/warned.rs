//! What a log warns of on a full disk, and how often.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::scratch::open_small;
use crate::support::child::{self, Child};
use crate::support::mounted::Mounted;

/// Counts what a log warns of, and that it can make segments again.
struct Counting;

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ENDS: AtomicU64 = AtomicU64::new(0);

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mapwal") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut shown = String::new();
        event.record(&mut |_: &Field, value: &dyn fmt::Debug| shown.push_str(&format!("{value:?}")));
        let is_end = shown.contains("segments can be prepared again");
        ENDS.fetch_add(is_end.into(), Ordering::SeqCst);
        WARNINGS.fetch_add((*event.metadata().level() == Level::WARN).into(), Ordering::SeqCst);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Fills a log, has many appends refused, and goes on once it is told to; answers with how often that was said.
#[test]
#[ignore = "another test runs it as a process of its own"]
fn counts_events() {
    let Some(directory) = child::directory() else { return };
    tracing::subscriber::set_global_default(Counting).unwrap();
    let log = open_small(&directory);
    for line in std::io::stdin().lines() {
        line.unwrap();
        let refused = (0..2000).filter(|_| log.append(0, &[7; 400]).is_err()).count();
        // They are sent by a thread that nobody waits for.
        std::thread::sleep(Duration::from_millis(300));
        let [warnings, ends] = [&WARNINGS, &ENDS].map(|count| count.load(Ordering::SeqCst));
        child::answer(&format!("{} {warnings} {ends}", refused >= 100));
    }
}

#[test]
fn a_full_disk_is_one_warning_however_many_appends_it_refuses() {
    let Some(disk) = Mounted::of_size(1 << 20) else { return };
    fs::write(disk.path().join("ballast"), vec![1; 300 << 10]).unwrap();
    let mut child = Child::spawn("warned::counts_events", &disk.path().join("log"));
    assert_eq!(child.ask("fill"), "true 1 0");
    assert_eq!(child.ask("more"), "true 1 0");
    fs::remove_file(disk.path().join("ballast")).unwrap();
    assert_eq!(child.ask("fill"), "true 2 1", "it had room in between");
}
