//! The bytes on disk are those that `docs/design/format.md` specifies, and stay readable: `tests/golden/v3` and
//! `tests/golden/v2` are logs of these versions. One of version 1, which no release wrote, is refused.

use std::fs;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mapwal::error::{Evidence, FormatFault};
use mapwal::{Error, Log, Lsn, Options, Visibility};

use super::spec::{CLOSE, DATA, LINK, META, SEAL, Segment, SegmentHeader, TRUNCATE, VOID};
use super::{chain, golden, page, spec};
use crate::support::{SMALL, open, payload, small, try_open};

/// The version that is written now.
const CURRENT: &str = "v3";
/// The older ones that are read.
const OLDER: [&str; 1] = ["v2"];

/// The segments in a directory, parsed, oldest first; spares left out.
fn segments(directory: &Path) -> Vec<Segment> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let parsed = paths.iter().map(|path| {
        let segment = Segment::parse(&fs::read(path).unwrap());
        assert_eq!(path.file_name().unwrap(), &*format!("{:020}.seg", segment.header.number));
        segment
    });
    parsed.filter(|segment| !segment.frames.is_empty()).collect()
}

fn kinds(segment: &Segment) -> Vec<u8> {
    let mut kinds: Vec<u8> = segment.frames.iter().map(|frame| frame.kind).collect();
    kinds.dedup();
    kinds
}

fn append(log: &Log, numbers: RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(log.append(7, &payload(number)).unwrap(), Lsn(number));
    }
}

/// Appends a record whose closure panics after it has written `half`.
pub(super) fn append_void(log: &Log, tag: u16, len: usize, half: &[u8]) {
    let appended = catch_unwind(AssertUnwindSafe(|| {
        log.append_with(tag, len, |bytes| {
            bytes[..half.len()].copy_from_slice(half);
            std::panic::resume_unwind(Box::new("given up"));
        })
    }));
    assert!(appended.is_err());
}

#[test]
fn the_checksum_of_the_specification_is_the_usual_crc_32() {
    assert_eq!(spec::crc32(0, b"123456789"), 0xcbf4_3926);
    assert_eq!(spec::crc32(spec::crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
}

#[test]
fn what_is_written_is_as_specified() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    for number in 1..=400 {
        append(&log, number..=number);
        if number % 50 == 0 {
            log.sync().unwrap();
        }
    }
    append_void(&log, 9, 13, b"half");
    log.put_meta(3, b"value").unwrap();
    log.rotate().unwrap();
    assert_eq!(log.append_batch(&[(8, b"one"), (8, b""), (8, b"three")]).unwrap(), Lsn(402)..Lsn(405));
    log.truncate_after(Lsn(403)).unwrap();
    append(&log, 404..=404);
    log.close().unwrap();
    open(dir.path(), &small()).close().unwrap();

    let segments = segments(dir.path());
    chain::check_chain(&segments);
    let [first, .., full, cut, last] = &segments[..] else { panic!("{} segments", segments.len()) };
    assert_eq!(kinds(first), [LINK, DATA, SEAL]);
    assert_eq!(kinds(full), [LINK, DATA, VOID, META, SEAL]);
    assert_eq!(kinds(cut), [LINK, DATA]);
    assert_eq!(kinds(last), [LINK, TRUNCATE, DATA, CLOSE]);
    let meta = full.frames.iter().find(|frame| frame.kind == META).unwrap();
    assert_eq!(meta.payload, spec::encode_meta(3, b"value"));
    assert_eq!(last.link().meta, [(3, b"value".to_vec())]);
    let flags: Vec<_> = cut.frames[1..].iter().map(|frame| frame.flags).collect();
    assert_eq!(flags, [1, 1, 0], "the batch");

    let records: Vec<_> = segments.iter().flat_map(|s| &s.frames).filter(|f| matches!(f.kind, DATA | VOID)).collect();
    for (number, frame) in (1..=400).zip(&records) {
        assert_eq!((frame.lsn, frame.tag, &frame.payload), (number, 7, &payload(number)));
    }
    let found: Vec<_> = records[400..].iter().map(|frame| (frame.lsn, frame.tag, &frame.payload[..])).collect();
    let replacement = payload(404);
    let expected: [(u64, u16, &[u8]); 5] = [
        (401, 9, b"half\0\0\0\0\0\0\0\0\0"),
        (402, 8, b"one"),
        (403, 8, b""),
        (404, 8, b"three"),
        (404, 7, &replacement),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_segment_that_follows_a_crash_is_tied_to_the_end_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=10);
    drop(log);
    let log = open(dir.path(), &small());
    append(&log, 11..=20);
    log.close().unwrap();
    let segments = segments(dir.path());
    chain::check_chain(&segments);
    let kinds: Vec<_> = segments.iter().map(kinds).collect();
    assert_eq!(kinds, [vec![LINK, DATA], vec![LINK, DATA, CLOSE]]);
}

/// More than is counted at a time, and nothing is synced, which would count all.
#[test]
fn a_seal_counts_records_of_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Options::new().segment_size_bytes(16 << 20));
    log.append(7, &vec![7; 3 << 20]).unwrap();
    log.append_batch(&[(7, &[1; 5][..]), (8, &vec![2; 2 << 20]), (9, &[3; 9])]).unwrap();
    log.rotate().unwrap();
    for mut segment in segments(dir.path()) {
        if let Some(seal) = segment.frames.pop_if(|frame| frame.kind == SEAL) {
            assert_eq!(seal.payload[8..32], segment.tally());
        }
    }
}

