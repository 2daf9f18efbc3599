//! A snapshot, which stays as it is while the log goes on, and look-ups by number.

use mapwal::{Error, Log, Lsn, Options, Result};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(64 << 10))? };
    for number in 1..=200 {
        log.append(1, format!("{number:0>900}").as_bytes())?;
    }

    let snapshot = log.snapshot()?;
    println!("a snapshot of records {} to {}", snapshot.first_lsn(), Lsn(snapshot.next_lsn().0 - 1));
    // A record that owns a share of the mapping: it can be kept, and sent to another thread, without a copy.
    let kept = log.get(Lsn(3))?.ok_or("record 3 is there")?;

    log.append(1, b"later")?;
    log.trim_before(log.next_lsn())?;
    println!("the log now begins with record {}", log.first_lsn());
    assert!(log.first_lsn() > Lsn(3));

    // What is trimmed stays readable for those that have it; the log itself has it no more.
    assert_eq!(snapshot.iter().count(), 200, "and what was appended since is not part of it");
    assert!(matches!(log.get(Lsn(3)), Err(Error::Trimmed { .. })));
    let held = std::thread::spawn(move || kept.payload().len()).join().expect("no panic");
    println!("record 3 still has its {held} bytes");

    // Look-ups and ranges borrow from the mapping: nothing is copied.
    let record = snapshot.get(Lsn(150))?.ok_or("record 150 is there")?;
    println!("record {} has tag {} and {} bytes", record.lsn(), record.tag(), record.payload().len());
    let bytes: usize = snapshot.range(Lsn(10)..Lsn(20)).map(|record| Ok(record?.payload().len())).sum::<Result<_>>()?;
    println!("records 10 to 19 have {bytes} bytes");
    assert_eq!(bytes, 10 * 900);
    Ok(())
}
