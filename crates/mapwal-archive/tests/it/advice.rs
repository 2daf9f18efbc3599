//! What messages advise, followed to the letter: each way out works.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child::Process;
use crate::logs::{append_up_to, open};
use crate::place::{Place, Ran, make_log};

pub(crate) const LAST: u64 = 600;

pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// The same log and archive, elsewhere.
pub(crate) fn twin(place: &Place) -> Place {
    let twin = Place::new();
    for name in ["log", "archive"] {
        copy(&place.path(name), &twin.path(name));
    }
    twin
}

pub(crate) fn archived() -> Place {
    let place = Place::new();
    make_log(&place.path("log"), LAST);
    place.archive(LAST);
    place
}

/// The files of the objects of an epoch that end so, in the log's order.
pub(crate) fn objects(place: &Place, epoch: u64, suffix: &str) -> Vec<PathBuf> {
    let directory = fs::read_dir(place.path("archive").join(format!("{epoch:010}"))).unwrap();
    let mut paths: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(suffix));
    paths.sort();
    paths
}

pub(crate) fn note(place: &Place, epoch: u64) -> PathBuf {
    place.path("archive").join(format!("{epoch:010}/epoch.json"))
}

/// A copy under a key with another checksum.
fn misname(object: &Path) -> PathBuf {
    let (stem, suffix) = object.to_str().unwrap().rsplit_once('.').unwrap();
    let other = PathBuf::from(format!("{}00beef00.{suffix}", &stem[..stem.len() - 8]));
    fs::copy(object, &other).unwrap();
    other
}

pub(crate) fn cut(object: &Path) {
    let bytes = fs::read(object).unwrap();
    fs::write(object, &bytes[..bytes.len() - 7]).unwrap();
}

pub(crate) fn flip(object: &Path) {
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(object, bytes).unwrap();
}

/// A second epoch, which continues the first one after record 400.
pub(crate) fn two_epochs() -> Place {
    let place = archived();
    place.run("restore URL ./again --to 400").done();
    fs::rename(place.path("log"), place.path("first")).unwrap();
    fs::rename(place.path("again"), place.path("log")).unwrap();
    let log = open(&place.path("log"));
    append_up_to(&log, 2, LAST + 100);
    log.close().unwrap();
    place.archive(LAST + 100);
    place
}

/// A part of a segment beside that, sealed.
pub(crate) fn part_beside() -> (Place, PathBuf) {
    let place = archived();
    let parts = objects(&place, 1, ".part");
    let aside = place.path("part");
    fs::copy(&parts[0], &aside).unwrap();
    make_log(&place.path("log"), 2 * LAST);
    place.archive(2 * LAST);
    fs::copy(aside, &parts[0]).unwrap();
    (place, parts[0].clone())
}

fn states() -> Vec<(&'static str, Place)> {
    let mut states = Vec::new();
    let mut with = |name, damage: &dyn Fn(&Place)| {
        let place = archived();
        damage(&place);
        states.push((name, place));
    };
    with("a copy under another key", &|place| drop(misname(&objects(place, 1, ".seg")[2])));
    with("a copy of the first one under another key", &|place| drop(misname(&objects(place, 1, ".seg")[0])));
    with("a copy under another key beside a damaged one", &|place| {
        let object = &objects(place, 1, ".seg")[2];
        misname(object);
        flip(object);
    });
    with("one that was cut short", &|place| cut(&objects(place, 1, ".seg")[2]));
    with("the first one, cut short", &|place| cut(&objects(place, 1, ".seg")[0]));
    with("the last one, cut short", &|place| cut(objects(place, 1, ".seg").last().unwrap()));
    with("one with a changed byte", &|place| flip(&objects(place, 1, ".seg")[2]));
    with("a missing one", &|place| fs::remove_file(&objects(place, 1, ".seg")[2]).unwrap());
    with("a missing first one", &|place| fs::remove_file(&objects(place, 1, ".seg")[0]).unwrap());
    with("a missing one after one that was cut short", &|place| {
        let objects = objects(place, 1, ".seg");
        cut(&objects[1]);
        fs::remove_file(&objects[3]).unwrap();
    });
    with("a missing one before one that was cut short", &|place| {
        let objects = objects(place, 1, ".seg");
        fs::remove_file(&objects[1]).unwrap();
        cut(&objects[2]);
    });
    for (name, of_part) in [("a part", true), ("a segment beside a part", false)] {
        let (place, part) = part_beside();
        let number = |path: &Path| path.file_name().unwrap().to_str().unwrap()[42..52].to_owned();
        let sealed = objects(&place, 1, ".seg").into_iter().find(|path| number(path) == number(&part)).unwrap();
        misname(if of_part { &part } else { &sealed });
        states.push((name, place));
    }
    let place = two_epochs();
    cut(&objects(&place, 1, ".seg")[1]);
    states.push(("one that two epochs need", place));
    let place = two_epochs();
    cut(&objects(&place, 2, ".seg")[0]);
    states.push(("one of the second epoch", place));
    states
}

