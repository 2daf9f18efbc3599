//! Doing a history to a log on a simulated disk, and looking at every crash that the disk shows.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use fastrand::Rng;
use mapwal::testing::{open_log, open_reader};
use mapwal::{Error, Log, Lsn, Options, SealedSegment, Snapshot};
use parking_lot::Mutex;

use super::damage;
use super::disk::{Observer, SimDisk};
use super::fault::{Fault, Operation};
use super::history::{Action, History, Step};
use super::image::PAGE_BYTES;
use super::model::{Crash, Entry, Model, Observed, Rule, SLOTS, Violation, first_word, meta_value, payload, tag};

/// The smallest segments, so that little data makes many.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// What stands before a payload, of what a close says, and of each value in it.
const FRAME_HEADER_BYTES: usize = 24;
const CLOSE_HEADER_BYTES: usize = 32;
const META_HEADER_BYTES: usize = 8;
/// In how many of 256 operations a crash is looked at in what follows a crash of the history, in what follows one of those,
/// and so on.
const CUTS: [u8; 3] = [14, 4, 0];

/// What was looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Crashes.
    pub cuts: u64,
    /// Records that had been acknowledged, over all crashes.
    pub acknowledged: u64,
    /// Damaged logs.
    pub damaged: u64,
    /// Failures injected.
    pub faults: u64,
    /// Segments made of the files of others.
    pub recycled: u64,
}

/// A crash to be looked at.
struct Cut {
    crash: Crash,
    disk: SimDisk,
    model: Model,
}

/// What the disk tells the run.
struct Watch {
    model: Mutex<Model>,
    cuts: Mutex<Vec<Cut>>,
    log: Mutex<Weak<Log>>,
    /// The first entry that is still being appended: it and those after it are not published yet.
    hole: Mutex<Option<usize>>,
    /// In how many of 256 syncs others append meanwhile.
    busy: AtomicU8,
    rng: Mutex<Rng>,
    /// A sync has failed: what is in the page cache may go at any time.
    failed: AtomicBool,
    /// A rule that was broken while the disk worked.
    broken: Mutex<Option<Violation>>,
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
    fn new(model: Model) -> Self {
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
    fn submit_record(&self, len: usize) -> (u64, u64) {
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
    fn submit(&self, entries: &[Entry]) -> u64 {
        let mut model = self.model.lock();
        self.hole.lock().get_or_insert(model.submitted());
        model.submit(entries)
    }

    /// What was being appended has been published, or refused.
    fn settle(&self) {
        *self.hole.lock() = None;
    }
}

fn random_len(rng: &mut Rng) -> usize {
    match rng.u8(..) {
        0..24 => rng.usize(0..8),
        24..208 => rng.usize(8..200),
        208..240 => rng.usize(200..2000),
        240..254 => rng.usize(2000..12_000),
        _ => rng.usize(12_000..50_000),
    }
}

/// A log on a disk, and what it must hold.
struct Run<'t> {
    disk: SimDisk,
    watch: Arc<Watch>,
    log: Option<Arc<Log>>,
    rng: Rng,
    /// How many crashes came before, one in what followed the other.
    depth: usize,
    /// In how many of 256 operations a crash is looked at.
    cuts: u8,
    /// The step under way has an operation fail.
    is_faulty: bool,
    /// Which one is up to the step.
    may_aim: bool,
    /// What must not change, whatever happens to the log.
    views: Vec<View>,
    /// An operation has failed before: what that kept from being removed may be told later.
    had_fault: bool,
    tally: &'t mut Tally,
}

/// Does `history`; returns the number of the step that broke a rule.
pub fn run(history: &History, tally: &mut Tally) -> Result<(), (usize, Violation)> {
    run_failing(history, None, tally).map(drop)
}

/// As [`run`], and has one operation of all fail. Whether the history has so many operations.
pub fn run_failing(history: &History, fault: Option<Fault>, tally: &mut Tally) -> Result<bool, (usize, Violation)> {
    let disk = SimDisk::of_either_kind(history.seed);
    let mut run = Run::new(disk.clone(), Model::new(), history.seed, 0, tally);
    run.cuts = history.cuts;
    run.is_faulty = fault.is_some();
    disk.plan_fault(fault);
    run.open(true).map_err(|violation| (0, violation))?;
    for (index, step) in history.steps.iter().enumerate() {
        run.step(step).map_err(|violation| (index, violation))?;
    }
    run.check_views().map_err(|violation| (history.steps.len() - 1, violation))?;
    run.note_recycled();
    Ok(!disk.has_fault())
}

/// Looks at what a crash has left.
fn look(cut: Cut, seed: u64, depth: usize, tally: &mut Tally) -> Result<(), Violation> {
    tally.cuts += 1;
    tally.acknowledged += cut.model.acknowledged_lsn() - cut.model.first_lsn().min(cut.model.acknowledged_lsn());
    let mut rng = Rng::with_seed(seed);
    let mut run = Run::new(cut.disk, cut.model, rng.u64(..), depth, tally);
    run.open(cut.crash == Crash::Power).map_err(|violation| violation.after(cut.crash, depth))?;
    // What only a process has forgotten, the power must not take away later.
    let choice = if cut.crash == Crash::Kill { rng.u8(0..4) } else { rng.u8(0..8) };
    match choice {
        0 => run.step(&Step::new(Action::Kill, rng.u64(..)))?,
        1 => run.step(&Step::new(Action::PowerCut, rng.u64(..)))?,
        2 | 3 => {
            for _ in 0..rng.u8(1..5) {
                run.step(&Step::random_small(&mut rng))?;
            }
            run.step(&Step::new(Action::PowerCut, rng.u64(..)))?;
        }
        _ => {}
    }
    run.note_recycled();
    Ok(())
}

impl<'t> Run<'t> {
    fn new(disk: SimDisk, model: Model, seed: u64, depth: usize, tally: &'t mut Tally) -> Self {
        let watch = Arc::new(Watch::new(model));
        disk.observe(Arc::clone(&watch) as Arc<dyn Observer>);
        disk.reseed(seed);
        let cuts = depth.checked_sub(1).map_or(0, |at| CUTS[at]);
        Self {
            disk,
            watch,
            log: None,
            rng: Rng::with_seed(seed),
            depth,
            cuts,
            is_faulty: false,
            may_aim: false,
            views: Vec::new(),
            had_fault: false,
            tally,
        }
    }

    fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().expect("a run keeps its log open"))
    }

    /// Opens the log and checks what is in it. After a crash of the system, a crash inside of the open changes nothing.
    fn open(&mut self, power_cut: bool) -> Result<(), Violation> {
        self.watch.failed.store(false, Ordering::Relaxed);
        self.disk.show_cuts(self.cuts);
        let opened = self.try_open();
        self.disk.show_cuts(0);
        let log = match opened {
            Ok(log) => log,
            Err(error) if self.meets_fault(&error) => {
                self.disk.plan_fault(None);
                self.look_at_cuts()?;
                self.disk.process_died();
                self.watch.model.lock().forget_published();
                return self.open(false);
            }
            Err(error) => return Err(unusable("open", &error)),
        };
        let observed = self.observe(&log)?;
        self.watch.model.lock().recovered(&observed, power_cut)?;
        if power_cut {
            let model = self.watch.model.lock().clone();
            self.watch.cuts.lock().iter_mut().for_each(|cut| cut.model = model.clone());
        }
        self.disk.forget_failures();
        *self.watch.log.lock() = Arc::downgrade(&log);
        self.log = Some(log);
        self.look_at_cuts()
    }

    /// Reads all of the log; once more if an operation failed that was made to.
    fn observe(&mut self, log: &Log) -> Result<Observed, Violation> {
        match Observed::read(log) {
            Err(error) if self.meets_fault(&error) => Observed::read(log),
            read => read,
        }
        .map_err(|error| unusable("read", &error))
    }

    fn try_open(&mut self) -> mapwal::Result<Arc<Log>> {
        let spares = if self.rng.u8(..) < 16 { self.rng.usize(1..3) } else { 0 };
        let options = Options::new().segment_size_bytes(SEGMENT_BYTES).spare_segments(spares);
        // SAFETY: only this log touches the disk's mappings while it is open; crashes are looked at on copies.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let log = unsafe { open_log(Arc::new(self.disk.clone()), &options) };
        log.map(Arc::new)
    }

    /// Whether an error is one that was injected, and not one that says that the log is damaged.
    fn meets_fault(&mut self, error: &Error) -> bool {
        let injected = matches!(error, Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned { .. });
        let happened = self.is_faulty && !self.disk.has_fault();
        let failed = self.watch.failed.fetch_or(happened, Ordering::Relaxed);
        injected && (happened || failed)
    }

    /// Does one step, with crashes before, in and after it, and looks at all of them.
    fn step(&mut self, step: &Step) -> Result<(), Violation> {
        let mut rng = Rng::with_seed(step.seed);
        self.disk.reseed(rng.u64(..));
        *self.watch.rng.lock() = rng.fork();
        self.rng = rng.fork();
        self.may_aim = step.fault.is_some();
        if step.fault.is_some() {
            self.is_faulty = true;
            self.disk.plan_fault(step.fault.clone());
        }
        self.disk.show_cuts(self.cuts);
        let done = self.act(step.action, &mut rng);
        self.disk.show_cuts(0);
        if let Err(failed) = done {
            self.fail(failed)?;
        } else if rng.u8(..) < self.cuts {
            self.disk.show_cut();
        }
        if step.fault.is_some() && !self.disk.has_fault() {
            self.tally.faults += 1;
            self.had_fault = true;
        }
        if step.fault.is_some() {
            self.is_faulty = false;
            self.disk.plan_fault(None);
        }
        self.look_at_cuts()
    }

    fn look_at_cuts(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.watch.broken.lock().take() {
            return Err(violation);
        }
        let cuts = std::mem::take(&mut *self.watch.cuts.lock());
        for cut in cuts {
            look(cut, self.rng.u64(..), (self.depth + 1).min(CUTS.len()), self.tally)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action, rng: &mut Rng) -> Result<(), Failed> {
        match action {
            Action::Append => self.append(rng, |log, id, bytes| log.append(tag(id), bytes)),
            Action::Vectored => self.append(rng, |log, id, bytes| {
                let (front, back) = bytes.split_at(bytes.len() / 3);
                log.append_vectored(tag(id), &[front, &[], back])
            }),
            Action::InPlace => self.append(rng, |log, id, bytes| {
                log.append_with(tag(id), bytes.len(), |place| place.copy_from_slice(bytes))
            }),
            Action::Hole => self.append_with_hole(rng),
            Action::Panicking => self.append_void(rng),
            Action::Batch => self.append_batch(rng),
            Action::Meta => self.put_meta(rng),
            Action::Sync => self.sync(rng),
            Action::WaitDurable => self.wait_durable(rng),
            Action::Rotate => self.log().rotate().map_err(|error| Failed::new(action, error)),
            Action::Trim => self.trim(rng),
            Action::Cycle => self.cycle(rng),
            Action::Truncate => self.truncate(rng),
            Action::Reset => self.reset(rng),
            Action::Read => self.read().map_err(Failed::Broken),
            Action::View => self.view(rng).map_err(Failed::Broken),
            Action::Close => {
                if rng.u8(..) < 96 {
                    self.fill_up_to_close(rng)?;
                }
                self.close()
            }
            Action::Kill => self.kill().map_err(Failed::Broken),
            Action::PowerCut => self.power_cut(rng).map_err(Failed::Broken),
        }
    }

    fn append(
        &mut self,
        rng: &mut Rng,
        append: impl FnOnce(&Log, u64, &[u8]) -> mapwal::Result<Lsn>,
    ) -> Result<(), Failed> {
        self.append_of(random_len(rng), append).map(drop)
    }

    /// Returns the record's identity.
    fn append_of(
        &mut self,
        len: usize,
        append: impl FnOnce(&Log, u64, &[u8]) -> mapwal::Result<Lsn>,
    ) -> Result<u64, Failed> {
        let (id, expected) = self.watch.submit_record(len);
        let appended = append(&self.log(), id, &payload(id, len));
        self.appended(Action::Append, 1, expected, appended).map(|()| id)
    }

    /// Appends so much that a close which comes next ends with its page: what is appended later begins another one.
    fn fill_up_to_close(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        const SHORT: usize = 8;
        let append = |log: &Log, id, bytes: &[u8]| log.append(tag(id), bytes);
        let id = self.append_of(SHORT, append)?;
        self.sync(rng)?;
        let Some((_, payload)) = self.disk.find(first_word(id)) else { return Ok(()) };
        let log = self.log();
        let values = (0..SLOTS).filter_map(|slot| log.meta(slot)).map(|value| META_HEADER_BYTES + value.len());
        let close = (FRAME_HEADER_BYTES + CLOSE_HEADER_BYTES + values.sum::<usize>()).next_multiple_of(8);
        let end = payload + SHORT + FRAME_HEADER_BYTES + close;
        self.append_of(end.next_multiple_of(PAGE_BYTES) - end, append).map(drop)
    }

    /// An append of `count` entries has come back.
    fn appended(
        &mut self,
        action: Action,
        count: usize,
        expected: u64,
        appended: mapwal::Result<Lsn>,
    ) -> Result<(), Failed> {
        self.watch.settle();
        match appended {
            Ok(lsn) if lsn.0 == expected => Ok(()),
            Ok(lsn) => {
                let message = format!("appended as record {lsn}, not {expected}");
                Err(Failed::Broken(Violation::new(Rule::Gap, message)))
            }
            Err(error) => {
                self.watch.model.lock().withdraw(count);
                Err(Failed::new(action, error))
            }
        }
    }

    fn append_batch(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let count = rng.usize(1..6);
        let mut model = self.watch.model.lock();
        let records: Vec<(u64, usize)> = (0..count).map(|_| (model.fresh_id(), random_len(rng).min(9000))).collect();
        let entry = |(index, &(id, len)): (usize, &(u64, usize))| Entry::Record {
            id,
            len: len as u32,
            continues: index + 1 < count,
        };
        let entries: Vec<Entry> = records.iter().enumerate().map(entry).collect();
        drop(model);
        let expected = self.watch.submit(&entries);
        let payloads: Vec<(u16, Vec<u8>)> = records.iter().map(|&(id, len)| (tag(id), payload(id, len))).collect();
        let batch: Vec<(u16, &[u8])> = payloads.iter().map(|(tag, bytes)| (*tag, &bytes[..])).collect();
        let appended = self.log().append_batch(&batch).map(|range| range.start);
        self.appended(Action::Batch, count, expected, appended)
    }

    /// Another thread appends, and the power fails, while a record is being copied.
    fn append_with_hole(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let len = rng.usize(8..100);
        let (id, expected) = self.watch.submit_record(len);
        let log = self.log();
        let (watch, disk) = (&*self.watch, &self.disk);
        let (first, second) = (rng.bool(), rng.bool());
        let appended = log.append_with(tag(id), len, |place| {
            place.copy_from_slice(&payload(id, len));
            if first {
                disk.show_cut();
            }
            let len = 30;
            let (after, _) = watch.submit_record(len);
            let append = || log.append(tag(after), &payload(after, len));
            let overtook = std::thread::scope(|scope| scope.spawn(append).join().expect("an append does not panic"));
            if overtook.is_err() {
                watch.model.lock().withdraw(1);
            } else if second {
                disk.show_cut();
            }
        });
        self.appended(Action::Hole, 1, expected, appended)
    }

    fn append_void(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let len = random_len(rng).min(500);
        self.watch.submit(&[Entry::Void]);
        let log = self.log();
        let append = || {
            log.append_with(0, len, |place| {
                place.fill(0xee);
                // Without the panic hook, which would print.
                resume_unwind(Box::new(()));
            })
        };
        let caught = catch_unwind(AssertUnwindSafe(append));
        self.watch.settle();
        match caught {
            Err(_) => Ok(()),
            Ok(Ok(_)) => unreachable!("the closure panics"),
            Ok(Err(error)) => {
                self.watch.model.lock().withdraw(1);
                Err(Failed::new(Action::Panicking, error))
            }
        }
    }

    fn put_meta(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let slot = rng.usize(0..SLOTS);
        let id = self.watch.model.lock().fresh_id();
        self.watch.submit(&[Entry::Meta { slot, id }]);
        let put = self.log().put_meta(slot, &meta_value(id));
        self.watch.settle();
        put.map_err(|error| {
            self.watch.model.lock().withdraw(1);
            Failed::new(Action::Meta, error)
        })
    }

    fn sync(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let submitted = self.watch.model.lock().submitted();
        self.watch.busy.store(if rng.bool() { 96 } else { 0 }, Ordering::Relaxed);
        let synced = self.log().sync();
        self.watch.busy.store(0, Ordering::Relaxed);
        let durable = synced.map_err(|error| Failed::new(Action::Sync, error))?;
        let mut model = self.watch.model.lock();
        model.acknowledge(submitted);
        model.acknowledge_to(durable.0);
        Ok(())
    }

    fn wait_durable(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let (first, next) = {
            let model = self.watch.model.lock();
            (model.first_lsn(), model.next_lsn())
        };
        if first == next {
            return Ok(());
        }
        let lsn = rng.u64(first..next);
        self.watch.busy.store(64, Ordering::Relaxed);
        let waited = self.log().wait_durable(Lsn(lsn));
        self.watch.busy.store(0, Ordering::Relaxed);
        waited.map_err(|error| Failed::new(Action::WaitDurable, error))?;
        self.watch.model.lock().acknowledge_to(lsn);
        Ok(())
    }

    fn trim(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let lsn = rng.u64(self.log().first_lsn().0..=self.watch.model.lock().next_lsn());
        self.trim_to(lsn)
    }

    /// Fills segments and trims them, so that files come back: once a segment was prepared before the first trim, the one after the
    /// next is made of what that has dropped.
    fn cycle(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        if rng.u8(..) < if self.disk.has_fault() { 192 } else { 64 } {
            return self.trim_in_parts(rng);
        }
        for _ in 0..rng.u8(2..5) {
            for _ in 0..rng.u8(1..3) {
                self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
            }
            self.log().rotate().map_err(|error| Failed::new(Action::Rotate, error))?;
            match rng.u8(..) {
                0..64 => self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?,
                64..96 => self.view(rng).map_err(Failed::Broken)?,
                _ => {}
            }
            let next = self.watch.model.lock().next_lsn();
            self.trim_to(next)?;
        }
        self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
        if rng.bool() { self.sync(rng) } else { Ok(()) }
    }

    /// Without a rotation in between, only the control page says what was trimmed first.
    fn trim_in_parts(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        for _ in 0..3 {
            self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
            self.log().rotate().map_err(|error| Failed::new(Action::Rotate, error))?;
        }
        let next = self.watch.model.lock().next_lsn();
        self.trim_to(next - 1)?;
        if self.may_aim {
            // All is durable: what is synced next is that page.
            self.disk.aim_fault(Operation::SyncMapping);
        }
        self.trim_to(next)
    }

    fn trim_to(&mut self, lsn: u64) -> Result<(), Failed> {
        let log = self.log();
        let before = self.watch.model.lock().begin_trim(lsn);
        let first_before = log.first_lsn();
        let trimmed = match log.trim_before(Lsn(lsn)) {
            Err(Error::Io { operation: "remove", .. }) if self.had_fault => log.trim_before(Lsn(lsn)),
            trimmed => trimmed,
        };
        trimmed.map_err(|error| Failed::new(Action::Trim, error))?;
        if log.first_lsn() == first_before {
            self.watch.model.lock().undo_trim(before);
            return Ok(());
        }
        let first = log.first_lsn().0;
        if first > lsn {
            let message = format!("trimmed to {first}, asked for {lsn}");
            return Err(Failed::Broken(Violation::new(Rule::Lost, message)));
        }
        self.watch.model.lock().settle_first(first);
        Ok(())
    }

    fn truncate(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let lsn = {
            let mut model = self.watch.model.lock();
            let (first, next) = (self.log().first_lsn().0, model.next_lsn());
            let lsn = rng.u64(first.max(next.saturating_sub(12))..=next) - 1;
            if lsn + 1 >= next {
                // Drops nothing.
                drop(model);
                return self.log().truncate_after(Lsn(lsn)).map_err(|error| Failed::new(Action::Truncate, error));
            }
            model.begin_truncate(lsn);
            lsn
        };
        let truncated = self.while_others_append(|log| log.truncate_after(Lsn(lsn)));
        self.replaced(Action::Truncate, truncated)
    }

    fn reset(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let lsn = {
            let mut model = self.watch.model.lock();
            let next = model.next_lsn();
            let lsn = rng.u64(next.saturating_sub(10).max(1)..next + 10);
            model.begin_reset(lsn);
            lsn
        };
        let reset = self.while_others_append(|log| log.reset_to(Lsn(lsn)));
        self.replaced(Action::Reset, reset)
    }

    /// Has other threads append while `call` syncs.
    fn while_others_append<T>(&self, call: impl FnOnce(&Log) -> T) -> T {
        self.watch.busy.store(96, Ordering::Relaxed);
        let done = call(&self.log());
        self.watch.busy.store(0, Ordering::Relaxed);
        done
    }

    fn replaced(&mut self, action: Action, replaced: mapwal::Result<()>) -> Result<(), Failed> {
        match replaced {
            Ok(()) => {
                self.watch.model.lock().end_replace(true);
                Ok(())
            }
            Err(error) => Err(Failed::new(action, error)),
        }
    }

    fn read(&mut self) -> Result<(), Violation> {
        let observed = self.observe(&self.log())?;
        self.watch.model.lock().check_running(&observed)
    }

    fn close(&mut self) -> Result<(), Failed> {
        let submitted = self.watch.model.lock().submitted();
        let log = self.log.take().expect("a run keeps its log open");
        self.tally.recycled += log.stats().recycled_segments;
        let log = Arc::into_inner(log).expect("nobody else holds it");
        let closed = log.close();
        if closed.is_ok() {
            self.watch.model.lock().acknowledge(submitted);
        }
        self.disk.process_died();
        self.disk.show_cuts(0);
        self.look_at_cuts().map_err(Failed::Broken)?;
        match closed {
            Ok(()) => {}
            Err(error) if self.meets_fault(&error) => {}
            Err(error) => return Err(Failed::Broken(unusable("close", &error))),
        }
        if self.rng.u8(..) < 64 {
            self.damage().map_err(Failed::Broken)?;
        }
        self.open(false).map_err(Failed::Broken)
    }

    /// Looks at what was seen before, lets go of some, and begins to look at more.
    fn view(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        self.check_views()?;
        self.views.retain(|_| rng.bool());
        let disk = &self.disk;
        let view = match rng.u8(0..3) {
            0 => self.log().snapshot().ok().and_then(View::of),
            1 => View::elsewhere(disk),
            _ => self.log().sealed(0).ok().and_then(|sealed| View::backup(disk, sealed.last()?)),
        };
        self.views.extend(view);
        Ok(())
    }

    fn check_views(&self) -> Result<(), Violation> {
        match self.views.iter().find(|view| !view.is_unchanged(&self.disk)) {
            None => Ok(()),
            Some(view) => Err(Violation::new(Rule::Phantom, format!("what is seen by {} has changed", view.name()))),
        }
    }

    fn drop_log(&mut self) {
        self.note_recycled();
        self.log = None;
        self.disk.process_died();
    }

    fn kill(&mut self) -> Result<(), Violation> {
        self.drop_log();
        let mut model = self.watch.model.lock();
        if self.watch.failed.load(Ordering::Relaxed) {
            model.forget_published();
        } else {
            model.published_survive(None);
        }
        drop(model);
        self.open(false)
    }

    fn note_recycled(&mut self) {
        self.tally.recycled += self.log.as_ref().map_or(0, |log| log.stats().recycled_segments);
    }

    fn power_cut(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        self.check_views()?;
        self.views.clear();
        let left = self.disk.crash(Crash::Power);
        self.drop_log();
        self.disk.forget_observer();
        left.observe(Arc::clone(&self.watch) as Arc<dyn Observer>);
        self.disk = left;
        self.look_at_cuts()?;
        self.watch.model.lock().forget_published();
        if rng.bool() {
            self.damage()?;
        }
        self.open(true)
    }

    /// Looks at what becomes of a damaged copy of the disk.
    fn damage(&mut self) -> Result<(), Violation> {
        let seed = self.rng.u64(..);
        let copy = self.disk.crash(Crash::Power);
        let looked = damage::look(&copy, &self.watch.model.lock().clone(), seed)?;
        self.tally.damaged += u64::from(looked);
        Ok(())
    }

    /// A step has failed. That is as it should be if an operation was made to fail.
    fn fail(&mut self, failed: Failed) -> Result<(), Violation> {
        let (action, error) = match failed {
            Failed::Broken(violation) => return Err(violation),
            Failed::Refused(action, error) => (action, error),
        };
        if !self.meets_fault(&error) {
            return Err(unusable(&format!("{action:?}"), &error));
        }
        self.disk.plan_fault(None);
        if self.log.is_none() {
            return Ok(());
        }
        let log = self.log();
        if matches!(error, Error::Poisoned { .. }) {
            let acknowledged =
                log.sync().is_ok() || log.append(0, b"x").is_ok() || log.wait_durable(log.durable_lsn()).is_ok();
            if acknowledged {
                return Err(Violation::new(Rule::Lost, "acknowledged after a failed sync"));
            }
            drop(log);
            self.look_at_cuts()?;
            self.drop_log();
            return self.open(false);
        }
        let mut model = self.watch.model.lock();
        match action {
            Action::Truncate | Action::Reset => {
                let took_effect = log.next_lsn().0 != model.next_lsn();
                model.end_replace(took_effect);
            }
            // After a trim some of the files may be gone: how far is up to the next crash.
            _ => {}
        }
        Ok(())
    }
}

