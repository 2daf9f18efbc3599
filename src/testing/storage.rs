//! The simulated disk, as the log uses it: each operation, with what fails in it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Process, SimDisk};
use super::fault::Operation;
use super::image::{Image, PAGE_BYTES, WORD_BYTES};
use crate::error::FileKind;
use crate::memory::Mapping;
use crate::storage::{Access, DeviceBuffer, Lock, LockGuard, Preparation, Storage, StorageFile, Users};

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
        Ok(SimFile::open(self, id))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn StorageFile>> {
        self.enter(Operation::Open)?;
        Ok(SimFile::open(self, self.id_of(name)?))
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
        self.check_power()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.enter(Operation::SyncFileSystem)?;
        let state = &mut *self.0.state.lock();
        state.files.iter_mut().for_each(Image::settle);
        state.directory.sync();
        state.check_power()
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
    fn write_pid(&self) -> io::Result<()> {
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

impl SimDisk {
    /// How many segments are longer than `size` bytes, and of how many an end has been given back.
    #[must_use]
    pub fn grown_and_given_back(&self, size: u64) -> (u64, u64) {
        let state = self.0.state.lock();
        let names = state.directory.names().iter().filter(|(name, _)| name.as_bytes().ends_with(b".seg"));
        names.map(|(_, &file)| &state.files[file]).fold((0, 0), |(grown, given_back), file| {
            (grown + u64::from(file.len() > size), given_back + u64::from(file.has_hole()))
        })
    }
}

impl SimFile {
    fn open(disk: &SimDisk, id: usize) -> Box<dyn StorageFile> {
        Box::new(Self { of: Arc::new(Use::begin(disk, id)), disk: disk.clone(), id })
    }

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

    fn give_back(&self, range: Range<u64>) -> io::Result<()> {
        self.disk.enter(Operation::GiveBack)?;
        let is_durable = self.disk.0.state.lock().rng.bool();
        self.with(|file| file.give_back(range.start as usize..range.end as usize, is_durable));
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(fault) = self.disk.begin(Operation::Write) {
            // A word is stored whole or not at all: what fails does so before it is copied to the page.
            let written = bytes.len() / 2 / WORD_BYTES * WORD_BYTES;
            self.with(|file| file.write(&bytes[..written], offset as usize));
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
