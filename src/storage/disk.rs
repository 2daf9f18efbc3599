//! A real directory on a local file system.

use std::fmt::Debug;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::thread::{MembarrierCommand, futex};

#[cfg(target_os = "linux")]
use super::barriers;
use super::file::DiskFile;
use super::file_system;
use super::lock::{self, LockableDirectory};
use super::names;
use super::owner::{self, Pattern};
use super::pages;
use super::place::{self, FileIdentity, Place};
use super::removals::Removals;
use super::trust::Trust;
use super::uses::{Use, Uses};
use super::{Access, Lock, Storage, StorageFile, TEMPORARY_SUFFIX};
use crate::error::{FileKind, SpaceLeft, Unsupported};
use crate::memory::Mapping;

/// A directory, held open so that every file is reached through it.
#[derive(Debug)]
pub struct Disk {
    directory: Arc<OwnedFd>,
    lockable: LockableDirectory,
    uses: Arc<Uses>,
    path: PathBuf,
    absolute_path: PathBuf,
    place: Place,
    trust: Trust,
    removals: Arc<Removals>,
    /// How new files are made.
    pattern: OnceLock<Pattern>,
    /// A file that is listed to none but others.
    hidden: Option<&'static str>,
}

impl Disk {
    /// Opens the directory `path`.
    ///
    /// # Errors
    /// When it does not exist, is not a directory, or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Self::of(directory, path.to_owned(), std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), None)
    }

    fn of(directory: OwnedFd, path: PathBuf, absolute_path: PathBuf, pattern: Option<Pattern>) -> io::Result<Self> {
        let place = Place::of(&absolute_path, &directory)?;
        let trust = Trust::of(&directory)?;
        let directory = Arc::new(directory);
        let removals = Arc::new(Removals::new(Arc::clone(&directory), trust));
        Ok(Self {
            uses: Uses::new(Arc::clone(&directory)),
            lockable: LockableDirectory::new(Arc::clone(&directory)),
            directory,
            path,
            absolute_path,
            place,
            trust,
            removals,
            pattern: pattern.map_or_else(OnceLock::new, OnceLock::from),
            hidden: None,
        })
    }

    /// The same directory, as if file `name` were not there.
    pub(crate) fn beside(self, name: Option<&'static str>) -> Self {
        Self { hidden: name, ..self }
    }

    /// Creates the directory `path` and its missing parents, for files with `mode`, and makes their names durable.
    /// Directories that root creates get the owner of the directory around them.
    ///
    /// # Errors
    /// What the system reports.
    pub fn create(path: &Path, mode: u32) -> io::Result<()> {
        owner::create_directories(path, mode)
    }

    fn pattern(&self) -> Pattern {
        self.pattern.get().copied().unwrap_or(Pattern::PRIVATE)
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Non-blocking, so that a FIFO in the place of a file does not hang the open; without effect on regular files.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&*self.directory, name, flags, self.pattern().file_mode())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Creates a file as the others are, or none.
    fn create_at(&self, name: &str) -> io::Result<File> {
        let pattern = self.pattern();
        let file = self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let given = pattern.give(&file, pattern.file_mode());
        if given.is_err() {
            // Whatever it is that cannot be done, it has been said by then.
            let _ = rustix::fs::unlinkat(&*self.directory, name, AtFlags::empty());
        }
        given.map(|()| file)
    }

    fn file(&self, name: &str, file: File, of: Use) -> Box<dyn StorageFile> {
        let directory = Arc::clone(&self.directory);
        Box::new(DiskFile::new(file, of, directory, name, self.trust, Arc::clone(&self.removals)))
    }

    fn file_for_writing(&self, name: &str, file: File) -> io::Result<Box<dyn StorageFile>> {
        let of = self.uses.begin(file.metadata()?.ino(), false)?;
        Ok(self.file(name, file, of))
    }

    /// On return whatever looks for users of the file sees this one, or it has had its name until then.
    fn open_for_reading(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        loop {
            let file = self.open_at(name, OFlags::RDONLY)?;
            let of = self.uses.begin(file.metadata()?.ino(), true)?;
            if FileIdentity::of(&file) == Some(place::find(&self.directory, name)?) {
                return Ok(self.file(name, file, of));
            }
        }
    }

    /// Makes the directory `name`, unless another process has just made it. Until it is durable it has another name:
    /// without a journal a name may be on the device before what it names, and name something else after a power cut.
    fn make_directory(&self, name: &str) -> io::Result<()> {
        let (pattern, temporary) = (self.pattern(), format!("{name}{TEMPORARY_SUFFIX}"));
        let (at, temporary) = (&*self.directory, &*temporary);
        match rustix::fs::mkdirat(at, temporary, pattern.directory_mode()) {
            Ok(()) => {}
            // It is being made now, or was left unfinished; or a power cut has made something else of it.
            Err(Errno::EXIST) if open_directory(at, temporary).is_ok() => {}
            Err(Errno::EXIST) => {
                self.remove(temporary)?;
                rustix::fs::mkdirat(at, temporary, pattern.directory_mode())?;
            }
            Err(error) => return Err(error.into()),
        }
        let made = rustix::fs::chmodat(at, temporary, pattern.directory_mode(), AtFlags::empty())
            .and_then(|()| open_directory(at, temporary))
            .map_err(io::Error::from)
            .and_then(|made| {
                pattern.give(&made, pattern.directory_mode())?;
                rustix::fs::fsync(&made)?;
                self.rename(temporary, name)
            });
        match made {
            Err(_) if open_directory(at, name).is_ok() => {}
            Err(error) => {
                // As for a file.
                let _ = rustix::fs::unlinkat(at, temporary, AtFlags::REMOVEDIR);
                return Err(error);
            }
            Ok(()) => {}
        }
        self.sync_directory()
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn absolute_path(&self) -> &Path {
        &self.absolute_path
    }

    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()> {
        for entry in Dir::read_from(&*self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_hidden = self.hidden.is_some_and(|hidden| name.to_bytes() == hidden.as_bytes());
            if name.to_bytes() == b"." || name.to_bytes() == b".." || is_hidden {
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

    fn create_like(&self, like: &[String], mode: u32) -> io::Result<()> {
        let pattern = Pattern::of(&self.directory, like, mode)?;
        self.pattern.get_or_init(|| pattern);
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        let locked = lock::take(&self.lockable, || match self.open_at(name, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_at(name),
            opened => opened,
        })?;
        match locked {
            Some(held) => {
                self.place.note_lock(name, held.file())?;
                Ok(Lock::Held(Box::new(held)))
            }
            None => Ok(Lock::Busy(self.open_at(name, OFlags::RDONLY).ok().and_then(lock::signature))),
        }
    }

    fn is_locked(&self) -> io::Result<Option<bool>> {
        self.lockable.is_held()
    }

    fn check_place(&self) -> io::Result<()> {
        self.place.check(&self.directory)
    }

    fn find(&self, name: &str) -> io::Result<Option<FileIdentity>> {
        place::find(&self.directory, name).map(Some)
    }

    fn unsupported(&self) -> io::Result<Option<(&'static str, Unsupported)>> {
        file_system::unsupported(&self.directory)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.file_for_writing(name, self.create_at(name)?)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        match access {
            Access::Read => self.open_for_reading(name),
            Access::Write => self.file_for_writing(name, self.open_at(name, OFlags::RDWR)?),
        }
    }

    fn open_as_created(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let (file, mode) = (self.open_at(name, OFlags::RDWR)?, self.pattern().file_mode());
        // By another name it is somebody else's, to whom its owner and its mode belong.
        if file.metadata()?.nlink() != 1 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.pattern().give(&file, mode)?;
        if Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != mode {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.file_for_writing(name, file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        names::rename(&self.directory, from, to)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.removals.durably(to, || Ok(rustix::fs::renameat(&*self.directory, from, &*self.directory, to)?))
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        names::exchange(&self.directory, one, other)
    }

    fn subdirectory(&self, name: &str, create: bool) -> io::Result<Arc<dyn Storage>> {
        let directory = match open_directory(&self.directory, name) {
            Err(Errno::NOENT) if create => {
                self.make_directory(name)?;
                open_directory(&self.directory, name)
            }
            opened => opened,
        }?;
        let (path, absolute_path) = (self.path.join(name), self.absolute_path.join(name));
        Ok(Arc::new(Self::of(directory, path, absolute_path, self.pattern.get().copied())?))
    }

    fn lock_directory(&self) -> io::Result<Option<Box<dyn Debug>>> {
        Ok(lock::take_directory(&self.directory)?.map(|held| Box::new(held) as Box<dyn Debug>))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.removals.durably(name, || Ok(rustix::fs::unlinkat(&*self.directory, name, AtFlags::empty())?))
    }

    fn remove_unfinished(&self, name: &str) -> io::Result<()> {
        let unlink = |flags| rustix::fs::unlinkat(&*self.directory, name, flags);
        self.removals.durably(name, || match unlink(AtFlags::empty()) {
            // Without a journal the loss of the power may leave a new file's name for the inode of a directory that was there before.
            Err(Errno::ISDIR) => Ok(unlink(AtFlags::REMOVEDIR)?),
            done => Ok(done?),
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.removals.sync()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        // An error that was not reported before is reported once here, of whichever file; a file's own sync answers for
        // the file.
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&*self.directory).or_else(|_| rustix::fs::syncfs(&*self.directory))?;
        Ok(())
    }

    fn load(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        pages::load(mapping, range)
    }

    fn release(&self, mapping: &Mapping, range: Range<usize>) {
        // A tmpfs writes nothing out.
        #[cfg(target_os = "linux")]
        if self.trust != Trust::Tmpfs {
            mapping.release_pages(range);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (mapping, range);
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        pages::populate(mapping, range)
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
        barriers::register(then);
    }

    #[cfg(target_os = "linux")]
    fn barrier(&self) {
        // Without it a wake-up may come as late as the wait's time-out.
        let _ = rustix::thread::membarrier(MembarrierCommand::GlobalExpedited);
    }

    fn space_left(&self) -> Option<SpaceLeft> {
        let stat = rustix::fs::fstatvfs(&*self.directory).ok()?;
        // Where they are made as they are needed, their number is 0 in all.
        let inodes = (stat.f_files > 0).then_some(stat.f_favail);
        Some(SpaceLeft::new(stat.f_bavail.saturating_mul(stat.f_frsize), inodes))
    }

    fn random(&self) -> u64 {
        // Each `RandomState` has keys of its own from the system's random numbers.
        RandomState::new().build_hasher().finish()
    }
}

fn open_directory(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn file_kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}
