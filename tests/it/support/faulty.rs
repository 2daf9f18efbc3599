//! Storage that does as the disk does until it is told to fail, to wait, or to show other bytes.

#![allow(dead_code, reason = "a kit: each test uses what it needs")]

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use mapwal::error::FileKind;
use mapwal::internals::{
    Access, DeviceBuffer, Disk, Lock, LockGuard, Mapping, Preparation, Storage, StorageFile, Users, task_of_this_thread,
};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

thread_local! {
    /// For how long this thread has slept in [`Call::Wait`].
    static ASLEEP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// For how long this thread has slept in [`Call::Wait`], without the time for which it was ready to run and had no processor.
pub(crate) fn asleep_in_waits() -> Duration {
    ASLEEP.get()
}

/// How long this thread has been running, or ready to run, where the system tells.
fn awake() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').take(2).filter_map(|number| number.parse::<u64>().ok()).sum())
}

/// A call of the storage that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Entries,
    Lock,
    Sign,
    Create,
    Open,
    Rename,
    Remove,
    SyncDirectory,
    SyncFileSystem,
    Load,
    Populate,
    Len,
    Allocate,
    GiveBack,
    Write,
    Read,
    ReadDevice,
    Sync,
    DropCache,
    StartWriting,
    Map,
    SyncMapping,
    Wait,
}

/// A real directory whose calls are counted, and fail or wait as planned.
pub(crate) struct Faulty {
    disk: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

/// What has been called, and what is to happen.
#[derive(Default)]
struct Plan {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    faults: Vec<Fault>,
    /// The call that is held, and on which file, `None` for any.
    held: Option<(Call, Option<String>)>,
    /// How many threads wait in the call that is held.
    waiting: usize,
    /// The calls that went well, and on which file.
    passed: Vec<(Call, String)>,
    /// A file, and the offset of a byte of it that the device holds differently from the page cache.
    differing: Option<(String, u64)>,
    /// A read of the device shows the page cache.
    is_device_hidden: bool,
    /// A thread or a task, and the call that panics there.
    panicking: Option<(String, Call)>,
    /// How many calls have panicked.
    panics: usize,
    /// How segments are prepared, if not by a thread.
    preparation: Option<Preparation>,
}

/// Which calls fail, `None` for any, on which file, `None` for any, and how.
struct Fault {
    call: Option<Call>,
    file: Option<String>,
    /// How many such calls go well before.
    skip: usize,
    once: bool,
    error: Errno,
}

impl Faulty {
    /// The directory `path`, which exists.
    pub(crate) fn new(path: &Path) -> Arc<Self> {
        let disk: Arc<dyn Storage> = Arc::new(Disk::open(path).expect("the directory is there"));
        Arc::new(Self { disk, plan: Arc::default() })
    }