#[test]
fn what_is_specified_opens() {
    let header = |number| SegmentHeader::new(0x1234_5678_9abc_def0_0fed_cba9_8765_4321, number, SMALL);
    let mut first = Segment::new(header(3));
    let link = spec::Link { previous: (0, 0, 0), oldest: 3, meta: vec![(2, b"old".to_vec()), (15, vec![7; 256])] };
    first.push(100, LINK, 0, 0, 0, &link.encode());
    // A batch of two, a void record, a record that another one replaces.
    first.push(100, DATA, 1, 7, 0, &payload(100));
    first.push(101, DATA, 0, 7, 0, &payload(101));
    first.push(102, VOID, 0, 7, 0, b"nobody reads this");
    let kept = first.clone();
    first.push(103, DATA, 0, 7, 0, b"truncated");
    let mut second = Segment::new(header(5));
    let last = kept.frames.last().unwrap();
    let link = spec::Link { previous: (3, kept.end(), last.crc), oldest: 3, meta: link.meta };
    let durable = 3 << 32 | kept.end();
    second.push(103, LINK, 0, 0, durable, &link.encode());
    second.push(103, TRUNCATE, 0, 0, durable, &102_u64.to_le_bytes());
    second.push(103, META, 0, 0, durable, &spec::encode_meta(2, b"new"));
    second.push(103, DATA, 0, 7, durable, &payload(103));
    let tally = second.tally();
    second.push(104, CLOSE, 0, 0, 5 << 32 | second.end(), &tally);

    let dir = tempfile::tempdir().unwrap();
    for segment in [&first, &second] {
        let name = format!("{:020}.seg", segment.header.number);
        fs::write(dir.path().join(name), segment.encode()).unwrap();
    }
    let log = open(dir.path(), &small());
    assert!(log.recovery().clean, "{:?}", log.recovery());
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(100), Lsn(104)));
    let snapshot = log.snapshot().unwrap();
    let found: Vec<_> = snapshot.iter().map(|record| record.unwrap()).collect();
    let found: Vec<_> = found.iter().map(|record| (record.lsn(), record.tag(), record.payload())).collect();
    let (a, b, c) = (payload(100), payload(101), payload(103));
    assert_eq!(found, [(Lsn(100), 7, &a[..]), (Lsn(101), 7, &b[..]), (Lsn(103), 7, &c[..])]);
    assert!(log.get(Lsn(102)).unwrap().is_none(), "the void record");
    assert_eq!((log.meta(2), log.meta(15)), (Some(b"new".to_vec()), Some(vec![7; 256])));
}

#[test]
fn a_frame_tells_what_was_durable_when_it_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=3);
    log.sync().unwrap();
    append(&log, 4..=6);
    log.close().unwrap();
    let segment = &segments(dir.path())[0];
    let frames: Vec<_> = segment.frames.iter().filter(|frame| frame.kind == DATA).collect();
    let start = |index: usize| 1 << 32 | frames[index].offset;
    let told: Vec<_> = frames.iter().map(|frame| frame.durable_then(1)).collect();
    let (opened, synced) = (Some(start(0)), Some(start(3)));
    assert_eq!(told, [opened, opened, opened, synced, synced, synced]);
}

