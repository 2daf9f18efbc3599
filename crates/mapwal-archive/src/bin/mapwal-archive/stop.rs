//! The end that a user or the system asks for: Ctrl-C, and the signals of `kill` and of a terminal that is closed.

use tokio::sync::watch;

use crate::failure::{Failure, Result};
use crate::streams;

/// Whether to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From now on, these signals do not end the program any more but are noted; those that were ignored still are.
    pub(crate) fn listen() -> Result<Self> {
        let (asked, receiver) = watch::channel(false);
        let note = move || {
            asked.send_replace(true);
        };
        streams::leave_ignored(|| ctrlc::set_handler(note))
            .map_err(|error| Failure::new("cannot wait for signals", error, "this process"))?;
        Ok(Self(receiver))
    }

    /// Ends when a stop is asked for.
    pub(crate) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            // The handler is there for as long as the process.
            std::future::pending::<()>().await;
        }
    }
}
