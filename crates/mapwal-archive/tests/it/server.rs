//! The S3 server of the tests does what S3 does.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::s3::Server;
use crate::tools::wait_for;

/// One of several uploads of the same object at once is told that it has made it, and it has.
#[test]
fn of_uploads_at_once_one_creates_the_object() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).unwrap();
    let store = Arc::new(server.store());
    wait_for(async {
        for round in 0..30 {
            let key = Path::from(format!("a/{round}"));
            let uploads = (0..4u8).map(|writer| {
                let (store, key) = (Arc::clone(&store), key.clone());
                tokio::spawn(async move {
                    let bytes = PutPayload::from(vec![writer; 20_000]);
                    store.put_opts(&key, bytes, PutMode::Create.into()).await
                })
            });
            let mut winner = None;
            for (writer, upload) in join_all(uploads).await.into_iter().enumerate() {
                match upload.unwrap() {
                    Ok(_) => assert_eq!(winner.replace(writer as u8), None, "two have made it"),
                    Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            let bytes = store.get(&key).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, vec![winner.expect("one has made it"); 20_000]);
        }
        assert_eq!(store.list(Some(&Path::from("a"))).try_collect::<Vec<_>>().await.unwrap().len(), 30);
    });
    assert_eq!(server.seen().overwritten(), 0);
}

#[test]
fn another_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).unwrap();
    let [(_, endpoint), ..] = server.environment();
    let stranger = object_store::aws::AmazonS3Builder::new().with_endpoint(endpoint).with_allow_http(true);
    let stranger = stranger.with_region("us-east-1").with_bucket_name(crate::s3::BUCKET);
    let stranger = stranger.with_access_key_id("AKIAMAPWAL").with_secret_access_key("wrong").build().unwrap();
    let put = wait_for(stranger.put(&Path::from("a"), PutPayload::from_static(b"b")));
    assert!(matches!(put, Err(Error::PermissionDenied { .. })), "{put:?}");
    assert!(server.seen().stored.is_empty());
}
