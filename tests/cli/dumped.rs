//! `dump`: formats that lose nothing, and what is chosen.

use serde_json::Value;

use crate::logs::{closed, line, scratch, segments, spoil};
use crate::program::{run, run_with_input};

fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
}

/// A log with a record for each byte value, and one of all of them.
fn all_bytes() -> tempfile::TempDir {
    let log = scratch();
    let single = (0..=255_u8).flat_map(|byte| [1, 0, 0, 0, byte]);
    let all = [256_u32.to_le_bytes().to_vec(), (0..=255).collect()].concat();
    let input: Vec<u8> = single.chain(all).collect();
    run_with_input(log.path(), "append DIR --length-prefixed", &input).done();
    log
}

/// The bytes that `text` was made from, by the rules for byte strings in Rust.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte != b'\\' {
            byte
        } else {
            match rest.next().unwrap() {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                literal => literal,
            }
        });
    }
    bytes
}

#[test]
fn text_is_one_line_of_printable_characters_for_each_record_and_loses_nothing() {
    let log = all_bytes();
    let dumped = run(log.path(), "dump DIR").done();
    assert!(dumped.text().chars().all(|c| matches!(c, ' '..='~' | '\t' | '\n')), "printable");
    let lines = dumped.lines();
    assert_eq!(lines.len(), 257);
    for (line, byte) in lines.iter().zip(0..=255_u8) {
        assert_eq!(unescape(line.split('\t').nth(3).unwrap()), [byte]);
    }
    assert_eq!(unescape(lines[256].split('\t').nth(3).unwrap()), (0..=255).collect::<Vec<u8>>());
}

#[test]
fn json_has_a_string_where_the_bytes_are_text_and_base64_where_not() {
    let log = scratch();
    run_with_input(log.path(), "append DIR --tag 3", "zwölf \"Boxkämpfer\"\n\u{7}\n".as_bytes()).done();
    run_with_input(log.path(), "append DIR", b"\xff\xfe\n").done();
    let dumped = run(log.path(), "dump DIR --format json").done();
    let objects: Vec<Value> = dumped.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        serde_json::json!({ "lsn": 1, "tag": 3, "len": 20, "payload": "zwölf \"Boxkämpfer\"" }),
        serde_json::json!({ "lsn": 2, "tag": 3, "len": 1, "payload": "\u{7}" }),
        serde_json::json!({ "lsn": 3, "tag": 0, "len": 2, "payload_base64": "//4=" }),
    ];
    assert_eq!(objects, expected);
    assert!(dumped.lines()[0].starts_with("{\"lsn\":1,\"tag\":3,\"len\":20,\"payload\":"), "in this order");
}

#[test]
fn hex_and_raw_lose_nothing() {
    let log = all_bytes();
    let hex = run(log.path(), "dump DIR --format hex --from 257").done();
    let digits: String = (0..=255).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.text(), format!("257\t0\t256\t{digits}\n"));
    let raw = run(log.path(), "dump DIR --format raw --to 256").done();
    assert_eq!(raw.out, (0..=255).collect::<Vec<u8>>());
}

#[test]
fn records_are_chosen_by_number_and_tag() {
    let log = closed(600);
    run_with_input(log.path(), "append DIR --tag 9", b"nine\n").done();
    let of = |command: &str| numbers(run(log.path(), command).done().text());
    assert_eq!(of("dump DIR --from 5 --to 7"), [5, 6, 7]);
    assert_eq!(of("dump DIR --from 600"), [600, 601]);
    assert_eq!(of("dump DIR --tag 9"), [601]);
    assert!(of("dump DIR --from 602").is_empty(), "the next one");
    let beyond = run(log.path(), "dump DIR --from 603");
    assert_eq!((beyond.code, beyond.text()), (4, ""));
    assert!(beyond.err.contains("record 603 has not been appended; the next will be 602"), "{}", beyond.err);
    assert_eq!(run(log.path(), "dump DIR --from 0").code, 4);
    assert_eq!(run(log.path(), "dump DIR --from 7 --to 6").code, 64);
    assert_eq!(of("dump DIR"), (1..=601).collect::<Vec<_>>());
}

