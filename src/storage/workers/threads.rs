//! The threads that the logs of this process share, as a whole: what they wait for, and what is known of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::crew::{Crew, Plan};
use super::task::{Code, Next, TaskCore, Urgency};
use super::word::After;
use crate::memory::Process;

/// For the logs' own code: as many steps at a time as one log has use for, and one that is urgent beside any others.
const OWN: Plan = Plan { thread: "mapwal-work", size: 4, kept: 1, patience: Duration::from_millis(20) };
/// For code of the application.
const APPLICATION: Plan = Plan { thread: "mapwal-callbacks", size: 2, kept: 0, patience: Duration::from_millis(10) };
/// How long a thread that is not needed sleeps before it ends.
const SURPLUS: Duration = Duration::from_secs(1);
/// After so much time it is tried again to start one.
const RETRY: Duration = Duration::from_millis(100);
const CODES: [Code; 2] = [Code::Own, Code::Application];

thread_local! {
    /// The number of the task whose step this thread is in, or 0, and its name.
    static CURRENT: Cell<(u64, &'static str)> = const { Cell::new((0, "")) };
}

/// The name of the task whose step this thread is in, or nothing.
#[cfg(feature = "testing")]
#[must_use]
pub fn task_of_this_thread() -> &'static str {
    CURRENT.get().1
}

/// The threads of one process, from its first task until there is none.
pub(super) struct Threads {
    /// That in which they run.
    pub(super) process: Process,
    state: Mutex<State>,
    /// For the clock, and for the idle members of each crew.
    clock: Condvar,
    wanted: [Condvar; 2],
}

pub(super) struct State {
    crews: [Crew; 2],
    /// When tasks that rest are to be woken. None has two entries.
    timers: BTreeMap<(Instant, u64), Arc<TaskCore>>,
    /// Where a task has its entry.
    times: BTreeMap<u64, Instant>,
    /// How many tasks there are.
    tasks: usize,
    /// There is none any more, and the threads end.
    is_over: bool,
    /// Until when the clock sleeps; `None` if for ever, or if it does not.
    asleep_until: Option<Instant>,
    /// The clock looks again when a thread gets stuck.
    is_watching: bool,
    has_clock: bool,
    /// A thread could not be started; until then it is not tried again.
    retry_at: Option<Instant>,
    last_member: u64,
    /// With the member's number, or 0.
    handles: Vec<(u64, JoinHandle<()>)>,
}

/// What the clock is to do next.
pub(super) enum Tick {
    /// Start a member for this code, with this number.
    Start(Code, u64),
    End,
}

