//! What a run is judged by: whether an error was one that was injected, and what must hold all the same.

use std::sync::atomic::Ordering;

use mapwal::internals::Crash;
use mapwal::{Error, Log};

use super::super::damage;
use super::super::history::Action;
use super::super::model::{Observed, Rule, Violation};
use super::Run;

/// Why a step did not come to its end.
pub(super) enum Failed {
    /// The log refused.
    Refused(Action, Error),
    Broken(Violation),
}

impl Failed {
    pub(super) fn new(action: Action, error: Error) -> Self {
        Self::Refused(action, error)
    }
}

pub(super) fn unusable(operation: &str, error: &Error) -> Violation {
    Violation::new(Rule::FalseCorruption, format!("cannot {operation}: {error} ({error:?})"))
}

impl Run<'_> {
    /// Whether an error is one that was injected, and not one that says that the log is damaged.
    pub(super) fn meets_fault(&mut self, error: &Error) -> bool {
        let injected = matches!(error, Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned { .. });
        let happened = self.is_faulty && !self.disk.has_fault();
        let failed = self.watch.failed.fetch_or(happened, Ordering::Relaxed);
        injected && (happened || failed)
    }

    /// Reads all of the log; once more if an operation failed that was made to.
    pub(super) fn observe(&mut self, log: &Log) -> Result<Observed, Violation> {
        match Observed::read(log) {
            Err(error) if self.meets_fault(&error) => Observed::read(log),
            read => read,
        }
        .map_err(|error| unusable("read", &error))
    }

    pub(super) fn check_views(&self) -> Result<(), Violation> {
        match self.views.iter().find(|view| !view.is_unchanged(&self.disk)) {
            None => Ok(()),
            Some(view) => Err(Violation::new(Rule::Phantom, format!("what is seen by {} has changed", view.name()))),
        }
    }

    /// Looks at what becomes of a damaged copy of the disk.
    pub(super) fn damage(&mut self) -> Result<(), Violation> {
        let seed = self.rng.u64(..);
        let copy = self.disk.crash(Crash::Power);
        let looked = damage::look(&copy, &self.watch.model.lock().clone(), seed)?;
        self.tally.damaged += u64::from(looked);
        Ok(())
    }

    /// A step has failed. That is as it should be if an operation was made to fail.
    pub(super) fn fail(&mut self, failed: Failed) -> Result<(), Violation> {
        let (action, error) = match failed {
            Failed::Broken(violation) => return Err(violation),
            Failed::Refused(action, error) => (action, error),
        };
        if !self.meets_fault(&error) {
            return Err(unusable(&format!("{action:?}"), &error));
        }
        self.disk.plan_fault(None);
        if self.log.is_none() {
            return Ok(());
        }
        let log = self.log();
        if matches!(error, Error::Poisoned { .. }) {
            let acknowledged =
                log.sync().is_ok() || log.append(0, b"x").is_ok() || log.wait_durable(log.durable_lsn()).is_ok();
            if acknowledged {
                return Err(Violation::new(Rule::Lost, "acknowledged after a failed sync"));
            }
            drop(log);
            self.look_at_cuts()?;
            self.drop_log();
            return self.open(false);
        }
        let mut model = self.watch.model.lock();
        match action {
            Action::Truncate | Action::Reset => {
                let took_effect = log.next_lsn().0 != model.next_lsn();
                model.end_replace(took_effect);
            }
            // After a trim some of the files may be gone: how far is up to the next crash.
            _ => {}
        }
        Ok(())
    }
}