#[test]
fn one_segment_is_dumped_by_itself() {
    let log = closed(600);
    let segments = segments(log.path());
    let of = |path: &std::path::Path| numbers(run(path, "dump DIR").done().text());
    let all: Vec<u64> = segments.iter().flat_map(|path| of(path)).collect();
    assert_eq!(all, (1..=600).collect::<Vec<_>>());
    // Anywhere, and under any name.
    let elsewhere = scratch();
    let copy = elsewhere.path().join("evidence");
    std::fs::copy(&segments[1], &copy).unwrap();
    assert_eq!(of(&copy), of(&segments[1]));
}

#[test]
fn a_damaged_segment_is_dumped_around_the_damage() {
    let log = closed(20);
    let (path, offset) = spoil(log.path(), &line(5));
    let ran = run(&path, "dump DIR");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains(&format!("at offset {offset}")), "{}", ran.err);
    let numbers = numbers(ran.text());
    assert_eq!(numbers, (1..=20).filter(|&number| number != 5).collect::<Vec<_>>());
}

#[test]
fn records_of_transactions_are_decoded() {
    use mapwal::Lsn;
    use mapwal::wal::{ActiveTransaction, DirtyPage, PageId, TransactionId, Wal, WalOptions};
    let log = scratch();
    // SAFETY: the directory is new, in memory, and the program that reads it is mapwal.
    let wal = unsafe { Wal::open(log.path(), &WalOptions::new()) }.unwrap();
    let tx = TransactionId(7);
    let begin = wal.log_begin(tx).unwrap();
    let insert = wal.log_insert(tx, Some(begin), Some(PageId(3)), b"row\n").unwrap();
    let undone = wal.log_compensation(tx, Some(insert), Some(PageId(3)), Some(begin), b"no row").unwrap();
    let active = ActiveTransaction::with_lsns(tx, Some(begin), Some(undone));
    wal.log_checkpoint(&[active], &[DirtyPage::new(PageId(3), Some(insert))]).unwrap();
    wal.append_plain(0x8001, b"own").unwrap();
    wal.flush().unwrap();
    assert_eq!((begin, insert), (Lsn(1), Lsn(2)));
    drop(wal);
    let dumped = run(log.path(), "dump DIR --wal").done();
    let expected = [
        "1\tbegin\ttx=7 len=0\t",
        "2\tinsert\ttx=7 prev=1 page=3 len=4\trow\\n",
        "3\tcompensation\ttx=7 prev=2 page=3 undo_next=1 len=6\tno row",
        "4\tcheckpoint\tredo=2 active=[7:1..3] dirty=[3:2]\t",
        "5\ttag=32769\tlen=3\town",
    ];
    assert_eq!(dumped.lines(), expected);
    let json = run(log.path(), "dump DIR --wal --format json --from 2 --to 4").done();
    let objects: Vec<Value> = json.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        objects[0],
        serde_json::json!({ "lsn": 2, "type": "insert", "tx": 7, "prev": 1, "page": 3, "len": 4, "data": "row\n" })
    );
    assert_eq!(objects[2]["active"], serde_json::json!([{ "tx": 7, "first": 1, "last": 3 }]));
    assert_eq!(objects[2]["dirty"], serde_json::json!([{ "page": 3, "recovery": 2 }]));
}

#[test]
fn of_a_file_that_does_not_have_the_first_record_wanted_nothing_is_an_error() {
    let log = closed(1200);
    let file = &segments(log.path())[1];
    let all = numbers(run(file, "dump DIR").done().text());
    let (first, last) = (all[0], all[all.len() - 1]);
    for range in
        ["--from 1 --to 5".to_owned(), format!("--from {} --to {last}", first - 1), format!("--from {}", last + 2)]
    {
        let ran = run(file, &format!("dump DIR {range}"));
        assert_eq!(ran.code, 4, "{range}: {}", ran.err);
        assert!(ran.err.contains(&format!("is not in this segment, which begins with {first}")), "{}", ran.err);
        // What lies before it is refused before it is read.
        let is_after = range == format!("--from {}", last + 2);
        assert_eq!(ran.err.contains(&format!("; the next will be {}", last + 1)), is_after, "{}", ran.err);
        assert!(ran.out.is_empty(), "{range}");
    }
    assert_eq!(numbers(run(file, &format!("dump DIR --from {last}")).done().text()), [last]);
    assert_eq!(run(file, &format!("dump DIR --from {}", last + 1)).done().text(), "", "as of a log");
}
