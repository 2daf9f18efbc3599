//! The stores: a directory on a disk or on tmpfs, or an S3 server in a process of its own.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use mapwal_archive::DirectoryStore;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use tempfile::TempDir;

use crate::s3::{BUCKET, Server};

/// The argument by which this program is the server.
const SERVE: &str = "--serve";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Disk,
    Tmpfs,
    S3,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Disk, Self::Tmpfs, Self::S3];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Tmpfs => "tmpfs",
            Self::S3 => "s3",
        })
    }
}

/// A store that is gone, with all that is in it, when this value is dropped.
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    _server: Option<Child>,
    _directory: TempDir,
}

impl Place {
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = if kind == Kind::Disk { on_disk() } else { on_tmpfs() };
        if kind != Kind::S3 {
            let store = Arc::new(DirectoryStore::open(directory.path()).expect("it works"));
            return Self { store, _server: None, _directory: directory };
        }
        let mut command = Command::new(std::env::current_exe().expect("it works"));
        command.arg(SERVE).arg(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("it works");
        let mut lines = BufReader::new(server.stdout.take().expect("it works")).lines();
        let mut setting = || lines.next().expect("it works").expect("it works");
        let builder = AmazonS3Builder::new().with_endpoint(setting()).with_allow_http(true).with_bucket_name(BUCKET);
        let builder = builder.with_region(setting()).with_access_key_id(setting()).with_secret_access_key(setting());
        Self { store: Arc::new(builder.build().expect("it works")), _server: Some(server), _directory: directory }
    }

    /// Removes what a round has left.
    pub(crate) async fn clear(&self, prefix: &Path) {
        let keys = self.store.list(Some(prefix)).map_ok(|meta| meta.location).boxed();
        self.store.delete_stream(keys).try_collect::<Vec<_>>().await.expect("it works");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &mut self._server {
            // It ends with its input.
            drop(server.stdin.take());
            let _ = server.wait();
        }
    }
}

/// Whether this process was started to be the server; until it is told to end.
pub(crate) fn serve() -> bool {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(SERVE) {
        return false;
    }
    let server = Server::start(arguments.next().expect("it works").as_ref()).expect("it works");
    let settings = server.environment();
    for name in ["AWS_ENDPOINT", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        println!("{}", settings.iter().find(|setting| setting.0 == name).expect("it works").1);
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    true
}

pub(crate) fn on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("it works")
}

pub(crate) fn on_tmpfs() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("it works")
}
