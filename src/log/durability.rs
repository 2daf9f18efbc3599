//! What is durable, and who waits for it: group commit.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::sabotage::{Break, is};

/// A leader waits no longer than this for others to join it.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// The durable watermark, the waiters, and the failure that ends both.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The place up to which everything that counts is durable. Stored by the leader after `msync` returned; appenders
    /// read it relaxed, since whatever it once was stays true.
    position: AtomicU64,
    /// An append that reaches this position wakes the background thread; `u64::MAX` if none shall. Relaxed: a hint, read
    /// by every append, next to what it reads anyway.
    sync_at: AtomicU64,
    /// Release by the leader, after the position; acquire by those who acknowledge.
    lsn: AtomicU64,
    /// Set by the first failed sync, before its leader wakes anyone.
    poison: OnceLock<Arc<io::Error>>,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Whether a thread is syncing, or truncating, just now: one `msync` at a time, since two can take each other's
    /// error.
    leading: bool,
    /// Those who sleep until a leader wakes them. There are some without a leader only while one who is awake again is
    /// about to look.
    sleepers: Vec<Sleeper>,
    /// How many took part in the sync before, and are likely to come with their next records now.
    expected: usize,
    /// How long that sync took.
    sync_time: Duration,
    waiters: usize,
    /// The last records kept by the truncations since the oldest of the waiters began to wait.
    cuts: Vec<Lsn>,
}

/// What somebody waits for: both must have become durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) lsn: Lsn,
    pub(crate) position: Position,
}

/// One who sleeps until it may be done with waiting, or shall lead.
#[derive(Debug)]
struct Sleeper {
    goal: Goal,
    alarm: Arc<Alarm>,
}

/// Wakes one thread: a shared condition variable would wake all, one after the other through its lock.
#[derive(Debug, Default)]
struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock();
        while !*rung {
            self.changed.wait(&mut rung);
        }
    }
}

/// The right to sync or truncate; others wait until it is dropped.
pub(crate) struct Leading<'d> {
    durability: &'d Durability,
    /// When its sync began, if it is for one.
    syncing: Option<Instant>,
}

impl Leading<'_> {
    /// Waits for those whom the sync before has let go, as long as they keep coming, and for no longer than a sync takes:
    /// those who miss it would wait for two. A thread that commits alone does not wait.
    fn gather(&mut self) {
        let (expected, patience) = {
            let turn = self.durability.turn.lock();
            (turn.expected, turn.sync_time.min(GATHER_MAX))
        };
        if expected > 1 {
            self.wait_for(expected, patience);
        }
        self.syncing = Some(Instant::now());
    }

    /// Waits until `expected` threads, this one included, want to be in the next sync, or no more of them come.
    fn wait_for(&self, expected: usize, patience: Duration) {
        let began = Instant::now();
        let (mut present, mut changed) = (1, began);
        while present < expected {
            std::thread::yield_now();
            let come = self.durability.turn.lock().sleepers.len() + 1;
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
        let Self { durability, syncing } = self;
        // After a truncation or a failure everybody looks again.
        let all = syncing.is_none() || durability.check().is_err();
        let is_done = |sleeper: &Sleeper| all || durability.is_reached(sleeper.goal).unwrap_or(true);
        let mut turn = durability.turn.lock();
        turn.leading = false;
        if let Some(began) = syncing {
            turn.expected = turn.sleepers.len() + 1;
            turn.sync_time = began.elapsed();
        }
        let done: Vec<_> = turn.sleepers.extract_if(.., |sleeper| is_done(sleeper)).collect();
        // Of those who came meanwhile one is enough: it syncs for them all.
        let next = if turn.sleepers.is_empty() { None } else { Some(turn.sleepers.remove(0)) };
        drop(turn);
        // The next sync begins while the rest is still being woken.
        next.iter().chain(&done).for_each(|sleeper| sleeper.alarm.ring());
    }
}