/// The commands that a message advises.
fn ways(told: &str) -> BTreeSet<String> {
    let words: Vec<&str> = told.split_whitespace().map(|word| word.trim_end_matches([';', ',', ':'])).collect();
    let mut ways = BTreeSet::new();
    for at in words.windows(4) {
        match *at {
            ["--to", to, "restores", _] => drop(ways.insert(format!("restore URL ./way --to {to}"))),
            ["--epoch", epoch, "restores", _] => drop(ways.insert(format!("restore URL ./way --epoch {epoch}"))),
            ["--epoch", epoch, "--to", to] => drop(ways.insert(format!("restore URL ./way --epoch {epoch} --to {to}"))),
            ["--before", before, "at", "most"] => drop(ways.insert(format!("prune URL --before {before}"))),
            ["--before", before, "--give-up-gaps", _] => {
                ways.insert(format!("prune URL --before {before} --give-up-gaps"));
            }
            _ => {}
        }
    }
    ways
}

/// The keys that are to be deleted, or to be given the name of another one.
fn damaged(told: &str) -> Vec<(String, Option<String>)> {
    let of_key = |word: &str| word.trim_end_matches([';', ',']).to_owned();
    let is_object = |key: &String| key.ends_with(".seg") || key.ends_with(".part");
    let lines = told.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.windows(3).position(|words| words[1..] == ["is", "damaged:"])?;
        let other =
            line.split_once("it has the contents that ").map(|(_, rest)| of_key(rest.split(' ').next().unwrap()));
        Some((of_key(words[at]), other)).filter(|(key, _)| is_object(key))
    });
    lines.collect()
}

#[track_caller]
fn follow(place: &Place, way: &str, why: &str) {
    let place = twin(place);
    let ran = place.run(way);
    let told = format!("{why}: {way}: {}{}", ran.out, ran.err);
    if way.starts_with("restore") {
        assert_eq!(ran.code, Some(0), "{told}");
    } else if way.ends_with("--give-up-gaps") {
        assert!(ran.code == Some(0) && ran.out.starts_with("deleted "), "{told}");
        for words in ["list URL", "verify URL", "restore URL ./after"] {
            let ran = place.run(words);
            assert_eq!(ran.code, Some(0), "{told}, then {words}: {}{}", ran.out, ran.err);
        }
    } else {
        // What it keeps is still wrong.
        assert!(ran.err.is_empty() && ran.out.contains("deleted "), "{told}");
        let rest = place.run("restore URL ./after");
        let to = ways(&rest.err).into_iter().find(|way| way.contains("--to"));
        let to = to.unwrap_or_else(|| panic!("{told}, then nothing can be restored: {}", rest.err));
        assert_eq!(place.run(&to).code, Some(0), "{told}, then {to}");
    }
}

#[test]
fn whatever_is_wrong_with_objects_each_command_that_a_message_names_ends_with_success() {
    let mut followed = BTreeSet::new();
    for (name, place) in states() {
        let asked = ["restore URL ./restored", "restore URL ./restored --to 330"];
        let prunes = [330, LAST].map(|before| format!("prune URL --before {before}"));
        for words in asked.into_iter().map(str::to_owned).chain(prunes) {
            let place = twin(&place);
            let Ran { code, out, err } = place.run(&words);
            let why = format!("{name}: {words} ({code:?} {out}{err})");
            for way in ways(&format!("{out}{err} .")) {
                followed
                    .insert(way.split(' ').filter(|word| word.parse::<u64>().is_err()).collect::<Vec<_>>().join(" "));
                follow(&place, &way, &why);
            }
        }
    }
    // Each kind of advice is among them.
    let kinds = [
        "prune URL --before",
        "prune URL --before --give-up-gaps",
        "restore URL ./way --epoch",
        "restore URL ./way --to",
    ];
    assert_eq!(followed.iter().map(String::as_str).collect::<Vec<_>>(), kinds);
}

