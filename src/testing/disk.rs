//! A directory on a simulated device that loses power, fails, and writes back when it likes.
//!
//! All that happens is decided by one seed. A crash does not stop a run: at any operation, before, after or inside of it,
//! the disk can be asked for what a crash at this moment would leave, as a disk of its own, while the run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use super::directory::{Directory, Names};
use super::fault::{Fault, Operation};
use super::image::{AfterEffect, Image};

/// Which kind of crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The device keeps what it holds; of the rest, anything may be lost.
    Power,
    /// The process dies; the page cache stays.
    Kill,
}

/// Is told of what happens while the disk works.
pub trait Observer: Send + Sync {
    /// A crash right now would leave `left`.
    fn crashed(&self, left: SimDisk, crash: Crash);

    /// A mapping is being synced: the bytes that are written have been decided on, and other threads go on.
    fn syncing(&self);
}

/// A handle of the disk; clones are the same disk, and the same process.
#[derive(Clone)]
pub struct SimDisk(pub(super) Arc<Inner>, pub(super) Process);

/// Which of the processes that have the disk open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    Writer,
    Reader,
}

pub(super) struct Inner {
    pub(super) state: Mutex<State>,
    observer: Mutex<Option<Arc<dyn Observer>>>,
}

/// Whether there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// It goes with this operation.
    EndsAt(u64),
    Gone,
}

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) files: Vec<Image>,
    pub(super) directory: Directory,
    pub(super) locked: bool,
    /// In how many of 256 operations the observer is shown a crash.
    cuts: u8,
    fault: Option<Fault>,
    /// A page could not be written: the page cache may lose it.
    is_failing: bool,
    /// A direct read shows the page cache, and the files say so.
    pub(super) hides_device: bool,
    operations: u64,
    /// How long a sync takes.
    sync_time: Duration,
    pub(super) power: Power,
    /// What the end of the power has left.
    left: Option<SimDisk>,
    /// How many handles and mappings each process has of each file.
    pub(super) uses: BTreeMap<(usize, Process), usize>,
    /// Files that have another name, outside of the directory.
    pub(super) linked: BTreeSet<usize>,
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
            sync_time: Duration::ZERO,
            power: Power::On,
            left: None,
            uses: BTreeMap::new(),
            linked: BTreeSet::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), observer: Mutex::new(None) }), Process::Writer)
    }

    /// The disk as another process sees it that reads.
    pub fn elsewhere(&self) -> Self {
        Self(Arc::clone(&self.0), Process::Reader)
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

    /// How long each sync takes from now on, before it has any effect.
    pub fn sync_takes(&self, time: Duration) {
        self.0.state.lock().sync_time = time;
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.state.lock().operations
    }

    /// `operations` more are carried out. The power goes with the next one, before that has any effect, and from then on every one fails.
    /// Power that has gone does not come back.
    pub fn end_power_after(&self, operations: u64) {
        let mut state = self.0.state.lock();
        if state.power != Power::Gone {
            state.power = Power::EndsAt(state.operations.saturating_add(operations).saturating_add(1));
        }
    }

    /// What the end of the power has left, if it has come.
    pub fn left(&self) -> Option<Self> {
        self.0.state.lock().left.clone()
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

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.state.lock().directory.names().contains_key(name)
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
    pub(super) fn begin(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.0.state.lock();
        state.operations += 1;
        match state.power {
            Power::Gone => return Some(Fault::without_power()),
            Power::EndsAt(at) if state.operations >= at => {
                // Before the look: what ends after this has not ended in time.
                state.power = Power::Gone;
                drop(state);
                let left = self.crash(Crash::Power);
                self.0.state.lock().left = Some(left);
                return Some(Fault::without_power());
            }
            Power::On | Power::EndsAt(_) => {}
        }
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
    pub(super) fn enter(&self, operation: Operation) -> io::Result<()> {
        self.begin(operation).map_or(Ok(()), |fault| Err(fault.error()))
    }

    pub(super) fn id_of(&self, name: &str) -> io::Result<usize> {
        self.0.state.lock().directory.names().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes the dirty sectors of `pages` in random order, with a crash inside where the observer wants one.
    pub(super) fn sync_pages(&self, id: usize, pages: Range<usize>, operation: Operation) -> io::Result<()> {
        let fault = self.begin(operation);
        let time = self.0.state.lock().sync_time;
        if !time.is_zero() {
            thread::sleep(time);
        }
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
        self.check_power()
    }

    /// An error if the power has gone since an operation has begun: nobody hears that it has succeeded.
    pub(super) fn check_power(&self) -> io::Result<()> {
        self.0.state.lock().check_power()
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
    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power == Power::Gone { Err(Fault::without_power().error()) } else { Ok(()) }
    }

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

/// All after-effects of a failed write-back.
pub const AFTER_EFFECTS: [AfterEffect; 3] = [AfterEffect::Clean, AfterEffect::Lost, AfterEffect::Reverted];
