//! What the device takes: the bytes of each sync written to a file at once, and `fdatasync`.

use std::path::Path;

use anyhow::Result;

use crate::bare::BareFile;
use crate::peer;
use crate::stream::{MIB, noise};

/// As much as is measured at most.
const REUSED_BYTES: u64 = 128 * MIB as u64;

pub(crate) struct Stream<const IS_REUSED: bool>(BareFile);

/// A file that grows.
pub(crate) type Grow = Stream<false>;
/// A file that was written before, from end to end and again.
pub(crate) type Reuse = Stream<true>;

impl<const IS_REUSED: bool> peer::Stream for Stream<IS_REUSED> {
    type Mark = ();

    fn open(directory: &Path, sync_bytes: usize) -> Result<Self> {
        let bytes = noise(sync_bytes);
        Ok(Self(if IS_REUSED {
            BareFile::reused(directory, bytes, REUSED_BYTES)
        } else {
            BareFile::growing(directory, bytes)
        }))
    }

    /// Writes as many bytes of its own.
    fn append(&mut self, _records: &[&[u8]]) -> Result<()> {
        self.0.write();
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.0.sync();
        Ok(())
    }

    /// It holds nothing that anybody reads.
    fn trim(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}
