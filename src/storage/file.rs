//! One open file on a local file system.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, OnceLock};

use memmap2::MmapOptions;
#[cfg(target_os = "linux")]
use rustix::fs::FallocateFlags;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
#[cfg(target_os = "linux")]
use rustix::io::{Errno, retry_on_intr};

use super::removals::Removals;
#[cfg(target_os = "linux")]
use super::reserved;
use super::trust::Trust;
use super::uses::Use;
use super::{Access, DeviceBuffer, StorageFile, Users};
use crate::memory::{self, Mapping};

/// Allocates blocks that have been written, with zeros, where the device can do that without being sent them.
#[cfg(target_os = "linux")]
const WRITE_ZEROES: FallocateFlags = FallocateFlags::from_bits_retain(0x80);

/// An open file of a [`Disk`](super::Disk).
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    /// Shared with its mappings.
    of: Arc<Use>,
    directory: Arc<OwnedFd>,
    name: String,
    trust: Trust,
    /// Of its directory.
    removals: Arc<Removals>,
    /// The file once more, for reads that bypass the page cache; `None` where the file system has no such reads.
    direct: OnceLock<Option<File>>,
}

impl DiskFile {
    /// `file`, which has been opened under `name` in `directory`.
    pub(super) fn new(
        file: File,
        of: Use,
        directory: Arc<OwnedFd>,
        name: &str,
        trust: Trust,
        removals: Arc<Removals>,
    ) -> Self {
        Self { file, of: Arc::new(of), directory, name: name.to_owned(), trust, removals, direct: OnceLock::new() }
    }

    #[cfg(target_os = "linux")]
    fn fallocate(&self, mode: FallocateFlags, range: Range<u64>) -> rustix::io::Result<()> {
        // A signal ends the call where the file system takes long.
        retry_on_intr(|| rustix::fs::fallocate(&self.file, mode, range.start, range.end - range.start))
    }

    #[cfg(target_os = "linux")]
    fn direct(&self) -> Option<&File> {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&*self.directory, &*self.name, flags, Mode::empty()).ok().map(File::from)
        };
        self.direct.get_or_init(open).as_ref()
    }

    #[cfg(not(target_os = "linux"))]
    fn direct(&self) -> Option<&File> {
        self.direct.get_or_init(|| None).as_ref()
    }
}

impl StorageFile for DiskFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }

    #[cfg(target_os = "linux")]
    fn is_reserved(&self, range: Range<u64>) -> io::Result<bool> {
        reserved::is_reserved(&self.file, range)
    }

    #[cfg(target_os = "linux")]
    fn is_own(&self, range: Range<u64>) -> io::Result<bool> {
        reserved::is_own(&self.file, range)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            reserved::overwrite_in_place(&self.file);
            self.removals.settle_earlier()?;
            match self.fallocate(WRITE_ZEROES, 0..len) {
                Ok(()) => return Ok(true),
                // A kernel before 6.17, a file system without it, or a device that would have to be sent the zeros.
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            if !self.trust.reads_holes() {
                match self.fallocate(FallocateFlags::empty(), 0..len) {
                    // No such call on this file system: what is written finds out whether there is room.
                    Err(Errno::OPNOTSUPP) => {}
                    other => return Ok(other.map(|()| false)?),
                }
            }
        }
        self.file.set_len(len)?;
        Ok(false)
    }

    #[cfg(target_os = "linux")]
    fn give_back(&self, range: Range<u64>) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(self.fallocate(hole, range)?)
    }

    #[cfg(target_os = "linux")]
    fn start_writing(&self, range: Range<u64>) -> io::Result<()> {
        memory::start_writing(&self.file, range)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(&self.file, bytes, offset)
    }

    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize> {
        buffer.touch();
        if let Some(direct) = self.direct() {
            match read_full(direct, buffer.bytes_mut(), offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        self.drop_cache(offset..offset + buffer.bytes().len() as u64)?;
        read_full(&self.file, buffer.bytes_mut(), offset)
    }

    fn reads_device(&self) -> bool {
        let is_direct = self.trust == Trust::Tmpfs || self.direct().is_some();
        is_direct && self.trust.reads_device(&self.file)
    }

    fn sync(&self) -> io::Result<()> {
        // `sync_all` is F_FULLFSYNC on macOS, where fsync alone does not reach the device.
        self.file.sync_all()?;
        self.trust.check_after_sync(&self.file)
    }

    fn drop_cache(&self, range: Range<u64>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(len) = std::num::NonZeroU64::new(range.end - range.start) {
            rustix::fs::fadvise(&self.file, range.start, Some(len), rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    fn touch(&self) -> io::Result<()> {
        // Both: that takes the right to write only, where one of them takes the owner.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Ok(rustix::fs::futimens(&self.file, &times)?)
    }

    fn users(&self) -> io::Result<Users> {
        let inode = self.file.metadata()?;
        let uses = self.of.uses();
        Ok(Users {
            is_linked: inode.nlink() != 1,
            // This handle is one, and it has no mapping.
            here: uses.count(inode.ino()) > 1 || Arc::strong_count(&self.of) > 1,
            elsewhere: uses.is_read_elsewhere(inode.ino())?,
        })
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut options = MmapOptions::new();
        options.len(len);
        let raw = match access {
            Access::Read => options.map_raw_read_only(&self.file)?,
            Access::Write => options.map_raw(&self.file)?,
        };
        Ok(Mapping::from_file(raw, self.file.metadata()?.uid()).keeping(Arc::clone(&self.of) as _))
    }

    fn sync_mapping(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        let raw = mapping.as_file().expect("a file of the disk maps as a file");
        raw.flush_range(range.start, range.len())?;
        // msync does not reach the device on macOS.
        if cfg!(target_os = "macos") {
            self.file.sync_all()?;
        }
        self.trust.check_after_sync(&self.file)
    }
}

fn read_full(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut total = 0;
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => break,
            Ok(read) => {
                total += read;
                offset += read as u64;
                bytes = &mut bytes[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}
