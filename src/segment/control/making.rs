//! The file of the control page: found, made anew, or done without.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32};

use super::ControlPage;
use super::signed::signed;
use super::words::{LEN, PageFound, Word, bytes_of, new_page};
use crate::events::report;
use crate::format::name;
use crate::memory::{Mapping, SharedWords};
use crate::storage::{Access, DeviceBuffer, Storage, StorageFile};

/// A handle for [`is_on_device`] of its own, since reads of the device leave the file open once more; `None` if there is no such file.
pub(super) fn open_for_device(storage: &dyn Storage) -> io::Result<Option<Box<dyn StorageFile>>> {
    match storage.open(name::CONTROL, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Whether the device has `words` from `first` on in the `file` of the page, as far as it can be asked.
pub(super) fn is_on_device(file: Option<&dyn StorageFile>, first: Word, words: &[u64]) -> io::Result<bool> {
    let Some(file) = file else { return Ok(false) };
    if !file.reads_device() {
        // What has just been written and synced is there: what a failed write-back has left is written anew with it.
        return Ok(true);
    }
    let mut buffer = DeviceBuffer::new(LEN as usize);
    let read = file.read_device_at(&mut buffer, 0)?;
    Ok(read == LEN as usize && buffer.bytes()[first as usize * size_of::<u64>()..].starts_with(&bytes_of(words)))
}

impl ControlPage {
    /// Whether it is durable that the segments below `oldest` have been trimmed. An error if that cannot be found out.
    pub(crate) fn is_retained_durably(storage: &dyn Storage, log_id: u128, oldest: u64) -> io::Result<bool> {
        let value = signed(log_id, Word::OldestSegment as usize, oldest as u32);
        let Some(page) = Self::map(storage, log_id)? else { return Ok(false) };
        // What a failed write-back has left of it only looks written.
        let written = page.set(Word::OldestSegment, value);
        let Some(file) = &page.file else { return Ok(false) };
        match written.and_then(|()| file.sync()) {
            Err(error) if !file.reads_device() => Err(error),
            _ => is_on_device(open_for_device(storage)?.as_deref(), Word::OldestSegment, &[value]),
        }
    }
}

/// The page that is there, if it is that of the log `log_id`, of a version that is known, not damaged, and can be stored to without more room, which a copy
/// of it may lack. Any other is removed, durably.
pub(super) fn open_existing(storage: &dyn Storage, log_id: u128) -> io::Result<Option<ControlPage>> {
    let found = PageFound::read(storage);
    match storage.open(name::CONTROL, Access::Write) {
        Ok(file) if file.len_bytes()? == LEN && file.is_reserved(0..LEN)? => {
            let page = ControlPage::on(file, Access::Write, log_id)?;
            let is_sound = found?.is_some_and(|found| found.damage(log_id, false).is_none());
            if is_sound && page.is_understood() {
                return Ok(Some(page));
            }
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    // A crash while it is changed in place would leave what it says of another log under the name of this one. And it must
    // not come back: what it says of a close may be of this log, and is not taken back.
    remove(storage)?;
    Ok(None)
}

pub(super) fn remove(storage: &dyn Storage) -> io::Result<()> {
    storage.remove(name::CONTROL)?;
    storage.sync_directory()
}

/// A new page, of which nothing has to be taken back. Each word that has a checksum has it before the page has its name.
pub(super) fn make(storage: &dyn Storage, log_id: u128, oldest: u64) -> io::Result<ControlPage> {
    let temporary = format!("{}{}", name::CONTROL, name::TEMPORARY_SUFFIX);
    let file = storage.create(&temporary)?;
    let made = file
        .allocate(LEN)
        .and_then(|_| file.write_at(&bytes_of(&new_page(log_id, oldest)), 0))
        .and_then(|()| file.sync())
        .and_then(|()| storage.rename(&temporary, name::CONTROL))
        // What it says durably counts only as long as it has its name.
        .and_then(|()| storage.sync_directory());
    if made.is_err() {
        // What is left of it is removed at the next open at the latest.
        let _ = storage.remove(&temporary);
    }
    made?;
    ControlPage::on(file, Access::Write, log_id)
}

/// A page that only this process has.
pub(super) fn in_memory(storage: &dyn Storage, log_id: u128) -> io::Result<ControlPage> {
    let path = storage.path().to_owned();
    report!(warn, path = %path.display(), "no room for the control page: followers are not woken");
    let words = SharedWords::new(Mapping::in_memory(LEN as usize)?);
    new_page(log_id, 0)
        .into_iter()
        .enumerate()
        .filter(|(_, word)| *word != 0)
        .for_each(|(at, word)| words.store(at, word));
    Ok(ControlPage {
        words,
        file: None,
        writable: true,
        log_id,
        is_removed: AtomicBool::new(false),
        wakes: [0, 0].map(AtomicU32::new),
    })
}
