//! What the disk tells a run while the log works: crashes to be looked at, and syncs during which others append.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use fastrand::Rng;
use mapwal::internals::{Crash, Observer, SimDisk};
use mapwal::{Log, Lsn};
use parking_lot::Mutex;

use super::super::model::{Entry, Model, Rule, Violation, payload, tag};
use super::act::random_len;

/// A crash to be looked at.
pub(super) struct Cut {
    pub(super) crash: Crash,
    pub(super) disk: SimDisk,
    pub(super) model: Model,
}

/// What the disk tells the run.
pub(super) struct Watch {
    pub(super) model: Mutex<Model>,
    pub(super) cuts: Mutex<Vec<Cut>>,
    pub(super) log: Mutex<Weak<Log>>,
    /// The first entry that is still being appended: it and those after it are not published yet.
    hole: Mutex<Option<usize>>,
    /// In how many of 256 syncs others append meanwhile.
    pub(super) busy: AtomicU8,
    pub(super) rng: Mutex<Rng>,
    /// A sync has failed: what is in the page cache may go at any time.
    pub(super) failed: AtomicBool,
    /// A rule that was broken while the disk worked.
    pub(super) broken: Mutex<Option<Violation>>,
}

impl Observer for Watch {
    fn crashed(&self, left: SimDisk, crash: Crash) {
        let log = self.log.lock().upgrade();
        let mut model = self.model.lock().clone();
        if crash == Crash::Power || left.is_failing() || self.failed.load(Ordering::Relaxed) {
            model.forget_published();
        } else if log.is_some() {
            model.published_survive(*self.hole.lock());
        }
        if let Some(log) = log {
            model.acknowledge_to(log.durable_lsn().0);
        }
        self.cuts.lock().push(Cut { crash, disk: left, model });
    }

    fn syncing(&self) {
        let busy = self.busy.load(Ordering::Relaxed);
        let mut rng = self.rng.lock().fork();
        let Some(log) = self.log.lock().upgrade().filter(|_| rng.u8(..) < busy) else { return };
        for _ in 0..rng.u8(1..3) {
            let len = random_len(&mut rng).min(600);
            let (id, expected) = self.submit_record(len);
            match log.append(tag(id), &payload(id, len)) {
                Ok(lsn) => self.check_appended_meanwhile(&log, lsn, expected),
                Err(_) => self.model.lock().withdraw(1),
            }
            self.settle();
        }
    }
}

impl Watch {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model: Mutex::new(model),
            cuts: Mutex::default(),
            log: Mutex::default(),
            hole: Mutex::default(),
            busy: AtomicU8::new(0),
            rng: Mutex::new(Rng::with_seed(0)),
            failed: AtomicBool::new(false),
            broken: Mutex::default(),
        }
    }

    /// One more record, about to be appended: its identity, and the number that it must get.
    pub(super) fn submit_record(&self, len: usize) -> (u64, u64) {
        let id = self.model.lock().fresh_id();
        (id, self.submit(&[Entry::Record { id, len: len as u32, continues: false }]))
    }

    /// A record has been appended while a sync runs that does not cover it.
    fn check_appended_meanwhile(&self, log: &Log, lsn: Lsn, expected: u64) {
        let durable = log.durable_lsn();
        let violation = if lsn.0 != expected {
            Violation::new(Rule::Gap, format!("appended as record {lsn} during a sync, not {expected}"))
        } else if durable >= lsn {
            Violation::new(Rule::Lost, format!("record {lsn} counts as durable before a sync: all up to {durable} do"))
        } else {
            return;
        };
        self.broken.lock().get_or_insert(violation);
    }

    /// Entries are about to be appended. Returns the number that the first record of them must get.
    pub(super) fn submit(&self, entries: &[Entry]) -> u64 {
        let mut model = self.model.lock();
        self.hole.lock().get_or_insert(model.submitted());
        model.submit(entries)
    }

    /// What was being appended has been published, or refused.
    pub(super) fn settle(&self) {
        *self.hole.lock() = None;
    }
}
