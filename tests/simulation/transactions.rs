//! Transactions on a simulated disk: a small storage engine over a `Wal`, crashed anywhere, against a model of what was
//! committed.
//!
//! The engine writes its pages to its own disk at any time that the log allows; so after a crash they have changes that
//! must go and lack changes that must come. A crash may fall into the recovery as well, and into the recovery from that.

use std::sync::{Arc, Weak};

use fastrand::Rng;
use mapwal::internals::{Crash, Observer, SimDisk, open_log, recover_over};
use mapwal::wal::{Recovery, Wal, WalError, WalOptions};
use mapwal::{Lsn, Options};
use parking_lot::Mutex;

use super::engine::{Engine, KEYS, Kind, Pages, Values, unusable};
use super::model::{Rule, Violation};
use super::run::{SEGMENT_BYTES, Tally};

/// In how many of 256 operations a crash is looked at: of a history, of what follows a crash of it, and so on.
const CUTS: [u8; 3] = [40, 14, 4];

/// What survives a crash, and what must be found after it.
#[derive(Clone, Default)]
pub struct World {
    pub kind: Kind,
    /// The engine's disk. A page that is written is there, as a whole, from then on.
    pub disk: Pages,
    /// Each commit with its record, also the one that is just being logged.
    commits: Vec<Arc<(Lsn, Values)>>,
    /// The last record that was called durable.
    durable: Lsn,
    /// The last record whose append has returned: a crash of the process keeps it.
    pub published: Lsn,
}

impl World {
    /// The values that the commits up to record `last` have made.
    fn committed(&self, last: Lsn) -> Values {
        let mut values = Values::new();
        for commit in self.commits.iter().filter(|commit| commit.0 <= last) {
            values.extend(&commit.1);
        }
        values
    }

    /// A commit is about to be logged.
    pub fn committing(&mut self, lsn: Lsn, after: Values) {
        self.commits.push(Arc::new((lsn, after)));
    }

    /// A call has said that the log is durable up to record `lsn`.
    pub fn acknowledged(&mut self, lsn: Lsn) {
        self.durable = self.durable.max(lsn);
    }
}

struct Cut {
    crash: Crash,
    disk: SimDisk,
    world: World,
}

/// What the disk tells the run.
#[derive(Default)]
struct Watch {
    world: Mutex<World>,
    wal: Mutex<Weak<Wal>>,
    cuts: Mutex<Vec<Cut>>,
}

impl Observer for Watch {
    fn crashed(&self, left: SimDisk, crash: Crash) {
        let mut world = self.world.lock().clone();
        if let Some(wal) = self.wal.lock().upgrade() {
            world.durable = world.durable.max(wal.flushed_lsn());
        }
        self.cuts.lock().push(Cut { crash, disk: left, world });
    }

    fn syncing(&self) {}
}

/// What is open after a recovery.
struct Opened {
    wal: Arc<Wal>,
    /// The engine's memory.
    pages: Pages,
    syncs_commits: bool,
}

/// A disk with a log, and the engine's life on it.
struct Run<'t> {
    disk: SimDisk,
    watch: Arc<Watch>,
    rng: Rng,
    /// How many crashes came before, one in what followed the other.
    depth: usize,
    tally: &'t mut Tally,
}

/// One random history of transactions with crashes everywhere.
pub fn run_transactions(seed: u64, tally: &mut Tally) -> Result<(), Violation> {
    let kind = if seed.is_multiple_of(2) { Kind::Steal } else { Kind::NoSteal };
    let world = World { kind, ..World::default() };
    let mut run = Run::new(SimDisk::of_either_kind(seed), world, seed, 0, tally);
    let mut crash = Crash::Power;
    for _ in 0..run.rng.usize(2..6) {
        let opened = run.recover(crash)?;
        let steps = run.rng.usize(5..120);
        crash = run.live(opened, steps)?;
    }
    run.recover(crash).map(drop)
}

/// Looks at what a crash has left.
fn look(cut: Cut, seed: u64, depth: usize, tally: &mut Tally) -> Result<(), Violation> {
    let Cut { crash, disk, world } = cut;
    tally.cuts += 1;
    tally.acknowledged += world.commits.iter().filter(|commit| commit.0 <= world.durable).count() as u64;
    let mut run = Run::new(disk, world, seed, depth, tally);
    let opened = run.recover(crash).map_err(|violation| violation.after(crash, depth))?;
    if run.rng.u8(..) < 64 {
        let steps = run.rng.usize(1..8);
        let crash = run.live(opened, steps)?;
        run.recover(crash)?;
    }
    Ok(())
}

