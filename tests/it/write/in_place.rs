//! Records that a closure writes straight into the mapping, or to a writer.
//!
//! Each of these bugs of the writer was planted in turn, and noticed here: only the first piece is summed, or only the first step of a
//! long one; a payload that is not whole, or of which more was written, is appended; what is refused is forgotten, by `write` or by `write_all`;
//! the closure's error is; what is given up in place is a record, or a hole; closures are not counted, or for ever.

use std::error::Error as _;
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mapwal::{Error, Log, Lsn, PayloadWriter, PinDirectory, Visibility};

use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_record, payload, read_only};

/// Appends a record whose closure panics halfway.
fn give_up(log: &Log, len: usize) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        log.append_with(9, len, |bytes| {
            bytes[..len / 2].fill(0xee);
            std::panic::resume_unwind(Box::new("given up"));
        })
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"given up"), "the panic goes on");
}

#[test]
fn a_closure_writes_the_record_in_place() {
    let dir = scratch();
    let log = open_small(dir.path());
    for number in 1..=1000 {
        let payload = payload(number);
        let lsn = log.append_with(3, payload.len(), |bytes| {
            assert!(bytes.iter().all(|&b| b == 0), "it is given zeros");
            assert_eq!(bytes.len(), payload.len());
            bytes.copy_from_slice(&payload);
        });
        assert_eq!(lsn.unwrap(), Lsn(number));
    }
    for record in &log.snapshot().unwrap() {
        let record = record.unwrap();
        assert_eq!(record.tag(), 3);
        assert_record(&record, record.lsn().0);
    }
}

#[test]
fn a_closure_is_given_zeros_in_a_segment_that_is_gone_on_in() {
    let dir = scratch();
    for _ in 0..3 {
        let log = open_small(dir.path());
        log.append_with(0, 200, |bytes| assert!(bytes.iter().all(|&b| b == 0))).unwrap();
        log.close().unwrap();
    }
}

#[test]
fn a_record_whose_closure_panics_is_passed_over() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    give_up(&log, 100);
    give_up(&log, 0);
    append(&log, 6..=8);
    assert_eq!((log.next_lsn(), log.published_lsn().unwrap()), (Lsn(9), Lsn(8)));
    let check = |log: &Log| {
        let snapshot = log.snapshot().unwrap();
        let numbers: Vec<u64> = snapshot.iter().map(|record| record.unwrap().lsn().0).collect();
        assert_eq!(numbers, [1, 2, 3, 6, 7, 8]);
        assert!(snapshot.get(Lsn(4)).unwrap().is_none() && log.get(Lsn(5)).unwrap().is_none());
        assert_record(&log.get(Lsn(6)).unwrap().unwrap().record(), 6);
        let mut follower = log.follow(Lsn(4), Visibility::Published).unwrap();
        assert_record(&follower.next().unwrap().unwrap(), 6);
    };
    check(&log);
    assert_eq!(log.sync().unwrap(), Lsn(8));
    drop(log);
    check(&open_small(dir.path()));
}

#[test]
fn a_log_that_ends_with_a_record_given_up_goes_on_after_it() {
    for close in [true, false] {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=1);
        give_up(&log, 500);
        assert_eq!(log.sync().unwrap(), Lsn(2));
        if close {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let reader = read_only(dir.path()).unwrap();
        assert_eq!(reader.published_lsn().unwrap(), Lsn(2));
        append(&open_small(dir.path()), 3..=3);
    }
}

