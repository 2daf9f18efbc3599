//! Several records at once, all or none.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Log, Lsn, Visibility};

use crate::format::spec::{DATA, LINK, Segment, SegmentHeader};
use crate::support::scratch::{append_stamped, contents, open_small, scratch, stamped};
use crate::support::{files, read_only, small, try_open};

/// Appends `stamps.len()` records in one batch; returns the first one's number.
fn append_batch(log: &Log, stamps: std::ops::Range<u64>, len: usize) -> Lsn {
    let payloads: Vec<_> = stamps.map(|stamp| stamped(stamp, len)).collect();
    let records: Vec<(u16, &[u8])> = payloads.iter().map(|payload| (9, &payload[..])).collect();
    let numbers = log.append_batch(&records).unwrap();
    assert_eq!(numbers.end.0 - numbers.start.0, records.len() as u64);
    numbers.start
}

#[test]
fn batches_of_many_threads_have_consecutive_numbers_each() {
    const THREADS: u64 = 3;
    const BATCHES: u64 = 2_000;
    const RECORDS: u64 = 5;
    let dir = scratch();
    let log = open_small(dir.path());
    let taken = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (log, taken) = (&log, &taken);
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    let first =
                        append_batch(log, (thread << 32) + batch * RECORDS..(thread << 32) + (batch + 1) * RECORDS, 40);
                    let mut taken = taken.lock().unwrap();
                    (0..RECORDS).for_each(|at| assert!(taken.insert(first.0 + at), "handed out twice"));
                }
            });
        }
    });
    let contents = contents(&log);
    assert_eq!(contents.len() as u64, THREADS * BATCHES * RECORDS);
    for batch in contents.chunks(RECORDS as usize) {
        let stamp = u64::from_le_bytes(batch[0].1[..8].try_into().unwrap());
        for (at, (_, payload)) in batch.iter().enumerate() {
            assert_eq!(payload, &stamped(stamp + at as u64, 40), "batches are not mixed");
        }
    }
}

#[test]
fn readers_never_see_a_part_of_one() {
    const RECORDS: u64 = 4;
    let dir = scratch();
    let log = open_small(dir.path());
    let reader = read_only(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (log, reader, done) = (&log, &reader, &done);
        for foreign in [false, true] {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = if foreign { reader.snapshot() } else { log.snapshot() }.unwrap();
                    assert_eq!((snapshot.next_lsn().0 - 1) % RECORDS, 0);
                    if !foreign {
                        assert_eq!(log.published_lsn().unwrap().0 % RECORDS, 0);
                    }
                }
            });
        }
        scope.spawn(move || {
            let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
            let mut records = 0;
            while !done.load(Ordering::Relaxed) {
                while follower.next().unwrap().is_some() {
                    records += 1;
                    if records % RECORDS != 0 {
                        // With the first record of a batch, the others are there.
                        assert!(follower.next().unwrap().is_some(), "part of a batch");
                        records += 1;
                    }
                }
            }
        });
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    for batch in 0..10_000 {
                        append_batch(log, batch..batch + RECORDS, 24);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn wherever_a_crash_cuts_it_all_of_it_or_none_is_there() {
    const BEFORE: u64 = 3;
    const RECORDS: u64 = 4;
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 30, BEFORE);
    let start = log.stats().bytes_appended;
    append_batch(&log, 100..100 + RECORDS, 30);
    let len = usize::try_from(log.stats().bytes_appended - start).unwrap();
    drop(log);
    let name = "00000000000000000001.seg";
    let whole = fs::read(dir.path().join(name)).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(8);
    let begin = end - len;
    let before: Vec<_> = (1..=BEFORE).map(|number| (number, stamped(number, 30))).collect();
    let batch = (0..RECORDS).map(|at| (BEFORE + 1 + at, stamped(100 + at, 30)));
    let all: Vec<_> = before.iter().cloned().chain(batch).collect();
    // The end of the batch never reached the disk, or one of its words did not: then the others prove nothing.
    for cut in (begin..end).step_by(8) {
        for lost in [cut..end, cut..cut + 8, begin..cut] {
            let copy = scratch();
            let mut bytes = whole.clone();
            bytes[lost.clone()].fill(0);
            let unchanged = bytes == whole;
            fs::write(copy.path().join(name), &bytes).unwrap();
            let log = open_small(copy.path());
            let expected = if unchanged { &all } else { &before };
            assert_eq!(&contents(&log), expected, "bytes {lost:?} of {begin}..{end} lost");
            assert_eq!(log.append(1, b"next").unwrap().0, expected.len() as u64 + 1);
        }
    }
    assert_eq!(contents(&open_small(dir.path())), all);
}

#[test]
fn what_is_left_of_a_truncation_through_one_is_a_torn_end() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 30, 1);
    log.sync().unwrap();
    append_batch(&log, 100..103, 30);
    drop(log);
    // The truncation kept the first two of the batch, and the third was never on the device. Of its own segment no link was,
    // but what another thread appended meanwhile.
    let first = files::segment(dir.path(), 1);
    let mut kept = Segment::parse(&fs::read(&first).unwrap());
    kept.frames.pop();
    fs::write(first, kept.encode()).unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let second = kept.frames.last().unwrap();
    for (claim, is_damage) in [(second.offset, false), (second.end(), false), (second.end() + 8, true)] {
        let copy = scratch();
        files::copy(dir.path(), copy.path());
        let mut next = Segment::new(SegmentHeader::new(kept.header.log_id, 2, 64 << 10));
        next.push(4, LINK, 0, 0, 0, &kept.frames[0].payload);
        next.push(4, DATA, 0, 0, (1 << 32) + claim, b"meanwhile");
        let mut bytes = next.encode();
        bytes[4096..4104].fill(0);
        fs::write(files::segment(copy.path(), 2), bytes).unwrap();

        let report = Inspection::open(copy.path()).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
        assert_eq!(report.damage.is_empty(), !is_damage, "{:?}", report.damage);
        match try_open(copy.path(), &small()) {
            Ok(log) => assert_eq!((log.next_lsn(), is_damage), (Lsn(2), false)),
            Err(error) => assert!(matches!(error, Error::Corrupt(_)) && is_damage, "{error}"),
        }
    }
}

