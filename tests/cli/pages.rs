//! Logs whose control page is the one thing that tells of a loss, or is itself not as it was.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::logs::{await_spare, copy, killed, line, scratch, segments, spoil, synced, write_at};
use crate::program::Running;
use crate::states::{Health, Log, RECORDS, State, flip, records, without_control};

/// Those whose writer was killed, and whose last record is damaged after that: only the control page tells that it was durable.
pub(crate) fn spoiled_last() -> Vec<State> {
    let log = killed(RECORDS);
    spoil(log.path(), &line(RECORDS));
    let without = without_control(copy(log.path()));
    let state = |name: &str, log, health| State {
        name: name.to_owned(),
        log: Log::Copied(log),
        there: (1..RECORDS).collect(),
        health,
    };
    let page = |spoil: &dyn Fn(&Path)| {
        let spoiled = copy(log.path());
        spoil(&spoiled.path().join("control"));
        spoiled
    };
    // In both watermarks: the words of a number are not those of a crash any more.
    let watermarks = page(&|control| [640, 704].into_iter().for_each(|at| flip(control, at)));
    let all = page(&|control| (0..512).for_each(|word| flip(control, word * 8)));
    let version = page(&|control| write_at(control, 40, &[0; 8]));
    vec![
        state("killed, last record and watermarks of the control page damaged", watermarks, Health::Damaged),
        state("killed, last record and control page damaged", all, Health::Damaged),
        state("killed, last record damaged, no version in the control page", version, Health::Damaged),
        state("killed, last record damaged", log, Health::Damaged),
        state("killed, last record damaged, no control page", without, Health::Unnoticed),
    ]
}

/// Those whose control page is damaged, is of another log, or is older than a segment.
pub(crate) fn spoiled(sound: &Path) -> Vec<State> {
    let mut states = Vec::new();
    let mut add = |name: &str, first: u64, spoil: &dyn Fn(&Path)| {
        let log = copy(sound);
        spoil(log.path());
        let there = (first..=RECORDS).collect();
        let health = if first == 1 { Health::Damaged } else { Health::Unnoticed };
        states.push(State { name: name.to_owned(), log: Log::Copied(log), there, health });
    };
    let control = |log: &Path| log.join("control");
    add("control page damaged", 1, &|log| (0..512).for_each(|word| flip(&control(log), word * 8)));
    add("a word of the control page damaged", 1, &|log| flip(&control(log), 72));
    add("the version of the control page damaged", 1, &|log| flip(&control(log), 42));
    add("control page empty", 1, &|log| fs::write(control(log), "").unwrap());
    add("control page of another log", 1, &|log| _ = fs::copy(control(synced(10).path()), control(log)).unwrap());
    let second = records(&segments(sound)[1]).start;
    add("first segment missing, a word of the control page damaged", second, &|log| {
        fs::remove_file(&segments(log)[0]).unwrap();
        flip(&control(log), 72);
    });
    states.push(older_segment());
    let missing = copy(sound);
    fs::remove_file(&segments(missing.path())[0]).unwrap();
    flip(&control(missing.path()), 42);
    states.push(State {
        name: "first segment missing, the version of the control page damaged".to_owned(),
        log: Log::Copied(missing),
        there: (second..=RECORDS).collect(),
        health: Health::Damaged,
    });
    states
}

/// A log in which a segment and the control page are as they were when that segment took appends.
fn older_segment() -> State {
    let log = scratch();
    let mut writer = Running::start(log.path(), "append DIR --segment-size 64KiB --tag 7 --sync each");
    let mut append = |numbers: Range<u64>| {
        for number in numbers {
            writer.say(&line(number));
            assert_eq!(writer.line(), Some(number.to_string()));
        }
    };
    append(1..901);
    let older = copy(log.path());
    append(901..RECORDS + 1);
    await_spare(log.path());
    drop(writer);
    let third = segments(older.path())[2].clone();
    let missing = records(&third).end..records(&segments(log.path())[2]).end;
    fs::copy(third, &segments(log.path())[2]).unwrap();
    fs::copy(older.path().join("control"), log.path().join("control")).unwrap();
    State {
        name: "an older copy of a segment and of the control page".to_owned(),
        log: Log::Copied(log),
        there: (1..=RECORDS).filter(|number| !missing.contains(number)).collect(),
        health: Health::Damaged,
    }
}
