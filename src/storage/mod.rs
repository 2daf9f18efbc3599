//! The seam between the log and the system: every system call on files, directories and locks goes
//! through these two traits, mapping included.
//!
//! [`Disk`] is the real thing. Tests put a simulated or a failing disk in its place.

#[cfg(target_os = "linux")]
mod barriers;
mod buffer;
mod disk;
mod file;
mod file_system;
mod full;
mod lock;
mod names;
mod open_file;
mod owner;
mod pages;
mod place;
mod removals;
#[cfg(target_os = "linux")]
mod reserved;
mod thread;
mod trust;
mod uses;
pub(crate) mod workers;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use buffer::DeviceBuffer;
pub use disk::Disk;
pub(crate) use full::{failed, is_full};
pub use open_file::StorageFile;
pub(crate) use place::Displaced;
pub use place::FileIdentity;
pub(crate) use thread::{spawn, survive};
#[cfg(feature = "testing")]
pub use workers::task_of_this_thread;

use crate::error::{FileKind, SpaceLeft, Unsupported};
use crate::memory::Mapping;

/// What ends the names that do not count.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Whether a file is opened or mapped for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// How, and when, the next segment is prepared.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// A thread, as soon as the one before has been taken.
    Background,
    /// The thread that has taken the one before, right then.
    Ahead,
    /// The thread that needs it.
    OnDemand,
}

/// The users of a file besides the handle that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// It has another name.
    pub is_linked: bool,
    /// This process has it open or mapped by another handle.
    pub here: bool,
    /// Another process, or this one by another handle of the directory, has it open or mapped for reading.
    pub elsewhere: bool,
}

/// The outcome of [`Storage::lock`].
#[derive(Debug)]
pub enum Lock {
    /// Held until this value is dropped.
    Held(Box<dyn LockGuard>),
    /// It is held: by the process of this number, where that is known.
    Busy(Option<u32>),
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Debug + Send + Sync {
    /// Leaves this process's number for processes that find the lock busy.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_pid(&self) -> io::Result<()>;
}

/// One directory.
pub trait Storage: Debug + Send + Sync {
    /// Its path as it was given, for messages.
    fn path(&self) -> &Path;

    /// The same, for calls by path: it leads there from any working directory.
    fn absolute_path(&self) -> &Path {
        self.path()
    }

    /// Shows each entry's name and kind to `visit`, in no particular order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()>;

    /// From now on, files are created as the first of `like` that is there: for its owner, its group, and with its mode. If
    /// none is there, with `mode`.
    ///
    /// # Errors
    /// What the system reports.
    fn create_like(&self, like: &[String], mode: u32) -> io::Result<()> {
        let _ = (like, mode);
        Ok(())
    }

    /// The name of the file system, and why no log can be written there; `None` if one can.
    ///
    /// # Errors
    /// What the system reports.
    fn unsupported(&self) -> io::Result<Option<(&'static str, Unsupported)>> {
        Ok(None)
    }

    /// An error if the path of the directory, or the name of the lock file that this value holds, leads elsewhere by now.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], by the path concerned, or what the system reports.
    fn check_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// Which file `name` leads to; `None` where they cannot be told apart.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it leads nowhere, or what the system reports.
    fn find(&self, name: &str) -> io::Result<Option<FileIdentity>> {
        let _ = name;
        Ok(None)
    }

    /// Takes the exclusive lock on file `name`, which is created if it is missing. Does not wait.
    ///
    /// # Errors
    /// When the file cannot be opened.
    fn lock(&self, name: &str) -> io::Result<Lock>;

    /// Whether a lock that [`Self::lock`] gives is held, without taking it; `None` where that cannot be asked.
    ///
    /// # Errors
    /// What the system reports.
    fn is_locked(&self) -> io::Result<Option<bool>> {
        Ok(None)
    }

    /// Creates file `name`, which must not exist.
    ///
    /// # Errors
    /// When it exists or cannot be created.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens the regular file `name`; follows no symbolic link.
    ///
    /// # Errors
    /// When it does not exist, is not a regular file or cannot be opened.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>>;

