//! A log that is opened by a relative path, in a process that goes elsewhere afterwards: where there is another log under the same path.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use mapwal::{Log, Lsn, PinDirectory, Visibility};

use crate::support::child::{self, Child};
use crate::support::scratch::{await_spare, scratch};
use crate::support::{append, assert_records, open, read_only, small};

/// The bytes of each file.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|file| file.file_type().unwrap().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn use_all(log: &Log, directory: &Path) {
    append(log, 11..=400);
    await_spare(log);
    log.rotate().unwrap();
    append(log, 401..=410);
    log.put_meta(3, b"a value").unwrap();
    log.create_pin("pin", "the tests", Lsn(5), None).unwrap();
    log.drop_pin("pin").unwrap();
    log.sync().unwrap();

    // By path, and by the files that are open.
    assert_eq!(log.directory(), directory);
    let sealed = log.sealed(0).unwrap();
    assert!(!sealed.is_empty());
    for segment in &sealed {
        assert_eq!(fs::read(segment.path()).unwrap()[..segment.bytes().len()], *segment.bytes());
    }
    let prefix = log.durable_prefix().unwrap().unwrap();
    assert_eq!(fs::read(prefix.path()).unwrap()[..prefix.bytes().len()], *prefix.bytes());
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    let mut next = Lsn(1);
    while next < log.next_lsn() {
        let frames = follower.next_batch_timeout(1 << 20, Duration::ZERO).unwrap().expect("there are more");
        let mut file = frames.open_file().unwrap();
        file.seek(SeekFrom::Start(frames.offset())).unwrap();
        let mut bytes = vec![0; frames.bytes().len()];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, frames.bytes());
        assert_eq!(fs::read(frames.path()).unwrap()[frames.offset() as usize..][..bytes.len()], bytes);
        next = frames.next_lsn();
    }

    log.trim_before(Lsn(301)).unwrap();
    log.truncate_after(Lsn(405)).unwrap();
    append(log, 406..=700);
    log.sync().unwrap();
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn goes_elsewhere() {
    let Some(directory) = child::directory() else { return };
    let (here, elsewhere) = (directory.join("here"), directory.join("elsewhere"));
    std::env::set_current_dir(&here).unwrap();
    let log = open(Path::new("log"), &small());
    append(&log, 1..=10);
    log.sync().unwrap();
    let (reader, pins) = (read_only(Path::new("log")).unwrap(), PinDirectory::open("log").unwrap());
    let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
    std::env::set_current_dir(&elsewhere).unwrap();

    use_all(&log, &here.join("log"));
    assert_eq!(reader.directory(), here.join("log"));
    assert_records(&reader.snapshot().unwrap(), log.first_lsn().0, 700);
    pins.create("another", "the tests", Lsn(700), None).unwrap();
    assert_eq!(log.pins()[0].name, "another");
    while follower.next_timeout(Duration::from_millis(1200)).is_ok_and(|record| record.is_some()) {}
    log.close().unwrap();
    child::answer("done");
}

#[test]
fn a_log_stays_where_it_is_when_the_process_goes_elsewhere() {
    let dir = scratch();
    let [here, elsewhere] = ["here", "elsewhere"].map(|name| dir.path().join(name));
    fs::create_dir(&here).unwrap();
    let other = open(&elsewhere.join("log"), &small());
    append(&other, 1..=300);
    other.close().unwrap();
    let before = contents(&elsewhere.join("log"));
    let mut child = Child::spawn("open::working_directory::goes_elsewhere", dir.path());
    assert_eq!(child.hear(), "done");
    assert!(child.ended().success());
    assert!(contents(&elsewhere.join("log")) == before, "the log there was touched");
    let log = open(&here.join("log"), &small());
    assert!(log.recovery().clean);
    assert_records(&log.snapshot().unwrap(), log.first_lsn().0, 700);
}
