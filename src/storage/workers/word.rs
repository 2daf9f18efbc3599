//! What is to become of a task, in one word: waking it takes no lock when it is on a queue, or is being run.
//!
//! It uses nothing of the crate, so that a model checker goes through every order of its steps (`ci/models`).

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicU32, Ordering};

/// A step is wanted. Set by whatever wants one, after the change that the step is to see; cleared by the thread that begins it.
const WOKEN: u32 = 1;
/// A thread waits for it, or soon will.
const URGENT: u32 = 2;
/// A thread runs a step.
const RUNNING: u32 = 4;
/// No step begins any more.
const OVER: u32 = 8;

/// The word. Each change is one read-modify-write, release and acquire: a step that begins sees all that was changed before the
/// wake-ups that it answers.
#[derive(Debug)]
pub(super) struct Word(AtomicU32);

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing, until it is woken.
    Rest,
    /// It belongs on a queue: it has been woken meanwhile.
    Again {
        /// For that of what is urgent.
        is_urgent: bool,
    },
    /// It is over, and is perhaps waited for.
    Over,
}

impl Word {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Asks for a step. Returns whether the caller has to put the task on a queue: on that of what is urgent, if it is, though
    /// it may be on the other one.
    pub(super) fn wake(&self, is_urgent: bool) -> bool {
        let before = self.0.fetch_or(if is_urgent { WOKEN | URGENT } else { WOKEN }, Ordering::AcqRel);
        if before & (RUNNING | OVER) != 0 {
            // The thread that runs it looks when the step is done.
            return false;
        }
        before & WOKEN == 0 || (is_urgent && before & URGENT == 0)
    }

    /// Begins a step; false if none is wanted, or another thread is at it. By a thread that has taken the task from a queue.
    pub(super) fn begin(&self) -> bool {
        let begin = |word| (word & (WOKEN | RUNNING | OVER) == WOKEN).then_some(RUNNING);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
    }

    /// Ends the step: by the thread that began it.
    pub(super) fn end(&self) -> After {
        let before = self.0.fetch_and(!RUNNING, Ordering::AcqRel);
        if before & OVER != 0 {
            After::Over
        } else if before & WOKEN != 0 {
            After::Again { is_urgent: before & URGENT != 0 }
        } else {
            After::Rest
        }
    }

    /// Has no step begin any more; whether one is being run.
    pub(super) fn finish(&self) -> bool {
        self.0.fetch_or(OVER, Ordering::AcqRel) & RUNNING != 0
    }

    pub(super) fn is_running(&self) -> bool {
        self.0.load(Ordering::Acquire) & RUNNING != 0
    }
}

/// In every order that the memory model allows: run by loom, from `ci/models`.
#[cfg(all(test, loom))]
mod model {
    use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::{After, Word};

    /// A task, the queue of its threads, and what its steps look at.
    struct Bench {
        word: Word,
        /// How often it is on the queue. Locked as the threads' state is.
        queued: Mutex<u32>,
        ended: Condvar,
        /// What has been changed before a wake-up, and how much of that a step has seen. Relaxed: the word has to order them.
        changes: [AtomicBool; 2],
        seen: AtomicU32,
        steps: AtomicU32,
    }

    impl Bench {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                word: Word::new(),
                queued: Mutex::new(0),
                ended: Condvar::new(),
                changes: [AtomicBool::new(false), AtomicBool::new(false)],
                seen: AtomicU32::new(0),
                steps: AtomicU32::new(0),
            })
        }

        fn change(&self, number: usize, is_urgent: bool) {
            self.changes[number].store(true, Ordering::Relaxed);
            if self.word.wake(is_urgent) {
                *self.queued.lock().unwrap() += 1;
            }
        }

        /// What a thread does that is free: steps, until nothing is queued.
        fn run(&self) {
            loop {
                {
                    let mut queued = self.queued.lock().unwrap();
                    if *queued == 0 {
                        return;
                    }
                    *queued -= 1;
                    if !self.word.begin() {
                        continue;
                    }
                }
                assert_eq!(self.steps.fetch_add(1, Ordering::Relaxed) & 1, 0, "two threads are in it");
                let seen = self.changes.iter().filter(|change| change.load(Ordering::Relaxed)).count();
                self.seen.fetch_max(u32::try_from(seen).unwrap(), Ordering::Relaxed);
                self.steps.fetch_add(1, Ordering::Relaxed);
                let mut queued = self.queued.lock().unwrap();
                match self.word.end() {
                    After::Rest => {}
                    After::Again { .. } => *queued += 1,
                    After::Over => self.ended.notify_all(),
                }
            }
        }

        fn stop(&self) {
            let mut queued = self.queued.lock().unwrap();
            if self.word.finish() {
                while self.word.is_running() {
                    queued = self.ended.wait(queued).unwrap();
                }
            }
        }
    }

    #[test]
    fn each_change_is_seen_by_a_step_that_one_thread_is_in() {
        loom::model(|| {
            let bench = Bench::new();
            let there = Arc::clone(&bench);
            let other = thread::spawn(move || {
                there.change(0, false);
                there.run();
            });
            bench.change(1, true);
            bench.run();
            other.join().unwrap();
            bench.run();
            assert_eq!(bench.seen.load(Ordering::Relaxed), 2);
            assert_eq!(*bench.queued.lock().unwrap(), 0);
        });
    }

    #[test]
    fn a_stop_returns_once_no_step_is_being_run_and_none_begins() {
        loom::model(|| {
            let bench = Bench::new();
            let there = Arc::clone(&bench);
            let other = thread::spawn(move || {
                there.change(0, false);
                there.run();
            });
            bench.stop();
            let steps = bench.steps.load(Ordering::Relaxed);
            assert_eq!(steps & 1, 0, "a step is being run");
            other.join().unwrap();
            assert_eq!(bench.steps.load(Ordering::Relaxed), steps, "a step has begun");
        });
    }
}
