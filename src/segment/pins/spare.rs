//! How the file of a pin is written: beside it, to the pin's spare, and then the two exchange their names.
//!
//! The spare of pin `NAME` is `NAME.tmp`: what the pin was before, whose room is there already. So a pin can be moved on a full disk,
//! which its owner is waited for to make room on. Why nothing is torn by that is in docs/design/replication.md.

use std::io;
use std::time::{Duration, Instant};

use crate::format::pin;
use crate::storage::{Storage, StorageFile, Users, is_full};

/// How long a reader is waited for that still reads what the pin was before: there may be no room for another file. Where readers cannot
/// be seen, there is always another file.
const READERS_PATIENCE: Duration = Duration::from_millis(if cfg!(target_os = "linux") { 100 } else { 0 });
const PAUSE: Duration = Duration::from_millis(1);

/// Makes `bytes` the contents of pin `name`, whose spare is `spare`, in one step, and durable on return. `is_there`: there is a pin of that name.
pub(super) fn write(directory: &dyn Storage, name: &str, spare: &str, bytes: &[u8], is_there: bool) -> io::Result<()> {
    if let Some(file) = reusable(directory, name, spare) {
        let written = file.write_at(bytes, 0).and_then(|()| file.sync());
        if written.as_ref().is_err_and(|error| !is_full(error)) {
            // Another one gets other blocks.
            let _ = directory.remove(spare);
        }
        written?;
    } else {
        make(directory, spare, bytes)?;
    }
    let exchanged = if is_there { directory.exchange(spare, name) } else { Err(io::ErrorKind::NotFound.into()) };
    match exchanged {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => {
            directory.replace(spare, name).inspect_err(|_| drop(directory.remove(spare)))?;
            // For the next time, if there is room.
            let _ = make(directory, spare, bytes);
        }
        exchanged => exchanged?,
    }
    directory.sync_directory()
}

/// The spare, if it can be written over: nobody reads it, it is no pin, also after a power cut, and it is as a new file would be.
fn reusable(directory: &dyn Storage, name: &str, spare: &str) -> Option<Box<dyn StorageFile>> {
    let file = directory.open_as_created(spare).ok()?;
    let deadline = Instant::now() + READERS_PATIENCE;
    loop {
        let Users { is_linked, here, elsewhere } = file.users().ok()?;
        if is_linked {
            // A backup: what it holds is its own.
            return None;
        }
        if !here && !elsewhere {
            break;
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    let is_whole = file.len_bytes().ok()? == pin::LEN as u64;
    let is_pin = directory.find(spare).ok()?.is_some_and(|found| directory.find(name).ok().flatten() == Some(found));
    // A process may have ended after it had exchanged the names, and before that was durable.
    (is_whole && !is_pin && directory.sync_directory().is_ok()).then_some(file)
}

/// Makes the spare anew. What has its name cannot be used, or was left unfinished by a process that is gone: no other one has the lock.
fn make(directory: &dyn Storage, spare: &str, bytes: &[u8]) -> io::Result<()> {
    let file = match directory.create(spare) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            directory.remove(spare)?;
            directory.create(spare)?
        }
        created => created?,
    };
    let written = file.write_at(bytes, 0).and_then(|()| file.sync());
    written.inspect_err(|_| drop(directory.remove(spare)))
}