/// What somebody sees for longer than a step.
enum View {
    Snapshot {
        snapshot: Snapshot,
        records: Records,
        is_elsewhere: bool,
    },
    /// A file that has another name as well.
    Backup {
        file: usize,
        contents: Vec<u8>,
    },
}

type Records = Vec<(u64, Vec<u8>)>;

impl View {
    fn of(snapshot: Snapshot) -> Option<Self> {
        let records = records(&snapshot)?;
        Some(Self::Snapshot { snapshot, records, is_elsewhere: false })
    }

    /// Of another process. None if it meets a failure that was meant for somebody else.
    fn elsewhere(disk: &SimDisk) -> Option<Self> {
        // SAFETY: as for the log.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let reader = unsafe { open_reader(Arc::new(disk.elsewhere())) };
        let snapshot = reader.ok()?.snapshot().ok()?;
        let records = records(&snapshot)?;
        Some(Self::Snapshot { snapshot, records, is_elsewhere: true })
    }

    /// What does not count beyond its end may change as long as the segment is the log's.
    fn backup(disk: &SimDisk, sealed: &SealedSegment) -> Option<Self> {
        let (file, mut contents) = disk.back_up(sealed.path().file_name()?.to_str()?)?;
        contents.truncate(sealed.bytes().len());
        Some(Self::Backup { file, contents })
    }

    fn is_unchanged(&self, disk: &SimDisk) -> bool {
        match self {
            Self::Snapshot { snapshot, records, .. } => self::records(snapshot).as_ref() == Some(records),
            Self::Backup { file, contents } => disk.contents(*file).starts_with(contents),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { is_elsewhere: false, .. } => "a snapshot",
            Self::Snapshot { is_elsewhere: true, .. } => "another process",
            Self::Backup { .. } => "a backup",
        }
    }
}

fn records(snapshot: &Snapshot) -> Option<Records> {
    snapshot.iter().map(|record| record.map(|record| (record.lsn().0, record.payload().to_vec())).ok()).collect()
}

/// Why a step did not come to its end.
enum Failed {
    /// The log refused.
    Refused(Action, Error),
    Broken(Violation),
}

impl Failed {
    fn new(action: Action, error: Error) -> Self {
        Self::Refused(action, error)
    }
}

fn unusable(operation: &str, error: &Error) -> Violation {
    Violation::new(Rule::FalseCorruption, format!("cannot {operation}: {error} ({error:?})"))
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.damaged += other.damaged;
        self.faults += other.faults;
        self.recycled += other.recycled;
    }
}
