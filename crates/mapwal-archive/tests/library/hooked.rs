//! A store in memory that lets a test look at its calls, and do something in between.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    Put(&'a Path),
    Get(&'a Path),
    List,
}

/// What to do before a call; whether `List` leaves out an object is asked for by the second function.
type Before = dyn Fn(&Call<'_>, &InMemory) + Send + Sync;
type Hidden = dyn Fn(&Path) -> bool + Send + Sync;

/// Chunks of reads that were handed out: those that are alive, and the most that were at one time.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Alive {
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A part of an object that is counted for as long as it is alive.
struct Chunk(Bytes, Arc<Alive>);

impl Chunk {
    fn of(bytes: Bytes, alive: &Arc<Alive>) -> Bytes {
        let now = alive.now.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        alive.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Self(bytes, Arc::clone(alive)))
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

pub(crate) struct Hooked {
    inner: Arc<InMemory>,
    before: Box<Before>,
    hidden: Box<Hidden>,
    /// Reads come in chunks of this length.
    pub(crate) chunk_len: usize,
    pub(crate) alive: Arc<Alive>,
    /// What may not be read.
    pub(crate) denied: Arc<Mutex<Option<Path>>>,
    /// Nothing can be written until so many objects are deleted.
    pub(crate) full: Arc<AtomicUsize>,
    /// After so many objects are deleted the next one is waited for, for ever: the caller can be killed there.
    pub(crate) deletes: Arc<AtomicUsize>,
}

impl Hooked {
    pub(crate) fn new(inner: &Arc<InMemory>, before: impl Fn(&Call<'_>, &InMemory) + Send + Sync + 'static) -> Self {
        let (before, hidden) = (Box::new(before), Box::new(|_: &Path| false));
        Self {
            inner: Arc::clone(inner),
            before,
            hidden,
            chunk_len: 1 << 20,
            alive: Arc::default(),
            denied: Arc::default(),
            full: Arc::default(),
            deletes: Arc::new(usize::MAX.into()),
        }
    }

    /// Lists leave out what `hidden` says.
    pub(crate) fn hiding(self, hidden: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { hidden: Box::new(hidden), ..self }
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

impl fmt::Display for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hooked")
    }
}

#[async_trait]
impl ObjectStore for Hooked {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        (self.before)(&Call::Put(location), &self.inner);
        if self.full.load(Ordering::SeqCst) > 0 {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
            return Err(object_store::Error::Generic { store: "hooked", source });
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        (self.before)(&Call::Get(location), &self.inner);
        let is_head = options.head;
        if self.denied.lock().expect("not poisoned").as_ref() == Some(location) {
            let path = location.to_string();
            return Err(object_store::Error::PermissionDenied { path, source: "not for this one".into() });
        }
        let mut result = self.inner.get_opts(location, options).await?;
        if is_head {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let payload = std::mem::replace(&mut result.payload, GetResultPayload::Stream(stream::empty().boxed()));
        let bytes = GetResult { payload, meta, range, attributes, extensions }.bytes().await?;
        let (alive, len) = (Arc::clone(&self.alive), self.chunk_len);
        let chunks = stream::iter((0..bytes.len()).step_by(len)).then(move |at| {
            let chunk = Chunk::of(bytes.slice(at..(at + len).min(bytes.len())), &alive);
            // Others get their turn.
            async move {
                tokio::task::yield_now().await;
                Ok(chunk)
            }
        });
        result.payload = GetResultPayload::Stream(chunks.boxed());
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let full = Arc::clone(&self.full);
        if self.deletes.fetch_sub(1, Ordering::SeqCst) == 0 {
            return stream::pending().boxed();
        }
        let deleted = self.inner.delete_stream(locations);
        let count = move |_: &Path| {
            let _ = full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |full| full.checked_sub(1));
        };
        deleted.inspect_ok(count).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        (self.before)(&Call::List, &self.inner);
        // All at once: which ones are hidden is asked for by this list.
        let inner = Arc::clone(&self.inner);
        let prefix = prefix.cloned();
        let listed = async move { inner.list(prefix.as_ref()).try_collect::<Vec<_>>().await };
        let listed = futures_util::FutureExt::now_or_never(listed).expect("memory does not wait");
        let listed = listed.map(|mut listed| {
            listed.retain(|object| !(self.hidden)(&object.location));
            listed
        });
        match listed {
            Ok(listed) => stream::iter(listed.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Removes an object at once.
pub(crate) fn remove(store: &InMemory, key: &Path) {
    let removed = futures_util::FutureExt::now_or_never(store.delete(key));
    removed.expect("memory does not wait").expect("it is there");
}
