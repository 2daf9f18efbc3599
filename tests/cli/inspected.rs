//! `segments`, `meta`, and why a log is as large as it is.

use std::path::Path;

use mapwal::wal::{PageId, Wal, WalOptions};
use mapwal::{Log, LogReader, Lsn, Options};
use serde_json::Value;

use crate::logs::{closed, copy, live, rewrite_header, scratch, segments, synced, write_at};
use crate::program::{Ran, run};

fn small() -> Options {
    Options::new().segment_size_bytes(64 << 10)
}

fn open(path: &Path) -> Log {
    // SAFETY: the directory is one of this test.
    unsafe { Log::open(path, &small()) }.unwrap()
}

fn json(log: &Path, command: &str) -> Value {
    serde_json::from_str(run(log, &format!("{command} --format json")).done().text()).unwrap()
}

fn append(log: &Log, records: u32) {
    for _ in 0..records {
        log.append(1, &[7; 900]).unwrap();
    }
}

/// The words of the row of each segment.
fn rows(ran: &Ran) -> Vec<Vec<&str>> {
    ran.lines().into_iter().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

/// The files and bytes that are there for a reason.
fn part(stat: &Value, reason: &str) -> (u64, u64) {
    let parts = stat["size"]["parts"].as_array().unwrap().iter().filter(|part| part["reason"] == reason);
    parts.fold((0, 0), |(files, bytes), part| {
        (files + part["files"].as_u64().unwrap(), bytes + part["bytes"].as_u64().unwrap())
    })
}

#[test]
fn segments_are_listed_with_state_range_end_link_and_checksum() {
    let log = synced(1200);
    let ran = run(log.path(), "segments DIR").done();
    let rows = rows(&ran);
    assert_eq!(rows[0][..3], ["1", "sealed", "1..338"], "{}", ran.text());
    assert_eq!(rows[3][..3], ["4", "active", "1015..1200"], "{}", ran.text());
    let after: Vec<&str> = rows.iter().map(|row| row[6]).collect();
    assert_eq!(after, ["-", "1", "2", "3"], "{}", ran.text());
    let sums: Vec<bool> = rows.iter().map(|row| u32::from_str_radix(row[7], 16).is_ok()).collect();
    assert_eq!(sums, [true, true, true, false], "{}", ran.text());
    assert_eq!(rows.iter().map(|row| row[8]).collect::<Vec<_>>(), ["-", "-", "-", "newest"]);
    // The checksum is that of the frame that ends where the table says.
    let end: usize = rows[0][5].parse().unwrap();
    let bytes = std::fs::read(&segments(log.path())[0]).unwrap();
    let last = *crate::logs::frames(&segments(log.path())[0]).iter().rfind(|at| **at < end).unwrap();
    let crc = u32::from_le_bytes(bytes[last + 4..last + 8].try_into().unwrap());
    assert_eq!(rows[0][7], format!("{crc:08x}"));
}

#[test]
fn what_keeps_each_segment_is_named() {
    let log = synced(1200);
    run(log.path(), "pins DIR add late 900 --no-limit").done();
    run(log.path(), "pins DIR add early 339 --no-limit").done();
    let ran = run(log.path(), "segments DIR").done();
    let kept: Vec<String> = rows(&ran).iter().map(|row| row[8..].join(" ")).collect();
    let both = "pin early, pin late";
    assert_eq!(kept, ["-", "pin early", both, &format!("newest, {both}")], "{}", ran.text());
    // A trim does what the table says.
    run(log.path(), "pins DIR drop late").done();
    assert_eq!(run(log.path(), "trim DIR --before 340").code, 4);
    run(log.path(), "trim DIR --before 339").done();
    assert_eq!(rows(&run(log.path(), "segments DIR").done())[0][0], "2");
}

#[test]
fn a_pin_of_the_process_that_writes_is_seen() {
    let directory = scratch();
    let log = open(directory.path());
    append(&log, 300);
    let pin = log.pin(Lsn(100)).unwrap();
    // Operators are told with one of a few syncs.
    let tell = || {
        for _ in 0..64 {
            append(&log, 1);
            log.sync().unwrap();
        }
    };
    tell();
    let stat = json(directory.path(), "stat DIR");
    assert_eq!(stat["activity"]["oldest_guarded_lsn"], 100);
    let (files, _) = part(&stat, "process");
    assert!(files >= 2, "{stat}");
    assert!(run(directory.path(), "segments DIR").done().text().contains("  the writer\n"));
    drop(pin);
    tell();
    let stat = json(directory.path(), "stat DIR");
    assert_eq!((part(&stat, "process"), &stat["activity"]["oldest_guarded_lsn"]), ((0, 0), &Value::Null));
}

#[test]
fn what_recovery_of_transactions_needs_is_kept_by_a_checkpoint() {
    let directory = scratch();
    let options = WalOptions::new().log(small());
    // SAFETY: the directory is one of this test.
    let wal = unsafe { Wal::open(directory.path(), &options) }.unwrap();
    let mut transaction = wal.begin().unwrap();
    for page in 0..200 {
        transaction.update(PageId(page), &[7; 900]).unwrap();
    }
    transaction.commit().unwrap().applied();
    let before = json(directory.path(), "segments DIR");
    assert_eq!(before["segments"][0]["kept_by"][0]["by"], "recovery", "without a checkpoint all of it: {before}");
    let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
    wal.flush().unwrap();
    let ran = run(directory.path(), "segments DIR").done();
    let kept: Vec<String> = rows(&ran).iter().map(|row| row[8..].join(" ")).collect();
    assert_eq!((&*kept[0], &*kept[3]), ("-", &*format!("newest, checkpoint {checkpoint}")), "{}", ran.text());
}

#[test]
fn the_parts_of_a_size_are_all_of_it() {
    let log = synced(1200);
    run(log.path(), "pins DIR add a 400 --no-limit").done();
    let stat = json(log.path(), "stat DIR");
    assert_eq!(part(&stat, "untrimmed"), (1, 64 << 10));
    assert_eq!(part(&stat, "pin"), (2, 128 << 10));
    assert_eq!(part(&stat, "newest"), (1, 64 << 10));
    let parts = stat["size"]["parts"].as_array().unwrap();
    let total: u64 = parts.iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(stat["disk_bytes"], total);
    let ends = segments(log.path()).into_iter().map(|path| {
        let last = *crate::logs::frames(&path).last().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let len = u32::from_le_bytes(bytes[last..last + 4].try_into().unwrap()) as usize;
        (64 << 10) - (last + len.next_multiple_of(8)) as u64
    });
    assert_eq!(stat["size"]["unused_bytes"], ends.sum::<u64>());
    let text = run(log.path(), "stat DIR").done();
    assert!(text.text().contains("2 files  kept by pin a, from record 400 on\n"), "{}", text.text());
}

#[test]
fn a_live_log_has_spares_and_files_that_are_kept_or_still_read() {
    let directory = scratch();
    let log = open(directory.path());
    // SAFETY: as above.
    let reader = unsafe { LogReader::open(directory.path()) }.unwrap();
    let mut follower = reader.follow(Lsn(1), mapwal::Visibility::Published).unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        append(&log, 200);
        log.sync().unwrap();
        while follower.next().unwrap().is_some() {}
        log.trim_before(log.next_lsn()).unwrap();
        let stat = json(directory.path(), "stat DIR");
        if part(&stat, "read").0 > 0 && part(&stat, "kept").0 > 0 && part(&stat, "spare").0 > 0 {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{stat}");
    }
    let ran = run(directory.path(), "segments DIR").done();
    assert!(ran.text().contains(" kept for further segments, "), "{}", ran.text());
}

#[test]
fn metadata_is_shown_with_its_place() {
    let directory = scratch();
    let log = open(directory.path());
    log.append(1, b"an event").unwrap();
    log.put_meta(3, b"applied up to 1").unwrap();
    log.put_meta(9, &[0, 1, 254, 255]).unwrap();
    log.put_meta(4, "é".repeat(100).as_bytes()).unwrap();
    log.append(1, b"another").unwrap();
    let ran = run(directory.path(), "meta DIR").done();
    let rows = rows(&ran);
    assert_eq!(rows[0][..3], ["3", "15", "1"], "{}", ran.text());
    assert_eq!(rows[0][4..].join(" "), "2 \"applied up to 1\"");
    assert_eq!(rows[1][5], format!("\"{}\"...", "é".repeat(16)), "{}", ran.text());
    assert_eq!(rows[2][5], "0001feff");
    log.put_meta(3, b"applied up to 2").unwrap();
    log.rotate().unwrap();
    let document = json(directory.path(), "meta DIR");
    assert_eq!(document["slots"][0]["text"], "applied up to 2");
    assert_eq!((&document["slots"][0]["segment"], &document["slots"][0]["offset"]), (&2.into(), &4096.into()));
    assert_eq!((&document["slots"][0]["carried"], &document["slots"][0]["before_lsn"]), (&true.into(), &3.into()));
    drop(log);
    assert_eq!(run(directory.path(), "meta DIR --slot 9 --raw").done().out, [0, 1, 254, 255]);
    let whole = run(directory.path(), "meta DIR --slot 4").done();
    assert!(whole.text().contains(&"é".repeat(100)), "{}", whole.text());
    let never = run(directory.path(), "meta DIR --slot 5 --raw");
    assert_eq!(never.code, 4);
    assert!(never.err.contains("metadata slot 5 was never set"), "{}", never.err);
}

#[test]
fn of_a_damaged_log_what_is_there_is_shown_and_the_exit_code_says_damage() {
    let directory = scratch();
    let log = open(directory.path());
    log.put_meta(3, b"before").unwrap();
    log.append(1, &[7; 50_000]).unwrap();
    log.append(1, &[7; 50_000]).unwrap();
    log.close().unwrap();
    let spoilt = copy(directory.path());
    write_at(&segments(spoilt.path())[1], 20, &[1]);
    for command in ["meta DIR", "meta DIR --slot 3"] {
        let ran = run(spoilt.path(), command);
        assert_eq!(ran.code, 2, "{}", ran.text());
        assert!(ran.text().contains("\"before\"") && ran.text().contains("checksum is 0x"), "{}", ran.text());
    }
    let raw = run(spoilt.path(), "meta DIR --slot 3 --raw");
    assert_eq!((raw.code, &*raw.out), (2, b"before".as_slice()));
    assert!(raw.err.contains("damaged: checksum is 0x"), "{}", raw.err);
    let ran = run(spoilt.path(), "segments DIR");
    assert_eq!(ran.code, 2);
    assert_eq!(rows(&ran)[1][..2], ["2", "damaged"], "{}", ran.text());
    // A foreign one is no part of the log.
    let foreign = copy(directory.path());
    std::fs::copy(
        &segments(closed(10).path())[0],
        segments(foreign.path())[1].with_file_name("00000000000000000003.seg"),
    )
    .unwrap();
    rewrite_header(&segments(foreign.path())[2], |header| header[24] = 3);
    let ran = run(foreign.path(), "segments DIR");
    assert_eq!((ran.code, rows(&ran)[2][1]), (2, "damaged"), "{}", ran.text());
}

#[test]
fn a_live_log_is_listed_beside_its_writer() {
    let directory = scratch();
    let mut writer = live(directory.path(), 600);
    let ran = run(directory.path(), "segments DIR").done();
    let active: Vec<&str> = rows(&ran).iter().filter(|row| row[1] == "active").map(|row| row[2]).collect();
    assert_eq!(active.len(), 1, "{}", ran.text());
    assert!(active[0].ends_with("..600"), "{}", ran.text());
    writer.say("more");
    assert_eq!(writer.line().as_deref(), Some("601"));
}
