//! Lines that a service prints.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How many lines may wait.
const LINES: usize = 8;
/// How long the end of the service waits for the last line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints on a thread of its own: what reads the lines may stand still, or be gone, and the service goes on.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: SyncSender<String>,
    ended: Receiver<()>,
}

impl Printer {
    pub(crate) fn start() -> Self {
        let (lines, to_print) = sync_channel::<String>(LINES);
        let (end, ended) = sync_channel(1);
        std::thread::spawn(move || {
            let mut out = std::io::stdout();
            for line in to_print {
                // The next one may be printed again.
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            }
            let _ = end.send(());
        });
        Self { lines, ended }
    }

    /// Left out if too many before it are still waiting.
    pub(crate) fn print(&self, line: String) {
        let _ = self.lines.try_send(line);
    }

    /// Waits for the last line, if that is read.
    pub(crate) fn end(self) {
        drop(self.lines);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}
