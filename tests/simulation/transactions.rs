//! Transactions on a simulated disk: a small storage engine over a `Wal`, crashed anywhere, against a model of what was
//! committed.
//!
//! The engine changes pages before the commit and writes them to its own disk at any time that the log allows; so after a
//! crash its pages have changes that must go and lack changes that must come. Beside it the model looks at what an engine
//! would find that applies nothing before the commit. A crash may fall into the recovery as well, and into the recovery
//! from that.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use fastrand::Rng;
use mapwal::testing::{open_log, recover_over};
use mapwal::{
    Compensated, DirtyPage, Error, Lsn, Options, PageId, Recovery, Savepoint, TransactionId, Undoing, Wal, WalOptions,
};
use parking_lot::Mutex;

use super::disk::{Observer, SimDisk};
use super::model::{Crash, Rule, Violation};
use super::run::{SEGMENT_BYTES, Tally};

const KEYS: u64 = 12;
/// How many transactions go on at a time.
const RUNNING_MAX: usize = 4;
/// In how many of 256 operations a crash is looked at: of a history, of what follows a crash of it, and so on.
const CUTS: [u8; 3] = [40, 14, 4];

/// Contents and the last record that changed them.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    value: u64,
    lsn: Lsn,
    /// Of a page in memory: the oldest record whose change is not on the engine's disk.
    recovery_lsn: Option<Lsn>,
}

type Pages = BTreeMap<u64, Page>;
type Values = BTreeMap<u64, u64>;

/// What survives a crash, and what must be found after it.
#[derive(Clone, Default)]
struct World {
    /// The engine's disk. A page that is written is there, as a whole, from then on.
    disk: Pages,
    /// Each commit with its record, also the one that is just being logged.
    commits: Vec<(Lsn, Values)>,
    /// The last record that was called durable.
    durable: Lsn,
    /// The last record whose append has returned: a crash of the process keeps it.
    published: Lsn,
}