#[test]
fn a_damaged_object_is_deleted_or_renamed_as_it_is_said_and_all_is_there_again() {
    let mut renamed = 0;
    for (name, place) in states() {
        for words in ["list URL", "verify URL"] {
            let place = twin(&place);
            // What is missing is uploaded again, so that nothing else is wrong.
            let last = if place.path("log").exists() { open(&place.path("log")).next_lsn().0 - 1 } else { LAST };
            let mut told = place.run(words).out;
            for round in 0.. {
                assert!(round < 4, "{name}: {words}: {told}");
                let found = damaged(&told);
                for (key, other) in &found {
                    let of = |key: &String| place.path("archive").join(key);
                    match other {
                        Some(other) => {
                            renamed += 1;
                            fs::rename(of(key), of(other)).unwrap();
                        }
                        None if of(key).exists() => fs::remove_file(of(key)).unwrap(),
                        None => {}
                    }
                    if other.is_some() {
                        break;
                    }
                }
                let service = Process::start(
                    place.command("run ./log URL --part-interval 20ms --status-interval never").stdout(Stdio::null()),
                );
                // Where the damaged one is an epoch's before this, the log has it no more under that number, and the archive stays as it is.
                for _ in 0..20 {
                    std::thread::sleep(std::time::Duration::from_millis(300));
                    if place.run("list URL").code == Some(0) {
                        break;
                    }
                }
                assert_eq!(service.terminate().code(), Some(0));
                told = place.run(words).out;
                if damaged(&told).is_empty() {
                    break;
                }
            }
            if name == "one that two epochs need" {
                continue;
            }
            if words == "list URL" {
                assert_eq!(place.run(words).code, Some(0), "{name}: {told}");
                continue;
            }
            for words in ["list URL", "verify URL", "restore URL ./after"] {
                let ran = place.run(words);
                assert_eq!(ran.code, Some(0), "{name}: {words}: {}{}", ran.out, ran.err);
            }
            let after = open(&place.path("after"));
            assert_eq!(after.next_lsn().0 - 1, last, "{name}");
        }
    }
    assert!(renamed >= 2, "{renamed}");
}

#[test]
fn a_prune_beyond_the_end_names_the_most_that_is_accepted() {
    let place = archived();
    let refused = place.run(&format!("prune URL --before {}", LAST + 2)).failed(3, "records are missing");
    let told = format!("; the most is --before {}: ", LAST + 1);
    assert!(refused.err.contains(&told), "{}", refused.err);
    place.run(&format!("prune URL --before {}", LAST + 1)).done();
}

/// Moved by hand, and back under each other's name: both are there.
#[test]
fn two_objects_whose_contents_were_exchanged_are_told_and_exchanged_back() {
    let place = Place::new();
    let log = open(&place.path("log"));
    for _ in 0..LAST {
        log.append(1, &[7; 400]).unwrap();
    }
    log.close().unwrap();
    place.archive(LAST);
    let all = objects(&place, 1, ".seg");
    let (one, other, aside) = (&all[1], &all[2], place.path("aside"));
    assert_eq!(one.metadata().unwrap().len(), other.metadata().unwrap().len());
    let exchange = || {
        fs::rename(one, &aside).unwrap();
        fs::rename(other, one).unwrap();
        fs::rename(&aside, other).unwrap();
    };
    exchange();
    let told = place.run("verify URL");
    let found = damaged(&told.out);
    let key = |path: &Path| path.strip_prefix(place.path("archive")).unwrap().to_str().unwrap().to_owned();
    let wanted = [(key(one), Some(key(other))), (key(other), Some(key(one)))];
    assert!(told.code == Some(2) && found == wanted, "{}", told.out);
    // The first of them is what a restore comes to.
    let refused = place.run("restore URL ./restored").failed(2, "damaged");
    let told = format!("it has the contents that {} should have", key(other));
    assert!(refused.err.contains(&told) && refused.err.contains("give it the name of that one"), "{}", refused.err);
    exchange();
    place.run("verify URL").done();
}
