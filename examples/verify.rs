//! Verifying a log without opening it: sound, then with one byte changed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mapwal::inspect::{Inspection, VerifyOptions, VerifyReport};
use mapwal::{Log, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files while it is open.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(64 << 10))? };
    for number in 1..=100 {
        log.append(1, format!("record {number:0>900}").as_bytes())?;
        log.sync()?;
    }
    log.close()?;

    let report = verify(directory.path())?;
    assert!(report.damage.is_empty() && report.closed);

    // A disk that fails: a byte of a record in the middle of the first segment.
    let file = File::options().read(true).write(true).open(&report.segments[0].path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 30_000)?;
    file.write_all_at(&[byte[0] ^ 1], 30_000)?;

    let report = verify(directory.path())?;
    assert_eq!(report.damage.len(), 1);
    Ok(())
}

/// Reads all of the log, and goes on after what is damaged.
fn verify(directory: &Path) -> mapwal::Result<VerifyReport> {
    let report = Inspection::open(directory)?.verify(VerifyOptions::default(), &mut |_bytes| ())?;
    println!("{} sound records, {} bytes of a torn end", report.records(), report.torn_bytes());
    for segment in &report.segments {
        println!("  segment {} is {:?}: {} records", segment.number, segment.state, segment.records);
    }
    // Bytes that a later frame says were durable are damage, not the torn end of a crash.
    for damage in &report.damage {
        println!("  {damage}");
    }
    Ok(report)
}
