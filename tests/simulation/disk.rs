//! A directory on a simulated device that loses power, fails, and writes back when it likes.
//!
//! All that happens is decided by one seed. A crash does not stop a run: at any operation, before, after or inside of it,
//! the disk can be asked for what a crash at this moment would leave, as a disk of its own, while the run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use mapwal::error::FileKind;
use mapwal::testing::{Access, DeviceBuffer, Lock, LockGuard, Mapping, Preparation, Storage, StorageFile, Users};
use parking_lot::Mutex;

use super::directory::{Directory, Names};
use super::fault::{Fault, Operation};
use super::image::{AfterEffect, Image, PAGE_BYTES};
use super::model::Crash;

/// Is told of what happens while the disk works.
pub trait Observer: Send + Sync {
    /// A crash right now would leave `left`.
    fn crashed(&self, left: SimDisk, crash: Crash);

    /// A mapping is being synced: the bytes that are written have been decided on, and other threads go on.
    fn syncing(&self);
}

/// A handle of the disk; clones are the same disk, and the same process.
#[derive(Clone)]
pub struct SimDisk(Arc<Inner>, Process);

/// Which of the processes that have the disk open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Process {
    Writer,
    Reader,
}

struct Inner {
    state: Mutex<State>,
    observer: Mutex<Option<Arc<dyn Observer>>>,
}

struct State {
    rng: Rng,
    files: Vec<Image>,
    directory: Directory,
    locked: bool,
    /// In how many of 256 operations the observer is shown a crash.
    cuts: u8,
    fault: Option<Fault>,
    /// A page could not be written: the page cache may lose it.
    is_failing: bool,
    /// A direct read shows the page cache, and the files say so.
    hides_device: bool,
    operations: u64,
    /// How many handles and mappings each process has of each file.
    uses: BTreeMap<(usize, Process), usize>,
    /// Files that have another name, outside of the directory.
    linked: BTreeSet<usize>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty directory.
    pub fn new(seed: u64) -> Self {
        Self::with(Rng::with_seed(seed), Vec::new(), Directory::default())
    }

    /// As [`Self::new`]; on one in four, as the seed says, no read shows the device.
    pub fn of_either_kind(seed: u64) -> Self {
        let disk = Self::new(seed);
        disk.hide_device(seed.is_multiple_of(4));
        disk
    }