impl Threads {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            crews: [Crew::new(OWN), Crew::new(APPLICATION)],
            timers: BTreeMap::new(),
            times: BTreeMap::new(),
            tasks: 0,
            is_over: false,
            asleep_until: None,
            is_watching: false,
            has_clock: false,
            retry_at: None,
            last_member: 0,
            handles: Vec::new(),
        };
        let (clock, wanted) = (Condvar::new(), [Condvar::new(), Condvar::new()]);
        Arc::new(Self { process: Process::current(), state: Mutex::new(state), clock, wanted })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a step of `task` run.
    pub(super) fn wake(&self, task: &Arc<TaskCore>, urgency: Urgency) {
        if task.word.wake(urgency == Urgency::Urgent) {
            self.enqueue(&mut self.lock(), task, urgency, 0);
        }
    }

    /// Puts `task` on a queue, of which the number of members that are `looking` take the next tasks anyway.
    fn enqueue(&self, state: &mut State, task: &Arc<TaskCore>, urgency: Urgency, looking: usize) {
        let crew = state.crew(task.code);
        crew.push(task, urgency);
        if !crew.has_more_than(looking) {
            return;
        }
        let now = Instant::now();
        if crew.call(now, looking) {
            self.wanted[task.code as usize].notify_one();
        } else if crew.missing(now) > 0 || !state.is_watching {
            state.is_watching = true;
            self.clock.notify_one();
        }
    }

    /// The next task for member `number`, which sleeps until there is one; `None` when it is to end, and counts as gone.
    pub(super) fn next(&self, mut state: MutexGuard<'_, State>, code: Code, number: u64) -> Option<Arc<TaskCore>> {
        let mut is_too_many = false;
        loop {
            if let Some(task) = state.crew(code).begin(number, Instant::now()) {
                state.forget_time(&task);
                return Some(task);
            }
            if state.is_over || is_too_many {
                state.remove_member(code, number);
                return None;
            }
            (state, is_too_many) = self.sleep(state, code);
        }
    }

    /// Sleeps as a member; whether in vain, and there are more of them than are needed.
    fn sleep<'t>(&self, mut state: MutexGuard<'t, State>, code: Code) -> (MutexGuard<'t, State>, bool) {
        let wanted = &self.wanted[code as usize];
        if state.crew(code).has_more_than(0) && !state.is_watching {
            // What may not begin as long as others are in steps: they may get stuck.
            state.is_watching = true;
            self.clock.notify_one();
        }
        state.crew(code).sleep();
        let (mut state, is_too_many) = if state.crew(code).has_surplus() {
            let (mut state, woken) = wanted.wait_timeout(state, SURPLUS).unwrap_or_else(PoisonError::into_inner);
            let is_too_many = woken.timed_out() && state.crew(code).has_surplus();
            (state, is_too_many)
        } else {
            (wanted.wait(state).unwrap_or_else(PoisonError::into_inner), false)
        };
        state.crew(code).awake();
        (state, is_too_many)
    }

    /// The step of `task` is over that member `number` was in; `None` if the member is to end, and counts as gone. `next` is
    /// `None` if the task is not to be run again.
    pub(super) fn end(&self, task: &Arc<TaskCore>, number: u64, next: Option<Next>) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        let is_too_many = state.crew(task.code).end(number, Instant::now());
        match next {
            None => drop(task.word.finish()),
            // It is being run still, so it is looked at below.
            Some(Next::Again(urgency)) => drop(task.word.wake(urgency == Urgency::Urgent)),
            Some(Next::At(_) | Next::Rest) => {}
        }
        match task.word.end() {
            After::Over => task.ended.notify_all(),
            After::Again { is_urgent } => {
                let urgency = if is_urgent { Urgency::Urgent } else { Urgency::Ordinary };
                self.enqueue(&mut state, task, urgency, usize::from(!is_too_many));
            }
            After::Rest => {
                if let Some(Next::At(at)) = next {
                    self.set_time(&mut state, task, at);
                }
            }
        }
        if is_too_many {
            state.remove_member(task.code, number);
            return None;
        }
        Some(state)
    }

    fn set_time(&self, state: &mut State, task: &Arc<TaskCore>, at: Instant) {
        state.times.insert(task.number, at);
        state.timers.insert((at, task.number), Arc::clone(task));
        if state.asleep_until.is_none_or(|until| at < until) {
            self.clock.notify_one();
        }
    }

    /// Waits, as the clock, for something to do, and wakes tasks whose time has come.
    pub(super) fn tick(&self) -> Tick {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return Tick::End;
            }
            let now = Instant::now();
            self.wake_due(&mut state, now);
            let may_start = state.retry_at.is_none_or(|at| at <= now);
            for code in CODES {
                if may_start && state.crew(code).missing(now) > 0 {
                    return Tick::Start(code, state.add_member(code));
                }
                while state.crew(code).call(now, 0) {
                    self.wanted[code as usize].notify_one();
                }
            }
            state = self.wait(state, now);
        }
    }

    fn wake_due(&self, state: &mut State, now: Instant) {
        while let Some(entry) = state.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let task = entry.remove();
            state.times.remove(&task.number);
            if task.word.wake(false) {
                self.enqueue(state, &task, Urgency::Ordinary, 0);
            }
        }
    }

    /// Waits, as the clock, until a time has come or something has changed.
    fn wait<'t>(&self, mut state: MutexGuard<'t, State>, now: Instant) -> MutexGuard<'t, State> {
        let watch = state.crews.iter().filter_map(|crew| crew.watch_until(now)).min();
        let timer = state.timers.keys().next().map(|&(at, _)| at);
        state.is_watching = watch.is_some();
        state.asleep_until = watch.into_iter().chain(timer).min();
        let mut state = match state.asleep_until {
            None => self.clock.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let woken = self.clock.wait_timeout(state, until.saturating_duration_since(now));
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep_until = None;
        state
    }

    /// Member `number` has been started for `code`, or could not be.
    pub(super) fn started(&self, code: Code, number: u64, handle: Option<JoinHandle<()>>) {
        let mut state = self.lock();
        match handle {
            // If all is over by now, it ends by itself.
            Some(handle) if !state.is_over => state.handles.push((number, handle)),
            Some(_) => {}
            None => {
                state.remove_member(code, number);
                state.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Has no step of `task` begin any more; on return none is being run, unless by this thread, or it `is_left` to itself.
    pub(super) fn stop(&self, task: &TaskCore, is_left: bool) {
        let mut state = self.lock();
        state.forget_time(task);
        if task.word.finish() && !is_left && CURRENT.get().0 != task.number {
            while task.word.is_running() {
                state = task.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// There is a task less. After the last, the threads end that are in no step; on return they have ended, all but this one.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.tasks -= 1;
        if state.tasks > 0 {
            return;
        }
        state.is_over = true;
        let handles = std::mem::take(&mut state.handles);
        let is_ending = |number| !state.crews.iter().any(|crew| crew.is_busy(number));
        let ending: Vec<JoinHandle<()>> =
            handles.into_iter().filter(|&(number, _)| is_ending(number)).map(|(_, handle)| handle).collect();
        drop(state);
        self.clock.notify_all();
        self.wanted.iter().for_each(Condvar::notify_all);
        for handle in ending {
            // It runs nothing that panics.
            let _ = handle.join();
        }
    }

    /// Adds a task for `code`, for which `start` starts a member, with its number, and the clock, with 0, if there are none.
    /// False if these threads are about to end.
    pub(super) fn enter(
        &self,
        code: Code,
        start: impl Fn(Option<Code>, u64) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<bool> {
        let mut state = self.lock();
        if state.is_over {
            return Ok(false);
        }
        // With the lock held, which only those wait for that are starting as well.
        let entered = state.ensure(code, start);
        state.tasks += usize::from(entered.is_ok());
        let tasks = state.tasks;
        state.crews.iter_mut().for_each(|crew| crew.make_room(tasks));
        state.is_over = tasks == 0;
        drop(state);
        if tasks == 0 {
            self.clock.notify_all();
        }
        entered.map(|()| true)
    }
}

impl State {
    fn crew(&mut self, code: Code) -> &mut Crew {
        &mut self.crews[code as usize]
    }

    fn ensure(
        &mut self,
        code: Code,
        start: impl Fn(Option<Code>, u64) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<()> {
        if !self.has_clock {
            self.handles.push((0, start(None, 0)?));
            self.has_clock = true;
        }
        if !self.crew(code).has_members() {
            let number = self.add_member(code);
            match start(Some(code), number) {
                Ok(handle) => self.handles.push((number, handle)),
                Err(error) => {
                    self.remove_member(code, number);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn add_member(&mut self, code: Code) -> u64 {
        self.last_member += 1;
        let number = self.last_member;
        self.crew(code).join(number);
        number
    }

    fn remove_member(&mut self, code: Code, number: u64) {
        self.crew(code).leave(number);
        self.handles.retain(|&(of, _)| of != number);
    }

    fn forget_time(&mut self, task: &TaskCore) {
        if let Some(at) = self.times.remove(&task.number) {
            self.timers.remove(&(at, task.number));
        }
    }
}

/// Runs `step` as one of `task`.
pub(super) fn as_current<T>(task: &TaskCore, step: impl FnOnce() -> T) -> T {
    CURRENT.set((task.number, task.name));
    let done = step();
    CURRENT.set((0, ""));
    done
}

/// The name of the threads for `code`.
pub(super) fn thread_name(code: Code) -> &'static str {
    [OWN, APPLICATION][code as usize].thread
}
