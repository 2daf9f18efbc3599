//! What the log asks of an open file.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;

use super::{Access, DeviceBuffer, Users};
use crate::memory::Mapping;

/// One open file.
pub trait StorageFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// When the system reports one.
    fn len_bytes(&self) -> io::Result<u64>;

    /// The file as the standard library knows it, if it is one.
    fn as_file(&self) -> Option<&File>;

    /// Gives the file, which is empty, or has that length and holes, a length of `len` bytes. What it has not held before reads as zeros, and
    /// what it has held may. True if all its blocks have been written by that; else what is written takes its room then.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is no room, or what the system reports.
    fn allocate(&self, len: u64) -> io::Result<bool>;

    /// Whether bytes can be stored in `range` of the file without room that the file system may not have: nothing there is
    /// left out or shared with another file.
    ///
    /// # Errors
    /// What the system reports.
    fn is_reserved(&self, range: Range<u64>) -> io::Result<bool> {
        let _ = range;
        Ok(true)
    }

    /// Whether bytes can be stored in `range` of the file once zeros have been written there: what blocks it has are shared with no
    /// other file, and written over where they are.
    ///
    /// # Errors
    /// What the system reports.
    fn is_own(&self, range: Range<u64>) -> io::Result<bool> {
        let _ = range;
        Ok(true)
    }

    /// Gives the blocks of `range` back to the file system: what the file has there reads as zeros from now on, and its length
    /// stays. The bounds are multiples of 4096.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where files have no holes, or what the system reports.
    fn give_back(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system reports.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads up to `bytes.len()` bytes at `offset`, fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`Self::read_at`], but what the device holds, not the page cache, as far as [`Self::reads_device`] says so.
    /// `offset` is a multiple of 4096.
    ///
    /// # Errors
    /// What the system reports.
    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize>;

    /// Whether what [`Self::read_device_at`] shows is known to be the device's. If not, it may be the page cache's, which
    /// after a failed sync may hold bytes that the device never got; what is written once more and synced is on it.
    fn reads_device(&self) -> bool {
        true
    }

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// What the system reports; the bytes must then be taken for lost.
    fn sync(&self) -> io::Result<()>;

    /// Drops what the page cache holds of `range` of the file, as far as it is not mapped: a hint.
    ///
    /// # Errors
    /// What the system reports.
    fn drop_cache(&self, range: Range<u64>) -> io::Result<()>;

    /// Has the system begin to write `range` of the file to the device, where it can, without waiting for it.
    ///
    /// # Errors
    /// What the system reports. That the bytes cannot be written is told here or by the next sync, and need not be told by both.
    fn start_writing(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }

    /// Has the file say that it was changed just now: stores to pages that are to be written anyway do not.
    ///
    /// # Errors
    /// What the system reports.
    fn touch(&self) -> io::Result<()> {
        Ok(())
    }

    /// The users of the file, which has no name under which anything looks for it. One that is not known of now cannot come later.
    ///
    /// # Errors
    /// What the system reports: then it may be in use.
    fn users(&self) -> io::Result<Users> {
        Ok(Users { is_linked: true, here: true, elsewhere: true })
    }

    /// Maps the first `len` bytes, which the file has.
    ///
    /// # Errors
    /// What the system reports.
    fn map(&self, len: u64, access: Access) -> io::Result<Mapping>;

    /// Makes `range` of this file's mapping durable.
    ///
    /// # Errors
    /// What the system reports; the bytes must then be taken for lost.
    fn sync_mapping(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()>;
}