#[test]
fn panics_in_many_threads_leave_a_working_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for round in 0..500 {
                    if (round + thread) % 4 == 0 {
                        give_up(log, 64)
                    } else {
                        let _ = log.append(1, &[7; 100]).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(log.sync().unwrap(), Lsn(2000));
    assert_eq!(
        log.snapshot().unwrap().iter().filter(|record| record.as_ref().unwrap().payload() == [7; 100]).count(),
        1500
    );
}

#[test]
fn a_call_that_would_wait_for_its_own_closure_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=5);
    log.append_with(0, 8, |bytes| {
        bytes.fill(1);
        assert!(matches!(log.sync(), Err(Error::InsideAppend)));
        assert!(matches!(log.wait_durable(Lsn(6)), Err(Error::InsideAppend)));
        assert!(matches!(log.append(0, b"inside"), Err(Error::InsideAppend)));
        assert!(matches!(log.append_with(0, 1, |_| ()), Err(Error::InsideAppend)));
        assert!(matches!(log.rotate(), Err(Error::InsideAppend)));
        // A truncation that waits for this append has the pins locked.
        assert!(matches!(log.create_pin("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(log.replace_pin("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(log.advance_pin("pin", Lsn(1)), Err(Error::InsideAppend)));
        assert!(matches!(log.rewind_pin("pin", Lsn(1)), Err(Error::InsideAppend)));
        assert!(matches!(log.limit_pin("pin", None), Err(Error::InsideAppend)));
        assert!(matches!(log.drop_pin("pin"), Err(Error::InsideAppend)));
        let pins = PinDirectory::open(log.directory()).unwrap();
        assert!(matches!(pins.create("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(pins.replace("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(pins.rewind("pin", Lsn(1)), Err(Error::InsideAppend)));
        assert!(matches!(pins.limit("pin", None), Err(Error::InsideAppend)));
        assert!(matches!(pins.remove("pin"), Err(Error::InsideAppend)));
    })
    .unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(6), "and allowed again after it");
}

#[test]
fn a_panic_does_not_leave_its_thread_inside_of_the_closure() {
    let dir = scratch();
    let log = open_small(dir.path());
    give_up(&log, 8);
    append(&log, 2..=2);
    assert_eq!(log.sync().unwrap(), Lsn(2));
}

#[test]
fn what_is_appended_after_an_open_closure_is_seen_when_it_ends() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    std::thread::scope(|scope| {
        let log = &log;
        log.append_with(0, 8, |bytes| {
            bytes.copy_from_slice(&payload(300)[..8]);
            scope.spawn(|| append(log, 3..=4)).join().unwrap();
            assert_eq!((log.published_lsn().unwrap(), log.next_lsn()), (Lsn(1), Lsn(5)));
            assert!(matches!(log.get(Lsn(3)), Err(Error::NotAppended { lsn: Lsn(3), .. })));
        })
        .unwrap();
        assert_eq!(log.published_lsn().unwrap(), Lsn(4));
        let mut follower = log.follow(Lsn(3), Visibility::Published).unwrap();
        assert_record(&follower.next_timeout(LONG).unwrap().unwrap(), 3);
    });
}

#[test]
fn a_number_is_used_up_without_a_record() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    assert_eq!((log.append_void().unwrap(), log.append_void().unwrap()), (Lsn(4), Lsn(5)));
    append(&log, 6..=6);
    assert_eq!(log.sync().unwrap(), Lsn(6));
    drop(log);
    let log = open_small(dir.path());
    assert!(log.get(Lsn(4)).unwrap().is_none(), "there is a number and no record");
    let numbers: Vec<u64> = log.snapshot().unwrap().iter().map(|record| record.unwrap().lsn().0).collect();
    assert_eq!(numbers, [1, 2, 3, 6]);
}

