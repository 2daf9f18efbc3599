//! Whether a process has the log open for writing.

use mapwal::inspect::Inspection;
use rustix::io::Errno;
use serde_json::{Value, json};

/// The process that writes to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A process has it open: that of this number, by what it says itself.
    Alive(Option<u32>),
    /// The last one, of this number, has not closed it.
    Crashed(u32),
    /// No process, or the last one is not known.
    Closed,
}

impl Writer {
    /// Of the log that `inspection` is a look at. The lock itself is not tried, which could keep a writer from opening the log
    /// at that moment.
    pub(crate) fn find(inspection: &Inspection) -> Self {
        let stated = inspection.writer_pid();
        match (inspection.is_being_written().unwrap_or_else(|| stated.is_some_and(is_running)), stated) {
            (true, pid) => Self::Alive(pid),
            (false, Some(pid)) => Self::Crashed(pid),
            (false, None) => Self::Closed,
        }
    }

    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Alive(_))
    }

    /// For machines.
    pub(crate) fn json(self) -> Value {
        json!({ "alive": self.is_alive(), "pid": self.pid() })
    }

    pub(crate) fn pid(self) -> Option<u32> {
        match self {
            Self::Alive(pid) => pid,
            Self::Crashed(pid) => Some(pid),
            Self::Closed => None,
        }
    }
}

/// Whether there is a process of this number.
fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| has_met_a_process(rustix::process::test_kill_process(pid)))
}

/// Whether a signal would have met a process. One of another user refuses it.
fn has_met_a_process(outcome: Result<(), Errno>) -> bool {
    matches!(outcome, Ok(()) | Err(Errno::PERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_refuses_signals_runs() {
        assert!(is_running(std::process::id()));
        assert!(has_met_a_process(Err(Errno::PERM)));
        assert!(!has_met_a_process(Err(Errno::SRCH)));
    }
}
