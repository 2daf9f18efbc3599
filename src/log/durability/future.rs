//! Durability as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use super::waiting::Waiting;
use crate::error::{Error, Result};
use crate::log::inside;
use crate::log::shared::Shared;
use crate::memory::Process;

/// Ready once what [`Log::durable`](crate::Log::durable) was asked for is durable, or will not be. For any executor.
///
/// What is waited for becomes durable whether this is polled or not, and whether it is dropped or not: dropping it ends
/// the waiting and nothing else. It may outlive the log.
///
/// Its waker is called as a callback of [`Log::on_durable`](crate::Log::on_durable) is: by the thread that calls all of the log's
/// callbacks and wakers, one after the other, with nothing locked. A waker that panics does no harm, and it may use or drop the log.
/// A callback or waker of the same log may wait for a future: polled there, where its waker could not be called, it does not return
/// before it is ready, as [`Log::wait_durable`](crate::Log::wait_durable) does.
///
/// # Errors
/// Polled inside of a closure of [`Log::append_with`](crate::Log::append_with) or
/// [`Log::append_with_writer`](crate::Log::append_with_writer), for which it would wait, it gives [`Error::InsideAppend`] unless it is over already.
/// It may be polled again after the closure.
///
/// The outcome is [`Error::Poisoned`] when a sync has failed, [`Error::Truncated`] when a record waited for was truncated,
/// [`Error::Closed`] when the log was dropped before, [`Error::Forked`] in a forked child; and what the call was given may be
/// wrong: [`Error::NotAppended`], [`Error::InvalidArgument`]. It is [`Error::Io`] when the thread that syncs, or the one that calls back,
/// cannot be started.
///
/// # Panics
/// When it is polled after it was ready.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::Durable;
///
/// # futures_executor::block_on(async {
/// let lsn = log.append(1, b"order 7")?;
/// log.durable(lsn).await?;
///
/// // Two orders in one sync, and a vote:
/// let first: Durable = log.durable(log.append(1, b"order 8")?);
/// let vote = log.durable(log.put_meta(0, b"a vote")?);
/// vote.await?;
/// first.await?;
/// # Ok::<(), mapwal::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "it is ready once it has been waited for"]
pub struct Durable {
    waiting: Arc<Waiting>,
    log: Weak<Shared>,
    /// In a forked child a thread that is not there may hold the lock of `waiting`.
    process: Process,
}

impl Durable {
    /// A future of `log` that has the outcome that `begin` returns, or later the one that what `begin` is given gets.
    pub(crate) fn begin(log: &Arc<Shared>, begin: impl FnOnce(Arc<Waiting>) -> Result<Option<Result<()>>>) -> Self {
        let waiting = Arc::<Waiting>::default();
        if let Some(outcome) = begin(Arc::clone(&waiting)).unwrap_or_else(|error| Some(Err(error))) {
            waiting.end(outcome);
        }
        Self { waiting, log: Arc::downgrade(log), process: Process::current() }
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.process.is_current() {
            return Poll::Ready(Err(Error::Forked));
        }
        if self.waiting.waits() {
            if let Err(error) = inside::check_outside() {
                return Poll::Ready(Err(error));
            }
            if let Some(log) = self.log.upgrade() {
                log.end_waiting_inside();
            }
        }
        let waker = context.waker().clone();
        let (polled, unused) = self.waiting.poll(waker);
        drop(unused);
        polled
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if self.process.is_current() {
            self.waiting.give_up();
        }
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "whether it is over says it all")]
impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_over = self.process.is_current() && !self.waiting.waits();
        f.debug_struct("Durable").field("is_over", &is_over).finish()
    }
}
