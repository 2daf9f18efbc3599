//! A history as it is done to a log on a simulated disk, with a look at every crash that the disk shows. `act.rs` and `trims.rs` have the actions,
//! `judge.rs` what they are judged by.

mod act;
mod judge;
mod trims;
mod view;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use mapwal::internals::{Crash, Fault, Observer, SimDisk, open_log};
use mapwal::{Log, Options};

use super::history::{Action, History, Step};
use super::model::{Model, Violation};
use judge::{Failed, unusable};
use view::View;
use watch::{Cut, Watch};

/// The smallest segments, so that little data makes many.
pub const SEGMENT_BYTES: u64 = 64 << 10;
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
    /// Segments longer than the first ones, and such whose end has been given back, in the logs that were left.
    pub grown: u64,
    pub given_back: u64,
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
    run.note_segments();
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
    run.note_segments();
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

    fn try_open(&mut self) -> mapwal::Result<Arc<Log>> {
        let spares = if self.rng.u8(..) < 16 { self.rng.usize(1..3) } else { 0 };
        // Segments may grow from some opens on, and a later one goes on with smaller ones.
        let size = SEGMENT_BYTES << [0, 0, 0, 0, 0, 1, 2, 2][self.rng.usize(0..8)];
        let options = Options::new().segment_size_bytes(size).first_segment_size_bytes(SEGMENT_BYTES);
        let options = options.spare_segments(spares);
        // SAFETY: only this log touches the disk's mappings while it is open; crashes are looked at on copies.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let log = unsafe { open_log(Arc::new(self.disk.clone()), &options) };
        log.map(Arc::new)
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

    fn close(&mut self) -> Result<(), Failed> {
        let submitted = self.watch.model.lock().submitted();
        self.note_segments();
        let log = self.log.take().expect("a run keeps its log open");
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

    fn drop_log(&mut self) {
        self.note_segments();
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

    fn note_segments(&mut self) {
        let Some(log) = &self.log else { return };
        self.tally.recycled += log.stats().recycled_segments;
        let (grown, given_back) = self.disk.grown_and_given_back(SEGMENT_BYTES);
        self.tally.grown += grown;
        self.tally.given_back += given_back;
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
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.damaged += other.damaged;
        self.faults += other.faults;
        self.recycled += other.recycled;
        self.grown += other.grown;
        self.given_back += other.given_back;
    }
}
