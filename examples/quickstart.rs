//! The shortest use of a log: open, append, sync, read, close.

use mapwal::{Log, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new())? };

    log.append(1, b"first")?;
    let last = log.append(2, b"second")?;
    log.sync()?;
    println!("durable up to record {last}");

    for record in &log.snapshot()? {
        let record = record?;
        println!("{}: tag {}, {}", record.lsn(), record.tag(), record.payload().escape_ascii());
    }
    log.close()?;
    Ok(())
}
