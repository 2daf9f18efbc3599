//! What a log line says of a log, and of its pins.

use std::fmt::{Debug, Formatter, Result};

use super::{Log, Pin, PinDirectory};

impl Debug for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Log");
        out.field("directory", &self.directory()).field("first_lsn", &self.first_lsn());
        out.field("next_lsn", &self.next_lsn()).field("durable_lsn", &self.durable_lsn()).finish_non_exhaustive()
    }
}

impl Debug for Pin {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Pin").field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}

impl Debug for PinDirectory {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("PinDirectory").field("directory", &self.storage.path()).finish_non_exhaustive()
    }
}
