//! What is durable, and the threads that wait for it: group commit.

pub(crate) mod background;
pub(crate) mod copying;
mod displaced;
pub(crate) mod future;
pub(crate) mod lookout;
mod lost;
mod syncer;
pub(crate) mod teller;
mod waiting;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;

/// A leader waits no longer than this for others to join it.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// The durable watermark, the waiters, and the failure that ends both.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The log's, for what is reported.
    directory: PathBuf,
    /// The place up to which everything that counts is durable. Stored by the leader after `msync` returned; appenders
    /// read it relaxed, since whatever it once was stays true.
    position: AtomicU64,
    /// An append that ends at this position or beyond wakes the background task; `u64::MAX` if none shall. Relaxed: a hint, read
    /// by every append, next to what it reads anyway.
    sync_at: AtomicU64,
    /// Release by the leader, after the position; acquire before a record is acknowledged.
    lsn: AtomicU64,
    /// Set by the first failed sync, before its leader wakes any thread.
    poison: OnceLock<Arc<io::Error>>,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Whether a thread is syncing, or truncating, just now: one `msync` at a time, since two can take each other's
    /// error.
    is_led: bool,
    /// Threads that came while that goes on, for the next sync.
    group: Option<Arc<Group>>,
    /// How many they are.
    members: usize,
    /// Threads that want to lead and wait for nothing else, each in a group of its own. They come first.
    exclusive: VecDeque<Arc<Group>>,
    /// How many took part in the sync before, and are likely to come with their next records now.
    expected: usize,
    /// How long that sync took.
    sync_time: Duration,
    waiters: usize,
    /// The last records kept by the truncations since the oldest of the waiters began to wait.
    cuts: Vec<Lsn>,
}

/// What a thread waits for: both must have become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Goal {
    pub(crate) lsn: Lsn,
    pub(crate) position: Position,
}

/// Threads that wait for one shared sync. They wake when it completes, or one wakes to lead it. Not of `parking_lot`,
/// whose condition variables wake one thread after the other: this takes one system call for all.
#[derive(Debug, Default)]
struct Group {
    call: std::sync::Mutex<Call>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Call {
    #[default]
    Sleep,
    /// For one of them.
    Lead,
    Leave,
}

impl Group {
    /// Called once or never, and before [`Self::dismiss`].
    fn let_one_lead(&self) {
        *self.call.lock().unwrap_or_else(PoisonError::into_inner) = Call::Lead;
        self.changed.notify_one();
    }

    fn dismiss(&self) {
        *self.call.lock().unwrap_or_else(PoisonError::into_inner) = Call::Leave;
        self.changed.notify_all();
    }

    /// Returns whether it is the one that shall lead.
    fn sleep(&self) -> bool {
        let call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let mut call =
            self.changed.wait_while(call, |call| *call == Call::Sleep).unwrap_or_else(PoisonError::into_inner);
        let leads = *call == Call::Lead;
        if leads {
            *call = Call::Sleep;
        }
        leads
    }
}

/// The right to sync or truncate; others wait until it is dropped.
pub(crate) struct Leading<'d> {
    durability: &'d Durability,
    sync: Option<RunningSync>,
}

/// A sync that has begun.
struct RunningSync {
    began: Instant,
    /// The threads that it covers, without its leader.
    group: Option<Arc<Group>>,
    members: usize,
}

impl Leading<'_> {
    /// Waits for the threads of the sync before, as long as they keep coming, and for no longer than a sync takes: one
    /// that misses this sync would wait for two. A thread that commits alone does not wait.
    fn gather(&mut self) {
        let (expected, patience) = {
            let turn = self.durability.turn.lock();
            (turn.expected, turn.sync_time.min(GATHER_MAX))
        };
        if expected > 1 {
            self.wait_for(expected, patience);
        }
        let mut turn = self.durability.turn.lock();
        let (group, members) = turn.take_group();
        self.sync = Some(RunningSync { began: Instant::now(), group, members });
    }

    /// Waits until `expected` threads, this one included, want to be in the next sync, or no more of them come.
    fn wait_for(&self, expected: usize, patience: Duration) {
        let began = Instant::now();
        let (mut present, mut changed) = (1, began);
        while present < expected {
            std::thread::yield_now();
            let come = self.durability.turn.lock().members + 1;
            let now = Instant::now();
            if come > present {
                (present, changed) = (come, now);
            }
            if now - began > patience || now - changed > patience / 4 {
                return;
            }
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let durability = self.durability;
        let mut turn = durability.turn.lock();
        let is_sync = self.sync.is_some();
        let covered = self.sync.take().and_then(|RunningSync { began, group, members }| {
            (turn.expected, turn.sync_time) = (members + turn.members + 1, began.elapsed());
            group
        });
        // After a truncation or a failure all that wait look again.
        let others = if is_sync && durability.check().is_ok() { None } else { turn.take_group().0 };
        let next = turn.exclusive.pop_front().or_else(|| turn.next_of_group());
        turn.is_led = next.is_some();
        drop(turn);
        // The next sync begins while the rest is still being woken.
        if let Some(next) = next {
            next.let_one_lead();
        }
        covered.iter().chain(&others).for_each(|group| group.dismiss());
    }
}

