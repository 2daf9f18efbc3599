//! A real directory on a local file system.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use memmap2::{Advice, MmapOptions};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
#[cfg(target_os = "linux")]
use rustix::thread::{MembarrierCommand, futex};

use super::{Access, DeviceBuffer, Lock, LockGuard, Storage, StorageFile};
use crate::error::FileKind;
use crate::memory::Mapping;

/// What files are filled with, a page at a time.
const ZEROS: [u8; 4096] = [0; 4096];

/// A directory, held open so that every file is reached through it.
#[derive(Debug)]
pub struct Disk {
    directory: Arc<OwnedFd>,
    path: PathBuf,
}

impl Disk {
    /// Opens the directory `path`.
    ///
    /// # Errors
    /// When it does not exist, is not a directory, or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { directory: Arc::new(directory), path: path.to_owned() })
    }

    /// Creates the directory `path` and its missing parents, for the owner only, and makes their names durable.
    ///
    /// # Errors
    /// What the system reports.
    pub fn create(path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for created in missing {
            let parent = created.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Non-blocking, so that a FIFO in the place of a file does not hang the open; without effect on regular files.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&*self.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        let file = File::from(fd);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    fn file(&self, name: &str, file: File) -> Box<dyn StorageFile> {
        Box::new(DiskFile {
            file,
            directory: Arc::clone(&self.directory),
            name: name.to_owned(),
            direct: OnceLock::new(),
        })
    }
}

/// An open lock file. It is only ever closed: an explicit unlock in a forked child would release the parent's lock.
#[derive(Debug)]
struct LockFile(File);

impl LockGuard for LockFile {
    fn sign(&self) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()> {
        for entry in Dir::read_from(&*self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let mut file_type = entry.file_type();
            if file_type == FileType::Unknown {
                let stat = rustix::fs::statat(&*self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                file_type = FileType::from_raw_mode(stat.st_mode);
            }
            visit(name.to_bytes(), file_kind(file_type));
        }
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        let mut file = self.open_at(name, OFlags::RDWR | OFlags::CREATE)?;
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut text = String::new();
                // The number is a courtesy to whoever reads the message: without it the lock is as busy as before.
                let read = (&mut file).take(32).read_to_string(&mut text);
                return Ok(Lock::Busy(read.ok().and_then(|_| text.trim().parse().ok())));
            }
            Err(error) => return Err(error),
        }
        Ok(Lock::Held(Box::new(LockFile(file))))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        Ok(self.file(name, self.open_at(name, flags)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&*self.directory, from, &*self.directory, to, flags) {
                // A file system without the flag: the process lock keeps other writers out, so looking first will do.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                other => return Ok(other?),
            }
        }
        match rustix::fs::statat(&*self.directory, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(rustix::io::Errno::NOENT) => Ok(rustix::fs::renameat(&*self.directory, from, &*self.directory, to)?),
            Err(error) => Err(error.into()),
        }
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.directory, from, &*self.directory, to)?)
    }

    fn subdirectory(&self, name: &str, create: bool) -> io::Result<Arc<dyn Storage>> {
        if create {
            match rustix::fs::mkdirat(&*self.directory, name, Mode::RWXU) {
                Ok(()) => self.sync_directory()?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&*self.directory, name, flags, Mode::empty())?;
        Ok(Arc::new(Self { directory: Arc::new(directory), path: self.path.join(name) }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.directory, name, AtFlags::empty())?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&*self.directory)?)
    }

    fn load(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        let Some(raw) = mapping.as_file() else { return Ok(()) };
        #[cfg(target_os = "linux")]
        match raw.advise_range(Advice::PopulateRead, range.start, range.len()) {
            // A kernel before 5.14: the pages come in one by one as they are read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(()),
            other => other,
        }
        #[cfg(not(target_os = "linux"))]
        raw.advise_range(Advice::WillNeed, range.start, range.len())
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        let Some(raw) = mapping.as_file() else { return Ok(()) };
        #[cfg(target_os = "linux")]
        raw.advise_range(Advice::PopulateWrite, range.start, range.len())?;
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn wait(&self, word: &AtomicU32, seen: u32, timeout: Duration) {
        let timeout = futex::Timespec::try_from(timeout).ok();
        // Not private: the word may be in a page that processes share. Whatever ends the wait, the caller looks again.
        let _ = futex::wait(word, futex::Flags::empty(), seen, timeout.as_ref());
    }

    #[cfg(target_os = "linux")]
    fn wake(&self, word: &AtomicU32) {
        // It fails for a bad address only.
        let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
    }

    #[cfg(target_os = "linux")]
    fn register_for_barriers(&self, then: Box<dyn FnOnce() + Send>) {
        static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
        if IS_REGISTERED.load(Ordering::Relaxed) {
            return;
        }
        let register = move || {
            // In a process of several threads it waits for an RCU grace period, which may be tens of milliseconds.
            let registered = rustix::thread::membarrier(MembarrierCommand::RegisterGlobalExpedited);
            IS_REGISTERED.store(registered.is_ok(), Ordering::Relaxed);
            then();
        };
        // Without it a wake-up may come as late as the wait's time-out.
        let _ = std::thread::Builder::new().name("mapwal-barrier".into()).spawn(register);
    }

    #[cfg(target_os = "linux")]
    fn barrier(&self) {
        // Without it a wake-up may come as late as the wait's time-out.
        let _ = rustix::thread::membarrier(MembarrierCommand::GlobalExpedited);
    }

    fn random(&self) -> u64 {
        // Each `RandomState` has keys of its own from the system's random numbers.
        RandomState::new().build_hasher().finish()
    }
}

