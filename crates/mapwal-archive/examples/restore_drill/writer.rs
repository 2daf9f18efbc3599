//! The process that writes: it goes on where it was killed, and trims what the archiver's pin lets go.

use std::error::Error;
use std::io::ErrorKind;

use mapwal::{Log, Lsn, Options};

use crate::Arguments;
use crate::trace::Trace;

/// How many records are made durable together.
const RECORDS_PER_SYNC: u64 = 100;
/// How many records there are between two trims.
const RECORDS_PER_TRIM: u64 = 2_000;
/// How many records a trim would leave, were it not for the pin.
const KEPT_RECORDS: u64 = 1_000;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let trace = Trace::bundled()?;
    let options = Options::new().segment_size_bytes(256 << 10);
    // SAFETY: the directory is the drill's own, and its processes change the files by this library only.
    let log = unsafe { Log::open(&arguments.directory, &options) }?;
    while log.next_lsn() <= Lsn(arguments.records) {
        let number = log.next_lsn().0 - 1;
        let record = trace.record(number);
        log.append_with(record.tag, record.len, |payload| record.fill(payload))?;
        if number % RECORDS_PER_SYNC == 0 {
            log.sync()?;
        }
        // Until the archiver has set its pin, all is kept.
        if number % RECORDS_PER_TRIM == 0 && !log.pins().is_empty() {
            trim(&log, Lsn(number.saturating_sub(KEPT_RECORDS).max(1)))?;
        }
    }
    log.sync()?;
    // Not closed: a segment that takes appends stays, and is archived in parts.
    Ok(())
}

/// Where the archiver takes longer than a second to change its pin, the next trim does what this one does not.
fn trim(log: &Log, before: Lsn) -> mapwal::Result<()> {
    match log.trim_before(before) {
        Err(mapwal::Error::Io { source, .. }) if source.kind() == ErrorKind::TimedOut => Ok(()),
        trimmed => trimmed.map(drop),
    }
}