    /// From now on, `call` fails.
    pub(crate) fn fail(&self, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: None, skip: 0, once: false, error });
    }

    /// The next `call` fails, and those after it go well.
    pub(crate) fn fail_once(&self, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: None, skip: 0, once: true, error });
    }

    /// One `call` fails, once this many have gone well, and those after it go well.
    pub(crate) fn fail_after(&self, skip: usize, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: None, skip, once: true, error });
    }

    /// From now on, `call` fails on the file of this name.
    pub(crate) fn fail_on(&self, file: &str, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: Some(file.into()), skip: 0, once: false, error });
    }

    /// As [`Self::fail_on`], once this many have gone well.
    pub(crate) fn fail_on_after(&self, skip: usize, file: &str, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: Some(file.into()), skip, once: false, error });
    }

    /// The next `call` on the file of this name fails.
    pub(crate) fn fail_once_on(&self, file: &str, call: Call, error: Errno) {
        self.add(Fault { call: Some(call), file: Some(file.into()), skip: 0, once: true, error });
    }

    /// The call with this number, counted from 0 and from now on, fails, whatever it is.
    pub(crate) fn fail_number(&self, number: usize, error: Errno) {
        self.add(Fault { call: None, file: None, skip: number, once: true, error });
    }

    /// As [`Self::fail_number`], and so do all after it: the process has ended there, as far as the files can tell.
    pub(crate) fn fail_from(&self, number: usize, error: Errno) {
        self.add(Fault { call: None, file: None, skip: number, once: false, error });
    }

    /// From now on, `call` panics in the thread, or in the task of a log, of this name.
    pub(crate) fn panic_in(&self, thread: &str, call: Call) {
        self.plan.state.lock().panicking = Some((thread.into(), call));
    }

    /// How many calls have panicked.
    pub(crate) fn panics(&self) -> usize {
        self.plan.state.lock().panics
    }

    /// From now on, everything goes well.
    pub(crate) fn heal(&self) {
        let mut state = self.plan.state.lock();
        state.faults.clear();
        state.panicking = None;
    }

    /// How often `call` has been called.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.plan.state.lock().calls.iter().filter(|&&called| called == call).count()
    }

    /// All calls, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.plan.state.lock().calls.clone()
    }

    /// From now on, each thread that comes to `call` waits there.
    pub(crate) fn hold(&self, call: Call) {
        self.plan.state.lock().held = Some((call, None));
    }

    /// From now on, each thread that comes to `call` on the file that was created, or opened last, under this name waits there.
    pub(crate) fn hold_on(&self, file: &str, call: Call) {
        self.plan.state.lock().held = Some((call, Some(file.into())));
    }

    /// Returns once a thread waits in the call that is held.
    pub(crate) fn wait_until_held(&self) {
        let mut state = self.plan.state.lock();
        while state.waiting == 0 {
            let timeout = self.plan.changed.wait_for(&mut state, Duration::from_secs(60));
            assert!(!timeout.timed_out(), "nobody came to the call that is held");
        }
    }

    /// How many threads wait in the call that is held.
    pub(crate) fn waiting(&self) -> usize {
        self.plan.state.lock().waiting
    }

    /// The names of the files whose mappings have been synced, in order; those that they were created under.
    pub(crate) fn synced(&self) -> Vec<String> {
        self.passed(&[Call::SyncMapping])
    }

    /// The names that files have lost, in order.
    pub(crate) fn lost_names(&self) -> Vec<String> {
        self.passed(&[Call::Rename, Call::Remove])
    }

    fn passed(&self, calls: &[Call]) -> Vec<String> {
        let state = self.plan.state.lock();
        state.passed.iter().filter(|(call, _)| calls.contains(call)).map(|(_, file)| file.clone()).collect()
    }

    /// Lets the waiting threads go on.
    pub(crate) fn release(&self) {
        self.plan.state.lock().held = None;
        self.plan.changed.notify_all();
    }

    /// From now on, segments are prepared in this way.
    pub(crate) fn prepare(&self, preparation: Preparation) {
        self.plan.state.lock().preparation = Some(preparation);
    }

    /// From now on, the device holds another byte at `offset` of `file` than the page cache does.
    pub(crate) fn let_device_differ(&self, file: &str, offset: u64) {
        self.plan.state.lock().differing = Some((file.into(), offset));
    }

    /// From now on, a read of the device shows what the page cache holds, and the files say so.
    pub(crate) fn hide_device(&self) {
        self.plan.state.lock().is_device_hidden = true;
    }

    fn add(&self, fault: Fault) {
        self.plan.state.lock().faults.push(fault);
    }

    fn file(&self, name: &str, file: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(FaultyFile { file, name: name.into(), plan: Arc::clone(&self.plan) })
    }
}