fn file_kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
    directory: Arc<OwnedFd>,
    name: String,
    /// The file once more, for reads that bypass the page cache; `None` where the file system has no such reads.
    direct: OnceLock<Option<File>>,
}

impl DiskFile {
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

    fn allocate(&self, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            // No such call on this file system: writing zeros finds out whether there is room.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => return Ok(other?),
        }
        for offset in (0..len).step_by(ZEROS.len()) {
            self.file.write_all_at(&ZEROS[..ZEROS.len().min((len - offset) as usize)], offset)?;
        }
        Ok(())
    }

    fn start_writing(&self, range: Range<u64>) -> io::Result<()> {
        // For its side effect: dirty pages are not dropped but begin to be written. What does only that, sync_file_range,
        // has no safe interface.
        self.drop_cache(range)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(&self.file, bytes, offset)
    }

    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize> {
        if let Some(direct) = self.direct() {
            match read_full(direct, buffer.bytes_mut(), offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        self.drop_cache(offset..offset + buffer.bytes().len() as u64)?;
        read_full(&self.file, buffer.bytes_mut(), offset)
    }

    fn sync(&self) -> io::Result<()> {
        // `sync_all` is F_FULLFSYNC on macOS, where fsync alone does not reach the device.
        self.file.sync_all()
    }

    fn drop_cache(&self, range: Range<u64>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(len) = std::num::NonZeroU64::new(range.end - range.start) {
            rustix::fs::fadvise(&self.file, range.start, Some(len), rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut options = MmapOptions::new();
        options.len(len);
        let raw = match access {
            Access::Read => options.map_raw_read_only(&self.file)?,
            Access::Write => options.map_raw(&self.file)?,
        };
        #[cfg(target_os = "linux")]
        if access == Access::Write {
            // A forked child that appended would break the rule that one process writes.
            raw.advise(Advice::DontFork)?;
        }
        Ok(Mapping::from_file(raw))
    }

    fn sync_mapping(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        let raw = mapping.as_file().expect("a file of the disk maps as a file");
        raw.flush_range(range.start, range.len())?;
        // msync does not reach the device on macOS.
        if cfg!(target_os = "macos") { self.file.sync_all() } else { Ok(()) }
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
