//! What several tests need.

use std::path::Path;
use std::sync::Arc;

use mapwal::Log;
use mapwal_archive::{Archive, Archiver, ArchiverOptions, RestoreOptions, RestoreReport, RestoreTo};
use object_store::ObjectStore;

/// Where the tests have their archives.
pub(crate) const PREFIX: &str = "logs/a";

/// Runs `work` to its end.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

pub(crate) fn archive(store: Arc<dyn ObjectStore>) -> Archive {
    Archive::new(store, PREFIX)
}

pub(crate) fn archiver(log: &Arc<Log>, archive: &Archive) -> Archiver {
    Archiver::of_log(Arc::clone(log), archive.clone(), ArchiverOptions::new()).unwrap()
}

pub(crate) async fn restore(
    archive: &Archive,
    directory: &Path,
    to: RestoreTo,
) -> mapwal_archive::Result<RestoreReport> {
    archive.restore(directory, to, &RestoreOptions::new(), &mut |_| {}).await
}

/// Whether an object has records, and not a note.
pub(crate) fn has_records(key: &str) -> bool {
    key.ends_with(".seg") || key.ends_with(".part")
}

/// The first record of an object, and the number after its last.
pub(crate) fn range(key: &str) -> (u64, u64) {
    let mut numbers = key.rsplit('/').next().unwrap().split('-').map(|number| number.parse().ok());
    (numbers.next().flatten().unwrap(), numbers.next().flatten().unwrap())
}

/// The number after the last record that the objects with these keys have without a gap from record 1 on.
pub(crate) fn reach<'a>(keys: impl Iterator<Item = &'a String>) -> u64 {
    let mut ranges: Vec<_> = keys.filter(|key| has_records(key)).map(|key| range(key)).collect();
    ranges.sort_unstable();
    ranges.iter().fold(1, |next, &(first, end)| if first <= next { next.max(end) } else { next })
}