impl Plan {
    /// Counts the call, waits if it is held, and says whether it fails.
    fn pass(&self, call: Call, file: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.calls.push(call);
        let is_held = |(held, name): &(Call, Option<String>)| *held == call && name.as_ref().is_none_or(|n| n == file);
        while state.held.as_ref().is_some_and(is_held) {
            state.waiting += 1;
            self.changed.notify_all();
            self.changed.wait(&mut state);
            state.waiting -= 1;
        }
        let is_here = |(thread, panicking): &(String, Call)| {
            let is_there =
                std::thread::current().name().is_some_and(|name| name == thread) || task_of_this_thread() == thread;
            *panicking == call && is_there
        };
        if state.panicking.as_ref().is_some_and(is_here) {
            state.panics += 1;
            panic!("{call:?} panics, as planned");
        }
        let concerns = |fault: &Fault| {
            fault.call.is_none_or(|failing| failing == call) && fault.file.as_deref().is_none_or(|name| name == file)
        };
        for fault in state.faults.iter_mut().filter(|fault| concerns(fault)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.once {
                // Never to be reached again.
                fault.skip = usize::MAX;
            }
            return Err(fault.error.into());
        }
        state.passed.push((call, file.to_owned()));
        Ok(())
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Storage for Faulty {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn entries(&self, visit: &mut dyn FnMut(&[u8], FileKind)) -> io::Result<()> {
        self.plan.pass(Call::Entries, "")?;
        self.disk.entries(visit)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.plan.pass(Call::Lock, name)?;
        Ok(match self.disk.lock(name)? {
            Lock::Held(guard) => Lock::Held(Box::new(FaultyLock { guard, plan: Arc::clone(&self.plan) })),
            Lock::Busy(pid) => Lock::Busy(pid),
        })
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.plan.pass(Call::Create, name)?;
        Ok(self.file(name, self.disk.create(name)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.plan.pass(Call::Open, name)?;
        Ok(self.file(name, self.disk.open(name, access)?))
    }

    fn open_as_created(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.plan.pass(Call::Open, name)?;
        Ok(self.file(name, self.disk.open_as_created(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.pass(Call::Rename, from)?;
        self.disk.rename(from, to)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.pass(Call::Rename, from)?;
        self.disk.replace(from, to)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.plan.pass(Call::Rename, one)?;
        self.disk.exchange(one, other)
    }

    fn subdirectory(&self, name: &str, create: bool) -> io::Result<Arc<dyn Storage>> {
        let disk = self.disk.subdirectory(name, create)?;
        Ok(Arc::new(Self { disk, plan: Arc::clone(&self.plan) }))
    }

    fn lock_directory(&self) -> io::Result<Option<Box<dyn fmt::Debug>>> {
        self.disk.lock_directory()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.pass(Call::Remove, name)?;
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.plan.pass(Call::SyncDirectory, "")?;
        self.disk.sync_directory()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.plan.pass(Call::SyncFileSystem, "")?;
        self.disk.sync_file_system()
    }

    fn load(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.plan.pass(Call::Load, "")?;
        self.disk.load(mapping, range)
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.plan.pass(Call::Populate, "")?;
        self.disk.populate(mapping, range)
    }

    fn wait(&self, word: &AtomicU32, seen: u32, timeout: Duration) {
        // It has no way to fail; it can be held.
        let _ = self.plan.pass(Call::Wait, "");
        let (began, awake_before) = (Instant::now(), awake());
        self.disk.wait(word, seen, timeout);
        let asleep = began.elapsed().saturating_sub(awake().saturating_sub(awake_before));
        ASLEEP.set(ASLEEP.get() + asleep);
    }

    fn wake(&self, word: &AtomicU32) {
        self.disk.wake(word);
    }

    fn register_for_barriers(&self, then: Box<dyn FnOnce() + Send>) {
        self.disk.register_for_barriers(then);
    }

    fn barrier(&self) {
        self.disk.barrier();
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }

    fn preparation(&self) -> Preparation {
        self.plan.state.lock().preparation.unwrap_or_else(|| self.disk.preparation())
    }
}

struct FaultyLock {
    guard: Box<dyn LockGuard>,
    plan: Arc<Plan>,
}

impl fmt::Debug for FaultyLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

impl LockGuard for FaultyLock {
    fn write_pid(&self) -> io::Result<()> {
        self.plan.pass(Call::Sign, "")?;
        self.guard.write_pid()
    }
}

struct FaultyFile {
    file: Box<dyn StorageFile>,
    name: String,
    plan: Arc<Plan>,
}

impl FaultyFile {
    fn pass(&self, call: Call) -> io::Result<()> {
        self.plan.pass(call, &self.name)
    }
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageFile for FaultyFile {
    fn as_file(&self) -> Option<&File> {
        self.file.as_file()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.pass(Call::Len)?;
        self.file.len_bytes()
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.pass(Call::Allocate)?;
        self.file.allocate(len)
    }

    fn give_back(&self, range: Range<u64>) -> io::Result<()> {
        self.pass(Call::GiveBack)?;
        self.file.give_back(range)
    }

    fn users(&self) -> io::Result<Users> {
        self.file.users()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pass(Call::Write)?;
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pass(Call::Read)?;
        self.file.read_at(bytes, offset)
    }

    fn read_device_at(&self, buffer: &mut DeviceBuffer, offset: u64) -> io::Result<usize> {
        self.pass(Call::ReadDevice)?;
        let read = self.file.read_device_at(buffer, offset)?;
        if let Some((name, at)) = &self.plan.state.lock().differing
            && *name == self.name
            && let Some(byte) =
                at.checked_sub(offset).and_then(|at| buffer.bytes_mut().get_mut(usize::try_from(at).ok()?))
        {
            *byte ^= 0xff;
        }
        Ok(read)
    }

    fn reads_device(&self) -> bool {
        !self.plan.state.lock().is_device_hidden && self.file.reads_device()
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Call::Sync)?;
        self.file.sync()
    }

    fn drop_cache(&self, range: Range<u64>) -> io::Result<()> {
        self.pass(Call::DropCache)?;
        self.file.drop_cache(range)
    }

    fn start_writing(&self, range: Range<u64>) -> io::Result<()> {
        self.pass(Call::StartWriting)?;
        self.file.start_writing(range)
    }

    fn map(&self, len: u64, access: Access) -> io::Result<Mapping> {
        self.pass(Call::Map)?;
        self.file.map(len, access)
    }

    fn sync_mapping(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.pass(Call::SyncMapping)?;
        self.file.sync_mapping(mapping, range)
    }
}
