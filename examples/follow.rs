//! A follower: it reads from one record on, and waits for what is appended next.

use std::time::Duration;

use mapwal::{Follower, Log, LogReader, Lsn, Options, Visibility};

const RECORDS: u64 = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(64 << 10))? };

    // Within the process that writes, as soon as a record is complete.
    let published = log.follow(Lsn(1), Visibility::Published)?;
    // As another process does, with nothing but the directory; here only what a crash cannot take back.
    // SAFETY: as above.
    let reader = unsafe { LogReader::open(directory.path())? };
    let durable = reader.follow(Lsn(1), Visibility::Durable)?;

    std::thread::scope(|scope| {
        let followers = [("published", published), ("durable", durable)]
            .map(|(name, follower)| scope.spawn(move || receive(name, follower)));
        for number in 1..=RECORDS {
            log.append(1, format!("record {number}").as_bytes())?;
        }
        log.sync()?;
        for follower in followers {
            let received = follower.join().expect("no follower panics")?;
            assert_eq!(received, RECORDS);
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    log.close()?;
    Ok(())
}

/// Takes records until all are there. They come in order and without a gap, over any number of segments.
fn receive(name: &str, mut follower: Follower) -> mapwal::Result<u64> {
    let mut received = 0;
    while received < RECORDS {
        let Some(record) = follower.next_timeout(Duration::from_secs(10))? else { break };
        received += 1;
        assert_eq!(record.lsn(), Lsn(received));
        if received % 250 == 0 {
            println!("{name}: {received} records, the last is {:?}", String::from_utf8_lossy(record.payload()));
        }
    }
    Ok(received)
}