#[test]
fn a_frame_that_tells_of_more_than_is_there_makes_it_damage() {
    let mut start = Segment::new(SegmentHeader::new(77, 1, SMALL));
    start.push(1, LINK, 0, 0, 0, &spec::Link { previous: (0, 0, 0), oldest: 0, meta: Vec::new() }.encode());
    start.push(1, DATA, 0, 7, 0, b"lost");
    let (before, after) = (1 << 32 | start.frames[1].offset, 1 << 32 | start.end());
    for (told, proven) in [(0, false), (before, false), (before + 8, true), (after, true)] {
        let mut segment = start.clone();
        segment.push(2, DATA, 0, 7, told, b"witness");
        let mut bytes = segment.encode();
        let payload = usize::try_from(start.end()).unwrap() - 8;
        bytes[payload] ^= 1;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000000000000000001.seg"), bytes).unwrap();
        match try_open(dir.path(), &small()) {
            Ok(log) => {
                assert!(!proven, "told {told:#x}");
                assert_eq!((log.next_lsn(), log.recovery().clean), (Lsn(1), false));
            }
            Err(Error::Corrupt(corruption)) => {
                assert!(proven, "told {told:#x}");
                assert_eq!((corruption.offset, corruption.lsn), (before & 0xffff_ffff, Some(Lsn(1))));
                assert!(matches!(corruption.evidence, Some(Evidence::Frame { lsn: Lsn(2), .. })));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_control_page_is_as_specified() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=1000);
    log.sync().unwrap();
    let page = fs::read(dir.path().join("control")).unwrap();
    let segments = segments(dir.path());
    let last = segments.last().unwrap();
    let word = |index: usize| page::word(&page, index);
    let number = |index: usize| page::number(&page, index).expect("its checksum");
    assert_eq!(page.len(), page::LEN);
    assert_eq!(&page[..8], page::SHOWN);
    assert_eq!(u128::from_le_bytes(page[8..24].try_into().unwrap()), last.header.log_id);
    assert_eq!(word(4), u64::from(std::process::id()), "writer's process");
    let durable = page::DURABLE.map(|at| page::values(&page, at, page::DURABLE_WORDS).expect("its checksum"));
    assert_eq!((durable[0][0] % 2, durable[1][0] % 2), (0, 1), "numbers of the watermarks");
    let newest = durable.iter().max_by_key(|durable| durable[0]).unwrap();
    assert_eq!(newest[1..], [last.header.number << 32 | last.end(), 1000], "durable position and record");
    for (at, values) in page::DURABLE.into_iter().zip(&durable) {
        let words: Vec<u64> = (at..at + page::DURABLE_WORDS).map(word).collect();
        assert_eq!(words, page::group(&page, at, values), "each word of them");
    }
    let open: Vec<u64> = (page::CLOSED..page::CLOSED + page::CLOSED_WORDS).map(word).collect();
    assert_eq!(open, page::group(&page, page::CLOSED, &[0]), "not closed");
    assert_eq!((number(5), number(7)), (u64::from(page::VERSION), last.header.number), "version, active segment");
    assert_eq!(word(8), 0, "not poisoned");
    let named = [0, 1, 2, 3, 4, 8, 16, 32, 48, 64].into_iter().chain(page::with_checksum()).collect::<Vec<_>>();
    let done: Vec<u64> = (104..114).map(word).collect();
    assert!(done[0] > 0 && done[1] > 0 && done[1] <= done[2], "syncs, and the times that they took");
    assert_eq!(word(114), u64::from(page::checksum(&page, &[&[word(3)], &*done].concat())), "what has been done");
    let is_named = |index| named.contains(&index) || (104..=114).contains(&index);
    assert!((0..512).all(|index| is_named(index) || word(index) == 0), "the other words");
    log.trim_before(Lsn(900)).unwrap();
    let page = fs::read(dir.path().join("control")).unwrap();
    log.close().unwrap();
    let first = &self::segments(dir.path())[0];
    assert!(first.header.number > 1, "something was trimmed");
    assert_eq!(page::number(&page, 9), Some(first.header.number), "oldest segment");
    let page = fs::read(dir.path().join("control")).unwrap();
    assert_eq!(page::word(&page, 4), 0, "writer gone");
    let closed = page::values(&page, page::CLOSED, page::CLOSED_WORDS).expect("its checksum")[0];
    assert_eq!(closed >> 32, self::segments(dir.path()).last().unwrap().header.number, "where it was closed");
}

#[test]
fn a_named_pin_is_as_specified() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=1000);
    log.create_pin("limited", "who it is for", Lsn(5), Some(1 << 20)).unwrap();
    log.create_pin("lost", "", Lsn(6), Some(0)).unwrap();
    log.create_pin("unlimited", "", Lsn(700), None).unwrap();
    log.trim_before(Lsn(1000)).unwrap();
    let file = |name: &str| fs::read(dir.path().join("pins").join(name)).unwrap();
    assert!(log.first_lsn() == Lsn(1), "kept by a pin");
    assert_eq!(file("limited"), spec::encode_pin(5, 1 << 20, 0, b"who it is for"));
    assert_eq!(file("unlimited"), spec::encode_pin(700, u64::MAX, 0, b""));
    log.drop_pin("limited").unwrap();
    log.trim_before(Lsn(1000)).unwrap();
    assert_eq!(file("lost"), spec::encode_pin(6, 0, 0, b""), "that it is lost shows by the first record");
    log.reset_to(Lsn(900)).unwrap();
    assert_eq!(file("lost"), spec::encode_pin(6, 0, 1, b""));
    drop(log);
    fs::write(dir.path().join("pins/made-elsewhere"), spec::encode_pin(900, 77, 0, b"us")).unwrap();
    let pins = open(dir.path(), &small()).pins();
    assert_eq!(pins.iter().map(|pin| &*pin.name).collect::<Vec<_>>(), ["lost", "made-elsewhere", "unlimited"]);
    assert_eq!((pins[1].lsn, pins[1].limit_bytes, &*pins[1].owner), (Lsn(900), Some(77), "us"));
}