impl<'t> Run<'t> {
    fn new(disk: SimDisk, world: World, seed: u64, depth: usize, tally: &'t mut Tally) -> Self {
        let watch = Arc::new(Watch { world: Mutex::new(world), ..Watch::default() });
        disk.observe(Arc::clone(&watch) as Arc<dyn Observer>);
        disk.reseed(seed);
        Self { disk, watch, rng: Rng::with_seed(seed), depth, tally }
    }

    /// Opens the log after a crash, lets the engine recover, and checks what it holds then.
    fn recover(&mut self, crash: Crash) -> Result<Opened, Violation> {
        if crash == Crash::Power {
            let mut world = self.watch.world.lock();
            world.published = world.durable;
        }
        self.disk.show_cuts(CUTS.get(self.depth).copied().unwrap_or(0));
        let syncs_commits = self.rng.bool();
        let (wal, recovery) = self.open(syncs_commits)?;
        let expected = self.check_end(&recovery)?;
        *self.watch.wal.lock() = Arc::downgrade(&wal);
        let pages = {
            let mut engine = Engine::new(&wal, &self.watch.world, syncs_commits);
            engine.redo(&recovery, &mut self.rng)?;
            engine.roll_back(&recovery, &mut self.rng)?;
            engine.memory
        };
        self.disk.show_cuts(0);
        check(&pages, &expected)?;
        self.look_at_cuts()?;
        Ok(Opened { wal, pages, syncs_commits })
    }

    fn open(&self, syncs_commits: bool) -> Result<(Arc<Wal>, Recovery), Violation> {
        let log = Options::new().segment_size_bytes(SEGMENT_BYTES);
        // SAFETY: only this log touches the disk's mappings while it is open; crashes are looked at on copies.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let opened = unsafe { open_log(Arc::new(self.disk.clone()), &log) };
        let options = WalOptions::new().log(log).sync_on_commit(syncs_commits);
        let recovered = opened.map_err(WalError::from).and_then(|log| recover_over(log, &options)).map_err(unusable)?;
        Ok((Arc::new(recovered.0), recovered.1))
    }

    /// Checks how far the log goes; returns what is committed by then. All of it is durable.
    fn check_end(&self, recovery: &Recovery) -> Result<Values, Violation> {
        let mut world = self.watch.world.lock();
        let (last, kept) = (recovery.max_lsn(), world.published.max(world.durable));
        if last < kept {
            return Err(Violation::new(Rule::Lost, format!("the log ends with {last}, {kept} must be there")));
        }
        world.commits.retain(|commit| commit.0 <= last);
        (world.durable, world.published) = (last, last);
        Ok(world.committed(last))
    }

    /// Lets the engine work, ends its life in some way, and looks at the crashes on the way. Returns how it ended.
    fn live(&mut self, opened: Opened, steps: usize) -> Result<Crash, Violation> {
        let Opened { wal, pages, syncs_commits } = opened;
        let watch = Arc::clone(&self.watch);
        let mut engine = Engine::new(&wal, &watch.world, syncs_commits);
        engine.memory = pages;
        for _ in 0..steps {
            self.disk.show_cuts(CUTS.get(self.depth).copied().unwrap_or(0));
            let done = engine.step(&mut self.rng);
            self.disk.show_cuts(0);
            done?;
            self.look_at_cuts()?;
        }
        drop(engine);
        let left = (self.rng.u8(..) < 128).then(|| self.disk.crash(Crash::Power));
        let durable = wal.flushed_lsn();
        let wal = Arc::into_inner(wal).expect("nobody else holds it");
        if left.is_none() && self.rng.bool() {
            wal.close().map_err(unusable)?;
        } else {
            drop(wal);
        }
        self.disk.process_died();
        let mut world = self.watch.world.lock();
        world.durable = world.durable.max(durable);
        drop(world);
        let Some(left) = left else { return Ok(Crash::Kill) };
        self.disk.forget_observer();
        left.observe(Arc::clone(&self.watch) as Arc<dyn Observer>);
        self.disk = left;
        Ok(Crash::Power)
    }

    fn look_at_cuts(&mut self) -> Result<(), Violation> {
        let cuts = std::mem::take(&mut *self.watch.cuts.lock());
        for cut in cuts {
            look(cut, self.rng.u64(..), self.depth + 1, self.tally)?;
        }
        Ok(())
    }
}

fn check(pages: &Pages, expected: &Values) -> Result<(), Violation> {
    // A page that was never changed for good is as one that is not there.
    let found = |key| pages.get(&key).map_or(0, |page| page.value);
    let expected = |key| expected.get(&key).copied().unwrap_or(0);
    let Some(key) = (0..KEYS).find(|&key| found(key) != expected(key)) else { return Ok(()) };
    let (found, expected) = (found(key), expected(key));
    let rule = if expected == 0 { Rule::Phantom } else { Rule::Lost };
    Err(Violation::new(rule, format!("page {key} is {found}, {expected} was committed")))
}
