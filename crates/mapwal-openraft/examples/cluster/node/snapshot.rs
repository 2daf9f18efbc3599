//! The newest snapshot, in a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::types::Meta;

pub(super) struct SnapshotFile {
    directory: PathBuf,
}

impl SnapshotFile {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("snapshot")
    }

    /// Takes the place of what was there. Durable on return, and whole at any time.
    pub(super) fn write(&self, meta: &Meta, data: &[u8]) -> io::Result<()> {
        let next = self.directory.join("snapshot.next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(meta)?)?;
        file.write_all(b"\n")?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&next, self.path())?;
        File::open(&self.directory)?.sync_all()
    }

    /// What it is of, and its data; nothing if there is none.
    pub(super) fn read(&self) -> io::Result<Option<(Meta, Vec<u8>)>> {
        let bytes = match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let end = bytes.iter().position(|&byte| byte == b'\n').ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some((serde_json::from_slice(&bytes[..end])?, bytes[end + 1..].to_vec())))
    }
}
