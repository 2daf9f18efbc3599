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
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=scale.rounds {
        let prefix = Path::from(format!("bare-{round}"));
        let (put, ()) = Sample::of(|| runtime.block_on(put_all(&*place.store, &prefix, &segments)));
        runtime.block_on(place.clear(&prefix));

        let prefix = Path::from(format!("mapwal-{round}"));
        let archive = Archive::new(Arc::clone(&place.store), prefix.clone());
        let options = ArchiverOptions::new().part_interval(None);
        let archiver = Archiver::of_log(Arc::clone(&log), archive, options).expect("it works");
        let (archived, status) = Sample::of(|| runtime.block_on(archiver.catch_up()).expect("it works"));
        assert!(status.segments >= scale.segments);
        drop(archiver);
        log.drop_pin("archive").expect("it works");
        runtime.block_on(place.clear(&prefix));
        if round > 0 {
            bare.push(put);
            ours.push(archived);
        }
    }
    show(name, bytes, &bare, &ours, "0.90");
}

async fn put_all(store: &dyn ObjectStore, prefix: &Path, segments: &[Bytes]) {
    for (number, bytes) in segments.iter().enumerate() {
        let key = prefix.clone().join(format!("{number}"));
        store.put_opts(&key, PutPayload::from(bytes.clone()), PutMode::Create.into()).await.expect("it works");
    }
}
