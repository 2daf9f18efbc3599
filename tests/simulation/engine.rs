//! A small storage engine over a `Wal`, of either kind, for the laboratory of transactions.
//!
//! It does one thing at a time, and all that threads do at the same time between two of them: a change is logged and made
//! later, a commit is durable and applied later, a checkpoint looks at one page after the other while transactions
//! begin, log, commit, abort and write pages.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use mapwal::Lsn;
use mapwal::wal::{
    BegunCheckpoint, Committed, Compensated, DirtyPage, PageId, Recovery, Savepoint, TransactionId, Undoing, Wal,
    WalError,
};
use parking_lot::Mutex;

use super::model::{Rule, Violation};
use super::transactions::World;

pub const KEYS: u64 = 12;
/// How many transactions go on at a time.
const RUNNING_MAX: usize = 4;
/// How many checkpoints.
const CHECKPOINTS_MAX: usize = 2;

/// When an engine changes its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Before the commit: it repeats history and undoes.
    #[default]
    Steal,
    /// After the commit: it redoes what was committed. Its pages do not know what was applied to them, and it lets go of
    /// what a transaction has locked before it has applied it.
    NoSteal,
}

/// Contents and the last record that must be durable before they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    pub value: u64,
    lsn: Lsn,
    /// Of a page in memory: the oldest record whose change is not on the engine's disk.
    recovery_lsn: Option<Lsn>,
}

pub type Pages = BTreeMap<u64, Page>;
pub type Values = BTreeMap<u64, u64>;

#[derive(Debug, Clone, Copy)]
struct Change {
    key: u64,
    value: u64,
    lsn: Lsn,
}

/// A transaction in progress.
struct Running {
    id: TransactionId,
    /// The keys that it has locked.
    locked: Vec<u64>,
    /// What it has logged and not taken back.
    changes: Vec<Change>,
    /// How many of them are made: all in the end by an engine that steals, none by the other.
    applied: usize,
    /// Where it can be rolled back to, with how many changes it had made by then.
    savepoint: Option<(Savepoint, usize)>,
}

/// A transaction that has committed, with what is left to be applied of it.
struct Applying<'w> {
    committed: Committed<'w>,
    changes: VecDeque<Change>,
}

/// A checkpoint that looks at the pages.
struct Looking<'w> {
    begun: BegunCheckpoint<'w>,
    next_key: u64,
    dirty: Vec<DirtyPage>,
}

/// An engine with its wal open.
pub struct Engine<'w> {
    wal: &'w Wal,
    world: &'w Mutex<World>,
    kind: Kind,
    pub memory: Pages,
    running: Vec<Running>,
    /// In the order of their commits, which is that in which they are applied.
    applying: VecDeque<Applying<'w>>,
    /// What is applied, and has not been said to be.
    applied: Vec<Committed<'w>>,
    checkpoints: Vec<Looking<'w>>,
    syncs_commits: bool,
}

