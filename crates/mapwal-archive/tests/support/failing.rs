//! A store that fails as stores do, each way with a probability, by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// In how many of 1000 calls each thing happens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Nothing is done, and an error returned.
    pub(crate) fail: u32,
    /// It is done, and an error returned.
    pub(crate) fail_though_done: u32,
    /// A little time passes first.
    pub(crate) delay: u32,
    /// A read ends early, with an error or without one.
    pub(crate) truncate_read: u32,
    /// A new object is not in a list.
    pub(crate) list_late: u32,
}

impl Faults {
    pub(crate) const ALL: Self =
        Self { fail: 150, fail_though_done: 150, delay: 200, truncate_read: 150, list_late: 300 };
}

/// What has happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    pub(crate) failed: u64,
    pub(crate) failed_though_done: u64,
    pub(crate) truncated: u64,
    pub(crate) listed_late: u64,
    /// The bytes of each object that was ever stored, by key: all of them, in order.
    pub(crate) stored: BTreeMap<String, Vec<Bytes>>,
}

/// A store over another one.
#[derive(Debug)]
pub(crate) struct Failing {
    inner: Arc<dyn ObjectStore>,
    chance: Arc<Chance>,
}

impl Failing {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, faults: Faults, seed: u64) -> Self {
        let state = State { random: fastrand::Rng::with_seed(seed), told: Told::default(), new: BTreeSet::new() };
        Self { inner, chance: Arc::new(Chance { faults, on: AtomicBool::new(true), state: Mutex::new(state) }) }
    }

    /// From now on nothing fails.
    pub(crate) fn heal(&self) {
        self.chance.on.store(false, Ordering::SeqCst);
    }

    pub(crate) fn told(&self) -> Told {
        self.chance.state().told.clone()
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failing {}", self.inner)
    }
}

/// What decides whether something fails.
#[derive(Debug)]
struct Chance {
    faults: Faults,
    on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    told: Told,
    /// Stored, and not in a list so far.
    new: BTreeSet<Path>,
}

impl Chance {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, of_1000: u32) -> bool {
        self.on.load(Ordering::SeqCst) && self.state().random.u32(0..1000) < of_1000
    }

    async fn wait_a_little(&self) {
        if self.happens(self.faults.delay) {
            let micros = self.state().random.u64(0..2000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }

    /// An error before anything is done.
    fn fail_before(&self) -> Result<()> {
        if self.happens(self.faults.fail) {
            self.state().told.failed += 1;
            return Err(failure("refused"));
        }
        Ok(())
    }

    /// An error after all is done.
    fn fail_after<T>(&self, done: T) -> Result<T> {
        if self.happens(self.faults.fail_though_done) {
            self.state().told.failed_though_done += 1;
            return Err(failure("the answer was lost"));
        }
        Ok(done)
    }

    fn note_stored(&self, location: &Path, bytes: Bytes) {
        let mut state = self.state();
        state.told.stored.entry(location.to_string()).or_default().push(bytes);
        state.new.insert(location.clone());
    }

    /// Whether a list leaves `object` out. What has been in a list stays in lists.
    fn is_late(&self, object: &Path) -> bool {
        let is_late = self.happens(self.faults.list_late);
        let mut state = self.state();
        if !state.new.contains(object) {
            return false;
        }
        if is_late {
            state.told.listed_late += 1;
        } else {
            state.new.remove(object);
        }
        is_late
    }

    /// What arrives of a read, over a connection that may break, with an error or without one.
    async fn arrives(&self, mut result: GetResult) -> Result<GetResult> {
        if !self.happens(self.faults.truncate_read) {
            return Ok(result);
        }
        let nothing = GetResultPayload::Stream(stream::empty().boxed());
        let payload = std::mem::replace(&mut result.payload, nothing);
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let mut bytes = GetResult { payload, meta, range, attributes, extensions }.bytes().await?;
        let mut state = self.state();
        bytes.truncate(state.random.usize(0..bytes.len().max(1)));
        state.told.truncated += 1;
        let mut chunks = vec![Ok(bytes)];
        if state.random.bool() {
            chunks.push(Err(failure("the connection broke")));
        }
        result.payload = GetResultPayload::Stream(stream::iter(chunks).boxed());
        Ok(result)
    }
}

fn failure(why: &str) -> Error {
    Error::Generic { store: "Failing", source: why.into() }
}

fn only<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    stream::once(async { Err(error) }).boxed()
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.chance.wait_a_little().await;
        self.chance.fail_before()?;
        let bytes = Bytes::from(payload.clone());
        let done = self.inner.put_opts(location, payload, options).await?;
        self.chance.note_stored(location, bytes);
        self.chance.fail_after(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Nothing is uploaded in parts.
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.chance.wait_a_little().await;
        self.chance.fail_before()?;
        let is_head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        if is_head { Ok(result) } else { self.chance.arrives(result).await }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if let Err(error) = self.chance.fail_before() {
            return only(error);
        }
        let deleted = self.inner.delete_stream(locations);
        match self.chance.fail_after(()) {
            Ok(()) => deleted,
            Err(error) => deleted.chain(only(error)).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.chance.fail_before() {
            return only(error);
        }
        let chance = Arc::clone(&self.chance);
        let listed = self.inner.list(prefix);
        let listed = listed.try_filter(move |object| std::future::ready(!chance.is_late(&object.location)));
        match self.chance.fail_after(()) {
            Ok(()) => listed.boxed(),
            Err(error) => listed.chain(only(error)).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.chance.fail_before()?;
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|object| !self.chance.is_late(&object.location));
        self.chance.fail_after(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.chance.fail_before()?;
        self.inner.copy_opts(from, to, options).await?;
        self.chance.fail_after(())
    }
}
