//! A follower as a stream, for any executor.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use parking_lot::{Condvar, Mutex};

use super::follower::Follower;
use super::record::RecordRef;
use super::source::Source;
use super::wakers::Wakers;
use crate::error::{Error, Result};
use crate::memory::Process;
use crate::storage::{spawn, survive};

/// The longest wait for one stream when no other waits; one that comes meanwhile is looked after only then.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// The shortest, however many streams share [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_micros(100);

/// The records of a [`Follower`], as they come: a [`Stream`] that ends when its [`Log`](crate::Log) is closed or dropped,
/// and for the log of another process never.
///
/// It needs no particular executor. One thread of the process, started when the first stream has to wait, waits for all
/// of them, and sleeps while none does. A stream that waits alone is woken by the writer, as the follower would be;
/// several are each looked at every 20 ms, or every 100 µs times their number if that is longer.
///
/// A waker is called by a thread for that, with nothing locked, and dropped by the thread that polls or drops the stream. One that panics
/// harms no other stream, nor does one that does not return: after 10 ms, or once all streams that wait have been looked at, another
/// thread calls the next ones. No thread is left for that once 64 of them are stuck at the same time.
///
/// An error is an item, and the stream goes on after it: after [`Error::Rewound`](crate::Error::Rewound) with the
/// records that are new. Others come again for as long as their cause stays: the caller decides when to stop. So does
/// [`Error::InsideAppend`](crate::Error::InsideAppend), for a stream that would wait inside of a closure that writes a record.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use futures_util::StreamExt;
/// use mapwal::{Follower, FollowerStream, Lsn, Visibility};
///
/// log.append(1, b"a")?;
/// let follower: Follower = log.follow(Lsn(1), Visibility::Published)?;
/// let mut records: FollowerStream = follower.into_stream();
/// let record = futures_executor::block_on(records.next()).expect("the log is open")?;
/// assert_eq!(record.payload(), b"a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FollowerStream(pub(super) Arc<Waiting>);

/// What a stream shares with the thread that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// In a forked child the thread may hold both locks for ever, since it is not there.
    process: Process,
    /// Locked by the stream while it looks, and by the thread while it waits: never at the same time, since the thread
    /// has the stream on its list only when a waker is set.
    pub(super) follower: Mutex<Follower>,
    /// Taken after `follower`, or alone.
    slot: Mutex<Slot>,
    /// The follower's, which is asked without its lock.
    source: Arc<dyn Source>,
}

#[derive(Debug, Default)]
struct Slot {
    /// What the thread has found.
    found: Option<Result<RecordRef>>,
    /// Set while the thread waits for the stream.
    waker: Option<Waker>,
}

impl Follower {
    /// Its records as a [`Stream`].
    #[must_use]
    pub fn into_stream(self) -> FollowerStream {
        FollowerStream(Arc::new(Waiting {
            process: Process::current(),
            source: self.source(),
            follower: Mutex::new(self),
            slot: Mutex::default(),
        }))
    }
}

impl Drop for FollowerStream {
    fn drop(&mut self) {
        // By this thread, since that runs code of the application.
        let is_own = self.0.process.is_current();
        let _waker = is_own.then(|| self.0.slot.lock().waker.take());
    }
}

impl Stream for FollowerStream {
    type Item = Result<RecordRef>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let waiting = &self.0;
        if !waiting.process.is_current() {
            return Poll::Ready(Some(Err(Error::Forked)));
        }
        // Made here, since making and dropping one runs code of the application.
        let waker = context.waker().clone();
        let waker = match waiting.look(waker) {
            Look::Found(found) => {
                return Poll::Ready(Some(found).filter(|found| !matches!(found, Err(Error::Closed))));
            }
            Look::Waits(_old) => {
                // The thread goes on: what it finds is there for a poll outside of the closure.
                return waiting
                    .source
                    .check_wait()
                    .map_or_else(|error| Poll::Ready(Some(Err(error))), |()| Poll::Pending);
            }
            Look::Idle(waker) => waker,
        };
        let mut follower = waiting.follower.lock();
        let found = follower.next_ref().transpose();
        let found = found.or_else(|| waiting.source.check_wait().err().map(Err));
        drop(follower);
        if let Some(found) = found {
            return Poll::Ready(Some(found));
        }
        waiting.slot.lock().waker = Some(waker);
        match THREAD.add(waiting) {
            Ok(()) => Poll::Pending,
            Err(source) => {
                let _waker = waiting.slot.lock().waker.take();
                Poll::Ready(Some(Err(waiting.follower.lock().thread_error(source))))
            }
        }
    }
}

