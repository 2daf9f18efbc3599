//! Sealed segments go to a store.

use bytes::Bytes;
use mapwal::SealedSegment;
use mapwal_archive::{Archive, Archiver, ArchiverOptions};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};
use std::sync::Arc;

use crate::measure::{Sample, Scale, log, show};
use crate::store::{Kind, Place, on_disk};

struct Mapped(SealedSegment);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

pub(crate) fn measure(name: &str, kind: Kind, scale: Scale) {
    let (scratch, place) = (on_disk(), Place::new(kind));
    let log = log(scratch.path(), scale);
    let segments = log.sealed(0).expect("it works");
    let bytes = segments.iter().map(|segment| segment.bytes().len() as u64).sum();
    let segments: Vec<Bytes> = segments.into_iter().map(|segment| Bytes::from_owner(Mapped(segment))).collect();
    let runtime = tokio::runtime::Runtime::new().expect("it works");
    let put = |round: usize| {
        let prefix = Path::from(format!("bare-{round}"));
        let (put, ()) = Sample::of(|| runtime.block_on(put_all(&*place.store, &prefix, &segments)));
        runtime.block_on(place.clear(&prefix));
        put
    };
    let put_with_sums = |round: usize| {
        let prefix = Path::from(format!("summed-{round}"));
        let (put, ()) = Sample::of(|| runtime.block_on(put_all_with_sums(&*place.store, &prefix, &segments)));
        runtime.block_on(place.clear(&prefix));
        put
    };
    let archive = |round: usize| {
        let prefix = Path::from(format!("mapwal-{round}"));
        let archive = Archive::new(Arc::clone(&place.store), prefix.clone());
        let options = ArchiverOptions::new().part_interval(None);
        let archiver = Archiver::of_log(Arc::clone(&log), archive, options).expect("it works");
        let (archived, status) = Sample::of(|| runtime.block_on(archiver.catch_up()).expect("it works"));
        assert!(status.segments >= scale.segments);
        drop(archiver);
        log.drop_pin("archive").expect("it works");
        runtime.block_on(place.clear(&prefix));
        archived
    };
    let rounds = (0..=scale.rounds).map(|round| {
        // Each is the first one in turn: neither gains by what the other has left to the disk.
        if round % 2 == 0 {
            let put = put(round);
            (put, (put_with_sums(round), archive(round)))
        } else {
            let archived = archive(round);
            let with_sums = put_with_sums(round);
            (put(round), (with_sums, archived))
        }
    });
    // The first round warms up.
    let (bare, (with_sums, ours)): (Vec<_>, (Vec<_>, Vec<_>)) = rounds.skip(1).unzip();
    show(name, bytes, &bare, &ours, "0.90");
    show("  with sums", bytes, &with_sums, &ours, "");
}

async fn put_all(store: &dyn ObjectStore, prefix: &Path, segments: &[Bytes]) {
    for (number, bytes) in segments.iter().enumerate() {
        let key = prefix.clone().join(format!("{number}"));
        store.put_opts(&key, PutPayload::from(bytes.clone()), PutMode::Create.into()).await.expect("it works");
    }
}

/// As [`put_all`], but that each key has the checksum of its object: the least that is to be done for it. That of the next one is computed
/// beside each put.
async fn put_all_with_sums(store: &dyn ObjectStore, prefix: &Path, segments: &[Bytes]) {
    let sum = |number: usize| {
        let bytes = segments.get(number).cloned().unwrap_or_default();
        tokio::task::spawn_blocking(move || crc32fast::hash(&bytes))
    };
    let mut checksum = sum(0).await.expect("it works");
    for (number, bytes) in segments.iter().enumerate() {
        let key = prefix.clone().join(format!("{number}-{checksum:08x}"));
        let put = store.put_opts(&key, PutPayload::from(bytes.clone()), PutMode::Create.into());
        let (put, next) = tokio::join!(put, sum(number + 1));
        put.expect("it works");
        checksum = next.expect("it works");
    }
}
