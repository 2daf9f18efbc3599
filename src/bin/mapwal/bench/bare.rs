//! What the disk allows: `write` and `fdatasync`, without a log around them.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::measured::Measured;
use super::{Task, Until};
use crate::failure::{Failure, Result, describe};

/// Length of the file that is overwritten, and that of one that grows before another one is begun.
const FILE_LEN: usize = 128 << 20;
const CHUNK_LEN: usize = 1 << 20;

/// A file that has been written before: overwriting it changes no metadata.
pub(super) struct Overwrite {
    file: File,
    path: PathBuf,
    offset: Cell<usize>,
}

impl Overwrite {
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let path = directory.join("overwritten");
        let written = File::create_new(&path).and_then(|file| {
            for offset in (0..FILE_LEN).step_by(CHUNK_LEN) {
                file.write_all_at(&noise(CHUNK_LEN), offset as u64)?;
            }
            file.sync_all()?;
            Ok(file)
        });
        let file = written.map_err(|error| failed(&error, &path))?;
        Ok(Self { file, path, offset: Cell::new(0) })
    }

    /// `len` bytes at a time, each time made durable.
    pub(super) fn syncing(&self, len: usize) -> impl Task + '_ {
        Overwriting { target: self, bytes: noise(len) }
    }
}

struct Overwriting<'a> {
    target: &'a Overwrite,
    bytes: Vec<u8>,
}

impl Task for Overwriting<'_> {
    fn round(&mut self, until: Until<'_>) -> Result<Measured> {
        let Overwrite { file, path, offset } = self.target;
        let write = || {
            if offset.get() + self.bytes.len() > FILE_LEN {
                offset.set(0);
            }
            file.write_all_at(&self.bytes, offset.get() as u64)?;
            file.sync_data()?;
            offset.set(offset.get() + self.bytes.len());
            Ok(())
        };
        timed(self.bytes.len(), until, path, write)
    }
}

/// A file that grows at its end, as a log does that prepares nothing.
pub(super) struct Grow {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Grow {
    pub(super) fn new(directory: &Path, len: usize) -> Self {
        Self { path: directory.join("growing"), bytes: noise(len) }
    }
}

impl Task for Grow {
    fn round(&mut self, until: Until<'_>) -> Result<Measured> {
        let create = || File::create(&self.path);
        let file = RefCell::new(create().map_err(|error| failed(&error, &self.path))?);
        let offset = Cell::new(0);
        let write = || {
            if offset.get() + self.bytes.len() > FILE_LEN {
                file.replace(create()?);
                offset.set(0);
            }
            let file = file.borrow();
            file.write_all_at(&self.bytes, offset.get() as u64)?;
            file.sync_data()?;
            offset.set(offset.get() + self.bytes.len());
            Ok(())
        };
        let measured = timed(self.bytes.len(), until, &self.path, write)?;
        std::fs::remove_file(&self.path).map_err(|error| failed(&error, &self.path))?;
        Ok(measured)
    }
}

/// Calls `write`, which makes `len` bytes durable, over and over.
fn timed(len: usize, until: Until<'_>, path: &Path, mut write: impl FnMut() -> io::Result<()>) -> Result<Measured> {
    let mut measured = Measured::default();
    let begin = Instant::now();
    while !until.is_over(&measured) {
        measured.time(len, &mut write).map_err(|error| failed(&error, path))?;
    }
    measured.elapsed = begin.elapsed();
    Ok(measured)
}

fn failed(error: &io::Error, path: &Path) -> Failure {
    Failure::new("cannot write", describe(error), path)
}

/// Bytes that no device compresses and no file system takes for a hole: from a xorshift generator (Marsaglia, 2003).
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(len).collect()
}
