//! An archive becomes a log again.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, RestoreOptions, RestoreTo};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::task::JoinSet;

use crate::measure::{Sample, Scale, log, show};
use crate::store::{Kind, Place, on_disk, on_tmpfs};

const PARALLEL: usize = 4;

pub(crate) fn measure(name: &str, kind: Kind, scale: Scale) {
    let (scratch, place) = (on_disk(), Place::new(kind));
    let runtime = tokio::runtime::Runtime::new().expect("it works");
    let archive = Archive::new(Arc::clone(&place.store), "log");
    let log = log(scratch.path(), scale);
    let options = ArchiverOptions::new().part_interval(None);
    let archiver = Archiver::of_log(log, archive.clone(), options).expect("it works");
    runtime.block_on(archiver.catch_up()).expect("it works");
    drop(archiver);
    let listed = runtime.block_on(archive.list()).expect("it works");
    let keys: Vec<Path> = listed.epochs.iter().flat_map(|epoch| &epoch.segments).map(|it| it.key.clone()).collect();
    let (mut got, mut written, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        let (get, ()) = Sample::of(|| runtime.block_on(get_all(&place.store, &keys, None)));
        let target = on_tmpfs();
        let (write, ()) = Sample::of(|| runtime.block_on(get_all(&place.store, &keys, Some(target.path().to_owned()))));
        drop(target);
        let target = on_tmpfs();
        let options = RestoreOptions::new().parallel(PARALLEL);
        let (restore, report) = Sample::of(|| {
            runtime
                .block_on(archive.restore(target.path(), RestoreTo::Latest, &options, &mut |_| {}))
                .expect("it works")
        });
        assert_eq!(report.bytes, listed.len_bytes());
        if round > 0 {
            got.push(get);
            written.push(write);
            restored.push(restore);
        }
    }
    show(name, listed.len_bytes(), &got, &restored, "0.80");
    show("  to files", listed.len_bytes(), &written, &restored, "");
}

/// Several objects at a time, each by a task; written to files in a directory, or nowhere.
async fn get_all(store: &Arc<dyn ObjectStore>, keys: &[Path], directory: Option<PathBuf>) {
    let mut tasks = JoinSet::new();
    for (number, key) in keys.iter().enumerate() {
        if tasks.len() == PARALLEL {
            tasks.join_next().await.expect("it works").expect("it works");
        }
        let (store, key) = (Arc::clone(store), key.clone());
        let mut file =
            directory.as_ref().map(|directory| File::create(directory.join(format!("{number}"))).expect("it works"));
        tasks.spawn(async move {
            let mut chunks = store.get(&key).await.expect("it works").into_stream().boxed();
            while let Some(chunk) = chunks.try_next().await.expect("it works") {
                if let Some(file) = &mut file {
                    file.write_all(&chunk).expect("it works");
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("it works");
    }
}