impl Turn {
    fn take_group(&mut self) -> (Option<Arc<Group>>, usize) {
        (self.group.take(), mem::take(&mut self.members))
    }

    /// The group, if there is a thread in it, without the one that is to lead it.
    fn next_of_group(&mut self) -> Option<Arc<Group>> {
        self.members = self.members.checked_sub(1)?;
        self.group.clone()
    }
}

/// A waiting thread, from before its first look to its last.
struct Waiter<'d> {
    durability: &'d Durability,
    /// The truncations that were there before.
    seen: usize,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut turn = self.durability.turn.lock();
        turn.waiters -= 1;
        if turn.waiters == 0 {
            turn.cuts.clear();
        }
    }
}

impl Durability {
    pub(crate) fn new(directory: PathBuf, lsn: Lsn, position: Position) -> Self {
        Self {
            directory,
            position: AtomicU64::new(position.0),
            sync_at: AtomicU64::new(u64::MAX),
            lsn: AtomicU64::new(lsn.0),
            poison: OnceLock::new(),
            turn: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn position(&self) -> Position {
        Position(self.position.load(Ordering::Relaxed))
    }

    /// As [`Self::position`]. Acquire: a list of segments loaded afterwards is not one that was replaced before.
    pub(crate) fn reached(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// Whether an append that ends at `position` shall wake the background task.
    #[inline]
    pub(crate) fn is_due(&self, position: Position) -> bool {
        position.0 >= self.sync_at.load(Ordering::Relaxed)
    }

    /// The caller looks afterwards how far appends have come: those that have not seen this.
    ///
    /// The fence keeps that look after the store. An append takes its place by a swap, and then loads the position: on x86 a swap is a
    /// fence as well, so that one of the two sees the other. On a processor where the load may come first, an append may be missed that
    /// takes its place at the same moment: the next one is not.
    pub(crate) fn set_due(&self, position: Position) {
        self.sync_at.store(position.0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// Called by the leader only. The position never goes backwards.
    pub(crate) fn advance(&self, lsn: Lsn, position: Position) {
        self.position.store(position.0, Ordering::Release);
        self.lsn.store(lsn.0, Ordering::Release);
    }

    /// Called by the leader only: records after `lsn` do not count any more.
    pub(crate) fn cut(&self, lsn: Lsn) {
        let mut turn = self.turn.lock();
        // Only the leader stores it.
        self.lsn.store(self.lsn().min(lsn).0, Ordering::Release);
        if turn.waiters > 0 {
            turn.cuts.push(lsn);
        }
    }

    pub(crate) fn poison(&self, error: io::Error) -> Error {
        self.poisoned(self.poison.get_or_init(|| Arc::new(error)))
    }

    fn poisoned(&self, source: &Arc<io::Error>) -> Error {
        Error::Poisoned { path: self.directory.clone(), durable: self.lsn(), source: Arc::clone(source) }
    }

    /// An error once a sync has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(source) => Err(self.poisoned(source)),
        }
    }

    pub(crate) fn is_reached(&self, goal: Goal) -> Result<bool> {
        let reached = self.lsn() >= goal.lsn && self.position.load(Ordering::Acquire) >= goal.position.0;
        // Read after the watermark: nothing is acknowledged once a sync has failed.
        self.check()?;
        Ok(reached)
    }

    /// Returns once `goal` is durable, syncing by `sync` whenever no other thread does. Threads that come while a sync
    /// runs form the next group: the first of them leads it.
    pub(crate) fn wait(&self, goal: Goal, sync: impl Fn() -> Result<()>) -> Result<()> {
        if self.is_reached(goal)? {
            return Ok(());
        }
        let waiter = self.register();
        let mut leading: Option<Leading<'_>> = None;
        let mut led = false;
        loop {
            let reached = self.is_reached(goal)?;
            // A sync led from here covers all that had been reserved: what it leaves out was truncated before.
            if waiter.was_cut(goal.lsn) || (led && !reached) {
                return Err(Error::Truncated { lsn: goal.lsn });
            }
            if reached {
                return Ok(());
            }
            leading = match leading {
                None => self.lead_or_wait(),
                Some(mut leading) => {
                    leading.gather();
                    sync()?;
                    led = true;
                    None
                }
            };
        }
    }

    fn register(&self) -> Waiter<'_> {
        let mut turn = self.turn.lock();
        turn.waiters += 1;
        Waiter { durability: self, seen: turn.cuts.len() }
    }

    /// Becomes the leader, perhaps after some waiting; or waits until a sync or a truncation is over that may be what it
    /// waits for, and returns `None`.
    fn lead_or_wait(&self) -> Option<Leading<'_>> {
        let mut turn = self.turn.lock();
        if turn.is_led {
            turn.members += 1;
            let group = Arc::clone(turn.group.get_or_insert_default());
            drop(turn);
            return group.sleep().then(|| Leading { durability: self, sync: None });
        }
        turn.is_led = true;
        Some(Leading { durability: self, sync: None })
    }

    /// Becomes the leader, as soon as no other thread is.
    pub(crate) fn lead(&self) -> Leading<'_> {
        let mut turn = self.turn.lock();
        if turn.is_led {
            let group = Arc::<Group>::default();
            turn.exclusive.push_back(Arc::clone(&group));
            drop(turn);
            group.sleep();
        } else {
            turn.is_led = true;
        }
        Leading { durability: self, sync: None }
    }
}

