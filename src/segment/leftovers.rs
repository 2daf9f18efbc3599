//! Removing files that do not count.

use std::io;

use crate::events::report;
use crate::storage::Storage;

/// Removes files of these names. What stays is removed at the next open.
pub(crate) fn remove_all(storage: &dyn Storage, names: &[String]) {
    for name in names {
        is_gone(name, storage.remove(name));
    }
    sync_removals(storage, names);
}

/// As [`remove_all`], of unfinished files, or of empty directories that a repair of the file system has made of some.
pub(crate) fn remove_unfinished(storage: &dyn Storage, names: &[String]) {
    for name in names {
        is_gone(name, storage.remove_unfinished(name));
    }
    sync_removals(storage, names);
}

/// As [`remove_all`], and ends with the first that cannot be removed: without the control page, one that stays after one that is
/// missing is damage.
pub(crate) fn remove_in_order(storage: &dyn Storage, names: &[String]) {
    let _ = names.iter().all(|name| is_gone(name, storage.remove(name)));
    sync_removals(storage, names);
}

/// Whether the file is gone; reports why not.
fn is_gone(name: &str, removed: io::Result<()>) -> bool {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let file = name.to_owned();
            report!(warn, error = &error as &dyn std::error::Error, file, "cannot remove a file");
            false
        }
        _ => true,
    }
}

fn sync_removals(storage: &dyn Storage, names: &[String]) {
    if !names.is_empty()
        && let Err(error) = storage.sync_directory()
    {
        report!(warn, error = &error as &dyn std::error::Error, "cannot sync the directory");
    }
}
