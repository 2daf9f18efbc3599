//! The process that appends: the traced records, again and again, in bursts.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use mapwal::{Log, Lsn, Options};

use crate::trace::Trace;

/// How often the trace is appended.
const REPETITIONS: u64 = 60;
/// Small, so that the follower crosses from one segment to the next hundreds of times.
const SEGMENT_SIZE_BYTES: u64 = 256 << 10;
/// Records from one sync to the next: the longest burst, in a row of bursts of many lengths.
const BURST_MAX: u64 = 8192;
/// Between two bursts, so that the follower catches up and has to wait now and then.
const PAUSE: Duration = Duration::from_millis(2);

/// How many records it appends. Record `n` of the log is record `n - 1` of the repeated trace.
pub(crate) fn record_count(trace: &Trace) -> u64 {
    trace.len() * REPETITIONS
}

/// Writes a new log to `directory`.
pub(crate) fn run(directory: &Path) -> Result<(), Box<dyn Error>> {
    let trace = Trace::bundled()?;
    let options = Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES);
    // SAFETY: the directory is a temporary one of the process that started this one, on a local file system; that
    // process only reads it, and nobody else knows of it.
    let log = unsafe { Log::open(directory, &options)? };
    let total = record_count(&trace);
    let mut number = 0;
    while number < total {
        let burst = 1 + number % BURST_MAX;
        for number in number..total.min(number + burst) {
            let record = trace.record(number);
            let lsn = log.append_with(record.tag, record.len, |bytes| record.fill(bytes))?;
            if lsn != Lsn(number + 1) {
                return Err(format!("record {number} of the trace became record {lsn} of the log").into());
            }
        }
        number += burst;
        log.sync()?;
        std::thread::sleep(PAUSE);
    }
    log.close()?;
    Ok(())
}