/// One who waits, from before the first look to the last.
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
    pub(crate) fn new(lsn: Lsn, position: Position) -> Self {
        Self {
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

    /// Whether an append at `position` shall wake the background thread.
    #[inline]
    pub(crate) fn is_due(&self, position: Position) -> bool {
        position.0 >= self.sync_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_due(&self, position: Position) {
        self.sync_at.store(position.0, Ordering::Relaxed);
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// Called by the leader only. The position never goes backwards.
    pub(crate) fn advance(&self, lsn: Lsn, position: Position) {
        self.position.store(position.0, Ordering::Release);
        self.lsn.store(lsn.0, Ordering::Release);
    }

    /// Called by the leader only: records behind `lsn` do not count any more.
    pub(crate) fn cut(&self, lsn: Lsn) {
        let mut turn = self.turn.lock();
        // Only the leader stores it.
        self.lsn.store(self.lsn().min(lsn).0, Ordering::Release);
        if turn.waiters > 0 {
            turn.cuts.push(lsn);
        }
    }

    pub(crate) fn poison(&self, error: io::Error) -> Error {
        let source = self.poison.get_or_init(|| Arc::new(error));
        Error::Poisoned { durable: self.lsn(), source: Arc::clone(source) }
    }

    /// An error once a sync has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            _ if is(Break::PoisonForgotten) => Ok(()),
            None => Ok(()),
            Some(source) => Err(Error::Poisoned { durable: self.lsn(), source: Arc::clone(source) }),
        }
    }

    fn is_reached(&self, goal: Goal) -> Result<bool> {
        let reached = self.lsn() >= goal.lsn && self.position.load(Ordering::Acquire) >= goal.position.0;
        // Read after the watermark: nothing is acknowledged once a sync has failed.
        self.check()?;
        Ok(reached)
    }

    /// Returns once `goal` is durable, syncing by `sync` whenever nobody else does. Those who come while a sync runs
    /// form the next group: the first of them leads it.
    pub(crate) fn wait(&self, goal: Goal, sync: impl Fn() -> Result<()>) -> Result<()> {
        if self.is_reached(goal)? {
            return Ok(());
        }
        let waiter = self.register();
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
            if let Some(mut leading) = self.lead_or_wait(goal) {
                leading.gather();
                sync()?;
                led = true;
                drop(leading);
            }
        }
    }

    fn register(&self) -> Waiter<'_> {
        let mut turn = self.turn.lock();
        turn.waiters += 1;
        Waiter { durability: self, seen: turn.cuts.len() }
    }

    /// Becomes the leader; or waits until the one there is has reached `goal`, or says who is next, and returns `None`.
    fn lead_or_wait(&self, goal: Goal) -> Option<Leading<'_>> {
        let mut turn = self.turn.lock();
        if turn.leading {
            let alarm = Arc::new(Alarm::default());
            turn.sleepers.push(Sleeper { goal, alarm: Arc::clone(&alarm) });
            drop(turn);
            alarm.sleep();
            return None;
        }
        turn.leading = true;
        Some(Leading { durability: self, syncing: None })
    }

    /// Becomes the leader, as soon as nobody else is.
    pub(crate) fn lead(&self) -> Leading<'_> {
        // Never reached, so that it is woken to lead and for nothing else.
        let goal = Goal { lsn: Lsn(u64::MAX), position: Position(u64::MAX) };
        loop {
            if let Some(leading) = self.lead_or_wait(goal) {
                return leading;
            }
        }
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
        let durability = Durability::new(Lsn(10), Position(100));
        let waiter = durability.register();
        durability.cut(Lsn(5));
        durability.advance(Lsn(12), Position(200));
        assert!(waiter.was_cut(Lsn(6)) && !waiter.was_cut(Lsn(5)));
        assert!(!durability.register().was_cut(Lsn(6)));
    }

    #[test]
    fn nothing_is_acknowledged_after_a_failure() {
        let durability = Durability::new(Lsn(10), Position(100));
        let goal = Goal { lsn: Lsn(10), position: Position::ZERO };
        durability.wait(goal, || unreachable!("already durable")).expect("durable");
        durability.poison(io::Error::other("gone"));
        assert!(matches!(durability.wait(goal, || unreachable!()), Err(Error::Poisoned { .. })));
    }
}
