//! Random histories of a log against a model of it that fits on a page.
//!
//! A history is a list of [`Op`]s. After each of them everything that can be asked of the log is compared with the model:
//! watermarks, all records with their payloads, single records, metadata, the number of segments, views taken earlier,
//! and, where the history says so, what followers of this process and of "another" one have been told. A kill is a drop
//! without a close: the page cache survives, so nothing that was published may be gone.
//!
//! Each of these bugs was planted in turn, and made this test fail: a trim that goes below a pin; a cut segment that keeps
//! its old end, so that truncated records come back; links without the metadata; a truncation that does not sync; an open
//! that forgets what was trimmed; truncations that followers are not told of; a walk that goes on after the end of a cut
//! segment; half a batch taken for a whole one.

mod ops;
mod oracle;
mod replica;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use mapwal::{Error, Log, LogReader, Lsn, Pin, Snapshot};
use ops::{Op, Spot, op};
use oracle::{Entry, Oracle, Records};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use replica::Replica;
use tempfile::TempDir;

use crate::support::files::{edit, segment, segment_numbers};
use crate::support::scratch::{open_small, scratch, stamped};
use crate::support::stored::{StoredFrame, frames};
use crate::support::{SMALL, read_only};

/// Histories for each seed, unless `MODEL_CASES` says how many. Each seed has a thread of its own.
const CASES: u32 = 700;
const SEEDS: u8 = 2;
const OPS_MAX: usize = 30;

#[test]
fn a_log_does_what_its_model_does() {
    std::thread::scope(|scope| {
        (1..=SEEDS).for_each(|seed| drop(scope.spawn(move || run_histories(seed))));
    });
}

