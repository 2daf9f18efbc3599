//! How much memory counts as the process's after a log has been appended, and followed; how much of it the page cache holds where the log
//! lets that go.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use mapwal::{Log, Lsn, Options, SealedSegment, Visibility};

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::follow::read_only;
use crate::report::Row;
use crate::samples::Samples;
use crate::system::{cached_mib, resident_mib};

const PAYLOAD_LEN: usize = 4 << 10;
const RECORDS: usize = 1 << 20;
/// The log syncs itself, as one does that is not synced by each commit.
const SYNC_BYTES: u64 = 16 << 20;
const MORE_MAX_MIB: f64 = 64.0;
const MIB: f64 = (1 << 20) as f64;
const CACHED: &str = "page cache of ended segments after 4 GiB appended, let go";

pub(crate) fn run(bench: &mut Bench) {
    let name = |what: &str| format!("resident memory after 4 GiB {what}");
    if !bench.wants(&name("appended, followed")) && !bench.wants(CACHED) {
        return;
    }
    let count = bench.amount(RECORDS);
    let directory = fresh(bench.directory());
    let (mut after_appends, mut after_following) = (Samples::default(), Samples::default());
    let Some(before) = resident_mib() else { return };
    let options = Options::new().sync_bytes(Some(SYNC_BYTES));
    let (log, rate) = appended(directory.path(), &options, count);
    after_appends.push_some(resident_mib().map(|after| after - before));
    log.close().expect("the disk works");

    let Some(before) = resident_mib() else { return };
    let mut follower = read_only(directory.path()).follow(Lsn::FIRST, Visibility::Published).expect("the log is whole");
    let mut seen = 0;
    while let Some(record) = follower.next().expect("the log is whole") {
        black_box(record.payload());
        seen += 1;
    }
    assert_eq!(seen, count);
    after_following.push_some(resident_mib().map(|after| after - before));
    drop((follower, directory));

    let directory = fresh(bench.directory());
    let (log, rate_let_go) = appended(directory.path(), &options.keep_page_cache(false), count);
    let mut in_page_cache = Samples::default();
    in_page_cache.push_some(log.sealed(0).ok().and_then(|sealed| cached_mib(sealed.iter().map(SealedSegment::path))));
    log.close().expect("the disk works");
    bench.push(Row::new(name("appended"), "MiB more", after_appends).value_at_most(MORE_MAX_MIB));
    bench.push(Row::new(name("followed"), "MiB more", after_following).value_at_most(MORE_MAX_MIB));
    bench.push(Row::new(CACHED, "MiB", in_page_cache).value_at_most(MORE_MAX_MIB));
    bench.push(Row::new(format!("{CACHED}, the appends"), "MiB/s", rate_let_go).limit("kept", rate));
}

/// A log with `count` durable records, and how fast they were appended, in MiB/s.
fn appended(directory: &Path, options: &Options, count: usize) -> (Log, Samples) {
    let log = open(directory, options);
    let clock = Instant::now();
    for _ in 0..count {
        log.append(1, black_box(&[0x5a; PAYLOAD_LEN])).expect("there is room");
    }
    log.sync().expect("the disk works");
    let mut rate = Samples::default();
    rate.push((count * PAYLOAD_LEN) as f64 / MIB / clock.elapsed().as_secs_f64());
    (log, rate)
}
