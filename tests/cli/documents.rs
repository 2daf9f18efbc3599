//! `--format json`: what is printed is what `docs/mapwal.schema.json` says, no less and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::logs::{closed, damaged, killed, line, live, scratch, spoil, torn};
use crate::program::{Running, run, run_with_input};
use crate::schema::complaints;

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mapwal.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The names of members, and the values of enumerations, that occur in `value`, where `schema` has them.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            into.insert(name.clone());
            names(member, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        Value::String(text) => drop(into.insert(text.clone())),
        _ => {}
    }
}

/// Checks what was printed on a line, by a validator of schemas, and that all of it is in the schema.
#[track_caller]
pub(crate) fn check_document(document: &Value) {
    let schema = schema();
    assert_eq!(complaints(&schema, &schema, document, ""), [""; 0], "{document}");
}

/// Checks the document that `command` prints on a log, with the exit code expected; the document.
#[track_caller]
fn check(log: &Path, command: &str, code: i32) -> Value {
    let ran = run(log, &format!("{command} --format json"));
    assert_eq!(ran.code, code, "{command}: {}", ran.err);
    let [line] = ran.lines()[..] else { panic!("one line: {}", ran.text()) };
    let document: Value = serde_json::from_str(line).unwrap();
    check_document(&document);
    assert_eq!(document["kind"], command.split(' ').next().unwrap());
    document
}

#[test]
fn what_is_printed_is_what_the_schema_says() {
    let log = closed(1200);
    run(log.path(), "pins DIR add a 1 --no-limit").done();
    run(log.path(), "pins DIR add b 900 --limit 1MiB").done();
    let commands = ["stat DIR", "verify DIR", "pins DIR", "segments DIR", "meta DIR"];
    let mut seen = BTreeSet::new();
    for command in commands {
        names(&check(log.path(), command, 0), &mut seen);
    }
    let (torn, damaged, killed) = (torn(100), damaged(900), killed(50));
    let live_log = scratch();
    let _writer = live(live_log.path(), 600);
    for command in commands {
        for log in [&torn, &killed, &live_log] {
            let code = i32::from(command == "verify DIR" && log.path() == torn.path());
            names(&check(log.path(), command, code), &mut seen);
        }
    }
    let found = check(damaged.path(), "verify DIR", 2);
    assert_eq!((&found["verdict"], &found["damage"][0]["lsn"]), (&"damaged".into(), &5.into()));
    names(&found, &mut seen);
    // What has no value anywhere is not shown to be right.
    for name in ["proof", "limit_bytes", "kept_by", "pin", "newest", "spare", "torn", "sealed", "active", "untrimmed"] {
        assert!(seen.contains(name), "{name} was never printed");
    }
}

#[test]
fn of_a_log_that_is_too_damaged_to_be_looked_at_there_is_a_document_too() {
    let log = closed(1200);
    crate::logs::segments(log.path()).into_iter().for_each(|path| fs::remove_file(path).unwrap());
    for command in ["stat", "verify", "segments", "meta", "pins", "backup"] {
        let out = scratch();
        let more = if command == "backup" { format!(" {}/copy", out.path().display()) } else { String::new() };
        let ran = run(log.path(), &format!("{command} DIR{more} --format json"));
        let [line] = ran.lines()[..] else { panic!("{command}: one line: {}", ran.text()) };
        let document: Value = serde_json::from_str(line).unwrap();
        check_document(&document);
        assert_eq!((ran.code, &document["kind"], &document["command"]), (2, &"damaged".into(), &command.into()));
        assert_eq!(document["damage"].as_array().unwrap().len(), 1, "{document}");
        assert!(ran.err.starts_with("mapwal: damaged: "), "{}", ran.err);
    }
    // One that opens no further than to its damage.
    let lost = closed(1200);
    fs::remove_file(&crate::logs::segments(lost.path())[1]).unwrap();
    let ran = run(lost.path(), "stat DIR --format json");
    check_document(&serde_json::from_str(ran.text()).unwrap());
    assert_eq!(ran.code, 2);
}

