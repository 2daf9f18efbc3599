//! A directory as an object store, whose answers are durable.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// An upload that has written nothing for so long is none any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// A directory of a file system, for an archive in it.
///
/// What it says is there survives a power cut: also an object that is found to be there already, and that a process which
/// was killed may have named without syncing the name; and the directories above it, which may have been made so.
/// [`LocalFileSystem`] alone does not sync those, nor what it deletes, and syncs nothing unless it is told to.
///
/// # Example
/// ```
/// # let temporary = tempfile::tempdir()?;
/// # let directory = temporary.path().join("archive");
/// use mapwal_archive::DirectoryStore;
///
/// let store = DirectoryStore::open(&directory)?; // made if it is not there
/// println!("{store}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    files: Arc<LocalFileSystem>,
    root: Arc<Path>,
    /// Directories whose own names are durable.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

impl DirectoryStore {
    /// The store in `directory`, which is made, with those above it, if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be made, opened or synced.
    pub fn open(directory: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let root = fs::canonicalize(&directory)?;
        sync_above(&root)?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?.with_fsync(true);
        Ok(Self { files: Arc::new(files), root: root.into(), durable: Arc::default() })
    }

    /// Makes the name of the object at `location` durable, and those of the directories above it. [`Error::NotFound`] if another process has
    /// deleted the object meanwhile: then those of the directories alone.
    async fn sync_names(&self, location: &Location) -> Result<()> {
        let (path, this) = (self.files.path_to_filesystem(location)?, self.clone());
        if blocking(move || this.sync_names_of(&path)).await? {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::NotFound).into();
        Err(Error::NotFound { path: location.to_string(), source })
    }

    /// Whether the object is there.
    fn sync_names_of(&self, path: &Path) -> io::Result<bool> {
        path.parent().map_or(Ok(()), remove_abandoned)?;
        let is_there = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            file => file?.sync_all().map(|()| true)?,
        };
        for directory in path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
            sync(directory)?;
            self.durable.lock().insert(directory.to_owned());
        }
        Ok(is_there)
    }

    /// Whether the directory of the object at `location` is known to have a durable name.
    fn is_directory_durable(&self, location: &Location) -> Result<bool> {
        let path = self.files.path_to_filesystem(location)?;
        Ok(path.parent().is_some_and(|directory| self.durable.lock().contains(directory)))
    }

    async fn delete_durably(&self, location: Location) -> Result<Location> {
        self.files.delete(&location).await?;
        let path = self.files.path_to_filesystem(&location)?;
        blocking(move || path.parent().map_or(Ok(()), sync)).await?;
        Ok(location)
    }
}

pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes the names of `directory`, whose path has no links, and of all above it durable: they may have been made just now.
pub(crate) fn sync_above(directory: &Path) -> io::Result<()> {
    for above in directory.ancestors().skip(1) {
        match sync(above) {
            // It cannot be read, so it was not made by this user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Removes what uploads of killed processes have left in the directory, under names that no list shows. One that is under way all the
/// same fails, and is tried again.
fn remove_abandoned(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_old = || entry.metadata()?.modified().map(|at| at.elapsed().is_ok_and(|age| age >= ABANDONED_AFTER));
        if is_upload(&entry.file_name()) && is_old().unwrap_or(false) {
            // Another archiver may have removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether [`LocalFileSystem`] gives such a name to what is to become an object of an archive.
fn is_upload(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.rsplit_once('#'));
    parts.is_some_and(|(object, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        is_number && [".seg", ".part", ".json"].iter().any(|end| object.ends_with(end))
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let failed = |source| Error::Generic { store: "DirectoryStore", source };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.into()))?;
    done.map_err(|error| failed(error.into()))
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.display().fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        // It was there when it was opened, and may come back: another in its place would be a place for nothing.
        if let Err(source) = fs::metadata(&self.root) {
            return Err(Error::Generic { store: "DirectoryStore", source: source.into() });
        }
        let result = self.files.put_opts(location, payload, options).await;
        let is_there = matches!(result, Err(Error::AlreadyExists { .. }));
        if is_there || (result.is_ok() && !self.is_directory_durable(location)?) {
            self.sync_names(location).await?;
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    /// One after the other, in order: a power cut leaves no later one deleted and an earlier one there.
    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        let this = self.clone();
        let deleted = locations.then(move |location| {
            let this = this.clone();
            async move { this.delete_durably(location?).await }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Location>, offset: &Location) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}
