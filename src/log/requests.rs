//! Requests to trim, which other processes make by the control page: taken by a task of the log, if the options say so.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::events::{in_words, report};
use crate::lsn::Lsn;
use crate::segment::Segments;
use crate::segment::control::{Answer, Outcome, Request};
use crate::storage::survive;
use crate::storage::workers::{Next, Work};

/// How often it is looked for one.
const INTERVAL: Duration = Duration::from_millis(500);

/// Takes the requests of a log.
struct Taker(Weak<Shared>);

impl Log {
    /// The first record that requests must leave, for a layer over this log, which knows what it needs. As long as it is held, none
    /// trims.
    pub(crate) fn hold_requests(&self) -> MutexGuard<'_, Lsn> {
        self.shared.requests.up_to.lock()
    }
}

impl Shared {
    /// Has a task take requests, once the log is open. Not where no other process could make one.
    pub(super) fn take_requests(self: &Arc<Self>) -> Result<()> {
        let failed = |source| Error::io("take requests of", self.storage.path(), source);
        if !self.control.take_requests().map_err(failed)? {
            return Ok(());
        }
        self.requests.begin(Arc::new(Taker(Arc::downgrade(self)))).map_err(failed)
    }

    /// Does what is asked for, as far as the log may. `None` while it is not known how far that is: no thread waits for it.
    fn answer(&self, Request { number, before }: Request) -> Option<Answer> {
        let up_to = self.requests.up_to.try_lock()?;
        let before = before.min(self.next_lsn()).min(*up_to);
        // It is asked for to make room, which is there before that is told.
        let trim = || -> Result<usize> {
            let segments = self.trim(before, &[])?;
            self.housekeeper.finish()?;
            self.housekeeper.give_back();
            Ok(segments)
        };
        let (outcome, segments) = match survive(trim) {
            Some(Ok(segments)) => (Outcome::Trimmed, segments as u64),
            Some(Err(error)) => {
                let error = in_words(&error);
                report!(warn, error, before = before.0, "cannot trim as requested");
                (Outcome::Failed, 0)
            }
            // A panic has been reported.
            None => (Outcome::Failed, 0),
        };
        Some(Answer { number, outcome, segments, first: self.segments.with(Segments::first_lsn) })
    }
}

impl Work for Taker {
    fn step(&self) -> Next {
        let Some(shared) = self.0.upgrade() else { return Next::Rest };
        if let Some(answer) = shared.control.request().and_then(|request| shared.answer(request)) {
            shared.control.set_answer(answer);
        }
        Next::At(Instant::now() + INTERVAL)
    }
}
