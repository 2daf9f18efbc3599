//! A small storage engine over the wal, crashed again and again, against a model of what it must hold.
//!
//! The engine changes pages before the commit and writes them to its disk at any time that the log allows; so after a
//! crash its disk has changes that must go and lacks changes that must come. The model knows what was committed.

use std::collections::BTreeMap;

use mapwal::Lsn;
use mapwal::wal::{
    Compensated, DirtyPage, PageId, Recovery, Savepoint, TransactionId, Undoing, Wal, WalError, WalOptions,
};

use crate::support::SMALL;
use crate::support::transactions::{below, recover, small};

const KEYS: u64 = 24;

/// Contents and the last record that changed them.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    value: u64,
    lsn: Lsn,
    /// Of a page in memory: the oldest record whose change is not on disk.
    recovery_lsn: Option<Lsn>,
}

type Pages = BTreeMap<u64, Page>;
type Values = BTreeMap<u64, u64>;

/// A transaction in progress and what it has changed: key, and the value before its first change.
struct Running {
    id: TransactionId,
    before: Values,
    after: Values,
    /// Where it can be rolled back to, with what it had changed there.
    savepoint: Option<(Savepoint, Values)>,
}

/// What survives a crash, and what must be found after it.
#[derive(Default)]
struct World {
    disk: Pages,
    /// What an engine that waits for commits held at the last checkpoint.
    base: Values,
    /// Each commit with its record.
    commits: Vec<(Lsn, Values)>,
}

struct Engine<'w> {
    wal: &'w Wal,
    world: &'w mut World,
    memory: Pages,
    running: Vec<Running>,
    random: Random,
}

/// Marsaglia's xorshift: the same numbers for the same seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn encode(key: u64, old: u64, new: u64) -> Vec<u8> {
    // Long enough that a few hundred fill a segment.
    [key, old, new].into_iter().chain([0; 12]).flat_map(u64::to_le_bytes).collect()
}

/// Key, old value and new value.
fn decode(data: &[u8]) -> (u64, u64, u64) {
    let field = |at: usize| u64::from_le_bytes(data[at * 8..at * 8 + 8].try_into().unwrap());
    (field(0), field(1), field(2))
}

impl Page {
    fn change(&mut self, value: u64, lsn: Lsn) {
        *self = Page { value, lsn, recovery_lsn: self.recovery_lsn.or(Some(lsn)) };
    }
}

