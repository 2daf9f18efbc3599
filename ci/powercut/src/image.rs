//! Contents of a disk: in memory of ours, and in the file that the disk serves.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Result;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What is compared and written as a whole.
const PAGE_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 256 << 10;

type Page = [u8; PAGE_BYTES];

static ZEROS: Page = [0; PAGE_BYTES];

/// The bytes of a disk, whose length is a multiple of a page. Copies share pages until they are written to; pages that were
/// never written are zeros.
#[derive(Debug, Clone)]
pub struct Image(Vec<Option<Arc<Page>>>);

impl Image {
    pub fn new(len: usize) -> Self {
        assert_eq!(len % PAGE_BYTES, 0, "a disk has whole pages");
        Self(vec![None; len / PAGE_BYTES])
    }

    pub fn write(&mut self, mut offset: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let page = Arc::make_mut(self.0[offset / PAGE_BYTES].get_or_insert_with(|| Arc::new(ZEROS)));
            let place = &mut page[offset % PAGE_BYTES..];
            let (now, rest) = bytes.split_at(place.len().min(bytes.len()));
            place[..now.len()].copy_from_slice(now);
            offset += now.len();
            bytes = rest;
        }
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

    fn page(&self, page: usize) -> &Page {
        self.0[page].as_deref().unwrap_or(&ZEROS)
    }

    /// Changes `file`, which has this length, to these bytes. Only what differs is written.
    pub fn show(&self, file: &File) -> Result<()> {
        let mut seen = vec![false; self.0.len()];
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
        for page in (0..seen.len()).filter(|page| !seen[*page] && self.0[*page].is_some()) {
            if *self.page(page) != ZEROS {
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
