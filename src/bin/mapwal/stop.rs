//! The end of commands before all is done: by Ctrl-C, the signals TERM and HUP, and, of those that go on until they are told, `q` on a
//! terminal.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Failure, Result};
use crate::streams;

/// Whether to stop. The terminal is as it was before once this value is dropped.
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    /// The settings of the terminal, if keys are read.
    before: Option<Termios>,
}

impl Stop {
    /// From now on, none of these signals ends the program any more but is noted; those that were ignored still are.
    pub(crate) fn by_signals() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let by_signal = Arc::clone(&asked);
        streams::leave_ignored(|| ctrlc::set_handler(move || by_signal.store(true, Ordering::Relaxed)))
            .map_err(|error| Failure::new("cannot wait for Ctrl-C", error, Path::new("this process")))?;
        Ok(Self { asked, before: None })
    }

    /// The same, and `q` is read from a terminal: for what goes on until it is told.
    pub(crate) fn by_signals_and_keys() -> Result<Self> {
        let mut stop = Self::by_signals()?;
        stop.before = single_keys();
        if stop.before.is_some() {
            let by_key = Arc::clone(&stop.asked);
            // Without a thread it ends by signals.
            let _ = std::thread::Builder::new().spawn(move || {
                let keys = io::stdin().lock().bytes();
                if keys.map_while(io::Result::ok).any(|key| key == b'q') {
                    by_key.store(true, Ordering::Relaxed);
                }
            });
        }
        Ok(stop)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If it cannot be set back, nothing more can be done.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Has the terminal hand over each key at once, and not show it; returns the settings before. `None` if there is no
/// terminal, or it belongs to the job in the foreground, which this one is not.
fn single_keys() -> Option<Termios> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let before = tcgetattr(io::stdin()).ok()?;
    let foreground = rustix::termios::tcgetpgrp(io::stdin()).ok()?;
    if foreground != rustix::process::getpgrp() {
        return None;
    }
    let mut single = before.clone();
    single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Now, &single).ok()?;
    Some(before)
}
