//! The last record that was seen, so that one that has come to its number since can be told from it.

use std::fmt;

use mapwal::{Error, LogReader, Lsn, Record};

/// A record by its number, and by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) lsn: Lsn,
    /// Of its tag and payload.
    pub(crate) sum: u32,
}

impl Last {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&record.tag().to_le_bytes());
        hasher.update(record.payload());
        Self { lsn: record.lsn(), sum: hasher.finalize() }
    }

    /// Whether the log has this record under its number. What was trimmed cannot be compared, and passes.
    pub(crate) fn is_in(self, reader: &LogReader) -> mapwal::Result<bool> {
        match reader.snapshot()?.get(self.lsn) {
            Ok(record) => Ok(record.is_some_and(|record| Self::of(&record) == self)),
            Err(Error::Trimmed { .. }) => Ok(true),
            Err(Error::NotAppended { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (lsn, sum) = text.split_once(' ')?;
        Some(Self { lsn: Lsn(lsn.parse().ok()?), sum: u32::from_str_radix(sum, 16).ok()? })
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:08x}", self.lsn, self.sum)
    }
}
