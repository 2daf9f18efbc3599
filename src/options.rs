//! How a log is opened.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format;
use crate::lsn::Lsn;

/// Options of [`Log::open`](crate::Log::open). They are checked there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) segment_size_bytes: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) create: bool,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) sync_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            first_lsn: Lsn::FIRST,
            create: true,
            sync_interval: None,
            sync_bytes: None,
        }
    }
}

impl Options {
    /// The defaults: segments of 64 MiB, a log that is created if there is none, whose first record is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The size of new segments in bytes: a power of two from 64 KiB to 4 GiB. A log may have segments of several
    /// sizes. The largest payload is a little less than one segment.
    pub fn segment_size_bytes(mut self, size: u64) -> Self {
        self.segment_size_bytes = size;
        self
    }

    /// The number of the first record, if the log is created: at least 1.
    pub fn first_lsn(mut self, lsn: Lsn) -> Self {
        self.first_lsn = lsn;
        self
    }

    /// Whether to create the directory and the log if there is none.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Syncs in the background whenever something has been appended and so much time has passed. Without it, and without
    /// [`Self::sync_bytes`], nothing is made durable that nobody asks for.
    pub fn sync_interval(mut self, interval: Option<Duration>) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Syncs in the background whenever about so many bytes have been appended since the last sync, at least 4096, or a
    /// segment has been filled.
    pub fn sync_bytes(mut self, bytes: Option<u64>) -> Self {
        self.sync_bytes = bytes;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !format::segment_size_is_valid(self.segment_size_bytes) {
            return Err(Error::InvalidOption {
                option: "segment_size_bytes",
                value: self.segment_size_bytes,
                expected: "a power of two from 64 KiB to 4 GiB",
            });
        }
        if self.first_lsn == Lsn::ZERO {
            return Err(Error::InvalidOption { option: "first_lsn", value: 0, expected: "at least 1" });
        }
        if let Some(bytes) = self.sync_bytes.filter(|&bytes| bytes < 4096) {
            return Err(Error::InvalidOption { option: "sync_bytes", value: bytes, expected: "at least 4096" });
        }
        if self.sync_interval.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::InvalidOption { option: "sync_interval", value: 0, expected: "more than zero" });
        }
        Ok(())
    }
}