#[test]
fn a_backup_that_meets_damage_has_a_document_of_it() {
    let log = closed(1200);
    let (path, offset) = spoil(log.path(), &line(5));
    let out = scratch();
    let ran = run(log.path(), &format!("backup DIR {}/copy --format json", out.path().display()));
    let [line] = ran.lines()[..] else { panic!("one line: {}", ran.text()) };
    let document: Value = serde_json::from_str(line).unwrap();
    check_document(&document);
    assert_eq!((ran.code, &document["kind"], &document["command"]), (2, &"damaged".into(), &"backup".into()));
    let damage = &document["damage"][0];
    assert_eq!((&damage["offset"], &damage["lsn"]), (&offset.into(), &5.into()), "{damage}");
    assert_eq!(damage["path"], path.to_str().unwrap());
    // The same is told to people.
    let told = damage["damage"].as_str().unwrap();
    assert!(ran.err.starts_with(&format!("mapwal: damaged: {told} at offset {offset}, record 5: ")), "{}", ran.err);
}

/// Checks what `command` prints on a log, one record on a line; how many there are.
#[track_caller]
fn check_records(log: &Path, command: &str) -> usize {
    let ran = run(log, &format!("{command} --format json")).done();
    let lines = ran.lines();
    lines.iter().for_each(|line| check_document(&serde_json::from_str(line).unwrap()));
    lines.len()
}

#[test]
fn records_are_printed_as_the_schema_says() {
    let log = scratch();
    run_with_input(log.path(), "append DIR --segment-size 64KiB --tag 9", b"text\n\xff\xfe\n\n").done();
    assert_eq!(check_records(log.path(), "dump DIR"), 3);
    assert_eq!(check_records(log.path(), "tail DIR --no-follow"), 3);
    let log = scratch();
    let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
    // SAFETY: the directory is one of this test.
    let wal = unsafe { mapwal::wal::Wal::open(log.path(), &options) }.unwrap();
    let page = mapwal::wal::PageId(5);
    let mut open = wal.begin().unwrap();
    open.update(page, b"a row").unwrap();
    let mut undone = wal.begin().unwrap();
    undone.insert(page, &[255]).unwrap();
    undone.abort(|undoing| undoing.compensate(b"undone")).unwrap();
    wal.log_checkpoint(&[], &[mapwal::wal::DirtyPage::new(page, Some(mapwal::Lsn(2)))]).unwrap();
    wal.append_plain(0x8001, b"own").unwrap();
    open.commit().unwrap().applied();
    // One that is no record of a transaction, with the tag of one.
    wal.close().unwrap();
    run_with_input(log.path(), "append DIR --tag 4 --force", b"short\n").done();
    let ran = run(log.path(), "dump DIR --wal --format json").done();
    for seen in [
        "\"update\"",
        "\"compensation\"",
        "\"data_base64\"",
        "\"active\":[{",
        "\"dirty\":[{",
        "\"tag\":32769",
        "\"invalid\"",
    ] {
        assert!(ran.text().contains(seen), "{seen} was never printed: {}", ran.text());
    }
    assert_eq!(check_records(log.path(), "dump DIR --wal"), ran.lines().len());
    assert_eq!(check_records(log.path(), "tail DIR --no-follow --wal"), ran.lines().len());
}

#[test]
fn the_schema_has_all_that_is_printed_as_json() {
    let schema = schema();
    let names: BTreeSet<&str> =
        schema["oneOf"].as_array().unwrap().iter().map(|one| &one["$ref"].as_str().unwrap()[8..]).collect();
    for command in crate::generated::COMMANDS {
        let help = run(Path::new(""), &format!("{command} --help")).done();
        let has_json = help.text().contains("json") && help.text().contains("--format <FORMAT>");
        let name = if ["dump", "tail"].contains(&command) { "record" } else { command };
        assert_eq!(has_json, names.contains(name), "{command}");
    }
}

