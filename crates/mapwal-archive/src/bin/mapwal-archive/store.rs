//! The object store that a URL names.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use mapwal_archive::DirectoryStore;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::failure::{Failure, Result, new_epoch};

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

/// Why there is no store.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// The directory may be there later.
    Passing(Failure),
    /// The URL, or the environment, is wrong.
    Final(Failure),
}

impl From<NotOpened> for Failure {
    fn from(error: NotOpened) -> Self {
        let (NotOpened::Passing(failure) | NotOpened::Final(failure)) = error;
        failure
    }
}

impl StoreUrl {
    /// The store, set up by environment variables, and the place of the archive in it.
    pub(crate) fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path), NotOpened> {
        let told = |what: &str, why: &dyn std::fmt::Display| Failure::new(what, why, self.to_string());
        match self.0.scheme() {
            "file" => {
                let path = self.path().map_err(NotOpened::Final)?;
                let failed = |error| NotOpened::Passing(Failure::of_io("cannot open", &error, &path));
                let store = DirectoryStore::open(&path).map_err(failed)?;
                Ok((Arc::new(store), Path::default()))
            }
            "memory" => Err(NotOpened::Final(told("no place for an archive", &"it would end with this process"))),
            _ => {
                let parsed = object_store::parse_url_opts(&self.0, settings());
                let (store, prefix) = parsed.map_err(|error| NotOpened::Final(told("cannot use the store", &error)))?;
                Ok((store.into(), prefix))
            }
        }
    }

    /// An error if no store can be opened by it, whatever there may be later.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.scheme() == "file" {
            return self.path().map(drop);
        }
        Ok(self.open().map(drop)?)
    }

    /// As [`Self::open`], of an archive that has epoch `epoch` of the log. A directory that is not there, or is empty, is not made: the disk of
    /// the archive may not be mounted yet.
    pub(crate) fn open_begun(&self, epoch: u64) -> Result<(Arc<dyn ObjectStore>, Path), NotOpened> {
        if self.0.scheme() == "file" {
            let path = self.path().map_err(NotOpened::Final)?;
            let is_of_archive =
                |entry: io::Result<std::fs::DirEntry>| entry.is_ok_and(|it| it.file_name() != "lost+found");
            let why = match std::fs::read_dir(&path).map(|mut entries| entries.any(is_of_archive)) {
                Ok(false) => "the directory is empty",
                Err(error) if error.kind() == io::ErrorKind::NotFound => "there is no such directory",
                _ => return self.open(),
            };
            let why = format!(
                "{why}, and the log was archived there in epoch {epoch}; is its disk mounted, and is it the right URL? It is waited for; only \
                 if the archive is gone for good, {}",
                new_epoch(epoch)
            );
            return Err(NotOpened::Passing(Failure::new("no archive", why, self.to_string())));
        }
        self.open()
    }

    /// As [`Self::open`], of an archive that is there: no directory is made.
    pub(crate) fn open_existing(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        if self.0.scheme() == "file" && !self.path()?.is_dir() {
            return Err(Failure::new("no archive", "there is no such directory", self.to_string()));
        }
        Ok(self.open()?)
    }

    /// An error if it is a directory in the one at `log`, or that one: an archive there is lost with the log, and its files are not the
    /// log's.
    pub(crate) fn check_outside(&self, log: &std::path::Path) -> Result<()> {
        if self.0.scheme() == "file" && resolved(&self.path()?).starts_with(resolved(log)) {
            let why = "the archive would be in the log's directory, and lost with it";
            return Err(Failure::new("no place for an archive", why, self.to_string()));
        }
        Ok(())
    }

    /// An error if `path` is in the directory that the archive is in, or that one: nothing but an archive belongs there.
    pub(crate) fn check_not_in(&self, path: &std::path::Path, what: &str) -> Result<()> {
        if self.0.scheme() == "file" && resolved(path).starts_with(resolved(&self.path()?)) {
            let why = format!("{what} would be in the directory of the archive");
            return Err(Failure::new("refused", why, path));
        }
        Ok(())
    }

    fn path(&self) -> Result<PathBuf> {
        let why = "this names another host; file:///path does not";
        self.0.to_file_path().map_err(|()| Failure::new("cannot open", why, self.to_string()))
    }
}

/// The path without symbolic links, as far as it is there.
fn resolved(path: &std::path::Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(std::fs::canonicalize(there).ok()?.join(rest))
    });
    real.unwrap_or(path)
}

/// The variables that are about stores: others, such as `TOKEN` or `REGION`, are read by these names as well, and mean something else.
fn settings() -> impl Iterator<Item = (String, String)> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| {
        let is_of_store = |prefix: &&str| name.starts_with(prefix);
        ["AWS_", "GOOGLE_", "AZURE_"].iter().any(is_of_store)
            || ["SERVICE_ACCOUNT", "IDENTITY_ENDPOINT"].contains(&name.as_str())
    })
}
