//! How much memory counts as the process's while it appends, and while it follows.

use mapwal::{Lsn, Options, Visibility};

use crate::support::child::{self, Child};
use crate::support::scratch::scratch;
use crate::support::{open, read_only};

const MIB: usize = 1 << 20;
const RECORDS: usize = 96;
/// Several segments and what goes on beside them.
const MORE_MAX_MIB: usize = 40;

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
#[ignore = "another test runs it as a process of its own"]
fn grows() {
    let Some(directory) = child::directory() else { return };
    let payload = vec![0x5a; MIB];
    let before = resident_mib();
    let log = open(&directory, &Options::new().segment_size_bytes(8 * MIB as u64));
    for _ in 0..RECORDS {
        let lsn = log.append(1, &payload).unwrap();
        log.wait_durable(lsn).unwrap();
    }
    child::answer(&resident_mib().saturating_sub(before).to_string());
    log.close().unwrap();
    drop(log);
    let before = resident_mib();
    let reader = read_only(&directory).unwrap();
    let mut follower = reader.follow(Lsn::FIRST, Visibility::Durable).unwrap();
    for _ in 0..RECORDS {
        assert_eq!(follower.next().unwrap().expect("as many as were appended").payload(), payload);
    }
    child::answer(&resident_mib().saturating_sub(before).to_string());
}

#[test]
fn segments_that_are_durable_or_passed_by_a_follower_take_no_memory_of_the_process() {
    let dir = scratch();
    let mut child = Child::spawn("read::memory::grows", dir.path());
    let appended: usize = child.hear().parse().unwrap();
    assert!(appended < MORE_MAX_MIB, "{appended} MiB more after {RECORDS} MiB appended");
    let followed: usize = child.hear().parse().unwrap();
    assert!(followed < MORE_MAX_MIB, "{followed} MiB more after {RECORDS} MiB followed");
}
