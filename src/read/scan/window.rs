//! Copies of stretches of a segment's file.

use std::io;

use crate::format::frame::{self, ALIGN, FrameHeader, HEADER_LEN};
use crate::storage::{DeviceBuffer, StorageFile};

/// Bytes read at a time: few enough to be still in a near cache when they are checked.
pub(super) const WINDOW_BYTES: usize = 256 << 10;

/// A copy of a stretch of the file.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Option<DeviceBuffer>,
    capacity: usize,
    /// Byte offset in the file, a multiple of 8 like those of all frames, so that payloads are aligned here as well.
    start: u64,
    len: usize,
}

impl Window {
    /// Forgets what is here: the file may have changed.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Sees to it that the `len` bytes at `offset` are here.
    pub(super) fn fill(&mut self, file: &dyn StorageFile, offset: u64, len: usize) -> io::Result<()> {
        if offset >= self.start && offset + len as u64 <= self.start + self.len as u64 {
            return Ok(());
        }
        self.len = 0;
        self.start = offset - offset % ALIGN as u64;
        let needed = usize_of(offset - self.start) + len;
        if needed > self.capacity || self.buffer.is_none() {
            self.capacity = needed.max(WINDOW_BYTES).next_multiple_of(4096);
        }
        let capacity = self.capacity;
        let buffer = self.buffer.take().filter(|buffer| buffer.bytes().len() >= capacity);
        let buffer = self.buffer.insert(buffer.unwrap_or_else(|| DeviceBuffer::new(capacity)));
        self.len = file.read_at(buffer.bytes_mut(), self.start)?;
        if self.len < needed { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// What is here from `offset` on, up to `limit`; nothing if that is elsewhere.
    pub(super) fn rest(&self, offset: u64, limit: u64) -> &[u8] {
        let end = limit.min(self.start + self.len as u64);
        if offset < self.start || offset >= end {
            return &[];
        }
        self.bytes(offset, usize_of(end - offset))
    }

    /// What [`Self::fill`] has brought.
    pub(super) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let start = usize_of(offset - self.start);
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.bytes()[start..start + len])
    }
}

/// The checksum that a frame with this `header` at `offset` is to have, without keeping its payload.
pub(super) fn checksum_of(file: &dyn StorageFile, salt: u32, offset: u64, header: &FrameHeader) -> io::Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    let mut buffer = vec![0; WINDOW_BYTES];
    let len = header.len();
    let mut done = HEADER_LEN as u64;
    while done < u64::from(len) {
        let wanted = usize_of(u64::from(len) - done).min(buffer.len());
        read_all(file, offset + done, &mut buffer[..wanted])?;
        sum.update(&buffer[..wanted]);
        done += wanted as u64;
    }
    Ok(frame::checksum(salt, len, header.tail(), sum.finalize()))
}

/// Fills `into` with the bytes at `offset`.
pub(super) fn read_all(file: &dyn StorageFile, offset: u64, into: &mut [u8]) -> io::Result<()> {
    if file.read_at(into, offset)? < into.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// An offset or length within a segment, of which none is longer than 4 GiB.
pub(super) fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