/// As many random histories as [`CASES`] says, the same ones for the same seed.
fn run_histories(seed: u8) {
    let cases = std::env::var("MODEL_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &[seed; 16]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let histories = prop::collection::vec(op(), 1..=OPS_MAX);
    let outcome = runner.run(&histories, |history| {
        let mut world = World::new();
        for op in &history {
            world.apply(op);
            world.compare();
        }
        world.finish();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {seed}: {failure}");
    }
}

/// A log, its model, and what is held of it.
struct World {
    log: Option<Log>,
    oracle: Oracle,
    views: Vec<(Snapshot, Records)>,
    pins: Vec<Pin>,
    /// Followers of this process.
    inside: Vec<Replica>,
    /// Followers as another process has them.
    outside: Vec<Replica>,
    reader: LogReader,
    stamps: u16,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let log = open_small(dir.path());
        let reader = read_only(dir.path()).unwrap();
        Self {
            inside: Replica::pair(&log, 1),
            outside: Replica::pair(&reader, 1),
            log: Some(log),
            oracle: Oracle::default(),
            views: Vec::new(),
            pins: Vec::new(),
            reader,
            stamps: 0,
            dir,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open between the operations")
    }

    /// The next record to be appended.
    fn entry(&mut self, len: usize) -> Rc<Entry> {
        self.stamps += 1;
        Rc::new(Entry { tag: self.stamps, payload: stamped(u64::from(self.stamps), len) })
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(len) => {
                let entry = self.entry(*len);
                let lsn = self.log().append(entry.tag, &entry.payload).unwrap();
                self.appended(lsn..lsn.next(), vec![Some(entry)]);
            }
            Op::AppendWith(len) => {
                let entry = self.entry(*len);
                let fill = |bytes: &mut [u8]| {
                    assert!(bytes.iter().all(|&b| b == 0), "a closure is given zeros");
                    bytes.copy_from_slice(&entry.payload);
                };
                let lsn = self.log().append_with(entry.tag, *len, fill).unwrap();
                self.appended(lsn..lsn.next(), vec![Some(entry)]);
            }
            Op::GiveUp(len) => self.give_up(*len),
            Op::Vectored(lens) => {
                let entry = self.entry(lens.iter().sum());
                let mut rest = &entry.payload[..];
                let parts: Vec<&[u8]> = lens.iter().map(|&len| rest.split_off(..len).unwrap()).collect();
                let lsn = self.log().append_vectored(entry.tag, &parts).unwrap();
                self.appended(lsn..lsn.next(), vec![Some(entry)]);
            }
            Op::Batch(lens) => {
                let entries: Vec<_> = lens.iter().map(|&len| self.entry(len)).collect();
                let records: Vec<(u16, &[u8])> = entries.iter().map(|entry| (entry.tag, &entry.payload[..])).collect();
                let numbers = self.log().append_batch(&records).unwrap();
                self.appended(numbers, entries.into_iter().map(Some).collect());
            }
            Op::TooLarge => self.append_too_large(),
            Op::Sync => {
                let durable = self.log().sync().unwrap();
                assert_eq!(durable.0, self.oracle.next() - 1);
                self.oracle.durable_to(durable.0);
            }
            Op::Rotate => {
                self.log().rotate().unwrap();
                self.oracle.rotate();
            }
            Op::Trim(spot) => self.trim(spot.lsn(&self.oracle)),
            Op::Truncate(spot) => self.truncate(spot.lsn(&self.oracle)),
            Op::Reset(step) => {
                let lsn = self.oracle.next().saturating_add_signed((*step).into()).max(1);
                self.log().reset_to(Lsn(lsn)).unwrap();
                self.oracle.reset(lsn);
                self.cut(lsn);
            }
            Op::PutMeta(slot, len) => {
                let value = self.entry(*len);
                self.log().put_meta(*slot, &value.payload).unwrap();
                self.oracle.put_meta(*slot, &value.payload, self.log().stats().sealed_segments);
            }
            Op::Pin(spot) => self.pin(spot.lsn(&self.oracle)),
            Op::AdvancePin(spot) => {
                let lsn = spot.lsn(&self.oracle);
                if let Some(pin) = self.pins.last_mut() {
                    let expected = pin.lsn().max(lsn);
                    pin.advance(lsn);
                    assert_eq!(pin.lsn(), expected);
                }
            }
            Op::Unpin => drop(self.pins.pop()),
            Op::TakeView => self.views.push((self.log().snapshot().unwrap(), self.oracle.records().clone())),
            Op::DropView => drop(self.views.pop()),
            Op::Follow => self.follow(),
            Op::Close => {
                let log = self.log.take().expect("open");
                log.close().unwrap();
                self.reopen(true);
            }
            Op::Kill => {
                drop(self.log.take());
                self.reopen(false);
            }
            Op::CrashInBatch(lens, lost) => self.crash_in_batch(lens, *lost),
        }
    }

    fn crash_in_batch(&mut self, lens: &[usize], lost: u8) {
        let entries: Vec<_> = lens.iter().map(|&len| self.entry(len)).collect();
        let records: Vec<(u16, &[u8])> = entries.iter().map(|entry| (entry.tag, &entry.payload[..])).collect();
        let numbers = self.log().append_batch(&records).unwrap();
        let sealed = self.log().stats().sealed_segments;
        // No process outlives such a crash.
        self.views.clear();
        (self.inside, self.outside) = (Vec::new(), Vec::new());
        drop(self.log.take());
        let active = *segment_numbers(self.dir.path()).last().expect("a log has a segment");
        let of_batch = |frame: &StoredFrame| frame.is_record() && frame.lsn >= numbers.start.0;
        let batch = frames(self.dir.path(), active).into_iter().filter(of_batch);
        let lost: Vec<_> = batch.enumerate().filter(|(bit, _)| lost & 1 << bit != 0).collect();
        for (_, frame) in &lost {
            edit(&segment(self.dir.path(), frame.segment), |bytes| bytes[frame.offset..frame.end].fill(0));
        }
        if lost.is_empty() {
            self.oracle.append(entries.into_iter().map(Some).collect(), sealed);
        } else {
            self.oracle.append_lost(lost[0].0 == 0, lost.len() == lens.len(), sealed);
        }
        self.reopen_as(false, lost.len() % lens.len() != 0);
        self.reader = read_only(self.dir.path()).unwrap();
        self.outside = Replica::pair(&self.reader, self.oracle.first());
    }

    fn appended(&mut self, numbers: std::ops::Range<Lsn>, entries: Records) {
        assert_eq!(numbers, Lsn(self.oracle.next())..Lsn(self.oracle.next() + entries.len() as u64));
        self.oracle.append(entries, self.log().stats().sealed_segments);
    }

    fn give_up(&mut self, len: usize) {
        // Resumed, not started, so that the hook does not report it.
        let given_up = catch_unwind(AssertUnwindSafe(|| {
            self.log().append_with(0, len, |bytes| {
                bytes.fill(0xee);
                resume_unwind(Box::new("given up"));
            })
        }));
        assert!(given_up.is_err(), "the panic goes on");
        let lsn = Lsn(self.oracle.next());
        self.appended(lsn..lsn.next(), vec![None]);
    }

    fn append_too_large(&mut self) {
        let max = self.log().payload_len_max();
        let payload = vec![1; usize::try_from(max).unwrap() + 1];
        assert!(
            matches!(self.log().append(1, &payload), Err(Error::RecordTooLarge { len, max: m }) if len == max + 1 && m == max)
        );
        let half = &payload[..payload.len() / 2];
        assert!(matches!(self.log().append_batch(&[(1, half), (2, half)]), Err(Error::RecordTooLarge { .. })));
    }

    fn trim(&mut self, lsn: Lsn) {
        let trimmed = self.log().trim_before(lsn);
        if lsn.0 > self.oracle.next() {
            assert!(matches!(trimmed, Err(Error::NotAppended { .. })), "{trimmed:?}");
            return;
        }
        let bound = self.pins.iter().map(Pin::lsn).min().map_or(lsn, |pinned| pinned.min(lsn));
        assert_eq!(trimmed.unwrap(), self.oracle.trim(bound.0));
    }

    fn truncate(&mut self, lsn: Lsn) {
        let truncated = self.log().truncate_after(lsn);
        if lsn.0 + 1 < self.oracle.first() {
            assert!(matches!(truncated, Err(Error::Trimmed { .. })), "{truncated:?}");
            return;
        }
        truncated.unwrap();
        if self.oracle.truncate(lsn.0) {
            self.cut(lsn.0 + 1);
        }
    }

    /// Records from `lsn` on have been replaced.
    fn cut(&mut self, lsn: u64) {
        self.inside.iter_mut().chain(&mut self.outside).for_each(|replica| replica.expect_cut(lsn));
    }

    fn pin(&mut self, lsn: Lsn) {
        let pinned = self.log().pin(lsn);
        if lsn.0 < self.oracle.first() {
            assert!(matches!(pinned, Err(Error::Trimmed { .. })), "{pinned:?}");
        } else if lsn.0 > self.oracle.next() {
            assert!(matches!(pinned, Err(Error::NotAppended { .. })), "{pinned:?}");
        } else {
            self.pins.push(pinned.unwrap());
        }
    }

    fn reopen(&mut self, closed: bool) {
        self.reopen_as(closed, false);
    }

    fn reopen_as(&mut self, closed: bool, torn: bool) {
        self.pins.clear();
        let log = open_small(self.dir.path());
        let report = log.recovery();
        assert_eq!((report.clean, report.torn_bytes > 0), (self.oracle.is_clean(closed), torn));
        assert_eq!((report.first_lsn.0, report.next_lsn.0), (self.oracle.first(), self.oracle.next()));
        self.oracle.reopen(closed, log.stats().sealed_segments);
        self.inside = Replica::pair(&log, self.oracle.first());
        self.log = Some(log);
    }

    fn follow(&mut self) {
        let log = self.log.as_ref().expect("open");
        self.inside.iter_mut().for_each(|replica| replica.catch_up(log, &self.oracle, true));
        self.outside.iter_mut().for_each(|replica| replica.catch_up(&self.reader, &self.oracle, false));
    }

    /// Asks the log everything that the model knows.
    fn compare(&mut self) {
        let log = self.log.as_ref().expect("open");
        let (first, next) = (self.oracle.first(), self.oracle.next());
        assert_eq!((log.first_lsn().0, log.next_lsn().0), (first, next));
        assert_eq!(log.published_lsn().unwrap().0, next - 1);
        let durable = log.durable_lsn().0;
        assert!(durable < next && durable >= self.oracle.durable(), "{durable} durable");
        self.oracle.durable_to(durable);
        let stats = log.stats();
        assert_eq!((stats.sealed_segments, stats.pins), (self.oracle.sealed(), self.pins.len()));
        // What sealed segments leave unused is given back; at least a page of each stays.
        let sealed = stats.sealed_segments as u64;
        assert!((SMALL + sealed * 4096..=SMALL * (sealed + 1)).contains(&stats.disk_bytes), "{}", stats.disk_bytes);
        assert_view(&log.snapshot().unwrap(), first, self.oracle.records());
        for spot in [0, 40, 130, 200, 255] {
            self.compare_one(Spot(spot).lsn(&self.oracle));
        }
        for slot in 0..17 {
            assert_eq!(log.meta(slot).as_deref(), self.oracle.meta(slot), "slot {slot}");
        }
        for (view, records) in &self.views {
            assert_view(view, view.first_lsn().0, records);
        }
    }

    fn compare_one(&self, lsn: Lsn) {
        let got = self.log().get(lsn);
        let expected = lsn.0.checked_sub(self.oracle.first()).and_then(|at| self.oracle.records().get(at as usize));
        match expected {
            Some(entry) => {
                let got = got.unwrap();
                let got = got.as_ref().map(|record| (record.lsn(), record.tag(), record.payload()));
                assert_eq!(got, entry.as_ref().map(|entry| (lsn, entry.tag, &entry.payload[..])));
            }
            None if lsn.0 < self.oracle.first() => assert!(matches!(got, Err(Error::Trimmed { .. })), "{got:?}"),
            None => assert!(matches!(got, Err(Error::NotAppended { .. })), "{got:?}"),
        }
    }

    /// The end of a history: what another process reads is what there is, and the log opens once more.
    fn finish(mut self) {
        self.follow();
        assert_view(&self.reader.snapshot().unwrap(), self.oracle.first(), self.oracle.records());
        drop(self.log.take());
        self.reopen(false);
        self.compare();
    }
}

fn assert_view(view: &Snapshot, first: u64, records: &Records) {
    assert_eq!((view.first_lsn().0, view.next_lsn().0), (first, first + records.len() as u64));
    let mut expected = (first..).zip(records).filter_map(|(lsn, entry)| Some((lsn, entry.as_ref()?)));
    for record in view {
        let record = record.unwrap();
        let (lsn, entry) = expected.next().expect("no record beyond the last one");
        assert_eq!((record.lsn().0, record.tag()), (lsn, entry.tag));
        assert!(record.payload() == entry.payload, "payload of record {lsn}");
    }
    assert!(expected.next().is_none(), "records are missing");
}
