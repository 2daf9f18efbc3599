//! The threads for one kind of code, and the tasks that wait for them: which task comes next, and how many threads there are to
//! be. Nothing here waits, or looks at a clock.
//!
//! A thread is **stuck** once it has been in one step for longer than the patience of its crew: in a call of the system on a disk
//! that does not answer, or in code of the application. Those that are not stuck are as many as the crew's size says, if there is
//! work for them, however many are stuck.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::task::{TaskCore, Urgency};

/// Every so often what is not urgent comes first, so that it is done some time.
const TURNS: u32 = 8;

/// How a crew is made up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) thread: &'static str,
    /// How many threads there are that are not stuck, once there is work for all of them.
    pub(super) size: usize,
    /// How many of them do nothing but what is urgent.
    pub(super) kept: usize,
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: u64,
    /// Since when it has been in a step, and of which urgency.
    step: Option<(Instant, Urgency)>,
}

pub(super) struct Crew {
    plan: Plan,
    urgent: VecDeque<Arc<TaskCore>>,
    ordinary: VecDeque<Arc<TaskCore>>,
    members: Vec<Member>,
    /// How many sleep, and how many of these have been called and do not run yet.
    idle: usize,
    called: usize,
    /// How many tasks have been looked for.
    turn: u32,
}

/// How many members are stuck, and how many of the others are in a step that is not urgent.
struct Count {
    stuck: usize,
    ordinary: usize,
}

impl Crew {
    pub(super) fn new(plan: Plan) -> Self {
        let (urgent, ordinary) = (VecDeque::new(), VecDeque::new());
        Self { plan, urgent, ordinary, members: Vec::new(), idle: 0, called: 0, turn: 0 }
    }

    /// Has room for `count` tasks, so that to wake one takes no memory.
    pub(super) fn make_room(&mut self, count: usize) {
        for queue in [&mut self.urgent, &mut self.ordinary] {
            queue.reserve(count.saturating_sub(queue.len()));
        }
    }

    pub(super) fn push(&mut self, task: &Arc<TaskCore>, urgency: Urgency) {
        if task.note_queued(urgency, true) {
            // From when it was taken from the other one.
            return;
        }
        let queue = match urgency {
            Urgency::Urgent => &mut self.urgent,
            Urgency::Ordinary => &mut self.ordinary,
        };
        queue.push_back(Arc::clone(task));
    }

    /// The task whose step member `number` begins now: the longest-waiting of those that are urgent, or of the others, if
    /// enough threads are left for what is urgent.
    pub(super) fn begin(&mut self, number: u64, now: Instant) -> Option<Arc<TaskCore>> {
        let (task, urgency) = self.take(now)?;
        let member = self.members.iter_mut().find(|member| member.number == number);
        member.expect("it has joined").step = Some((now, urgency));
        Some(task)
    }

    fn take(&mut self, now: Instant) -> Option<(Arc<TaskCore>, Urgency)> {
        self.turn = self.turn.wrapping_add(1);
        let order = if self.turn.is_multiple_of(TURNS) {
            [Urgency::Ordinary, Urgency::Urgent]
        } else {
            [Urgency::Urgent, Urgency::Ordinary]
        };
        order.into_iter().find_map(|urgency| Some((self.pop(urgency, now)?, urgency)))
    }

    fn pop(&mut self, urgency: Urgency, now: Instant) -> Option<Arc<TaskCore>> {
        if urgency == Urgency::Ordinary && self.places(now) == 0 {
            return None;
        }
        let queue = match urgency {
            Urgency::Urgent => &mut self.urgent,
            Urgency::Ordinary => &mut self.ordinary,
        };
        while let Some(task) = queue.pop_front() {
            task.note_queued(urgency, false);
            // One that is on both queues is taken from the first in which it comes up.
            if task.word.begin() {
                return Some(task);
            }
        }
        None
    }

    /// Member `number` has ended its step; whether there are too many without it.
    pub(super) fn end(&mut self, number: u64, now: Instant) -> bool {
        self.members.iter_mut().filter(|member| member.number == number).for_each(|member| member.step = None);
        let stuck = self.count(now).stuck;
        self.members.len() - stuck > self.wanted(stuck)
    }