    /// Opens the regular file `name` for writing, if it is as [`Self::create`] makes one, or can be made so: its owner, its group, and its mode.
    ///
    /// # Errors
    /// As [`Self::open`], or when it cannot be made so.
    fn open_as_created(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.open(name, Access::Write)
    }

    /// Gives file `from` the name `to`, which must be free.
    ///
    /// # Errors
    /// When `to` exists or the system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// As [`Self::rename`], but replaces `to` if it is there: at any moment there is one file or the other.
    ///
    /// # Errors
    /// When the system refuses.
    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives each of two files the name of the other: at any moment each name leads to one of them.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when one is not there, [`io::ErrorKind::Unsupported`] where the file system cannot do that, or what the system reports.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The directory `name` in this one, which is created if it is missing and `create` says so.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is missing, [`io::ErrorKind::Unsupported`] when there can be none, or what the
    /// system reports.
    fn subdirectory(&self, name: &str, create: bool) -> io::Result<Arc<dyn Storage>> {
        let _ = (name, create);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Locks this directory against other calls of this, also in other processes, until the value is dropped; `None` if
    /// it is locked. Does not wait.
    ///
    /// # Errors
    /// What the system reports.
    fn lock_directory(&self) -> io::Result<Option<Box<dyn Debug>>> {
        Ok(Some(Box::new(())))
    }

    /// Removes the name of a file. Mappings of it stay valid.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// As [`Self::remove`], of what should be an unfinished file, and may be an empty directory.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove_unfinished(&self, name: &str) -> io::Result<()> {
        self.remove(name)
    }

    /// Makes all changes of names durable.
    ///
    /// # Errors
    /// When the system reports one.
    fn sync_directory(&self) -> io::Result<()>;

    /// Makes durable all that the file system has been given, also what it keeps of files beside their bytes. After an error of
    /// writing that is more than the syncs of the files that were written again.
    ///
    /// # Errors
    /// When the system reports one.
    fn sync_file_system(&self) -> io::Result<()>;

    /// Reads `range` of a file's mapping into memory, so that a bad sector is an error here and not a signal later.
    ///
    /// # Errors
    /// When the device cannot read it.
    fn load(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()>;

    /// Makes `range` of a file's writable mapping ready for stores, so that they do not fault one by one.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when a store there would be a signal; any other is one of a hint.
    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()>;

    /// Hints that `range` of a file's mapping is about to be synced: its pages need not stay mapped.
    fn release(&self, _mapping: &Mapping, _range: Range<usize>) {}

    /// Waits for a call of [`Self::wake`] on `word`, for no longer than `timeout`, and not at all if it does not hold
    /// `seen` any more. May return early. The word may be shared with other processes.
    fn wait(&self, word: &AtomicU32, seen: u32, timeout: Duration) {
        // Where the system offers nothing better: looking again, less and less often.
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_micros(50);
        while word.load(Ordering::Acquire) == seen && Instant::now() < deadline {
            std::thread::sleep(pause.min(timeout));
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Ends the waits on `word`.
    fn wake(&self, word: &AtomicU32) {
        let _ = word;
    }

    /// Puts this process among those that [`Self::barrier`] reaches, and calls `then` unless it has been before: in a thread
    /// of its own, since the system takes its time.
    fn register_for_barriers(&self, then: Box<dyn FnOnce() + Send>) {
        let _ = then;
    }

    /// A full memory barrier on every thread that runs, of this process and the others that have registered.
    fn barrier(&self) {}

    /// What the file system says that it has left.
    fn space_left(&self) -> Option<SpaceLeft> {
        None
    }

    /// A number that cannot be predicted.
    fn random(&self) -> u64;

    /// How, and when, the next segment is prepared. Asked each time.
    #[cfg(feature = "testing")]
    fn preparation(&self) -> Preparation {
        Preparation::Background
    }
}
