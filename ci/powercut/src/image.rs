//! Contents of a disk: in memory of ours, and in the file that the disk serves.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::Result;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What is compared and written as a whole.
const PAGE_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 256 << 10;

/// The bytes of a disk. Pages that were never touched are zeros and take no memory.
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Vec<u8>,
    touched: Vec<bool>,
}

impl Image {
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], touched: vec![false; len.div_ceil(PAGE_BYTES)] }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.touched[offset / PAGE_BYTES..=(offset + bytes.len() - 1) / PAGE_BYTES].fill(true);
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// What `file` holds.
    pub fn read(file: &File) -> Result<Self> {
        let mut image = Self::new(file.metadata()?.len() as usize);
        let mut buffer = vec![0; CHUNK_BYTES];
        for chunk in chunks(file)? {
            let bytes = &mut buffer[..chunk.len()];
            file.read_exact_at(bytes, chunk.start as u64)?;
            image.write(chunk.start, bytes);
        }
        Ok(image)
    }

    /// A copy that takes memory only for what was touched.
    pub fn copy(&self) -> Self {
        let mut copy = Self::new(self.bytes.len());
        for page in (0..self.touched.len()).filter(|page| self.touched[*page]) {
            copy.write(page * PAGE_BYTES, self.page(page));
        }
        copy
    }

    fn page(&self, page: usize) -> &[u8] {
        let start = page * PAGE_BYTES;
        &self.bytes[start..(start + PAGE_BYTES).min(self.bytes.len())]
    }

    /// Changes `file`, which has this length, to these bytes. Only what differs is written.
    pub fn show(&self, file: &File) -> Result<()> {
        let mut seen = vec![false; self.touched.len()];
        let mut buffer = vec![0; CHUNK_BYTES];
        for chunk in chunks(file)? {
            let held = &mut buffer[..chunk.len()];
            file.read_exact_at(held, chunk.start as u64)?;
            for (page, held) in (chunk.start / PAGE_BYTES..).zip(held.chunks(PAGE_BYTES)) {
                seen[page] = true;
                if held != self.page(page) {
                    file.write_all_at(self.page(page), (page * PAGE_BYTES) as u64)?;
                }
            }
        }
        for page in (0..seen.len()).filter(|page| self.touched[*page] && !seen[*page]) {
            if self.page(page).iter().any(|byte| *byte != 0) {
                file.write_all_at(self.page(page), (page * PAGE_BYTES) as u64)?;
            }
        }
        Ok(())
    }
}

/// The ranges of `file` that are not holes, each no longer than a chunk, from the start of a page on.
fn chunks(file: &File) -> Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(found),
            Err(error) => return Err(std::io::Error::from(error).into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        anyhow::ensure!(end > start, std::io::Error::from(ErrorKind::InvalidData));
        let (mut from, end) = (start as usize / PAGE_BYTES * PAGE_BYTES, end as usize);
        while from < end {
            found.push(from..end.min(from + CHUNK_BYTES));
            from += CHUNK_BYTES;
        }
        at = end as u64;
    }
}