impl Engine<'_> {
    fn step(&mut self) {
        match self.random.below(100) {
            0..8 if self.running.len() < 5 => self.begin(),
            0..60 => self.change(),
            60..68 => self.savepoint(),
            68..74 => self.roll_back_to(),
            74..84 => self.commit(),
            84..88 => self.abort(),
            88..97 => self.write_page(),
            _ => self.checkpoint(),
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let count = self.running.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn begin(&mut self) {
        let transaction = self.wal.begin().unwrap();
        let id = transaction.id();
        // The engine keeps numbers, not handles, and resumes a handle where it wants one.
        std::mem::forget(transaction);
        self.running.push(Running { id, before: Values::new(), after: Values::new(), savepoint: None });
    }

    fn change(&mut self) {
        let Some(index) = self.pick() else { return self.begin() };
        let (key, new) = (self.random.below(KEYS), self.random.below(1 << 40));
        if self.running.iter().enumerate().any(|(other, r)| other != index && r.before.contains_key(&key)) {
            return; // Locked.
        }
        let running = &mut self.running[index];
        let page = self.memory.entry(key).or_default();
        running.before.entry(key).or_insert(page.value);
        running.after.insert(key, new);
        let lsn = self.wal.log_update(running.id, None, PageId(key), &encode(key, page.value, new)).unwrap();
        page.change(new, lsn);
    }

    fn savepoint(&mut self) {
        let Some(index) = self.pick() else { return };
        let running = &mut self.running[index];
        let handle = self.wal.resume(running.id).unwrap();
        running.savepoint = Some((handle.savepoint(), running.after.clone()));
        std::mem::forget(handle);
    }

    fn roll_back_to(&mut self) {
        let Some(index) = self.pick() else { return };
        let Some((savepoint, after)) = self.running[index].savepoint.clone() else { return };
        let mut handle = self.wal.resume(self.running[index].id).unwrap();
        let memory = &mut self.memory;
        handle.roll_back_to(savepoint, |undoing| undo(memory, undoing)).unwrap();
        std::mem::forget(handle);
        self.running[index].after = after;
    }

    fn commit(&mut self) {
        let Some(index) = self.pick() else { return };
        let Running { id, after, .. } = self.running.swap_remove(index);
        let lsn = self.wal.log_commit(id, None).unwrap().applied();
        self.world.commits.push((lsn, after));
    }

    fn abort(&mut self) {
        let Some(index) = self.pick() else { return };
        let Running { id, before, .. } = self.running.swap_remove(index);
        let memory = &mut self.memory;
        self.wal.resume(id).unwrap().abort(|undoing| undo(memory, undoing)).unwrap();
        assert!(before.iter().all(|(key, value)| self.memory[key].value == *value));
    }

    /// Writes a page, whichever transaction changed it last: the log goes first.
    fn write_page(&mut self) {
        let key = self.random.below(KEYS);
        let Some(page) = self.memory.get_mut(&key) else { return };
        if page.lsn > Lsn::ZERO {
            self.wal.log().wait_durable(page.lsn).unwrap();
        }
        page.recovery_lsn = None;
        self.world.disk.insert(key, *page);
    }

    fn checkpoint(&mut self) {
        let dirty: Vec<_> = self.memory.iter().filter(|(_, page)| page.recovery_lsn.is_some()).collect();
        let dirty: Vec<_> = dirty.iter().map(|(key, page)| DirtyPage::new(PageId(**key), page.recovery_lsn)).collect();
        let active: Vec<_> = self.running.iter().map(|running| running.id.into()).collect();
        self.wal.log_checkpoint(&active, &dirty).unwrap();
        self.world.base = self.world.committed(Lsn(u64::MAX));
        if self.random.below(2) == 0 {
            self.wal.truncate_before_checkpoint().unwrap();
        }
    }
}

fn undo<'u>(memory: &mut Pages, undoing: Undoing<'u, '_>) -> Result<Compensated<'u>, WalError> {
    let record = undoing.record();
    let (key, old, new) = decode(record.data());
    let page = memory.entry(key).or_default();
    assert_eq!(page.value, new, "record {} is undone in its turn", record.lsn());
    let compensated = undoing.compensate(encode(key, new, old))?;
    page.change(old, compensated.lsn());
    Ok(compensated)
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

    /// Recovers an engine that writes pages before the commit.
    fn repeat_and_undo(&self, wal: &Wal, recovery: &Recovery) -> Pages {
        let mut memory = self.disk.clone();
        for record in recovery.history() {
            let record = record.unwrap();
            let (key, _, new) = decode(record.data());
            assert_eq!(record.page(), Some(PageId(key)));
            let page = memory.entry(key).or_default();
            if page.lsn < record.lsn() {
                page.change(new, record.lsn());
            }
        }
        recovery.redone();
        let expected: Vec<_> = recovery.undo().map(|record| record.unwrap().lsn()).collect();
        assert!(expected.is_sorted_by(|a, b| a > b), "{expected:?}");
        let mut undone = Vec::new();
        for open in recovery.incomplete_transactions() {
            let handle = wal.resume(open.transaction).unwrap();
            let abort = handle.abort(|undoing| {
                undone.push(undoing.record().lsn());
                undo(&mut memory, undoing)
            });
            abort.unwrap();
        }
        undone.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(undone, expected, "the handles and the merged undo agree");
        memory
    }

    /// Recovers an engine that applies nothing before the commit.
    fn redo_committed(&self, recovery: &Recovery) -> Values {
        let mut values = self.base.clone();
        for record in recovery.redo() {
            let (key, _, new) = decode(record.unwrap().data());
            values.insert(key, new);
        }
        values
    }
}

fn assert_holds(found: impl Iterator<Item = (u64, u64)>, expected: &Values, what: &str) {
    let found: Values = found.filter(|(_, value)| *value != 0).collect();
    let expected: Values = expected.iter().map(|(k, v)| (*k, *v)).filter(|(_, value)| *value != 0).collect();
    assert_eq!(found, expected, "{what}");
}

/// One engine, crashed `rounds` times.
fn run(seed: u64, rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let options: WalOptions = small().sync_on_commit(seed.is_multiple_of(2));
    let mut random = Random(seed);
    let mut world = World::default();
    for round in 0..rounds {
        let what = format!("seed {seed}, round {round}");
        let (wal, recovery) = recover(dir.path(), &options);
        let expected = world.committed(recovery.max_lsn());
        assert_holds(world.redo_committed(&recovery).into_iter(), &expected, &format!("{what}: redo"));
        let memory = world.repeat_and_undo(&wal, &recovery);
        assert_holds(memory.iter().map(|(k, page)| (*k, page.value)), &expected, &format!("{what}: history and undo"));
        drop(recovery);
        let steps = random.below(400);
        let mut engine = Engine { wal: &wal, world: &mut world, memory, running: Vec::new(), random: random.clone() };
        (0..steps).for_each(|_| engine.step());
        random = engine.random;
        // The process dies, and what the log had not made durable is lost from some record on.
        let (durable, next) = (wal.flushed_lsn(), wal.current_lsn());
        drop(wal);
        let kept = Lsn(durable.0 + random.below(next.0 - durable.0));
        let log = below(dir.path());
        log.truncate_after(kept).unwrap();
        drop(log);
        world.commits.retain(|(lsn, _)| *lsn <= kept);
    }
    assert!(world.commits.len() > 20 || rounds < 5, "{} commits are few", world.commits.len());
}

#[test]
fn an_engine_that_crashes_holds_what_was_committed() {
    const { assert!(SMALL == 64 << 10, "small enough that the log rotates and trims") };
    for seed in 1..=8_u64 {
        run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 12);
    }
}
