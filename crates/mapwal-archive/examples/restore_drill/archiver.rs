//! The process that archives, until it is killed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use mapwal::LogReader;
use mapwal_archive::{Archive, Archiver, ArchiverOptions};
use object_store::aws::AmazonS3Builder;

use crate::Arguments;
use crate::s3::BUCKET;

/// Where the archive is in the bucket.
pub(crate) const PREFIX: &str = "logs/drill";
/// How long the writer may take to make a log.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // The endpoint and the keys are in the environment.
    let store = AmazonS3Builder::from_env().with_bucket_name(BUCKET).build()?;
    let options = ArchiverOptions::new().part_interval(Some(Duration::from_millis(50)));
    let options = options.poll_interval(Duration::from_millis(5));
    // SAFETY: the drill's processes change the files by the library only; the directory is on a local file system.
    let reader = unsafe { LogReader::open_timeout(&arguments.directory, PATIENCE) }?;
    let archiver = Archiver::of_reader(reader, Archive::new(Arc::new(store), PREFIX), options)?;
    let runtime = tokio::runtime::Runtime::new()?;
    match runtime.block_on(archiver.run())? {}
}
