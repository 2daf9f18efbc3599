//! Heap memory aligned for reads that bypass the page cache.

/// What direct I/O wants of addresses, lengths and offsets, on every device in use.
const ALIGN: usize = 4096;

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
        let bytes = vec![0; len + ALIGN];
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

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