    fn with(rng: Rng, files: Vec<Image>, directory: Directory) -> Self {
        let state = State {
            rng,
            files,
            directory,
            locked: false,
            cuts: 0,
            fault: None,
            is_failing: false,
            hides_device: false,
            operations: 0,
            uses: BTreeMap::new(),
            linked: BTreeSet::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), observer: Mutex::new(None) }), Process::Writer)
    }

    /// The disk as another process sees it that reads.
    pub fn elsewhere(&self) -> Self {
        Self(Arc::clone(&self.0), Process::Reader)
    }

    /// Gives the file `name` another name; the file, and what it holds.
    pub fn back_up(&self, name: &str) -> Option<(usize, Vec<u8>)> {
        let mut state = self.0.state.lock();
        let file = state.directory.names().get(name).copied()?;
        state.linked.insert(file);
        drop(state);
        Some((file, self.contents(file)))
    }

    /// What processes see of `file`.
    pub fn contents(&self, file: usize) -> Vec<u8> {
        let state = self.0.state.lock();
        let mut bytes = vec![0; state.files[file].len() as usize];
        state.files[file].read(&mut bytes, 0);
        bytes
    }

    pub fn observe(&self, observer: Arc<dyn Observer>) {
        *self.0.observer.lock() = Some(observer);
    }

    pub fn forget_observer(&self) {
        *self.0.observer.lock() = None;
    }

    /// Starts the disk's decisions anew, so that what follows does not depend on what came before.
    pub fn reseed(&self, seed: u64) {
        self.0.state.lock().rng = Rng::with_seed(seed);
    }

    /// Whether a direct read shows the page cache from now on, as the files say then.
    pub fn hide_device(&self, hides_device: bool) {
        self.0.state.lock().hides_device = hides_device;
    }

    /// In how many of 256 operations a crash is shown to the observer.
    pub fn show_cuts(&self, cuts: u8) {
        self.0.state.lock().cuts = cuts;
    }

    pub fn plan_fault(&self, fault: Option<Fault>) {
        self.0.state.lock().fault = fault;
    }

    /// The planned fault, if there is one and it has not happened yet, falls on the next `operation`.
    pub fn aim_fault(&self, operation: Operation) {
        if let Some(fault) = &mut self.0.state.lock().fault {
            fault.only = Some(operation);
            fault.after = 0;
        }
    }

    /// Whether the planned fault has not happened yet.
    pub fn has_fault(&self) -> bool {
        self.0.state.lock().fault.is_some()
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.state.lock().operations
    }

    /// What a crash right now would leave.
    pub fn crash(&self, crash: Crash) -> Self {
        let mut state = self.0.state.lock();
        let mut rng = state.rng.fork();
        let (directory, power) = match crash {
            Crash::Power => (state.directory.after_power_cut(&mut rng), true),
            Crash::Kill => (state.directory.clone(), false),
        };
        let leave = |file: &Image, rng: &mut Rng| if power { file.after_power_cut(rng) } else { file.after_kill() };
        if !power {
            // The others were open when they lost their names.
            let kept = |(id, file): (usize, &Image)| {
                if directory.knows(id) { leave(file, &mut rng) } else { Image::default() }
            };
            let files = state.files.iter().enumerate().map(kept).collect();
            let left = Self::with(rng, files, directory);
            left.0.state.lock().is_failing = state.is_failing;
            left.hide_device(state.hides_device);
            return left;
        }
        let mut names = Names::new();
        let mut files = Vec::new();
        for (name, &file) in directory.names() {
            names.insert(name.clone(), files.len());
            files.push(leave(&state.files[file], &mut rng));
        }
        let left = Self::with(rng, files, Directory::settled(names));
        left.hide_device(state.hides_device);
        left
    }

    /// Whether a page could not be written since the last open.
    pub fn is_failing(&self) -> bool {
        self.0.state.lock().is_failing
    }

    /// An open has found out what is left.
    pub fn forget_failures(&self) {
        self.0.state.lock().is_failing = false;
    }

    /// The process that had the disk open is gone.
    pub fn process_died(&self) {
        self.0.state.lock().files.iter_mut().for_each(Image::forget_reverted);
    }

    /// The segment that holds `word`, at a multiple of 8 bytes, and where. The newest if there are several.
    pub fn find(&self, word: u64) -> Option<(String, usize)> {
        let state = self.0.state.lock();
        let segments = state.directory.names().iter().rev().filter(|(name, _)| name.as_bytes().ends_with(b".seg"));
        let mut found = segments.filter_map(|(name, &file)| Some((name.clone(), state.files[file].find(word)?)));
        found.next()
    }

    /// What the device holds of a file.
    pub fn stored(&self, name: &str, offset: usize, len: usize) -> Vec<u8> {
        let state = self.0.state.lock();
        let mut bytes = vec![0; len];
        let read = state.files[state.directory.names()[name]].read_device(&mut bytes, offset);
        assert_eq!(read, len, "{name} ends before {}", offset + len);
        bytes
    }

    /// Changes a byte on the device. Nobody may have the disk open.
    pub fn damage(&self, name: &str, offset: usize, change: impl FnOnce(u8) -> u8) {
        let mut state = self.0.state.lock();
        let file = state.directory.names()[name];
        state.files[file].damage(offset, change);
    }

    /// Removes a file for good. Nobody may have the disk open.
    pub fn lose(&self, name: &str) {
        let mut state = self.0.state.lock();
        state.directory.remove(name);
        state.directory.sync();
    }

    /// Shows a crash to the observer, outside of any operation.
    pub fn show_cut(&self) {
        let observer = self.0.observer.lock().clone();
        if let Some(observer) = observer {
            let crash = if self.0.state.lock().rng.u8(..) < 64 { Crash::Kill } else { Crash::Power };
            observer.crashed(self.crash(crash), crash);
        }
    }

    /// At the start of each operation. Returns the fault that it shall suffer.
    fn begin(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.0.state.lock();
        state.operations += 1;
        state.write_back_early();
        let cut = state.rng.u8(..) < state.cuts >> if operation.is_dull() { 4 } else { 0 };
        let fault = state.fault.take_if(|fault| fault.is_due(operation));
        drop(state);
        if cut {
            self.show_cut();
        }
        fault
    }

    /// Starts an operation that, when it fails, changes nothing.
    fn enter(&self, operation: Operation) -> io::Result<()> {
        self.begin(operation).map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn file(&self, id: usize) -> Box<dyn StorageFile> {
        Box::new(SimFile { of: Arc::new(Use::begin(self, id)), disk: self.clone(), id })
    }

    fn id_of(&self, name: &str) -> io::Result<usize> {
        self.0.state.lock().directory.names().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes the dirty sectors of `pages` in random order, with a crash inside where the observer wants one.
    fn sync_pages(&self, id: usize, pages: Range<usize>, operation: Operation) -> io::Result<()> {
        let fault = self.begin(operation);
        let mut state = self.0.state.lock();
        let mut sectors = state.files[id].dirty(pages);
        state.rng.shuffle(&mut sectors);
        let cut_at = (state.rng.u8(..) < state.cuts).then(|| state.rng.usize(0..=sectors.len()));
        let (early, late) = sectors.split_at(cut_at.unwrap_or(0));
        drop(state);
        self.notify_syncing(operation);
        let mut failed = fault.as_ref().map(|fault| (fault, sectors.first().copied()));
        self.write_sectors(id, early, &mut failed);
        if cut_at.is_some() {
            self.show_cut();
        }
        self.write_sectors(id, late, &mut failed);
        if let Some(fault) = fault {
            return Err(fault.error());
        }
        self.0.state.lock().files[id].settle_len();
        Ok(())
    }

    fn notify_syncing(&self, operation: Operation) {
        let observer = self.0.observer.lock().clone();
        if let Some(observer) = observer.filter(|_| operation == Operation::SyncMapping) {
            observer.syncing();
        }
    }

    /// Writes sectors; if the sync fails, at least the first page of it is not written, and others by chance.
    fn write_sectors(&self, id: usize, sectors: &[usize], failed: &mut Option<(&Fault, Option<usize>)>) {
        let state = &mut *self.0.state.lock();
        for &sector in sectors {
            match failed {
                Some((fault, first)) if *first == Some(sector) || state.rng.bool() => {
                    state.is_failing = true;
                    state.files[id].fail_page_of(sector, fault.effect, state.hides_device);
                }
                _ => state.files[id].write_back(sector),
            }
        }
    }
}

impl State {
    /// The kernel may write any dirty sector at any time.
    fn write_back_early(&mut self) {
        if self.files.is_empty() || self.rng.u8(..) >= 8 {
            return;
        }
        let id = self.rng.usize(0..self.files.len());
        let pages = self.files[id].page_count();
        for sector in self.files[id].dirty(0..pages) {
            if self.rng.bool() {
                self.files[id].write_back(sector);
            }
        }
    }
}

impl Storage for SimDisk {
    fn path(&self) -> &Path {
        Path::new("/simulated")
    }

    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()> {
        self.enter(Operation::List)?;
        let names: Vec<String> = self.0.state.lock().directory.names().keys().cloned().collect();
        for name in &names {
            visit(name.as_bytes(), FileKind::Regular);
        }
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.enter(Operation::Lock)?;
        let mut state = self.0.state.lock();
        if !state.directory.names().contains_key(name) {
            let id = state.files.len();
            state.files.push(Image::default());
            state.directory.create(name, id);
        }
        if std::mem::replace(&mut state.locked, true) {
            return Ok(Lock::Busy(None));
        }
        Ok(Lock::Held(Box::new(Held(self.clone()))))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.enter(Operation::Create)?;
        if self.id_of(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut state = self.0.state.lock();
        let id = state.files.len();
        state.files.push(Image::default());
        state.directory.create(name, id);
        drop(state);
        Ok(self.file(id))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn StorageFile>> {
        self.enter(Operation::Open)?;
        Ok(self.file(self.id_of(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.enter(Operation::Rename)?;
        self.id_of(from)?;
        if self.id_of(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.0.state.lock().directory.rename(from, to);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.enter(Operation::Remove)?;
        self.id_of(name)?;
        self.0.state.lock().directory.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.enter(Operation::SyncDirectory)?;
        self.0.state.lock().directory.sync();
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.enter(Operation::SyncFileSystem)?;
        let state = &mut *self.0.state.lock();
        state.files.iter_mut().for_each(Image::settle);
        state.directory.sync();
        Ok(())
    }

    fn load(&self, _: &Mapping, _: Range<usize>) -> io::Result<()> {
        self.enter(Operation::Load)
    }

    fn populate(&self, _: &Mapping, _: Range<usize>) -> io::Result<()> {
        self.enter(Operation::Populate)
    }

    fn random(&self) -> u64 {
        self.0.state.lock().rng.u64(..)
    }

    fn preparation(&self) -> Preparation {
        if self.0.state.lock().rng.bool() { Preparation::Ahead } else { Preparation::OnDemand }
    }
}

#[derive(Debug)]
struct Held(SimDisk);

impl LockGuard for Held {
    fn sign(&self) -> io::Result<()> {
        self.0.enter(Operation::Write)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.state.lock().locked = false;
    }
}

/// A handle or a mapping of a file.
#[derive(Debug)]
struct Use {
    disk: SimDisk,
    id: usize,
}

impl Use {
    fn begin(disk: &SimDisk, id: usize) -> Self {
        *disk.0.state.lock().uses.entry((id, disk.1)).or_default() += 1;
        Self { disk: disk.clone(), id }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(count) = self.disk.0.state.lock().uses.get_mut(&(self.id, self.disk.1)) {
            *count -= 1;
        }
    }
}

#[derive(Debug)]
struct SimFile {
    /// Shared with its mappings.
    of: Arc<Use>,
    disk: SimDisk,
    id: usize,
}

impl SimFile {
    fn with<T>(&self, look: impl FnOnce(&mut Image) -> T) -> T {
        look(&mut self.disk.0.state.lock().files[self.id])
    }
}

impl StorageFile for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.disk.enter(Operation::Length)?;
        Ok(self.with(|file| file.len()))
    }

    fn as_file(&self) -> Option<&std::fs::File> {
        None
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        if let Some(fault) = self.disk.begin(Operation::Allocate) {
            // As ext4 does, it leaves what it got.
            self.with(|file| file.allocate(len / 2));
            return Err(fault.error());
        }
        self.with(|file| file.allocate(len));
        Ok(false)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(fault) = self.disk.begin(Operation::Write) {
            self.with(|file| file.write(&bytes[..bytes.len() / 2], offset as usize));
            return Err(fault.error());
        }
        self.with(|file| file.write(bytes, offset as usize));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.enter(Operation::Read)?;
        Ok(self.with(|file| file.read(bytes, offset as usize)))
    }

    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize> {
        self.disk.enter(Operation::ReadDevice)?;
        if !self.reads_device() {
            return Ok(self.with(|file| file.read(buffer.bytes_mut(), offset as usize)));
        }
        Ok(self.with(|file| file.read_device(buffer.bytes_mut(), offset as usize)))
    }

    fn reads_device(&self) -> bool {
        !self.disk.0.state.lock().hides_device
    }

    fn sync(&self) -> io::Result<()> {
        let pages = self.with(|file| file.page_count());
        self.disk.sync_pages(self.id, 0..pages, Operation::Sync)
    }

    fn drop_cache(&self, _: Range<u64>) -> io::Result<()> {
        self.disk.enter(Operation::DropCache)?;
        // A hint: the kernel may have its reasons not to.
        if self.disk.0.state.lock().rng.bool() {
            self.with(Image::drop_cache);
        }
        Ok(())
    }

    fn users(&self) -> io::Result<Users> {
        self.disk.enter(Operation::Users)?;
        let state = self.disk.0.state.lock();
        let count = |process| state.uses.get(&(self.id, process)).copied().unwrap_or(0);
        Ok(Users {
            is_linked: state.linked.contains(&self.id),
            here: count(Process::Writer) > 1 || Arc::strong_count(&self.of) > 1,
            elsewhere: count(Process::Reader) > 0,
        })
    }

    fn map(&self, len: u64, _: Access) -> io::Result<Mapping> {
        self.disk.enter(Operation::Map)?;
        self.with(|file| {
            assert_eq!(len, file.len(), "files are mapped as a whole");
            Ok(Mapping::from_heap(file.cache()).keeping(Arc::clone(&self.of) as _))
        })
    }

    fn sync_mapping(&self, _: &Mapping, range: Range<usize>) -> io::Result<()> {
        let pages = range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES);
        self.disk.sync_pages(self.id, pages, Operation::SyncMapping)
    }
}

/// All after-effects of a failed write-back.
pub const AFTER_EFFECTS: [AfterEffect; 3] = [AfterEffect::Clean, AfterEffect::Lost, AfterEffect::Reverted];