#[test]
fn a_backup_says_what_it_has_made() {
    let (log, out) = (closed(1200), scratch());
    let (first, second) = (out.path().join("first"), out.path().join("second"));
    let document = check(log.path(), &format!("backup DIR {}", first.display()), 0);
    assert_eq!((&document["first_lsn"], &document["next_lsn"]), (&1.into(), &1201.into()));
    assert_eq!((&document["segments"], &document["against"]), (&4.into(), &Value::Null));
    let command = format!("backup DIR {} --against {}", second.display(), first.display());
    let document = check(log.path(), &command, 0);
    assert_eq!((&document["shared_segments"], &document["parts_at_lsn"]), (&3.into(), &Value::Null));
    assert_eq!(document["against"], first.to_str().unwrap());
}

#[test]
fn each_look_is_a_document() {
    let log = scratch();
    let _writer = live(log.path(), 10);
    let mut watch = Running::start(log.path(), "stat DIR --watch --format json");
    for is_first in [true, false] {
        let document: Value = serde_json::from_str(&watch.line().unwrap()).unwrap();
        check_document(&document);
        assert_eq!(document["rate"].is_null(), is_first);
    }
}

#[test]
fn numbers_of_records_are_written_in_full() {
    let log = scratch();
    let first = (1_u64 << 53) + 1;
    let options = mapwal::Options::new().segment_size_bytes(64 << 10).first_lsn(mapwal::Lsn(first));
    // SAFETY: the directory is one of this test.
    let made = unsafe { mapwal::Log::open(log.path(), &options) }.unwrap();
    made.append(1, b"a").unwrap();
    made.close().unwrap();
    let ran = run(log.path(), "stat DIR --format json").done();
    assert!(ran.text().contains("\"first_lsn\":9007199254740993,"), "{}", ran.text());
}

/// Of records, what is not there is left out.
const OPTIONAL: [&str; 8] =
    ["invalid", "payload", "payload_base64", "prev", "page", "undo_next", "data", "data_base64"];

#[test]
fn every_object_of_the_schema_requires_all_that_it_names() {
    fn walk(schema: &Value) {
        if let Some(properties) = schema.get("properties") {
            let required: BTreeSet<&str> =
                schema["required"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            let named = properties.as_object().unwrap().keys().map(String::as_str);
            let is_record = properties.get("lsn").is_some() && properties.get("len").is_some();
            let named: BTreeSet<&str> = named.filter(|name| !is_record || !OPTIONAL.contains(name)).collect();
            assert_eq!(required, named);
            assert_eq!(schema["type"], "object");
        }
        let parts = schema.as_object().into_iter().flatten().map(|(_, part)| part);
        parts.chain(schema.as_array().into_iter().flatten()).for_each(walk);
    }
    walk(&schema());
}

#[test]
fn what_is_not_as_the_schema_says_is_noticed() {
    let root = schema();
    let of = |value: Value| complaints(&root, &root["$defs"]["keeper"], &value, "");
    assert_eq!(of(json!({ "by": "pin", "name": "a", "lsn": 1 })), [""; 0]);
    for (wrong, why) in [
        (json!({ "by": "pin", "name": "a" }), "\"lsn\""),
        (json!({ "by": "pin", "name": "a", "lsn": -1 }), "/lsn: type"),
        (json!({ "by": "pin", "name": "a", "lsn": 1, "more": 1 }), "/more: not in the schema"),
        (json!({ "by": "nothing", "name": "a", "lsn": 1 }), "/by: enum"),
        (json!({ "by": "pin", "name": 7, "lsn": 1.5 }), "/name: type"),
    ] {
        let found = of(wrong);
        assert!(found.iter().any(|complaint| complaint.contains(why)), "{why}: {found:?}");
    }
}

#[test]
fn a_value_of_metadata_is_printed_as_it_is() {
    let log = scratch();
    run_with_input(log.path(), "append DIR --segment-size 64KiB", b"one\n").done();
    let options = mapwal::Options::new().segment_size_bytes(64 << 10);
    // SAFETY: the directory is one of this test.
    let made = unsafe { mapwal::Log::open(log.path(), &options) }.unwrap();
    made.put_meta(0, &[0, 255]).unwrap();
    made.close().unwrap();
    let document = check(log.path(), "meta DIR", 0);
    assert_eq!((&document["slots"][0]["hex"], &document["slots"][0]["text"]), (&"00ff".into(), &Value::Null));
}
