//! Work that waits for the disk, for a call that must not.

use std::io;
use std::thread;

use crate::error::{Error, Result};
use crate::raft::{OneshotSender, RaftTypeConfig, TypeConfigExt};

/// What `work` comes to, in a thread of its own. It is done to its end also if this is dropped before.
pub(crate) async fn aside<C: RaftTypeConfig>(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (sender, receiver) = C::oneshot();
    let work = move || drop(sender.send(work()));
    thread::Builder::new().name("mapwal-openraft".to_owned()).spawn(work).map_err(Error::Thread)?;
    receiver.await.map_err(|panicked| Error::Thread(io::Error::other(panicked.to_string())))?
}
