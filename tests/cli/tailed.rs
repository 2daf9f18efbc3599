//! `tail` and `stat` on a log that is being written.

use mapwal::{Log, Options};
use serde_json::Value;

use crate::logs::{closed, line, live, scratch};
use crate::program::{Running, run};

/// The number of the next record that is printed.
fn number(tail: &mut Running) -> u64 {
    tail.line().unwrap().split('\t').next().unwrap().parse().unwrap()
}

#[test]
fn records_come_as_they_are_appended_across_rotations() {
    let directory = scratch();
    let mut writer = live(directory.path(), 300);
    for options in ["", " --durable"] {
        let mut tail = Running::start(directory.path(), &format!("tail DIR --from start{options}"));
        let last: u64 = run(directory.path(), "dump DIR").lines().len() as u64;
        for expected in 1..=last {
            assert_eq!(number(&mut tail), expected);
        }
        for expected in last + 1..=last + 600 {
            writer.say(&line(expected));
            assert_eq!(writer.line(), Some(expected.to_string()));
            assert_eq!(number(&mut tail), expected, "{options}");
        }
        tail.interrupt();
        assert_eq!(tail.child.wait().unwrap().code(), Some(0), "an interrupt is its end");
    }
}

#[test]
fn tailing_begins_where_it_is_told_to() {
    let log = closed(600);
    let of = |command: &str| run(log.path(), command).done().lines().len();
    assert_eq!(of("tail DIR --no-follow"), 600);
    assert_eq!(of("tail DIR --no-follow --from 599"), 2);
    assert_eq!(of("tail DIR --no-follow --from end"), 0);
    let beyond = run(log.path(), "tail DIR --no-follow --from 700");
    assert_eq!(beyond.code, 4);
    assert!(beyond.err.contains("record 700 has not been appended"), "{}", beyond.err);
}

#[test]
fn the_state_of_a_log_is_told_to_people_and_to_machines() {
    let log = closed(600);
    run(log.path(), "pins DIR add replica-2 400 --no-limit").done();
    let text = run(log.path(), "stat DIR").done();
    assert!(text.text().contains("records    600, from 1 to 600"), "{}", text.text());
    assert!(text.text().contains("writer     none\n"), "{}", text.text());
    let json: Value = serde_json::from_str(run(log.path(), "stat DIR --format json").done().text()).unwrap();
    assert_eq!((&json["first_lsn"], &json["next_lsn"], &json["durable_lsn"]), (&1.into(), &601.into(), &600.into()));
    assert_eq!(json["segments"], 2);
    assert_eq!(json["writer"], serde_json::json!({ "alive": false, "pid": null }));
    let sizes = json["record_sizes"].as_array().unwrap();
    assert_eq!(sizes.iter().map(|class| class["records"].as_u64().unwrap()).sum::<u64>(), 600);
    let bytes: u64 = (1..=600).map(|number| line(number).len() as u64).sum();
    assert_eq!(json["payload_bytes"], bytes);
    let pin = &json["pins"][0];
    assert_eq!((&pin["name"], &pin["lsn"], &pin["lag_records"]), (&"replica-2".into(), &400.into(), &201.into()));
    assert_eq!((&pin["state"], &pin["limit_bytes"]), (&"reserved".into(), &Value::Null));
}

#[test]
fn records_are_counted_and_not_their_numbers() {
    let directory = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    log.append(1, b"one").unwrap();
    log.append_void().unwrap();
    log.append(1, b"three").unwrap();
    log.close().unwrap();
    let text = run(directory.path(), "stat DIR").done();
    assert!(text.text().contains("records    2, from 1 to 3\n"), "{}", text.text());
    // What the last writer had ready is not told as if it were there.
    assert!(text.text().contains("removed, by the last writer\n"), "{}", text.text());
    assert!(text.text().contains("spare or left over, 0 files kept;"), "{}", text.text());
    let json: Value = serde_json::from_str(run(directory.path(), "stat DIR --format json").done().text()).unwrap();
    assert_eq!((&json["records"], &json["next_lsn"]), (&2.into(), &4.into()));
    let empty = scratch();
    crate::program::run_with_input(empty.path(), "append DIR", b"").done();
    let text = run(empty.path(), "stat DIR").done();
    assert!(text.text().contains("records    0, and the next will be 1\n"), "{}", text.text());
}

#[test]
fn a_writer_is_seen_alive_and_then_dead() {
    let directory = scratch();
    let writer = live(directory.path(), 10);
    let state =
        || -> Value { serde_json::from_str(run(directory.path(), "stat DIR --format json").done().text()).unwrap() };
    let pid = writer.child.id();
    assert_eq!(state()["writer"], serde_json::json!({ "alive": true, "pid": pid }));
    drop(writer);
    assert_eq!(state()["writer"], serde_json::json!({ "alive": false, "pid": pid }));
}

#[test]
fn watching_tells_the_rate() {
    let directory = scratch();
    let mut writer = live(directory.path(), 10);
    let mut watch = Running::start(directory.path(), "stat DIR --watch --format json");
    let first: Value = serde_json::from_str(&watch.line().unwrap()).unwrap();
    assert_eq!((&first["next_lsn"], &first["rate"]), (&11.into(), &Value::Null));
    for number in 11..=110 {
        writer.say(&line(number));
        writer.line().unwrap();
    }
    let (mut last, mut rates) = (11, 0);
    while last < 111 {
        let told: Value = serde_json::from_str(&watch.line().unwrap()).unwrap();
        let next = told["next_lsn"].as_u64().unwrap();
        let rate = told["rate"]["records_per_second"].as_u64().unwrap();
        assert!(
            rate <= next - last,
            "{rate} in each second, {} since the last look, a second ago or more",
            next - last
        );
        (last, rates) = (next, rates + rate);
    }
    assert!(rates > 0, "of 100 records");
    watch.interrupt();
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

#[test]
fn pins_are_made_listed_and_dropped() {
    let log = closed(600);
    run(log.path(), "pins DIR").done();
    run(log.path(), "pins DIR add one 5").done();
    run(log.path(), "pins DIR add two 600").done();
    let listed = run(log.path(), "pins DIR").done();
    let rows: Vec<Vec<&str>> = listed.lines().iter().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["one", "5", "reserved", "596"]);
    assert_eq!(rows[1][..4], ["two", "600", "reserved", "1"]);
    run(log.path(), "pins DIR drop one").done();
    assert_eq!(run(log.path(), "pins DIR").done().lines().len(), 2);
    assert_eq!(run(log.path(), "pins DIR advance two 600").done().text(), "two keeps records from 600 on\n");
    assert_eq!(run(log.path(), "pins DIR advance two 601").done().text(), "two keeps records from 601 on\n");
    for (command, told) in [
        ("advance two 600", "two keeps records from 601 on, and pins are moved forward only"),
        ("advance one 600", "pin \"one\" does not exist"),
        ("drop one", "pin \"one\" does not exist"),
        ("add two 1", "pin \"two\" exists already"),
    ] {
        let ran = run(log.path(), &format!("pins DIR {command}"));
        assert_eq!(ran.code, 4);
        assert!(ran.err.contains(told), "{}", ran.err);
    }
}
