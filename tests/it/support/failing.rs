//! The disk, with calls that fail or wait when they are told to.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mapwal::testing::{Access, DeviceBuffer, Disk, Lock, Mapping, Storage, StorageFile, Users, open_log};
use mapwal::{FileKind, Log};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::support::small;

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Allocate,
    Rename,
    Remove,
    SyncDirectory,
    SyncMapping,
}

/// What goes wrong, shared by the storage and its files.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    failing: Vec<(Call, Errno)>,
    held: bool,
    /// Calls that wait until they are let go.
    waiting: usize,
    lost_names: Vec<String>,
}

impl Faults {
    /// From now on, `call` fails.
    pub(crate) fn fail(&self, call: Call, error: Errno) {
        self.state.lock().failing.push((call, error));
    }

    /// From now on, everything goes well.
    pub(crate) fn heal(&self) {
        self.state.lock().failing.clear();
    }

    /// From now on, syncs of mappings wait.
    pub(crate) fn hold_syncs(&self) {
        self.state.lock().held = true;
    }

    /// Returns once a sync waits.
    pub(crate) fn await_held_sync(&self) {
        let mut state = self.state.lock();
        while state.waiting == 0 {
            self.changed.wait(&mut state);
        }
    }

    pub(crate) fn let_syncs_go(&self) {
        self.state.lock().held = false;
        self.changed.notify_all();
    }

    /// The names that files have lost, in order.
    pub(crate) fn lost_names(&self) -> Vec<String> {
        self.state.lock().lost_names.clone()
    }

    fn check(&self, call: Call) -> io::Result<()> {
        let mut state = self.state.lock();
        if call == Call::SyncMapping && state.held {
            state.waiting += 1;
            self.changed.notify_all();
            while state.held {
                self.changed.wait(&mut state);
            }
            state.waiting -= 1;
        }
        match state.failing.iter().find(|(failing, _)| *failing == call) {
            Some(&(_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// A log of the smallest segments in `path`, and what can go wrong with it.
pub(crate) fn open_failing(path: &Path) -> (Log, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    let storage = Failing { disk: Disk::open(path).expect("the directory is there"), faults: Arc::clone(&faults) };
    // SAFETY: a temporary directory of one test; the storage passes every mapping on as the disk makes it.
    let log = unsafe { open_log(Arc::new(storage), &small()) };
    (log.expect("the log opens"), faults)
}

#[derive(Debug)]
struct Failing {
    disk: Disk,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn StorageFile>,
    faults: Arc<Faults>,
}

impl Failing {
    fn file(&self, file: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(FailingFile { file, faults: Arc::clone(&self.faults) })
    }
}

impl Storage for Failing {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()> {
        self.disk.entries(visit)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.disk.lock(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(name, access).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.check(Call::Rename)?;
        self.faults.state.lock().lost_names.push(from.to_owned());
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.check(Call::Remove)?;
        self.faults.state.lock().lost_names.push(name.to_owned());
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.faults.check(Call::SyncDirectory)?;
        self.disk.sync_directory()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.disk.sync_file_system()
    }

    fn load(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.disk.load(mapping, range)
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.disk.populate(mapping, range)
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }
}

impl StorageFile for FailingFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn as_file(&self) -> Option<&File> {
        self.file.as_file()
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.faults.check(Call::Allocate)?;
        self.file.allocate(len)
    }

    fn users(&self) -> io::Result<Users> {
        self.file.users()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize> {
        self.file.read_device_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn drop_cache(&self, range: Range<u64>) -> io::Result<()> {
        self.file.drop_cache(range)
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Mapping> {
        self.file.map(len, access)
    }

    fn sync_mapping(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.faults.check(Call::SyncMapping)?;
        self.file.sync_mapping(mapping, range)
    }
}