impl Waiter<'_> {
    fn was_cut(&self, lsn: Lsn) -> bool {
        self.durability.turn.lock().cuts[self.seen..].iter().any(|&kept| lsn > kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_does_not_inherit_an_acknowledgement() {
        let durability = Durability::new(PathBuf::new(), Lsn(10), Position(100));
        let waiter = durability.register();
        durability.cut(Lsn(5));
        durability.advance(Lsn(12), Position(200));
        assert!(waiter.was_cut(Lsn(6)) && !waiter.was_cut(Lsn(5)));
        assert!(!durability.register().was_cut(Lsn(6)));
    }

    #[test]
    fn all_threads_are_let_go_and_one_that_asks_to_lead_gets_to() {
        const WAITS: u64 = 500;
        const THREADS: u64 = 8;
        let durability = Durability::new(PathBuf::new(), Lsn(0), Position::ZERO);
        let appended = AtomicU64::new(0);
        let busy = AtomicU64::new(0);
        let alone = || assert_eq!(busy.fetch_add(1, Ordering::AcqRel), 0, "two lead at once");
        let work = || {
            for _ in 0..WAITS {
                let lsn = Lsn(appended.fetch_add(1, Ordering::AcqRel) + 1);
                let sync = || {
                    alone();
                    let (lsn, position) = (Lsn(appended.load(Ordering::Acquire)), Position::ZERO);
                    std::thread::yield_now();
                    durability.advance(lsn, position);
                    busy.fetch_sub(1, Ordering::AcqRel);
                    Ok(())
                };
                durability.wait(Goal { lsn, position: Position::ZERO }, sync).expect("nothing fails");
                assert!(durability.lsn() >= lsn);
            }
        };
        std::thread::scope(|scope| {
            (0..THREADS).for_each(|_| drop(scope.spawn(work)));
            // However many want to commit meanwhile.
            while durability.lsn() < Lsn(WAITS * THREADS / 2) {
                let leading = durability.lead();
                alone();
                busy.fetch_sub(1, Ordering::AcqRel);
                drop(leading);
            }
        });
        assert_eq!(durability.lsn(), Lsn(WAITS * THREADS));
        assert_eq!(durability.turn.lock().waiters, 0);
    }

    #[test]
    fn nothing_is_acknowledged_after_a_failure() {
        let durability = Durability::new(PathBuf::new(), Lsn(10), Position(100));
        let goal = Goal { lsn: Lsn(10), position: Position::ZERO };
        durability.wait(goal, || unreachable!("already durable")).expect("durable");
        durability.poison(io::Error::other("gone"));
        assert!(matches!(durability.wait(goal, || unreachable!()), Err(Error::Poisoned { .. })));
    }
}
