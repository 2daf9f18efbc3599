//! The object store that a URL names.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use mapwal_archive::DirectoryStore;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::failure::{Failure, Result};

/// A URL of an archive, as it was given.
#[derive(Debug, Clone)]
pub(crate) struct StoreUrl(Url);

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let absolute = |_| format!("{text:?} is no URL; that of a directory is file:///path/to/it");
        Url::parse(text).map(Self).map_err(absolute)
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl StoreUrl {
    /// The store, set up by environment variables, and the place of the archive in it.
    pub(crate) fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        if self.0.scheme() == "file" {
            return Ok((Arc::new(self.directory()?), Path::default()));
        }
        if self.0.scheme() == "memory" {
            return Err(Failure::new("no place for an archive", "it would end with this process", self));
        }
        let (store, prefix) = object_store::parse_url_opts(&self.0, std::env::vars())
            .map_err(|error| Failure::new("cannot use the store", error, self))?;
        Ok((store.into(), prefix))
    }

    /// As [`Self::open`], of an archive that is there: no directory is made.
    pub(crate) fn open_existing(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        if self.0.scheme() == "file" && !self.path()?.is_dir() {
            return Err(Failure::new("no archive", "there is no such directory", self));
        }
        self.open()
    }

    fn directory(&self) -> Result<DirectoryStore> {
        let path = self.path()?;
        DirectoryStore::open(&path).map_err(|error| Failure::of_io("cannot open", &error, path.display()))
    }

    fn path(&self) -> Result<PathBuf> {
        let not_here = |()| Failure::new("cannot open", "this names another host; file:///path does not", self);
        self.0.to_file_path().map_err(not_here)
    }
}
