//! A batch: several records that a crash keeps together or not at all, and that no reader sees in part.

use mapwal::{Error, Log, Lsn, Options};

const DEBIT: u16 = 1;
const CREDIT: u16 = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(64 << 10))? };

    // The records of a batch get consecutive numbers, also while other threads append.
    let transfer = log.append_batch(&[(DEBIT, b"7 from Anna"), (CREDIT, b"7 to Bert")])?;
    println!("a transfer of two records: {} and {}", transfer.start, Lsn(transfer.end.0 - 1));
    assert_eq!(transfer, Lsn(1)..Lsn(3));

    // Durable together: one sync covers all that was appended before it.
    log.sync()?;
    println!("durable up to record {}", log.durable_lsn());

    // A batch must fit into one segment. One that does not is refused as a whole.
    let (small, large) = (b"7 from Bert".as_slice(), vec![0; 60_000]);
    match log.append_batch(&[(DEBIT, small), (CREDIT, &large), (CREDIT, &large)]) {
        Err(error @ Error::RecordTooLarge { .. }) => println!("refused: {error}"),
        other => return Err(format!("expected a refusal, got {other:?}").into()),
    }
    assert_eq!(log.next_lsn(), Lsn(3), "nothing of it is in the log");

    for record in &log.snapshot()? {
        let record = record?;
        println!("{}: {}", record.lsn(), String::from_utf8_lossy(record.payload()));
    }
    log.close()?;
    Ok(())
}