pub fn unusable(error: impl Into<WalError>) -> Violation {
    let error = error.into();
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

impl Page {
    /// A change that record `recovery_lsn` tells of, and that stands once record `lsn` is durable.
    fn change(&mut self, value: u64, recovery_lsn: Lsn, lsn: Lsn) {
        *self = Self { value, lsn, recovery_lsn: self.recovery_lsn.or(Some(recovery_lsn)) };
    }

    /// As a checkpoint lists it, if it is dirty.
    fn listed(&self, key: u64, rng: &mut Rng) -> Option<DirtyPage> {
        let known = (rng.u8(..) >= 8).then_some(self.recovery_lsn?);
        Some(DirtyPage::new(PageId(key), known))
    }
}

fn dirty(memory: &Pages, rng: &mut Rng) -> Vec<DirtyPage> {
    memory.iter().filter_map(|(key, page)| page.listed(*key, rng)).collect()
}

impl<'w> Engine<'w> {
    /// With the pages of the world's disk.
    pub fn new(wal: &'w Wal, world: &'w Mutex<World>, syncs_commits: bool) -> Self {
        let (kind, memory) = {
            let world = world.lock();
            (world.kind, world.disk.clone())
        };
        let (running, checkpoints, applied) = (Vec::new(), Vec::new(), Vec::new());
        Self { wal, world, kind, memory, running, applying: VecDeque::new(), applied, checkpoints, syncs_commits }
    }

    /// Redoes what the pages lack. They are written meanwhile, and checkpoints tried that must not be taken yet.
    pub fn redo(&mut self, recovery: &Recovery, rng: &mut Rng) -> Result<(), Violation> {
        match self.kind {
            Kind::Steal => self.redo_all(recovery.history(), rng)?,
            Kind::NoSteal => self.redo_all(recovery.redo(), rng)?,
        }
        recovery.redone();
        Ok(())
    }

    fn redo_all<'r>(
        &mut self,
        records: impl Iterator<Item = Result<mapwal::wal::WalRecord<'r>, WalError>>,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        for record in records {
            let record = record.map_err(unusable)?;
            let (key, _, new) = decode(record.data());
            let page = self.memory.entry(key).or_default();
            if self.kind == Kind::NoSteal || page.lsn < record.lsn() {
                page.change(new, record.lsn(), record.lsn());
            }
            match rng.u8(0..32) {
                0 => self.write_page(rng)?,
                1 => match self.wal.begin_checkpoint() {
                    Ok(begun) => begun.log(&[], &dirty(&self.memory, rng)).map(drop).map_err(unusable)?,
                    Err(WalError::NotRedone { .. }) => {}
                    Err(error) => return Err(unusable(error)),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Rolls back what was open. Pages are written and checkpoints taken meanwhile.
    pub fn roll_back(&mut self, recovery: &Recovery, rng: &mut Rng) -> Result<(), Violation> {
        let expected: Result<Vec<Lsn>, WalError> = recovery.undo().map(|record| Ok(record?.lsn())).collect();
        let mut undone = Vec::new();
        for open in recovery.incomplete_transactions() {
            self.write_page(rng)?;
            let id = open.transaction;
            self.abort(id, rng, |lsn| undone.push(lsn)).map_err(unusable)?;
            self.settle();
        }
        undone.sort_unstable_by(|a, b| b.cmp(a));
        if undone != expected.map_err(unusable)? {
            return Err(Violation::new(Rule::Phantom, format!("the handles undo {undone:?}, and not what undo says")));
        }
        Ok(())
    }

    pub fn step(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let done = match rng.u8(0..100) {
            0..8 if self.running.len() < RUNNING_MAX => self.begin(),
            0..33 => self.log_change(rng),
            33..45 => self.apply(rng),
            45..48 => self.savepoint(rng),
            48..51 => self.roll_back_to(rng),
            51..64 => return self.commit(rng),
            64..67 => self.abort_any(rng),
            67..73 => return self.write_page(rng),
            73..75 => return self.flush(),
            75..78 => self.wal.log().rotate().map(|_| ()).map_err(WalError::from),
            78..80 => self.wal.truncate_before_checkpoint().map(drop),
            80..82 => self.checkpoint_at_once(rng),
            _ => self.checkpoint(rng),
        };
        self.settle();
        done.map_err(unusable)
    }

    /// A call has returned: what it logged is published.
    fn settle(&self) {
        self.world.lock().published = self.wal.current_lsn().previous();
    }

    fn pick(&self, rng: &mut Rng) -> Option<usize> {
        (!self.running.is_empty()).then(|| rng.usize(0..self.running.len()))
    }

    fn begin(&mut self) -> Result<(), WalError> {
        let transaction = self.wal.begin()?;
        let id = transaction.id();
        // The engine keeps numbers, not handles, and resumes a handle where it wants one.
        std::mem::forget(transaction);
        self.running.push(Running { id, locked: Vec::new(), changes: Vec::new(), applied: 0, savepoint: None });
        Ok(())
    }

    /// The value of a key, all changes made that are logged.
    fn value(&self, key: u64) -> u64 {
        let mut running = self.running.iter().flat_map(|running| &running.changes);
        let mut applying = self.applying.iter().flat_map(|applying| &applying.changes);
        let newest = |change: Option<&Change>| change.map(|change| change.value);
        newest(running.rfind(|change| change.key == key))
            .or_else(|| newest(applying.rfind(|change| change.key == key)))
            .unwrap_or_else(|| self.memory.get(&key).map_or(0, |page| page.value))
    }

    fn log_change(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let Some(index) = self.pick(rng) else { return self.begin() };
        let (key, value) = (rng.u64(0..KEYS), rng.u64(1..1 << 40));
        if self.running.iter().enumerate().any(|(other, r)| other != index && r.locked.contains(&key)) {
            return Ok(());
        }
        let data = encode(key, self.value(key), value);
        let running = &mut self.running[index];
        running.locked.push(key);
        let lsn = self.wal.log_update(running.id, None, PageId(key), &data)?;
        running.changes.push(Change { key, value, lsn });
        // Most often at once, under the lock of the page.
        if self.kind == Kind::Steal && rng.u8(..) < 160 {
            self.apply_running(index);
        }
        Ok(())
    }

    /// Makes all changes of a transaction of an engine that steals.
    fn apply_running(&mut self, index: usize) {
        let running = &mut self.running[index];
        for change in &running.changes[running.applied..] {
            self.memory.entry(change.key).or_default().change(change.value, change.lsn, change.lsn);
        }
        running.applied = running.changes.len();
    }

    fn apply(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        match self.kind {
            Kind::Steal => self.say_applied(rng),
            Kind::NoSteal => {
                self.apply_committed(rng);
                Ok(())
            }
        }
    }

    fn say_applied(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        self.apply_running(index);
        if rng.bool() {
            let mut handle = self.wal.resume(self.running[index].id)?;
            handle.applied();
            std::mem::forget(handle);
        }
        Ok(())
    }

    /// Makes a change of the oldest transaction that is not applied, or says of one that it is.
    fn apply_committed(&mut self, rng: &mut Rng) {
        if let Some(applying) = self.applying.front_mut() {
            let commit = applying.committed.lsn();
            if let Some(Change { key, value, lsn }) = applying.changes.pop_front() {
                self.memory.entry(key).or_default().change(value, lsn, commit);
            }
        }
        if self.applying.front().is_some_and(|applying| applying.changes.is_empty()) {
            self.applied.extend(self.applying.pop_front().map(|applying| applying.committed));
        }
        if !self.applied.is_empty() && rng.bool() {
            self.applied.swap_remove(rng.usize(0..self.applied.len())).applied();
        }
    }

    fn savepoint(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let running = &mut self.running[index];
        let handle = self.wal.resume(running.id)?;
        running.savepoint = Some((handle.savepoint(), running.changes.len()));
        std::mem::forget(handle);
        Ok(())
    }

    fn roll_back_to(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        let Some((savepoint, len)) = self.running[index].savepoint else { return Ok(()) };
        let mut handle = self.wal.resume(self.running[index].id)?;
        if self.kind == Kind::Steal {
            self.apply_running(index);
        }
        let (wal, kind, memory) = (self.wal, self.kind, &mut self.memory);
        handle.roll_back_to(savepoint, |undoing| undo(wal, kind, memory, rng, undoing))?;
        std::mem::forget(handle);
        let running = &mut self.running[index];
        running.changes.truncate(len);
        running.applied = running.applied.min(len);
        Ok(())
    }

    fn commit(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        if self.kind == Kind::Steal {
            self.apply_running(index);
        }
        let Running { id, changes, .. } = self.running.swap_remove(index);
        let expected = self.wal.current_lsn();
        let after = changes.iter().map(|change| (change.key, change.value)).collect();
        self.world.lock().committing(expected, after);
        let committed = self.wal.log_commit(id, None).map_err(unusable)?;
        let lsn = committed.lsn();
        match self.kind {
            Kind::Steal => drop(committed.applied()),
            Kind::NoSteal => self.applying.push_back(Applying { committed, changes: changes.into() }),
        }
        if lsn != expected {
            return Err(Violation::new(Rule::Gap, format!("the commit is record {lsn}, not {expected}")));
        }
        self.settle();
        if self.syncs_commits {
            self.world.lock().acknowledged(lsn);
        }
        Ok(())
    }

    fn abort_any(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let Some(index) = self.pick(rng) else { return Ok(()) };
        if self.kind == Kind::Steal {
            self.apply_running(index);
        }
        let id = self.running.swap_remove(index).id;
        self.abort(id, rng, |_| {})
    }

    fn abort(&mut self, id: TransactionId, rng: &mut Rng, mut undone: impl FnMut(Lsn)) -> Result<(), WalError> {
        let (wal, kind, memory) = (self.wal, self.kind, &mut self.memory);
        let aborted = wal.resume(id)?.abort(|undoing| {
            undone(undoing.record().lsn());
            undo(wal, kind, memory, rng, undoing)
        });
        aborted.map(drop)
    }

    /// Writes a page, whichever transaction changed it last: the log goes first.
    fn write_page(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let key = rng.u64(0..KEYS);
        let Some(page) = self.memory.get_mut(&key) else { return Ok(()) };
        if page.lsn > Lsn::ZERO {
            self.wal.log().wait_durable(page.lsn).map_err(unusable)?;
        }
        page.recovery_lsn = None;
        self.world.lock().disk.insert(key, *page);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Violation> {
        let durable = self.wal.flush().map_err(unusable)?;
        self.world.lock().acknowledged(durable);
        Ok(())
    }

    /// A checkpoint at a moment of rest.
    fn checkpoint_at_once(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        let active: Vec<_> = self.running.iter().map(|running| running.id.into()).collect();
        let lsn = self.wal.log_checkpoint(&active, &dirty(&self.memory, rng))?;
        self.world.lock().acknowledged(lsn);
        Ok(())
    }

    /// Begins a checkpoint, looks at a few pages for one that has begun, or logs it when it has looked at all.
    fn checkpoint(&mut self, rng: &mut Rng) -> Result<(), WalError> {
        if self.checkpoints.is_empty() || (self.checkpoints.len() < CHECKPOINTS_MAX && rng.u8(..) < 64) {
            let begun = self.wal.begin_checkpoint()?;
            self.checkpoints.push(Looking { begun, next_key: 0, dirty: Vec::new() });
            return Ok(());
        }
        let index = rng.usize(0..self.checkpoints.len());
        let looking = &mut self.checkpoints[index];
        if looking.next_key < KEYS {
            let keys = looking.next_key..(looking.next_key + rng.u64(1..=KEYS)).min(KEYS);
            looking.next_key = keys.end;
            let looked_at = self.memory.range(keys).filter_map(|(key, page)| page.listed(*key, rng));
            looking.dirty.extend(looked_at);
            return Ok(());
        }
        let Looking { begun, dirty, .. } = self.checkpoints.swap_remove(index);
        if rng.u8(..) < 16 {
            return Ok(()); // Given up.
        }
        let lsn = begun.log(&[], &dirty)?;
        self.world.lock().acknowledged(lsn);
        if rng.bool() {
            self.wal.truncate_before_checkpoint()?;
        }
        Ok(())
    }
}

/// Takes back a change. A checkpoint may come before it is taken back in the page, and another after that.
fn undo<'u>(
    wal: &Wal,
    kind: Kind,
    memory: &mut Pages,
    rng: &mut Rng,
    undoing: Undoing<'u, '_>,
) -> Result<Compensated<'u>, WalError> {
    let (key, old, new) = decode(undoing.record().data());
    let compensated = undoing.compensate(encode(key, new, old))?;
    if rng.u8(..) < 8 {
        wal.log_checkpoint(&[], &dirty(memory, rng))?;
    }
    if kind == Kind::Steal {
        memory.entry(key).or_default().change(old, compensated.lsn(), compensated.lsn());
    }
    Ok(compensated)
}