#[test]
fn one_that_does_not_fit_into_a_segment_is_refused_and_nothing_is_written() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 2);
    let file = fs::File::open(dir.path().join("00000000000000000001.seg")).unwrap();
    let bytes = || {
        let mut bytes = vec![0; 64 << 10];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let appended = || {
        let stats = log.stats();
        (stats.records_appended, stats.bytes_appended, stats.sealed_segments)
    };
    let (before, appended_before) = (bytes(), appended());
    let max = usize::try_from(log.payload_len_max()).unwrap();
    let large = vec![1; max / 2];
    let refused = log.append_batch(&[(1, &large), (2, &large)]);
    assert!(matches!(refused, Err(Error::RecordTooLarge { len, max: m }) if len > m && m == max as u64), "{refused:?}");
    assert!(matches!(log.append_batch(&vec![(1, &[][..]); 4_000]), Err(Error::RecordTooLarge { .. })));
    assert!(bytes() == before && appended() == appended_before, "nothing was written and no segment begun");
    // The largest that fits does.
    let half = &large[..max / 2 - 24];
    assert_eq!(log.append_batch(&[(1, half), (2, half)]).unwrap(), Lsn(3)..Lsn(5));
}

#[test]
fn an_empty_one_takes_no_number() {
    let dir = scratch();
    let log = open_small(dir.path());
    assert_eq!(log.append_batch(&[]).unwrap(), Lsn(1)..Lsn(1));
    append_stamped(&log, 1, 10, 1);
    assert_eq!(log.append_batch(&[]).unwrap(), Lsn(2)..Lsn(2));
    assert_eq!(log.append_vectored(1, &[]).unwrap(), Lsn(2));
    assert_eq!(log.get(Lsn(2)).unwrap().unwrap().payload(), b"");
}

#[test]
fn parts_of_payloads_are_written_as_if_they_were_joined() {
    let dir = scratch();
    let log = open_small(dir.path());
    let parts: [&[&[u8]]; 4] = [&[b"key", b"=", b"value"], &[], &[b"", b"one", b""], &[&[7; 5000], &[8; 3]]];
    let records: Vec<(u16, &[&[u8]])> = parts.iter().zip(1..).map(|(&parts, tag)| (tag, parts)).collect();
    assert_eq!(log.append_batch_vectored(&records).unwrap(), Lsn(1)..Lsn(5));
    drop(log);
    let log = try_open(dir.path(), &small()).unwrap(); // which checks every frame
    for (lsn, (tag, parts)) in Lsn::each(Lsn(1)..Lsn(5)).zip(&records) {
        let record = log.get(lsn).unwrap().unwrap();
        assert_eq!((record.tag(), record.payload()), (*tag, &parts.concat()[..]));
    }
}

#[test]
fn a_record_gets_the_number_that_is_expected_or_is_not_written() {
    const RECORDS: u64 = 3000;
    let dir = scratch();
    let log = open_small(dir.path());
    let refused = log.append_at(Lsn(2), 9, b"too early");
    assert!(matches!(refused, Err(Error::NotNext { expected: Lsn(2), next: Lsn(1) })));
    let append = |at: Lsn, payload: &[u8]| match payload.len() % 2 {
        0 => log.append_at(at, 9, payload).map(|()| 1),
        _ => log.append_batch_at(at, &[(9, &[payload]), (9, &[b"second"])]).map(|range| {
            assert_eq!(range, at..Lsn(at.0 + 2));
            2
        }),
    };
    // Threads race for each number, also where a segment ends; each winner's record is under the number that it was told.
    let won: Vec<Vec<(Lsn, u64)>> = std::thread::scope(|scope| {
        let race = |thread: u64| {
            let mut won = Vec::new();
            while log.next_lsn().0 <= RECORDS {
                let at = log.next_lsn();
                let payload = stamped(thread << 32 | at.0, 40 + (at.0 + thread) as usize % 7);
                match append(at, &payload) {
                    Ok(_) => won.push((at, thread << 32 | at.0)),
                    Err(Error::NotNext { expected, next }) => assert!(expected == at && next > at),
                    Err(error) => panic!("{error}"),
                }
            }
            won
        };
        let threads: Vec<_> = (1..=3).map(|thread| scope.spawn(move || race(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (lsn, stamp) in won.iter().flatten() {
        let record = log.get(*lsn).unwrap().unwrap();
        assert_eq!(record.payload()[..8], stamp.to_le_bytes(), "another record is under number {lsn}");
    }
    let singles = contents(&log).iter().filter(|(_, payload)| payload != b"second").count();
    assert_eq!(won.iter().flatten().count(), singles, "what was refused was not written");
    assert_eq!(log.append_batch_at(log.next_lsn(), &[]).unwrap(), log.next_lsn()..log.next_lsn());
    assert!(matches!(log.append_batch_at(Lsn(1), &[]), Err(Error::NotNext { .. })));
}