/// Writes a piece of a payload.
type Way = fn(&mut PayloadWriter<'_>, &[u8]) -> io::Result<()>;

/// How a piece is written.
const WAYS: [Way; 4] = [
    |writer, piece| {
        writer.put_slice(piece);
        Ok(())
    },
    |writer, piece| writer.write_all(piece),
    |writer, piece| {
        let written = writer.write(piece)?;
        assert_eq!(written, piece.len(), "there is room");
        Ok(())
    },
    |writer, mut piece| io::copy(&mut piece, writer).map(drop),
];

#[test]
fn a_writer_writes_the_record_in_place_from_front_to_back() {
    let dir = scratch();
    let log = open_small(dir.path());
    let payloads: Vec<Vec<u8>> = (0..64)
        .chain([127, 128, 511, 512, 513, 4095, 4096, 4097, 16 << 10, (16 << 10) + 1, 50_000])
        .map(|len: usize| (0..len).map(|at| (at % 251) as u8 + 1).collect())
        .collect();
    let mut appended = Vec::new();
    for payload in &payloads {
        for (number, way) in WAYS.iter().enumerate() {
            for piece in [1, 7, 8, 100, 5000, usize::MAX] {
                if payload.len() / piece > 1000 {
                    continue;
                }
                let lsn = log.append_with_writer(number as u16, payload.len(), |writer| {
                    let mut left = payload.len();
                    for piece in payload.chunks(piece) {
                        assert_eq!(writer.remaining(), left);
                        way(writer, piece)?;
                        left -= piece.len();
                    }
                    writer.flush()
                });
                appended.push((number as u16, payload));
                assert_eq!(lsn.unwrap(), Lsn(appended.len() as u64));
            }
        }
    }
    let check = |log: &Log| {
        let snapshot = log.snapshot().unwrap();
        let records = snapshot.iter().map(|record| record.map(|record| (record.tag(), record.payload().to_vec())));
        let records: Vec<_> = records.collect::<Result<_, _>>().unwrap();
        assert!(records.iter().map(|(tag, payload)| (*tag, payload)).eq(appended.iter().copied()));
    };
    check(&log);
    drop(log);
    // All of them are checked now.
    check(&open_small(dir.path()));
}

/// Writes a payload of a length.
type Fill = fn(&mut PayloadWriter<'_>, usize) -> io::Result<()>;

/// The longest payload that is put together before it gets a place.
const STAGED_LEN_MAX: usize = 512;
/// Payloads that are, and in place.
const LENS: [usize; 2] = [STAGED_LEN_MAX, STAGED_LEN_MAX + 1];

/// Has `fill` fail in the place of record 2, and reads the log with the records before and after it.
fn assert_given_up(len: usize, fill: Fill) -> Option<Error> {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    let outcome = catch_unwind(AssertUnwindSafe(|| log.append_with_writer(9, len, |writer| fill(writer, len))));
    let error = outcome.map(Result::unwrap_err).ok();
    let next = if len > STAGED_LEN_MAX { 3 } else { 2 };
    append(&log, next..=next);
    assert_eq!(log.sync().unwrap(), Lsn(next), "and what waits is allowed again");
    let check = |log: &Log| {
        let numbers: Vec<u64> = log.snapshot().unwrap().iter().map(|record| record.unwrap().lsn().0).collect();
        assert_eq!(numbers, [1, next]);
    };
    check(&log);
    drop(log);
    check(&open_small(dir.path()));
    if let Some(Error::GivenUp { lsn, len: of, .. }) = &error {
        assert_eq!((*lsn, *of), ((next == 3).then_some(Lsn(2)), len as u64));
    }
    error
}

#[test]
fn a_record_of_which_too_little_or_too_much_is_written_is_given_up() {
    let cases: [(&str, i64, Fill); 6] = [
        ("nothing", i64::MIN, |_, _| Ok(())),
        ("one byte too few", -1, |writer, len| writer.write_all(&vec![1; len - 1])),
        ("too much, of which the closure does not tell", 50, |writer, len| {
            writer.put_slice(&[1; 50]);
            assert_eq!(writer.write_all(&vec![2; len]).unwrap_err().kind(), ErrorKind::WriteZero);
            Ok(())
        }),
        ("all, and more, of which the closure does not tell", 1, |writer, len| {
            writer.put_slice(&vec![1; len]);
            let _ = writer.write_all(&[1]);
            Ok(())
        }),
        ("all, and more by and by", 50, |writer, len| {
            assert_eq!(writer.write(&vec![1; len + 50]).unwrap(), len);
            assert_eq!(writer.write(&[1; 50]).unwrap(), 0, "full");
            Ok(())
        }),
        ("too much, and then what was missing", 50, |writer, len| {
            writer.put_slice(&[1; 50]);
            let _ = writer.write_all(&vec![2; len]);
            writer.write_all(&vec![1; len - 50])
        }),
    ];
    for len in LENS {
        for (what, too_much, fill) in cases {
            match assert_given_up(len, fill) {
                Some(Error::GivenUp { written, source: None, .. }) if what.ends_with("missing") => {
                    assert_eq!(written, 2 * len as u64)
                }
                Some(Error::GivenUp { written, source: None, .. }) => {
                    assert_eq!(written, (len as i64).saturating_add(too_much).max(0) as u64, "{what}")
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }
    let dir = scratch();
    let empty = open_small(dir.path()).append_with_writer(0, 0, |writer| writer.write(&[1]).map(drop));
    assert!(matches!(empty, Err(Error::GivenUp { len: 0, written: 1, .. })));
}

#[test]
fn a_record_whose_closure_fails_is_given_up_whatever_was_written() {
    for (len, said) in LENS.into_iter().zip(["", " (record 2)"]) {
        let failed = assert_given_up(len, |writer, len| {
            writer.put_slice(&vec![1; len]);
            Err(io::Error::other("cannot be encoded"))
        });
        let failed = failed.unwrap();
        assert_eq!(failed.to_string(), format!("given up after {len} of {len} bytes of a payload{said}"));
        assert_eq!(failed.source().unwrap().to_string(), "cannot be encoded");
        let too_long = assert_given_up(len, |writer, len| write!(writer, "{:1$}", 1, len + 1));
        assert_eq!(io::Error::from(too_long.unwrap()).kind(), ErrorKind::WriteZero);
    }
}

#[test]
fn a_record_whose_writer_panics_is_given_up() {
    for len in LENS {
        let halfway: Fill = |writer, len| {
            writer.put_slice(&vec![1; len / 2]);
            std::panic::resume_unwind(Box::new(()));
        };
        assert!(assert_given_up(len, halfway).is_none());
        let too_much: Fill = |writer, len| {
            writer.put_slice(&vec![1; len - 2]);
            writer.put_slice(&[1; 3]);
            Ok(())
        };
        assert!(assert_given_up(len, too_much).is_none());
    }
}

#[test]
fn calls_from_inside_a_writers_closure_are_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    for (len, number) in LENS.into_iter().zip([1, 3]) {
        let lsn = log.append_with_writer(0, len, |writer| {
            assert!(matches!(log.append(0, b"inside"), Err(Error::InsideAppend)));
            for len in LENS {
                let nested = log.append_with_writer(0, len, |_| panic!("nothing is to be written"));
                assert!(matches!(nested, Err(Error::InsideAppend)));
            }
            assert!(matches!(log.sync(), Err(Error::InsideAppend)));
            writer.write_all(&vec![1; len])
        });
        assert_eq!((lsn.unwrap(), log.append(0, b"after").unwrap()), (Lsn(number), Lsn(number + 1)));
    }
}

#[test]
fn a_writer_takes_no_more_than_fits_into_a_segment() {
    let dir = scratch();
    let log = open_small(dir.path());
    for len in [usize::try_from(log.payload_len_max()).unwrap() + 1, usize::MAX] {
        let refused = log.append_with_writer(0, len, |_| panic!("nothing is to be written"));
        assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{len}");
    }
    assert_eq!(log.next_lsn(), Lsn(1));
}
