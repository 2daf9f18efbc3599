//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Run a small storage engine, kill it again and again, and check that it recovers.
///
/// The engine does the transactions of a PostgreSQL log in a process of its own, in a temporary directory. After each
/// kill it is started again, and its pages are compared with the commits that it had acknowledged.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// How often to kill the engine
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) kills: u32,
    /// Chooses when to kill; the threads of the engine run as they like all the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Another trace than the bundled one, with the same columns; may be compressed by gzip
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Let each kill take back, too, everything that was not durable
    #[arg(long)]
    pub(crate) power_loss: bool,
    /// Break the engine, so that it can be seen that this is noticed
    #[arg(long = "break", value_name = "HOW", hide = true)]
    pub(crate) broken: Option<Break>,
    /// Be the engine, with its files in this directory
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) serve: Option<PathBuf>,
    /// The line of the trace that the load of the engine begins with
    #[arg(long, value_name = "LINE", default_value_t = 0, hide = true)]
    pub(crate) start: usize,
    /// Wait for the kill when so many changes have been undone in the restart
    #[arg(long, value_name = "CHANGES", hide = true)]
    pub(crate) hold_at: Option<u64>,
}

/// What is wrong with the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Break {
    /// Losers are not rolled back.
    NoUndo,
    /// Redo leaves out one record.
    SkipRedo,
    /// Commits are acknowledged before they are durable. With a loss of power, since a kill alone shows nothing of it.
    UnsyncedCommit,
}

impl Arguments {
    /// Whether what is not durable is lost by a kill.
    pub(crate) fn loses_power(&self) -> bool {
        self.power_loss || self.broken == Some(Break::UnsyncedCommit)
    }

    /// The options that the process of the engine needs as well.
    pub(crate) fn of_engine(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        if let Some(trace) = &self.trace {
            options.extend(["--trace".into(), trace.into()]);
        }
        if self.power_loss {
            options.push("--power-loss".into());
        }
        if let Some(value) = self.broken.and_then(|broken| broken.to_possible_value()) {
            options.extend(["--break".into(), value.get_name().into()]);
        }
        options
    }
}
