//! Removing files that do not count.

use crate::events::report;
use crate::storage::Storage;

/// Removes files of these names. What stays is removed at the next open.
pub(crate) fn remove_all(storage: &dyn Storage, names: &[String]) {
    for name in names {
        remove(storage, name);
    }
    sync_removals(storage, names);
}

/// As [`remove_all`], and ends with the first that cannot be removed: without the control page, one that stays after one that is
/// missing is damage.
pub(crate) fn remove_in_order(storage: &dyn Storage, names: &[String]) {
    let _ = names.iter().all(|name| remove(storage, name));
    sync_removals(storage, names);
}

/// Whether it is gone.
fn remove(storage: &dyn Storage, name: &str) -> bool {
    match storage.remove(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
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
