//! An S3 server on 127.0.0.1, in this process: the protocol, signatures included, over files in a directory.
//!
//! `s3s-fs` looks whether an object is there and then renames a file to its place, so of two conditional puts at once both
//! may succeed. Here an upload is complete before its condition is looked at, and no other one is between the two, as S3
//! promises.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput,
    StreamingBlob,
};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The bucket that a new server has.
pub(crate) const BUCKET: &str = "bucket";
const KEY: &str = "AKIAMAPWAL";
const SECRET: &str = "not-a-secret";

/// A server that ends when this value is dropped. What it holds is in its directory.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

/// What the server has been asked to do, and has done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// The bytes of each object that was ever stored, by key: all of them, in order.
    pub(crate) stored: BTreeMap<String, Vec<Bytes>>,
    /// Requests, by what they asked for.
    pub(crate) requests: BTreeMap<&'static str, u64>,
    /// Whether all requests are refused.
    pub(crate) refuses: bool,
}

impl Seen {
    /// Objects that were stored more than once under one key.
    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    pub(crate) fn overwritten(&self) -> u64 {
        self.stored.values().map(|stored| stored.len() as u64 - 1).sum()
    }
}

impl Server {
    /// Serves the objects in `directory`, on a port that is free.
    pub(crate) fn start(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory.join(BUCKET))?;
        let files = FileSystem::new(directory).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut service =
            S3ServiceBuilder::new(Exact { files: Arc::new(files), changes: Arc::default(), seen: Arc::clone(&seen) });
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Otherwise the second packet of a small answer waits until the first one is acknowledged, which takes 40 ms.
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that is killed breaks off.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self { endpoint, seen, _runtime: runtime })
    }

    /// What a program finds in its environment to reach this server by `s3://bucket/prefix`.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// A client of this server.
    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    pub(crate) fn store(&self) -> AmazonS3 {
        let builder = AmazonS3Builder::new().with_endpoint(&self.endpoint).with_allow_http(true);
        let builder = builder.with_access_key_id(KEY).with_secret_access_key(SECRET);
        builder.with_region("us-east-1").with_bucket_name(BUCKET).build().expect("the settings are complete")
    }

    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files, one change at a time.
struct Exact {
    files: Arc<FileSystem>,
    changes: Arc<tokio::sync::Mutex<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Exact {
    fn note(&self, request: &'static str) -> S3Result<()> {
        let mut seen = self.seen();
        *seen.requests.entry(request).or_default() += 1;
        if seen.refuses { Err(s3_error!(AccessDenied)) } else { Ok(()) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl S3 for Exact {
    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.note("put")?;
        let mut bytes = BytesMut::new();
        if let Some(mut body) = request.input.body.take() {
            while let Some(chunk) = body.next().await {
                bytes.extend_from_slice(&chunk.map_err(|error| s3_error!(IncompleteBody, "{error}"))?);
            }
        }
        if request.input.content_length.is_some_and(|length| usize::try_from(length).ok() != Some(bytes.len())) {
            return Err(s3_error!(IncompleteBody));
        }
        let bytes = bytes.freeze();
        let key = request.input.key.clone();
        request.input.body = Some(StreamingBlob::from(Body::from(bytes.clone())));
        let (files, changes, seen) = (Arc::clone(&self.files), Arc::clone(&self.changes), Arc::clone(&self.seen));
        // A client that is killed ends the request, and not what was begun for it.
        let stored = tokio::spawn(async move {
            let _alone = changes.lock().await;
            let response = files.put_object(request).await?;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.stored.entry(key).or_default().push(bytes);
            Ok(response)
        });
        stored.await.map_err(|error| s3_error!(InternalError, "{error}"))?
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.note("get")?;
        self.files.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.note("head")?;
        self.files.head_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.note("list")?;
        self.files.list_objects_v2(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.note("delete")?;
        let _alone = self.changes.lock().await;
        self.files.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.note("delete")?;
        let _alone = self.changes.lock().await;
        self.files.delete_objects(request).await
    }
}
