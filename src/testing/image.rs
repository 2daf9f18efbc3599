//! One file: what processes see of it, and what the device holds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;

use crate::memory::HeapMemory;

/// Of the page cache.
pub const PAGE_BYTES: usize = 4096;
pub const WORD_BYTES: usize = 8;
const PAGE_WORDS: usize = PAGE_BYTES / WORD_BYTES;
const SECTOR_WORDS: usize = 512 / WORD_BYTES;
const SECTORS_PER_PAGE: usize = PAGE_WORDS / SECTOR_WORDS;

/// A page on the device; `None` if it is zeros.
type Page = Option<Arc<[u64; PAGE_WORDS]>>;

/// What becomes of pages whose write-back has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterEffect {
    /// The page counts as clean, with its new contents in the cache, until it is stored to again: ext4 on written
    /// extents, XFS.
    Clean,
    /// The page is never written again, and later syncs succeed: ext4 on unwritten extents. On a disk that shows its cache
    /// only, a page that had never been written, until all of the file system is synced: btrfs without copy on write, which
    /// has what is written there, and forgets in a power cut that it was.
    Lost,
    /// As `Clean`, and the cache goes back to what the device holds as soon as nobody has the file mapped: btrfs, and
    /// any file system that reclaims the page.
    Reverted,
}

/// A page that counts as clean although the device does not hold its contents.
#[derive(Debug, Clone)]
struct Failed {
    effect: AfterEffect,
    /// Its contents when it was declared clean.
    contents: Box<[u64; PAGE_WORDS]>,
}

/// The contents and the length of a file, twice.
#[derive(Debug, Clone, Default)]
pub struct Image {
    len: u64,
    durable_len: u64,
    /// The page cache, once a process has mapped or changed the file. Without it processes see what the device holds.
    cache: Option<Arc<HeapMemory>>,
    device: Vec<Page>,
    failed: BTreeMap<usize, Failed>,
    /// Some of it is a hole.
    has_hole: bool,
}

impl Image {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn has_hole(&self) -> bool {
        self.has_hole
    }

    /// Extends the file to `len` bytes of zeros.
    pub fn allocate(&mut self, len: u64) {
        self.has_hole = false;
        if len > self.len {
            let old_words = self.device.len() * PAGE_WORDS;
            self.len = len;
            self.device.resize((len as usize).div_ceil(PAGE_BYTES), None);
            if let Some(old) = self.cache.take() {
                let grown = self.cache();
                (0..old_words).for_each(|word| grown.set_word(word, old.word(word)));
            }
        }
    }