    pub(super) fn join(&mut self, number: u64) {
        self.members.push(Member { number, step: None });
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.members.retain(|member| member.number != number);
    }

    /// Whether member `number` is in a step.
    pub(super) fn is_busy(&self, number: u64) -> bool {
        self.members.iter().any(|member| member.number == number && member.step.is_some())
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether there are more than the crew's size.
    pub(super) fn has_surplus(&self) -> bool {
        self.members.len() > self.plan.size
    }

    /// A member goes to sleep.
    pub(super) fn sleep(&mut self) {
        self.idle += 1;
    }

    /// It is awake, because it was called or not.
    pub(super) fn awake(&mut self) {
        self.idle -= 1;
        self.called = self.called.saturating_sub(1);
    }

    /// Whether a sleeping member is to be called: there is work that it can begin, beside the number of members that are `looking` for
    /// some. Then it counts as called.
    pub(super) fn call(&mut self, now: Instant, looking: usize) -> bool {
        let is_called = self.called < self.idle.min(self.waiting(now).saturating_sub(looking));
        self.called += usize::from(is_called);
        is_called
    }

    /// How many members are to be started now.
    pub(super) fn missing(&self, now: Instant) -> usize {
        let stuck = self.count(now).stuck;
        let room = self.wanted(stuck).saturating_sub(self.members.len() - stuck);
        // Those that are not in a step are about to look, or will be called.
        let free = self.members.iter().filter(|member| member.step.is_none()).count();
        room.min(self.waiting(now).saturating_sub(free))
    }

    /// Whether more tasks wait than the number of members that are `looking` for one.
    pub(super) fn has_more_than(&self, looking: usize) -> bool {
        self.urgent.len() + self.ordinary.len() > looking
    }

    /// When to look again whether a member is missing; `None` if nothing waits.
    pub(super) fn watch_until(&self, now: Instant) -> Option<Instant> {
        if self.urgent.is_empty() && self.ordinary.is_empty() {
            return None;
        }
        let stuck_from = self.members.iter().filter_map(|member| Some(member.step?.0 + self.plan.patience));
        Some(stuck_from.filter(|&from| from > now).min().unwrap_or(now + self.plan.patience))
    }

    /// How many are wanted that are not stuck, if there is work for them. If many logs are stuck at once, as on one disk, as many
    /// more are tried at a time, so that the others wait for few times the patience.
    fn wanted(&self, stuck: usize) -> usize {
        self.plan.size.max(stuck)
    }

    /// How many tasks wait that may be begun.
    fn waiting(&self, now: Instant) -> usize {
        self.urgent.len() + self.ordinary.len().min(self.places(now))
    }

    /// How many more steps may begin that are not urgent.
    fn places(&self, now: Instant) -> usize {
        let Count { stuck, ordinary } = self.count(now);
        (self.wanted(stuck) - self.plan.kept).saturating_sub(ordinary)
    }

    fn count(&self, now: Instant) -> Count {
        let mut count = Count { stuck: 0, ordinary: 0 };
        for (since, urgency) in self.members.iter().filter_map(|member| member.step) {
            if now.saturating_duration_since(since) >= self.plan.patience {
                count.stuck += 1;
            } else if urgency == Urgency::Ordinary {
                count.ordinary += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::super::task::{Code, Next, Work};
    use super::*;

    const PLAN: Plan = Plan { thread: "test", size: 4, kept: 1, patience: Duration::from_millis(10) };

    struct Nothing;

    impl Work for Nothing {
        fn step(&self) -> Next {
            Next::Rest
        }
    }

    /// A crew, and the time that passes for it.
    struct Bench {
        crew: Crew,
        now: Instant,
        started: u64,
        /// What each member is in.
        steps: Vec<(u64, Arc<TaskCore>)>,
    }

    impl Bench {
        fn new() -> Self {
            Self { crew: Crew::new(PLAN), now: Instant::now(), started: 0, steps: Vec::new() }
        }

        /// Has `count` new tasks wait.
        fn wake(&mut self, count: usize, urgency: Urgency) {
            for _ in 0..count {
                let work: Weak<Nothing> = Weak::new();
                let task = Arc::new(TaskCore::new("test", Code::Own, work));
                assert!(task.word.wake(urgency == Urgency::Urgent));
                self.crew.push(&task, urgency);
            }
        }

        /// Has members start as long as some are missing, and each that is free begin a step. Returns how many are in one.
        fn run(&mut self) -> usize {
            for _ in 0..self.crew.missing(self.now) {
                self.started += 1;
                self.crew.join(self.started);
            }
            for number in 1..=self.started {
                if !self.crew.is_busy(number)
                    && let Some(task) = self.crew.begin(number, self.now)
                {
                    self.steps.push((number, task));
                }
            }
            self.steps.len()
        }

        /// Ends all steps; how many members went.
        fn end(&mut self) -> usize {
            let before = self.crew.members.len();
            for (number, task) in std::mem::take(&mut self.steps) {
                task.word.end();
                if self.crew.end(number, self.now) {
                    self.crew.leave(number);
                }
            }
            before - self.crew.members.len()
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn there_are_no_more_threads_than_its_size_however_many_tasks_wait() {
        let mut bench = Bench::new();
        bench.wake(100, Urgency::Urgent);
        for _ in 0..25 {
            assert_eq!(bench.run(), 4);
            bench.pass(PLAN.patience / 2);
            bench.end();
        }
        assert_eq!(bench.run(), 0);
        assert_eq!(bench.crew.members.len(), 4);
    }

    #[test]
    fn one_thread_is_left_for_what_is_urgent() {
        let mut bench = Bench::new();
        bench.wake(100, Urgency::Ordinary);
        assert_eq!(bench.run(), 3);
        bench.wake(2, Urgency::Urgent);
        assert_eq!(bench.run(), 4);
    }

    #[test]
    fn what_is_urgent_comes_first_and_the_rest_comes_all_the_same() {
        let mut bench = Bench::new();
        bench.wake(8, Urgency::Ordinary);
        let mut ordinary = 0;
        let mut rounds = 0;
        while !bench.crew.ordinary.is_empty() {
            bench.wake(4, Urgency::Urgent);
            bench.run();
            ordinary += bench.crew.count(bench.now).ordinary;
            bench.end();
            rounds += 1;
            assert!(rounds < 100, "{ordinary} of 8 in {rounds} rounds");
        }
        assert!(rounds >= 8, "all in {rounds} rounds");
    }

    #[test]
    fn stuck_threads_are_replaced_and_those_too_many_go() {
        let mut bench = Bench::new();
        bench.wake(200, Urgency::Urgent);
        let mut patiences = 0;
        while bench.run() < 200 {
            bench.pass(PLAN.patience);
            patiences += 1;
        }
        assert!(patiences <= 7, "200 that are stuck are found in {patiences} times the patience");
        bench.wake(1, Urgency::Urgent);
        bench.pass(PLAN.patience);
        assert_eq!(bench.run(), 201, "another one does not wait");
        let before = bench.crew.members.len();
        let gone = bench.end();
        assert!(before - gone <= 2 * 200 / 3, "{gone} of {before} are gone");
        assert!(bench.crew.has_surplus(), "the rest go when they have nothing to do");
    }

    #[test]
    fn a_stuck_ordinary_step_leaves_its_place_to_another() {
        let mut bench = Bench::new();
        bench.wake(6, Urgency::Ordinary);
        assert_eq!(bench.run(), 3);
        assert_eq!(bench.run(), 3);
        bench.pass(PLAN.patience);
        assert_eq!(bench.run(), 6);
    }

    #[test]
    fn a_sleeping_thread_is_called_once_for_each_task_that_it_can_begin() {
        let mut bench = Bench::new();
        for number in 1..=4 {
            bench.crew.join(number);
            bench.crew.sleep();
        }
        bench.wake(5, Urgency::Ordinary);
        assert_eq!((0..5).filter(|_| bench.crew.call(bench.now, 0)).count(), 3, "one is kept");
        bench.wake(5, Urgency::Urgent);
        assert_eq!((0..5).filter(|_| bench.crew.call(bench.now, 0)).count(), 1);
    }
}
