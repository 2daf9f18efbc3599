//! What the log tells through `tracing`, and through `metrics` with that feature: with no lock held, and on no thread that others wait for.
//!
//! A subscriber is code of the application, and may call the log. So no event is sent where it happens: it is put aside
//! until the call in which it happens has released its locks, and sent by the thread that made the call. An event
//! outside of a call, on a thread of the log, is sent by a thread that nothing waits for. A subscriber that panics
//! loses its event, and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::level_filters::LevelFilter;

use crate::memory::Process;
use crate::storage;

/// Events that wait for the thread at most; beyond, a subscriber that does not come to an end loses the newest.
const WAITING_MAX: usize = 1024;

type Event = Box<dyn FnOnce() + Send>;

thread_local! {
    /// How many calls this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What has happened in them.
    static PUT_ASIDE: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// Reports an event: `report!(info, field = value, "message")`, with values that can be sent to another thread.
macro_rules! report {
    ($level:ident, $($event:tt)*) => {
        $crate::events::put_aside($crate::events::level::$level, move || ::tracing::$level!($($event)*))
    };
}
pub(crate) use report;

/// The levels by the names of the macros.
#[expect(non_upper_case_globals, reason = "named as the macros are")]
pub(crate) mod level {
    use tracing::level_filters::LevelFilter;

    pub(crate) const error: LevelFilter = LevelFilter::ERROR;
    pub(crate) const warn: LevelFilter = LevelFilter::WARN;
    pub(crate) const info: LevelFilter = LevelFilter::INFO;
    pub(crate) const debug: LevelFilter = LevelFilter::DEBUG;
}

/// A call by the application. When the outermost of a thread ends, the thread sends what has happened in it: no lock may be
/// held by then, so this is made before any is taken.
#[must_use]
pub(crate) struct Calling(PhantomData<*const ()>);

/// Begins a call.
pub(crate) fn calling() -> Calling {
    DEPTH.set(DEPTH.get() + 1);
    Calling(PhantomData)
}

impl Drop for Calling {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            // A thread that ends has nothing more to tell.
            let events = PUT_ASIDE.try_with(|put_aside| std::mem::take(&mut *put_aside.borrow_mut()));
            events.unwrap_or_default().into_iter().for_each(send);
        }
    }
}

/// Puts `event` aside, if there is a subscriber for its level. That is asked of a number, not of a subscriber.
pub(crate) fn put_aside(level: LevelFilter, event: impl FnOnce() + Send + 'static) {
    if level <= LevelFilter::current() {
        put_aside_always(event);
    }
}

/// Puts `event` aside, whatever it is.
pub(crate) fn put_aside_always(event: impl FnOnce() + Send + 'static) {
    let event = Box::new(event);
    if DEPTH.get() > 0 {
        let _ = PUT_ASIDE.try_with(|put_aside| put_aside.borrow_mut().push(event));
    } else {
        SENDER.hand_over(event);
    }
}

fn send(event: Event) {
    // The event is gone in any case.
    let _ = storage::survive(event);
}

/// The thread ends when it has had nothing to send for so long.
const IDLE: Duration = Duration::from_secs(1);

/// The thread that sends what happens on the threads of all logs of the process.
static SENDER: Sender = Sender { waiting: Mutex::new(None), changed: Condvar::new() };

struct Sender {
    /// With the process that the thread runs in, since a forked child has none. `None` before it runs.
    waiting: Mutex<Option<(Process, VecDeque<Event>)>>,
    changed: Condvar,
}

impl Sender {
    fn hand_over(&'static self, event: Event) {
        let mut waiting = self.waiting.lock();
        if waiting.as_ref().is_none_or(|(process, _)| !process.is_current()) {
            if storage::spawn("mapwal-events", || self.run()).is_err() {
                // Nobody is there to tell.
                return;
            }
            *waiting = Some((Process::current(), VecDeque::new()));
        }
        if let Some((_, waiting)) = waiting.as_mut().filter(|(_, waiting)| waiting.len() < WAITING_MAX) {
            waiting.push_back(event);
            // All: in a forked child the parent's thread counts as one that waits.
            self.changed.notify_all();
        }
    }

    fn run(&self) {
        while let Some(event) = self.next() {
            send(event);
        }
    }

    /// The next one; `None`, and the thread counts as ended, if none comes for a while.
    fn next(&self) -> Option<Event> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(event) = waiting.as_mut().and_then(|(_, waiting)| waiting.pop_front()) {
                return Some(event);
            }
            if self.changed.wait_for(&mut waiting, IDLE).timed_out()
                && waiting.as_ref().is_none_or(|(_, waiting)| waiting.is_empty())
            {
                *waiting = None;
                return None;
            }
        }
    }
}

/// An error and its causes, in words.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