impl World {
    /// The values that the commits up to record `last` have made.
    fn committed(&self, last: Lsn) -> Values {
        let mut values = Values::new();
        for (_, after) in self.commits.iter().filter(|(lsn, _)| *lsn <= last) {
            values.extend(after);
        }
        values
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

/// A transaction in progress and what it has changed: key, and the value before its first change.
struct Running {
    id: TransactionId,
    before: Values,
    after: Values,
    /// Where it can be rolled back to, with what it had changed there.
    savepoint: Option<(Savepoint, Values)>,
}

/// An engine with its wal open.
struct Engine {
    wal: Arc<Wal>,
    watch: Arc<Watch>,
    memory: Pages,
    running: Vec<Running>,
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
    let mut run = Run::new(SimDisk::new(seed), World::default(), seed, 0, tally);
    let mut crash = Crash::Power;
    for _ in 0..run.rng.usize(2..6) {
        let engine = run.recover(crash)?;
        let steps = run.rng.usize(5..60);
        crash = run.live(engine, steps)?;
    }
    run.recover(crash).map(drop)
}

/// Looks at what a crash has left.
fn look(cut: Cut, seed: u64, depth: usize, tally: &mut Tally) -> Result<(), Violation> {
    let Cut { crash, disk, world } = cut;
    tally.cuts += 1;
    tally.acknowledged += world.commits.iter().filter(|(lsn, _)| *lsn <= world.durable).count() as u64;
    let mut run = Run::new(disk, world, seed, depth, tally);
    let engine = run.recover(crash).map_err(|violation| violation.after(crash, depth))?;
    if run.rng.u8(..) < 64 {
        let steps = run.rng.usize(1..8);
        let crash = run.live(engine, steps)?;
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

    /// Opens the log after a crash, checks what both kinds of engine make of it, and rolls back what was open.
    fn recover(&mut self, crash: Crash) -> Result<Engine, Violation> {
        if crash == Crash::Power {
            let mut world = self.watch.world.lock();
            world.published = world.durable;
        }
        self.disk.show_cuts(CUTS.get(self.depth).copied().unwrap_or(0));
        let syncs_commits = self.rng.bool();
        let (wal, recovery) = self.open(syncs_commits)?;
        let expected = self.check_end(&recovery)?;
        // A copy: reading may touch the disk, which shows crashes to those who look at the world.
        let world = self.watch.world.lock().clone();
        let redone = redo_committed(&world, &recovery)?;
        check(&redone, &expected, "redo")?;
        *self.watch.wal.lock() = Arc::downgrade(&wal);
        let memory = world.disk;
        let watch = Arc::clone(&self.watch);
        let mut engine = Engine { wal, watch, memory, running: Vec::new(), syncs_commits };
        engine.repeat_and_undo(&recovery, &mut self.rng)?;
        self.disk.show_cuts(0);
        let held = engine.memory.iter().map(|(key, page)| (*key, page.value)).collect();
        check(&held, &expected, "history and undo")?;
        self.look_at_cuts()?;
        Ok(engine)
    }

    fn open(&self, syncs_commits: bool) -> Result<(Arc<Wal>, Recovery), Violation> {
        let log = Options::new().segment_size_bytes(SEGMENT_BYTES);
        // SAFETY: only this log touches the disk's mappings while it is open; crashes are looked at on copies.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let opened = unsafe { open_log(Arc::new(self.disk.clone()), &log) };
        let options = WalOptions::new().log(log).sync_on_commit(syncs_commits);
        let recovered = opened.and_then(|log| recover_over(log, &options)).map_err(unusable)?;
        Ok((Arc::new(recovered.0), recovered.1))
    }

    /// Checks how far the log goes; returns what is committed by then. All of it is durable.
    fn check_end(&self, recovery: &Recovery) -> Result<Values, Violation> {
        let mut world = self.watch.world.lock();
        let (last, kept) = (recovery.max_lsn(), world.published.max(world.durable));
        if last < kept {
            return Err(Violation::new(Rule::Lost, format!("the log ends with {last}, {kept} must be there")));
        }
        world.commits.retain(|(lsn, _)| *lsn <= last);
        (world.durable, world.published) = (last, last);
        Ok(world.committed(last))
    }

    /// Lets the engine work, ends its life in some way, and looks at the crashes on the way. Returns how it ended.
    fn live(&mut self, mut engine: Engine, steps: usize) -> Result<Crash, Violation> {
        for _ in 0..steps {
            self.disk.show_cuts(CUTS.get(self.depth).copied().unwrap_or(0));
            let done = engine.step(&mut self.rng);
            self.disk.show_cuts(0);
            done?;
            self.look_at_cuts()?;
        }
        let left = (self.rng.u8(..) < 128).then(|| self.disk.crash(Crash::Power));
        let durable = engine.wal.flushed_lsn();
        let wal = Arc::into_inner(engine.wal).expect("nobody else holds it");
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

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
fn unusable(error: Error) -> Violation {
    Violation::new(Rule::FalseCorruption, format!("a call of the wal fails: {error} ({error:?})"))
}

/// Key, old value and new value, and as much again as fills segments.
fn encode(key: u64, old: u64, new: u64) -> Vec<u8> {
    let mut data: Vec<u8> = [key, old, new].into_iter().flat_map(u64::to_le_bytes).collect();
    data.resize(data.len() + (new % 2000) as usize, 0xab);
    data
}

fn decode(data: &[u8]) -> (u64, u64, u64) {
    let field = |at: usize| u64::from_le_bytes(data[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    (field(0), field(1), field(2))
}

fn check(found: &Values, expected: &Values, what: &str) -> Result<(), Violation> {
    // A page that was never changed for good is as one that is not there.
    let changed =
        |values: &Values| -> Values { values.iter().filter(|(_, v)| **v != 0).map(|(k, v)| (*k, *v)).collect() };
    let (found, expected) = (changed(found), changed(expected));
    let Some(key) = (0..KEYS).find(|key| found.get(key) != expected.get(key)) else { return Ok(()) };
    let (found, expected) = (found.get(&key), expected.get(&key));
    let rule = if expected.is_some() { Rule::Lost } else { Rule::Phantom };
    Err(Violation::new(rule, format!("{what}: page {key} is {found:?}, {expected:?} was committed")))
}

/// Recovers an engine that applies nothing before the commit, whose pages were written at the last checkpoint.
fn redo_committed(world: &World, recovery: &Recovery) -> Result<Values, Violation> {
    let checkpoint = recovery.checkpoint().map_err(unusable)?.map_or(Lsn::ZERO, |checkpoint| checkpoint.lsn());
    let mut values = world.committed(checkpoint);
    for record in recovery.redo() {
        let (key, _, new) = decode(record.map_err(unusable)?.data());
        values.insert(key, new);
    }
    Ok(values)
}

impl Page {
    fn change(&mut self, value: u64, lsn: Lsn) {
        *self = Self { value, lsn, recovery_lsn: self.recovery_lsn.or(Some(lsn)) };
    }
}

/// Takes back a change.
fn undo<'u>(memory: &mut Pages, undoing: Undoing<'u, '_>) -> Result<Compensated<'u>, Error> {
    let (key, old, new) = decode(undoing.record().data());
    let compensated = undoing.compensate(encode(key, new, old))?;
    memory.entry(key).or_default().change(old, compensated.lsn());
    Ok(compensated)
}

impl Engine {
    /// Recovers: repeats history, and rolls back what was open. Pages are written meanwhile.
    fn repeat_and_undo(&mut self, recovery: &Recovery, rng: &mut Rng) -> Result<(), Violation> {
        for record in recovery.history() {
            let record = record.map_err(unusable)?;
            let (key, _, new) = decode(record.data());
            let page = self.memory.entry(key).or_default();
            if page.lsn < record.lsn() {
                page.change(new, record.lsn());
            }
        }
        let expected: Result<Vec<Lsn>, Error> = recovery.undo().map(|record| Ok(record?.lsn())).collect();
        let mut undone = Vec::new();
        for open in recovery.incomplete_transactions() {
            self.write_page(rng)?;
            let (wal, memory) = (Arc::clone(&self.wal), &mut self.memory);
            let aborted = wal.resume(open.transaction).and_then(|handle| {
                handle.abort(|undoing| {
                    undone.push(undoing.record().lsn());
                    undo(memory, undoing)
                })
            });
            aborted.map_err(unusable)?;
            self.settle();
        }
        undone.sort_unstable_by(|a, b| b.cmp(a));
        if undone != expected.map_err(unusable)? {
            return Err(Violation::new(Rule::Phantom, format!("the handles undo {undone:?}, and not what undo says")));
        }
        Ok(())
    }

    fn step(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let done = match rng.u8(0..100) {
            0..8 if self.running.len() < RUNNING_MAX => self.begin(),
            0..50 => self.change(rng),
            50..56 => self.savepoint(rng),
            56..62 => self.roll_back_to(rng),
            62..76 => return self.commit(rng),
            76..81 => self.abort(rng),
            81..89 => return self.write_page(rng),
            89..92 => return self.flush(),
            92..95 => self.wal.log().rotate(),
            _ => self.checkpoint(rng),
        };
        self.settle();
        done.map_err(unusable)
    }

    /// A call has returned: what it logged is published.
    fn settle(&self) {
        self.watch.world.lock().published = self.wal.current_lsn().previous();
    }

    fn pick(&self, rng: &mut Rng) -> Option<usize> {
        (!self.running.is_empty()).then(|| rng.usize(0..self.running.len()))
    }

    fn begin(&mut self) -> Result<(), Error> {
        let transaction = self.wal.begin()?;
        let id = transaction.id();
        // The engine keeps numbers, not handles, and resumes a handle where it wants one.
        std::mem::forget(transaction);
        self.running.push(Running { id, before: Values::new(), after: Values::new(), savepoint: None });
        Ok(())
    }

    fn change(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let Some(index) = self.pick(rng) else { return self.begin() };
        let (key, new) = (rng.u64(0..KEYS), rng.u64(1..1 << 40));
        if self.running.iter().enumerate().any(|(other, r)| other != index && r.before.contains_key(&key)) {
            return Ok(()); // Locked.
        }
        let running = &mut self.running[index];
        let page = self.memory.entry(key).or_default();
        running.before.entry(key).or_insert(page.value);
        running.after.insert(key, new);
        let lsn = self.wal.log_update(running.id, None, PageId(key), &encode(key, page.value, new))?;
        page.change(new, lsn);
        Ok(())
    }

    fn savepoint(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let running = &mut self.running[index];
        let handle = self.wal.resume(running.id)?;
        running.savepoint = Some((handle.savepoint(), running.after.clone()));
        std::mem::forget(handle);
        Ok(())
    }

    fn roll_back_to(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let Some((savepoint, after)) = self.running[index].savepoint.clone() else { return Ok(()) };
        let mut handle = self.wal.resume(self.running[index].id)?;
        let memory = &mut self.memory;
        handle.roll_back_to(savepoint, |undoing| undo(memory, undoing))?;
        std::mem::forget(handle);
        self.running[index].after = after;
        Ok(())
    }

    fn commit(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let Running { id, after, .. } = self.running.swap_remove(index);
        let expected = self.wal.current_lsn();
        self.watch.world.lock().commits.push((expected, after));
        let lsn = self.wal.log_commit(id, None).map_err(unusable)?;
        if lsn != expected {
            return Err(Violation::new(Rule::Gap, format!("the commit is record {lsn}, not {expected}")));
        }
        self.settle();
        if self.syncs_commits {
            self.watch.world.lock().durable = lsn;
        }
        Ok(())
    }

    fn abort(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let Running { id, .. } = self.running.swap_remove(index);
        let (wal, memory) = (Arc::clone(&self.wal), &mut self.memory);
        wal.resume(id)?.abort(|undoing| undo(memory, undoing)).map(drop)
    }

    /// Writes a page, whoever changed it last: the log goes first.
    fn write_page(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let key = rng.u64(0..KEYS);
        let Some(page) = self.memory.get_mut(&key) else { return Ok(()) };
        if page.lsn > Lsn::ZERO {
            self.wal.log().wait_durable(page.lsn).map_err(unusable)?;
        }
        page.recovery_lsn = None;
        self.watch.world.lock().disk.insert(key, *page);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Violation> {
        let durable = self.wal.flush().map_err(unusable)?;
        self.watch.world.lock().durable = durable;
        Ok(())
    }

    fn checkpoint(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let dirty = self.memory.iter().filter(|(_, page)| page.recovery_lsn.is_some());
        let dirty: Vec<_> = dirty.map(|(key, page)| DirtyPage::new(PageId(*key), page.recovery_lsn)).collect();
        let active: Vec<_> = self.running.iter().map(|running| running.id.into()).collect();
        let lsn = self.wal.log_checkpoint(&active, &dirty)?;
        self.watch.world.lock().durable = lsn;
        if rng.bool() {
            self.wal.truncate_before_checkpoint()?;
        }
        Ok(())
    }
}
