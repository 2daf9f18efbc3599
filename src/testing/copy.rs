//! Copies of what is on a simulated disk: of a file, and of all of it in a directory of a real file system, and back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::disk::SimDisk;
use crate::storage::Storage;

impl SimDisk {
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

    /// Its files, as processes see them, in a new directory. Durable on return, but for the directory's own name.
    pub(super) fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir(directory)?;
        let names = self.0.state.lock().directory.names().clone();
        for (name, id) in names {
            let mut file = File::create_new(directory.join(name))?;
            file.write_all(&self.contents(id))?;
            file.sync_all()?;
        }
        File::open(directory)?.sync_all()
    }

    /// A disk with the files of `directory`, all of it durable.
    pub(super) fn read_from(seed: u64, directory: &Path) -> io::Result<Self> {
        let disk = Self::new(seed);
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // What processes that have the log open keep in a directory is theirs alone.
            if entry.file_type()?.is_dir() {
                continue;
            }
            let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
            disk.create(&name)?.write_at(&fs::read(entry.path())?, 0)?;
        }
        disk.sync_file_system()?;
        Ok(disk)
    }
}
