//! How much memory counts as the process's after a log has been appended, and followed.

use std::hint::black_box;

use mapwal::{Lsn, Options, Visibility};

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::follow::read_only;
use crate::report::Row;
use crate::samples::Samples;
use crate::system::resident_mib;

const PAYLOAD_LEN: usize = 4 << 10;
const RECORDS: usize = 1 << 20;
/// The log syncs itself, as one does that is not synced by each commit.
const SYNC_BYTES: u64 = 16 << 20;
const MORE_MAX_MIB: f64 = 64.0;

pub(crate) fn run(bench: &mut Bench) {
    let name = |what: &str| format!("resident memory after 4 GiB {what}");
    if !bench.wants(&name("appended, followed")) {
        return;
    }
    let count = bench.amount(RECORDS);
    let directory = fresh(bench.directory());
    let (mut after_appends, mut after_following) = (Samples::default(), Samples::default());
    let Some(before) = resident_mib() else { return };
    let log = open(directory.path(), &Options::new().sync_bytes(Some(SYNC_BYTES)));
    for _ in 0..count {
        log.append(1, black_box(&[0x5a; PAYLOAD_LEN])).expect("there is room");
    }
    log.sync().expect("the disk works");
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
    bench.push(Row::new(name("appended"), "MiB more", after_appends).value_at_most(MORE_MAX_MIB));
    bench.push(Row::new(name("followed"), "MiB more", after_following).value_at_most(MORE_MAX_MIB));
}
