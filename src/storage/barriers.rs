//! Having the system know that this process wants barriers: once, however many logs it opens.

use std::mem;

use parking_lot::Mutex;
use rustix::thread::MembarrierCommand;

use super::{spawn, survive};
use crate::memory::Process;

/// What is to be done once it is registered.
type Then = Box<dyn FnOnce() + Send>;

static REGISTRATION: Mutex<Registration> = Mutex::new(Registration::Missing);

enum Registration {
    Missing,
    /// By a thread of this process.
    UnderWay(Process, Vec<Then>),
    Done,
}

/// Has this process registered unless it is, and `then` done afterwards. In a process of several threads the system waits for
/// an RCU grace period, which may be tens of milliseconds, so a thread does it, and ends.
pub(super) fn register(then: Then) {
    let mut registration = REGISTRATION.lock();
    match &mut *registration {
        Registration::Done => return,
        Registration::UnderWay(process, waiting) if process.is_current() => return waiting.push(then),
        // A forked child has no such thread.
        Registration::UnderWay(..) | Registration::Missing => {}
    }
    // With the lock held, for which that thread waits. Without it a wake-up may come as late as the wait's time-out.
    let is_started = spawn("mapwal-barrier", run).is_ok();
    *registration =
        if is_started { Registration::UnderWay(Process::current(), vec![then]) } else { Registration::Missing };
}

fn run() {
    let is_registered = rustix::thread::membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    let next = if is_registered { Registration::Done } else { Registration::Missing };
    let before = mem::replace(&mut *REGISTRATION.lock(), next);
    let Registration::UnderWay(_, waiting) = before else { return };
    for then in waiting {
        survive(then);
    }
}
