//! Trimming old segments, and a pin that keeps what a consumer still needs.

use mapwal::{Log, Lsn, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let options = Options::new().segment_size_bytes(64 << 10);
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &options)? };
    fill(&log, 400)?;

    // A pin with a name survives a restart. With a limit it cannot fill the disk: beyond that it is lost, and says so.
    log.create_pin("replica", "the node in the other room", Lsn(150), Some(1 << 20))?;
    // A trim drops whole segments, up to the pin however much is asked for.
    report("trimmed", log.trim_before(log.next_lsn())?, &log);
    assert!(log.first_lsn() > Lsn(1) && log.first_lsn() <= Lsn(150), "record 150 stays");
    log.close()?;

    // SAFETY: as above.
    let log = unsafe { Log::open(directory.path(), &options)? };
    for pin in log.pins() {
        println!("after a restart: pin {:?} for {:?} is {:?}", pin.name, pin.owner, pin.state);
    }
    report("trimmed again", log.trim_before(log.next_lsn())?, &log);
    assert!(log.first_lsn() <= Lsn(150), "record 150 stays");

    // The consumer has come further: what lies before may go.
    log.advance_pin("replica", Lsn(390))?;
    report("the pin moved to 390", log.trim_before(log.next_lsn())?, &log);
    assert!(log.first_lsn() > Lsn(150) && log.first_lsn() <= Lsn(390));

    // Without the pin, all segments go but the one that takes appends.
    log.drop_pin("replica")?;
    fill(&log, 100)?;
    report("the pin is dropped", log.trim_before(log.next_lsn())?, &log);
    log.close()?;
    Ok(())
}

/// Appends records of 1,000 bytes, of which a segment holds about sixty.
fn fill(log: &Log, count: usize) -> mapwal::Result<Lsn> {
    for _ in 0..count {
        log.append(1, &[7; 1_000])?;
    }
    log.sync()
}

fn report(what: &str, segments: usize, log: &Log) {
    println!("{what}: {segments} segments dropped, the oldest record is {}", log.first_lsn());
}