    /// The page cache, filled from the device if it was empty.
    pub fn cache(&mut self) -> Arc<HeapMemory> {
        let device = &self.device;
        let cache = self.cache.get_or_insert_with(|| {
            let memory = HeapMemory::zeroed(device.len() * PAGE_BYTES);
            for (index, page) in device.iter().enumerate() {
                let Some(page) = page else { continue };
                for (at, word) in page.iter().enumerate() {
                    memory.set_word(index * PAGE_WORDS + at, word.to_le_bytes());
                }
            }
            Arc::new(memory)
        });
        Arc::clone(cache)
    }

    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        self.allocate((offset + bytes.len()) as u64);
        let pages = offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES);
        if self.cache.is_none()
            && bytes.iter().all(|&b| b == 0)
            && self.device[pages.clone()].iter().all(Option::is_none)
        {
            return;
        }
        let cache = self.cache();
        // Dirty again, whatever it was.
        self.failed.retain(|page, failed| failed.effect == AfterEffect::Lost || !pages.contains(page));
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = at % WORD_BYTES;
            let (part, after) = rest.split_at(rest.len().min(WORD_BYTES - start));
            let mut word = cache.word(at / WORD_BYTES);
            word[start..start + part.len()].copy_from_slice(part);
            cache.set_word(at / WORD_BYTES, word);
            (at, rest) = (at + part.len(), after);
        }
    }

    /// Makes a hole of whole pages, which reads as zeros. The device knows of it at once, or whenever it writes the pages.
    pub fn give_back(&mut self, range: Range<usize>, is_durable: bool) {
        self.has_hole = true;
        let cache = self.cache();
        for page in range.start / PAGE_BYTES..range.end / PAGE_BYTES {
            self.failed.remove(&page);
            (page * PAGE_WORDS..(page + 1) * PAGE_WORDS).for_each(|word| cache.set_word(word, [0; WORD_BYTES]));
            if is_durable {
                self.device[page] = None;
            }
        }
    }

    /// What processes read.
    pub fn read(&self, bytes: &mut [u8], offset: usize) -> usize {
        let wanted = bytes.len().min((self.len as usize).saturating_sub(offset));
        fill(&mut bytes[..wanted], offset, |word| match &self.cache {
            Some(cache) => cache.word(word),
            None => self.device_word(word).to_le_bytes(),
        })
    }

    /// What the device says. Direct I/O has dirty pages written first, but into the device's own cache: nothing of it is
    /// durable before a sync.
    pub fn read_device(&self, bytes: &mut [u8], offset: usize) -> usize {
        let wanted = bytes.len().min((self.len as usize).saturating_sub(offset));
        let is_failed = |word: usize| match (&self.cache, self.failed.get(&(word / PAGE_WORDS))) {
            (Some(cache), Some(failed)) => !failed.is_redirtied(cache, word / PAGE_WORDS),
            _ => false,
        };
        fill(&mut bytes[..wanted], offset, |word| match &self.cache {
            Some(cache) if self.failed.is_empty() || !is_failed(word) => cache.word(word),
            _ => self.device_word(word).to_le_bytes(),
        })
    }

    fn device_word(&self, word: usize) -> u64 {
        self.device[word / PAGE_WORDS].as_ref().map_or(0, |page| page[word % PAGE_WORDS])
    }

    pub fn page_count(&self) -> usize {
        self.device.len()
    }

    /// The sectors of `pages` that the device holds differently, and that a sync would write.
    pub fn dirty(&self, pages: Range<usize>) -> Vec<usize> {
        let mut dirty = Vec::new();
        let Some(cache) = &self.cache else { return dirty };
        for page in pages.start..pages.end.min(self.device.len()) {
            if self.failed.get(&page).is_some_and(|failed| !failed.is_redirtied(cache, page)) {
                continue;
            }
            let device = self.device[page].as_deref();
            dirty.extend((page * SECTORS_PER_PAGE..(page + 1) * SECTORS_PER_PAGE).filter(|&sector| {
                let start = sector * SECTOR_WORDS;
                (start..start + SECTOR_WORDS).any(|word| {
                    u64::from_le_bytes(cache.word(word)) != device.map_or(0, |device| device[word % PAGE_WORDS])
                })
            }));
        }
        dirty
    }

    /// Brings a sector to the device.
    pub fn write_back(&mut self, sector: usize) {
        self.transfer(sector, |_| true);
    }

    fn transfer(&mut self, sector: usize, mut takes: impl FnMut(usize) -> bool) {
        let Some(cache) = &self.cache else { return };
        let page = self.device[sector / SECTORS_PER_PAGE].get_or_insert_with(|| Arc::new([0; PAGE_WORDS]));
        let page = Arc::make_mut(page);
        for word in sector * SECTOR_WORDS..(sector + 1) * SECTOR_WORDS {
            if takes(word) {
                page[word % PAGE_WORDS] = u64::from_le_bytes(cache.word(word));
            }
        }
    }

    /// The file's length has become durable.
    pub fn settle_len(&mut self) {
        self.durable_len = self.len;
    }

    /// All of it is on the device, also what syncs do not write.
    pub fn settle(&mut self) {
        self.failed.clear();
        self.dirty(0..self.device.len()).into_iter().for_each(|sector| self.write_back(sector));
        self.settle_len();
    }

    /// The page of `sector` could not be written, and counts as clean from now on. On a disk that `hides_device` a page is lost
    /// only if it had never been written.
    pub fn fail_page_of(&mut self, sector: usize, effect: AfterEffect, hides_device: bool) {
        let page = sector / SECTORS_PER_PAGE;
        let is_known = hides_device && self.device[page].is_some();
        let effect = if is_known && effect == AfterEffect::Lost { AfterEffect::Clean } else { effect };
        let Some(cache) = &self.cache else { return };
        let contents = std::array::from_fn(|at| u64::from_le_bytes(cache.word(page * PAGE_WORDS + at)));
        self.failed.insert(page, Failed { effect, contents: Box::new(contents) });
    }

    /// Pages that are clean, or count as clean, are forgotten, as far as nobody has them mapped.
    pub fn drop_cache(&mut self) {
        if self.cache.as_ref().is_some_and(|cache| Arc::strong_count(cache) == 1) {
            for sector in self.dirty(0..self.device.len()) {
                self.write_back(sector);
            }
            self.cache = None;
            self.failed.retain(|_, failed| failed.effect == AfterEffect::Lost);
        }
    }

    /// What the failure of a write does once the process that had the file mapped is gone.
    pub fn forget_reverted(&mut self) {
        if self.failed.values().any(|failed| failed.effect == AfterEffect::Reverted) {
            self.drop_cache();
        }
    }

    /// What a power cut leaves: each sector that differs is old, new or a mixture of both.
    pub fn after_power_cut(&self, rng: &mut Rng) -> Self {
        let mut left = Self { cache: self.cache.clone(), device: self.device.clone(), ..Self::default() };
        for sector in self.dirty(0..self.device.len()) {
            match rng.u8(0..100) {
                0..45 => {}
                45..90 => left.transfer(sector, |_| true),
                _ => left.transfer(sector, |_| rng.bool()),
            }
        }
        left.cache = None;
        left.len = if rng.bool() { self.len } else { self.durable_len };
        left.durable_len = left.len;
        left.device.truncate((left.len as usize).div_ceil(PAGE_BYTES));
        left
    }

    /// A copy with a page cache of its own: what the death of the process leaves.
    pub fn after_kill(&self) -> Self {
        let mut left = self.clone();
        if let Some(cache) = &self.cache {
            let copy = HeapMemory::zeroed(self.device.len() * PAGE_BYTES);
            (0..self.device.len() * PAGE_WORDS).for_each(|word| copy.set_word(word, cache.word(word)));
            left.cache = Some(Arc::new(copy));
        }
        left.forget_reverted();
        left
    }

    /// Where the device holds `word`, in bytes, at a multiple of 8.
    pub fn find(&self, word: u64) -> Option<usize> {
        let pages = self.device.iter().enumerate();
        pages.filter_map(|(index, page)| Some((index, page.as_ref()?))).find_map(|(index, page)| {
            page.iter().position(|&w| w == word).map(|at| index * PAGE_BYTES + at * WORD_BYTES)
        })
    }

    /// Changes what the device holds, without a write. The page cache must be empty.
    pub fn damage(&mut self, offset: usize, change: impl FnOnce(u8) -> u8) {
        assert!(self.cache.is_none(), "damage would be hidden by the page cache");
        let page = self.device[offset / PAGE_BYTES].get_or_insert_with(|| Arc::new([0; PAGE_WORDS]));
        let word = &mut Arc::make_mut(page)[offset % PAGE_BYTES / WORD_BYTES];
        let mut bytes = word.to_le_bytes();
        bytes[offset % WORD_BYTES] = change(bytes[offset % WORD_BYTES]);
        *word = u64::from_le_bytes(bytes);
    }
}

impl Failed {
    fn is_redirtied(&self, cache: &HeapMemory, page: usize) -> bool {
        let differs = |(at, &word): (usize, &u64)| u64::from_le_bytes(cache.word(page * PAGE_WORDS + at)) != word;
        self.effect != AfterEffect::Lost && self.contents.iter().enumerate().any(differs)
    }
}

/// Fills `bytes` from the words at `offset`.
fn fill(bytes: &mut [u8], offset: usize, word: impl Fn(usize) -> [u8; WORD_BYTES]) -> usize {
    let len = bytes.len();
    let (start, mut next) = (offset % WORD_BYTES, offset.div_ceil(WORD_BYTES));
    let (first, rest) = bytes.split_at_mut(len.min(next * WORD_BYTES - offset));
    if !first.is_empty() {
        first.copy_from_slice(&word(offset / WORD_BYTES)[start..start + first.len()]);
    }
    let mut whole = rest.chunks_exact_mut(WORD_BYTES);
    for bytes in &mut whole {
        bytes.copy_from_slice(&word(next));
        next += 1;
    }
    let last = whole.into_remainder();
    if !last.is_empty() {
        last.copy_from_slice(&word(next)[..last.len()]);
    }
    len
}
