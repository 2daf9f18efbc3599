//! The shortest use of a log: open, append, sync, read, close.

use mapwal::{Log, Lsn, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new())? };

    log.append(1, b"debit 7")?;
    log.append(2, b"credit 7")?;
    assert_eq!(log.sync()?, Lsn(2)); // Both are durable.

    for record in &log.snapshot()? {
        let record = record?;
        println!("{}: {} bytes of type {}", record.lsn(), record.payload().len(), record.tag());
    }
    log.close()?;
    Ok(())
}
