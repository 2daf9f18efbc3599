//! The calls of the object store that an archive makes.

use std::fmt::Debug;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::epoch::EpochNote;
use crate::error::{Error, ObjectDamage, Result};
use crate::object::epoch_key;
use crate::waiting::Waiting;

/// Bytes that are read of a file at a time.
const CHUNK_LEN: usize = 1 << 20;
/// Chunks that a reader of a file is ahead of what takes them.
const CHUNKS_AHEAD: usize = 2;

/// Bytes that a note has at most.
const NOTE_LEN_MAX: usize = 64 << 10;

/// What [`Store::create`] has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is there, and this call has made it.
    New,
    /// It was there, with the same bytes.
    Same,
    /// Something else is there.
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Store(pub(crate) Arc<dyn ObjectStore>, pub(crate) Waiting);

impl Store {
    /// Makes an object unless there is one.
    pub(crate) async fn create(&self, key: &Path, bytes: Bytes) -> Result<Created> {
        let out = self.1.begin("write", key, bytes.len() as u64);
        let put = self.0.put_opts(key, PutPayload::from(bytes.clone()), PutMode::Create.into()).await;
        drop(out);
        match put {
            Ok(_) => self.check_len(key, bytes.len() as u64).await,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(if self.is_same(key, &bytes).await? { Created::Same } else { Created::Other })
            }
            Err(source) => Err(Error::store("write", key, source)),
        }
    }

    /// A store that has cut the object short has said that all of it was written.
    async fn check_len(&self, key: &Path, len: u64) -> Result<Created> {
        let _out = self.1.begin("look at", key, 0);
        let meta = self.0.head(key).await.map_err(|source| Error::store("look at", key, source))?;
        Ok(if meta.size == len { Created::New } else { Created::Other })
    }

    async fn is_same(&self, key: &Path, bytes: &Bytes) -> Result<bool> {
        let (mut at, mut is_same) = (0, true);
        let read = self.read(key, |chunk| {
            is_same &= bytes.get(at..at + chunk.len()) == Some(chunk);
            at += chunk.len();
            Ok(())
        });
        read.await?;
        Ok(is_same && at == bytes.len())
    }

    /// The note of epoch `number`.
    pub(crate) async fn epoch_note(&self, prefix: &Path, number: u64) -> Result<Option<EpochNote>> {
        let key = epoch_key(prefix, number);
        let bytes = self.note_bytes(&key).await?;
        bytes.map(|bytes| EpochNote::parse(&bytes, number)).transpose().map_err(|damage| Error::damaged(&key, damage))
    }

    pub(crate) async fn note<T: DeserializeOwned>(&self, key: &Path) -> Result<Option<T>> {
        let Some(bytes) = self.note_bytes(key).await? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error: serde_json::Error| {
            let (line, column) = (error.line() as u64, error.column() as u64);
            Error::damaged(key, ObjectDamage::Note { line, column })
        })
    }

    /// Those of a note. One that is too long for that is not read to its end.
    async fn note_bytes(&self, key: &Path) -> Result<Option<Vec<u8>>> {
        self.up_to(key, NOTE_LEN_MAX).await
    }

    /// `None` if there is no such object.
    pub(crate) async fn all_of(&self, key: &Path) -> Result<Option<Vec<u8>>> {
        self.up_to(key, usize::MAX).await
    }

    /// All of an object. One with more than `max` bytes is damaged.
    async fn up_to(&self, key: &Path, max: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.read(key, |chunk| {
            if chunk.len() > max - bytes.len() {
                return Err(Error::damaged(key, ObjectDamage::Contents));
            }
            bytes.extend_from_slice(chunk);
            Ok(())
        });
        match read.await {
            Err(Error::Store { source, .. }) if matches!(*source, object_store::Error::NotFound { .. }) => {
                return Ok(None);
            }
            read => read?,
        };
        Ok(Some(bytes))
    }

    /// Writes a note over the one that is there.
    pub(crate) async fn replace_note(&self, key: &Path, note: &(impl Serialize + Debug)) -> Result<()> {
        let bytes = encode(note);
        let _out = self.1.begin("write", key, 0);
        self.0.put(key, bytes.into()).await.map_err(|source| Error::store("write", key, source))?;
        Ok(())
    }

    /// Writes something, and deletes it again.
    pub(crate) async fn touch(&self, key: &Path) -> Result<()> {
        let out = self.1.begin("write", key, 0);
        self.0.put(key, PutPayload::new()).await.map_err(|source| Error::store("write", key, source))?;
        drop(out);
        // One that is left does no harm.
        let _ = self.delete(key).await;
        Ok(())
    }

    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let _out = self.1.begin("list", prefix, 0);
        let listed = self.0.list(Some(prefix)).try_collect().await;
        match listed {
            // A directory that is not there yet.
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            listed => listed.map_err(|source| Error::store("list", prefix, source)),
        }
    }

    /// One that is not there is no error.
    pub(crate) async fn delete(&self, key: &Path) -> Result<()> {
        let _out = self.1.begin("delete", key, 0);
        match self.0.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", key, source)),
        }
    }

    /// Hands the bytes of an object to `take`, in order; returns how many there are: all of them, or an error.
    pub(crate) async fn read(&self, key: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let failed = |source| Error::store("read", key, source);
        let out = self.1.begin("read", key, 0);
        let got = self.0.get(key).await.map_err(failed)?;
        drop(out);
        let (range, mut len) = (got.range.clone(), 0);
        let expected = range.end - range.start;
        match got.payload {
            GetResultPayload::File(file, path) => {
                let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
                let reading = tokio::task::spawn_blocking(move || read_file(file, range, &sender));
                loop {
                    let out = self.1.begin("read", key, 0);
                    let Some(chunk) = chunks.recv().await else { break };
                    drop(out);
                    len += chunk.len() as u64;
                    take(&chunk)?;
                }
                reading.await.expect("it does not panic").map_err(|source| Error::io("read", &path, source))?;
            }
            GetResultPayload::Stream(mut stream) => loop {
                let out = self.1.begin("read", key, 0);
                let Some(chunk) = stream.next().await else { break };
                drop(out);
                let chunk = chunk.map_err(failed)?;
                len += chunk.len() as u64;
                take(&chunk)?;
            },
        }
        // A connection that breaks may look like the end.
        if len < expected {
            let source = format!("{len} of {expected} bytes have come").into();
            return Err(failed(object_store::Error::Generic { store: "read", source }));
        }
        Ok(len)
    }
}

/// Ends early if nothing takes the chunks any more.
fn read_file(
    mut file: std::fs::File,
    range: std::ops::Range<u64>,
    chunks: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut rest = file.take(range.end - range.start);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_LEN);
        rest.by_ref().take(CHUNK_LEN as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() || chunks.blocking_send(chunk.into()).is_err() {
            return Ok(());
        }
    }
}

pub(crate) fn encode(note: &(impl Serialize + Debug)) -> Vec<u8> {
    serde_json::to_vec_pretty(note).expect("text and numbers")
}