#[test]
fn a_shipment_is_as_specified() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=10);
    let segment = &segments(dir.path())[0];
    let mut follower = log.follow(Lsn(4), Visibility::Published).unwrap();
    let frames = follower.next_batch(usize::MAX).unwrap().expect("records");
    let first = &segment.frames[4];
    assert_eq!((frames.first_lsn(), frames.next_lsn(), frames.offset()), (Lsn(4), Lsn(11), first.offset));
    let len = segment.end() - first.offset;
    assert_eq!(frames.header()[..], spec::encode_shipment_header(segment.header.salt, 4, len));
    let start = usize::try_from(first.offset).unwrap();
    assert_eq!(frames.bytes(), &segment.encode()[start..start + usize::try_from(len).unwrap()]);
}

#[test]
fn the_golden_log_is_as_specified() {
    let segments: Vec<_> = golden::files(CURRENT).iter().map(|(_, bytes)| Segment::parse(bytes)).collect();
    chain::check_chain(&segments);
    let kinds: Vec<_> = segments.iter().map(kinds).collect();
    assert_eq!(kinds, golden::KINDS);
}

#[test]
fn the_golden_logs_of_older_versions_are_as_specified() {
    for version in OLDER {
        let segments: Vec<_> = golden::files(version).iter().map(|(_, bytes)| Segment::parse(bytes)).collect();
        chain::check_chain(&segments);
        let kinds: Vec<_> = segments.iter().map(kinds).collect();
        assert_eq!(kinds, golden::KINDS);
    }
}

#[test]
fn the_golden_log_opens() {
    let dir = tempfile::tempdir().unwrap();
    golden::unpack(CURRENT, dir.path());
    let log = open(dir.path(), &small());
    assert!(log.recovery().clean, "{:?}", log.recovery());
    golden::assert_contents(&log);
    // It can be written on, and still holds what it held.
    let next = log.next_lsn();
    assert_eq!(log.append(1, b"appended").unwrap(), next);
    log.close().unwrap();
    let log = open(dir.path(), &small());
    golden::assert_contents(&log);
    assert_eq!(log.get(next).unwrap().unwrap().payload(), b"appended");
}

#[test]
fn a_log_of_version_1_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    golden::unpack("v1", dir.path());
    let refused = try_open(dir.path(), &small()).unwrap_err();
    assert!(
        matches!(refused, Error::Format { fault: FormatFault::Version { found: 1, supported: 3 }, .. }),
        "{refused:?}"
    );
    for (name, bytes) in golden::files("v1") {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), bytes);
    }
}

#[test]
fn the_worked_example_is_the_start_of_the_golden_log() {
    let document = include_str!("../../../docs/design/format.md");
    let (_, block) = document.split_once("```hex\n").expect("a block of hex");
    let (block, _) = block.split_once("```").expect("its end");
    let (_, segment) = &golden::files(CURRENT)[0];
    let mut shown = 0;
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (offset, rest) = line.split_once("  ").expect("an offset");
        let (bytes, _meaning) = rest.split_once("  ").expect("bytes and their meaning");
        let offset = usize::from_str_radix(offset, 16).expect("an offset");
        let bytes: Vec<u8> = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
        assert_eq!(bytes, segment[offset..offset + bytes.len()], "at {offset:#x}");
        shown += bytes.len();
    }
    let frames = Segment::parse(segment).frames;
    let expected = 68 + 4 + frames[golden::FRAMES_SHOWN - 1].end() - 4096;
    assert_eq!(shown as u64, expected, "header and first frames, without a gap");
}

/// Writes the golden log anew to the build directory, from where it can be taken over, and prints the worked example.
#[test]
#[ignore = "makes files, and checks nothing"]
fn make_the_golden_log() {
    let dir = tempfile::tempdir().unwrap();
    golden::write(dir.path());
    let made = golden::pack(dir.path());
    println!("{}\n\n{}", made.display(), golden::worked_example(dir.path()));
}

#[test]
fn the_golden_log_can_be_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    golden::write(dir.path());
    let segments = segments(dir.path());
    let kinds: Vec<_> = segments.iter().map(kinds).collect();
    assert_eq!(kinds, golden::KINDS);
    golden::assert_contents(&open(dir.path(), &small()));
}
