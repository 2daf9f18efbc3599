//! Group commit: threads that wait for their records at the same time share the syncs.

use std::time::Instant;

use mapwal::{Log, Options};

const THREADS: u64 = 16;
const COMMITS_PER_THREAD: u64 = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new())? };

    let begin = Instant::now();
    std::thread::scope(|scope| {
        let log = &log;
        let committers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || commit(log, thread))).collect();
        committers.into_iter().try_for_each(|committer| committer.join().expect("no committer panics"))
    })?;
    let elapsed = begin.elapsed();

    // One thread leads: it syncs all that is appended by then. The others find their records durable when it is done.
    let stats = log.stats();
    println!("{} commits by {THREADS} threads in {elapsed:.1?}", stats.records_appended);
    println!("{} syncs, {:.1} records in each", stats.syncs, stats.records_per_sync());
    println!("half of the syncs took at most {:.0?}", stats.sync_time_p50);
    assert_eq!(stats.records_appended, THREADS * COMMITS_PER_THREAD);
    assert!(stats.syncs <= stats.records_appended, "no commit needs more than one");
    log.close()?;
    Ok(())
}

/// Appends records one by one, each durable before the next.
fn commit(log: &Log, thread: u64) -> mapwal::Result<()> {
    for number in 0..COMMITS_PER_THREAD {
        let lsn = log.append(1, format!("commit {number} of thread {thread}").as_bytes())?;
        log.wait_durable(lsn)?;
    }
    Ok(())
}
