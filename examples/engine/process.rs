//! The process of the engine, seen from the one that kills it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::Failure;
use crate::arguments::Arguments;
use crate::report::{self, Message};

/// A running engine. It does not outlive this value.
pub(crate) struct Process {
    child: Child,
    messages: Receiver<Result<Message, Failure>>,
}

/// What came of waiting for a message.
pub(crate) enum Received {
    Message(Message),
    /// Nothing until the given time.
    Nothing,
    /// The process is dead, and everything that it sent has been received.
    End,
}

impl Process {
    /// Starts this program once more, as the engine in `directory`, whose load begins with line `start` of the trace. It
    /// waits for its kill when it has undone `hold_at` changes in its restart.
    pub(crate) fn start(
        arguments: &Arguments,
        directory: &Path,
        start: usize,
        hold_at: Option<u64>,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve").arg(directory).arg("--start").arg(start.to_string()).args(arguments.of_engine());
        if let Some(undone) = hold_at {
            command.arg("--hold-at").arg(undone.to_string());
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut pipe = child.stdout.take().ok_or("the pipe was asked for")?;
        let (sender, messages) = mpsc::channel();
        // It ends with the pipe, or when nobody receives any more.
        std::thread::spawn(move || {
            while let Some(message) = report::receive(&mut pipe).transpose() {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, messages })
    }

    /// Waits for a message until `deadline`.
    pub(crate) fn receive(&self, deadline: Instant) -> Result<Received, Failure> {
        match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Received::Message(message?)),
            Err(RecvTimeoutError::Timeout) => Ok(Received::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Received::End),
        }
    }

    /// Kills it (SIGKILL), and returns what it had sent before and was not received yet. An engine that has stopped by
    /// itself is an error.
    pub(crate) fn kill(mut self) -> Result<Vec<Message>, Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("the engine stopped: {status}").into());
        }
        self.child.kill()?;
        self.child.wait()?;
        self.messages.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it is dead already, and then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