/// What a stream finds that has been polled.
enum Look {
    Found(Result<RecordRef>),
    /// The thread waits for it, and wakes the new waker instead of this one.
    Waits(Waker),
    /// It has to look itself.
    Idle(Waker),
}

impl Waiting {
    fn look(&self, waker: Waker) -> Look {
        let mut slot = self.slot.lock();
        if let Some(found) = slot.found.take() {
            return Look::Found(found);
        }
        match &mut slot.waker {
            Some(old) => Look::Waits(std::mem::replace(old, waker)),
            None => Look::Idle(waker),
        }
    }

    /// Waits up to `timeout`; whether the stream waits no more.
    fn serve(&self, timeout: Duration, wakers: &Wakers) -> bool {
        let Some(found) = self.follower.lock().next_ref_timeout(timeout).transpose() else { return false };
        let waker = {
            let mut slot = self.slot.lock();
            slot.found = Some(found);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            wakers.call(waker);
        }
        true
    }
}

/// Waits up to `timeout`; whether the stream waits no more.
fn is_served(stream: &Weak<Waiting>, timeout: Duration, wakers: &Wakers) -> bool {
    // A stream that was dropped waits for nothing, and what it leaves may be dropped here.
    let Some(stream) = stream.upgrade() else { return true };
    survive(|| stream.serve(timeout, wakers)).unwrap_or_else(|| {
        // It finds out by itself, when it is polled.
        let waker = stream.slot.lock().waker.take();
        if let Some(waker) = waker {
            wakers.call(waker);
        }
        true
    })
}

/// The thread that waits for all streams of the process.
static THREAD: WaitingThread = WaitingThread { streams: Mutex::new(None), changed: Condvar::new() };
/// The streams that wait, and the process that the thread runs in: a forked child has none.
type Streams = (Process, Vec<Weak<Waiting>>);

/// It runs no code of the application, so that no stream waits for what another one's task does.
struct WaitingThread {
    /// The streams that wait; `None` before the thread runs.
    streams: Mutex<Option<Streams>>,
    changed: Condvar,
}

impl WaitingThread {
    /// Puts a stream on the list; an error if the thread cannot be started.
    fn add(&'static self, waiting: &Arc<Waiting>) -> std::io::Result<()> {
        let mut streams = self.streams.lock();
        if streams.as_ref().is_none_or(|(process, _)| !process.is_current()) {
            let wakers = Wakers::start()?;
            let for_thread = Arc::clone(&wakers);
            spawn("mapwal-streams", move || self.run(&for_thread)).inspect_err(|_| wakers.stop())?;
            *streams = Some((Process::current(), Vec::new()));
        }
        streams.iter_mut().for_each(|(_, streams)| streams.push(Arc::downgrade(waiting)));
        // All: in a forked child the parent's thread counts as one that waits.
        self.changed.notify_all();
        Ok(())
    }

    fn run(&self, wakers: &Arc<Wakers>) {
        let mut waiting: Vec<Weak<Waiting>> = Vec::new();
        loop {
            self.take_in(&mut waiting, wakers.look_after());
            let share = WAIT_MAX / u32::try_from(waiting.len().max(1)).unwrap_or(u32::MAX);
            waiting.retain(|stream| !is_served(stream, share.max(WAIT_MIN), wakers));
        }
    }

    /// Adds the streams that have come since; waits for one if there is none, at most for `patience`.
    fn take_in(&self, waiting: &mut Vec<Weak<Waiting>>, patience: Option<Duration>) {
        let mut streams = self.streams.lock();
        let mut is_idle =
            |streams: &mut Option<Streams>| streams.as_ref().is_none_or(|(_, streams)| streams.is_empty());
        match patience {
            _ if !waiting.is_empty() => {}
            None => self.changed.wait_while(&mut streams, is_idle),
            Some(patience) => drop(self.changed.wait_while_for(&mut streams, &mut is_idle, patience)),
        }
        streams.iter_mut().for_each(|(_, streams)| waiting.append(streams));
    }
}
