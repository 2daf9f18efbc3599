//! Requests to trim, which other processes make by the control page: taken by a thread of the log, if the options say so.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::events::{in_words, report};
use crate::lsn::Lsn;
use crate::segment::Segments;
use crate::segment::control::{Answer, Outcome, Request};
use crate::storage;

impl Log {
    /// The first record that requests must leave, for a layer over this log, which knows what it needs. As long as it is held, none
    /// trims.
    pub(crate) fn hold_requests(&self) -> MutexGuard<'_, Lsn> {
        self.shared.requests.up_to.lock()
    }
}

impl Shared {
    /// Has a thread take requests, once the log is open. Not where no other process could make one.
    pub(super) fn take_requests(self: &Arc<Self>) -> Result<()> {
        let failed = |source| Error::io("take requests of", self.storage.path(), source);
        if !self.control.take_requests().map_err(failed)? {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let run = move || {
            while shared.requests.goes_on() {
                if let Some(request) = shared.control.request() {
                    shared.control.set_answer(shared.answer(request));
                }
            }
        };
        self.requests.start(run).map_err(failed)
    }

    /// Does what is asked for, as far as the log may.
    fn answer(&self, Request { number, before }: Request) -> Answer {
        let up_to = self.requests.up_to.lock();
        let before = before.min(self.next_lsn()).min(*up_to);
        // It is asked for to make room, which is there before that is told.
        let trim = || -> Result<usize> {
            let segments = self.trim(before, &[])?;
            self.housekeeper.finish()?;
            self.housekeeper.give_back();
            Ok(segments)
        };
        let (outcome, segments) = match storage::survive(trim) {
            Some(Ok(segments)) => (Outcome::Trimmed, segments as u64),
            Some(Err(error)) => {
                let error = in_words(&error);
                report!(warn, error, before = before.0, "cannot trim as requested");
                (Outcome::Failed, 0)
            }
            // A panic has been reported.
            None => (Outcome::Failed, 0),
        };
        Answer { number, outcome, segments, first: self.segments.with(Segments::first_lsn) }
    }
}
