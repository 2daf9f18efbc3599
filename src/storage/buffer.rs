//! Heap memory aligned for reads that bypass the page cache.

/// What direct I/O wants of addresses, lengths and offsets, on every device in use.
const ALIGN: usize = 4096;

/// What it holds before it is read into: no byte that is looked for.
const UNREAD: u8 = 0xff;

/// A buffer whose bytes start at a multiple of 4096.
#[derive(Debug)]
pub struct DeviceBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl DeviceBuffer {
    /// A buffer of `len` bytes, a multiple of 4096.
    #[must_use]
    pub fn new(len: usize) -> Self {
        // Not zeros: the allocator has those without touching a page.
        let bytes = vec![UNREAD; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        // An offset that cannot be computed costs the alignment, and with it direct I/O, and nothing else.
        let start = if start <= ALIGN { start } else { 0 };
        Self { bytes, start, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// Has every page of it in memory, and its own. btrfs reads the device only into such pages; into the others it copies
    /// what the page cache has.
    pub(super) fn touch(&mut self) {
        self.bytes_mut().fill(UNREAD);
    }

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
