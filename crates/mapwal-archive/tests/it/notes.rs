//! Notes of epochs that cannot be used: what is said of each, and that it works.

use std::fs;
use std::process::Stdio;

use crate::advice::{LAST, archived, copy, flip, note, objects, twin, two_epochs};
use crate::child::Process;
use crate::copies::archive;
use crate::logs::{append_up_to, check, open};
use crate::place::{Place, wait_until};

/// What each says of a note, and what works then.
#[test]
fn whatever_is_wrong_with_a_note_the_way_out_that_is_named_works() {
    type Damage = fn(&Place);
    let foreign = archived();
    let foreign_note = fs::read(note(&foreign, 1)).unwrap();
    let states: [(&str, Damage, i32, &[&str]); 8] = [
        ("missing", |place| fs::remove_file(note(place, 2)).unwrap(), 2, &["rebuild-note URL --epoch 2"]),
        ("damaged", |place| fs::write(note(place, 2), "{").unwrap(), 2, &["rebuild-note URL --epoch 2"]),
        (
            "a digit of its version",
            |place| {
                let text = fs::read_to_string(note(place, 2)).unwrap();
                fs::write(note(place, 2), text.replace("\"version\": 1", "\"version\": 2")).unwrap();
            },
            2,
            &["rebuild-note URL --epoch 2"],
        ),
        (
            "that of another epoch",
            |place| assert!(fs::copy(note(place, 1), note(place, 2)).is_ok()),
            2,
            &["rebuild-note URL --epoch 2"],
        ),
        (
            "that of another epoch, with all of it",
            |place| copy(&place.path("archive/0000000001"), &place.path("archive/0000000003")),
            2,
            &["forget-epoch URL --epoch 3"],
        ),
        ("a part of both", |place| fs::write(note(place, 1), "").unwrap(), 2, &["rebuild-note URL --epoch 1"]),
        ("that of another log", |_| {}, 2, &["rebuild-note URL --epoch 2"]),
        ("that of another log, of the first one", |_| {}, 2, &["rebuild-note URL --epoch 1"]),
    ];
    for (name, damage, code, ways) in states {
        let place = two_epochs();
        match name {
            "that of another log" => fs::write(note(&place, 2), &foreign_note).unwrap(),
            "that of another log, of the first one" => fs::write(note(&place, 1), &foreign_note).unwrap(),
            _ => damage(&place),
        }
        for words in ["list URL", "verify URL"] {
            let ran = place.run(words);
            assert_eq!(ran.code, Some(code), "{name}: {words}: {}{}", ran.out, ran.err);
            for way in ways {
                assert!(ran.out.contains(way.split(' ').next().unwrap()), "{name}: {words}: {}", ran.out);
            }
        }
        for way in ways {
            place.run(way).done();
        }
        for words in ["list URL", "verify URL", "restore URL ./after"] {
            let ran = place.run(words);
            assert_eq!(ran.code, Some(0), "{name}: {words}: {}{}", ran.out, ran.err);
        }
        check(&place.path("after"), 1, LAST + 100, |lsn| if lsn.0 <= 400 { 1 } else { 2 });
        // And the log goes on where it was.
        let log = open(&place.path("log"));
        append_up_to(&log, 2, LAST + 150);
        log.close().unwrap();
        place.archive(LAST + 150);
        let listed = place.run("list URL --format json").done().json();
        assert_eq!(listed["epochs"].as_array().unwrap().len(), 2, "{name}: {listed}");
    }
}

#[test]
fn a_note_of_another_log_with_its_epoch_is_moved_away_as_a_whole() {
    let (place, foreign) = (two_epochs(), archived());
    copy(&foreign.path("archive/0000000001"), &place.path("archive/0000000003"));
    let told = place.run("list URL");
    assert!(told.code == Some(2) && told.out.contains("does not belong here: move all of it away"), "{}", told.out);
    place.run("rebuild-note URL --epoch 3").failed(2, "damaged");
    place.run("forget-epoch URL --epoch 3").failed(2, "damaged");
    place.run("rebuild-note URL --epoch 1").failed(4, "refused");
    fs::rename(place.path("archive/0000000003"), place.path("elsewhere")).unwrap();
    place.run("verify URL").done();
}

/// There is no other note to tell it by: the objects do.
#[test]
fn the_only_note_of_an_archive_is_told_from_that_of_another_log() {
    let (place, foreign) = (archived(), archived());
    fs::copy(note(&foreign, 1), note(&place, 1)).unwrap();
    for words in ["verify URL", "restore URL ./before"] {
        let ran = place.run(words);
        let told = format!("{}{}", ran.out, ran.err);
        assert_eq!(ran.code, Some(2), "{words}: {told}");
        for part in ["it is of another log", "0000000001/epoch.json", "rebuild-note"] {
            assert!(told.contains(part), "{words}: {told}");
        }
        assert!(!told.contains("--to "), "nothing can be restored: {told}");
        assert!(!told.contains(".seg"), "the objects are sound: {told}");
    }
    place.run("rebuild-note URL --epoch 1").done();
    for words in ["list URL", "verify URL", "restore URL ./after"] {
        place.run(words).done();
    }
    check(&place.path("after"), 1, LAST, |_| 1);
}

/// Its records are gone; those of the epoch that continues it are sound.
#[test]
fn an_epoch_can_be_restored_though_nothing_is_left_of_the_one_that_it_continues() {
    let place = two_epochs();
    fs::remove_dir_all(place.path("archive/0000000001")).unwrap();
    for words in ["list URL", "verify URL", "restore URL ./before"] {
        let ran = place.run(words);
        assert!(
            ran.code == Some(2) && format!("{}{}", ran.out, ran.err).contains("rebuild-note with --begins"),
            "{}",
            ran.out
        );
    }
    place.run("forget-epoch URL --epoch 2").failed(4, "refused");
    place.run("rebuild-note URL --epoch 2").failed(4, "refused");
    place.run("rebuild-note URL --epoch 2 --begins").done();
    place.run("verify URL").done();
    let listed = place.run("list URL --format json").done().json();
    let first = listed["epochs"][0]["first_lsn"].as_u64().unwrap();
    assert!(first > 1 && first <= 401, "{listed}");
    let ran = place.run("restore URL ./after");
    assert!(matches!(ran.code, Some(0 | 3)), "{}{}", ran.out, ran.err);
    check(&place.path("after"), first, LAST + 100, |lsn| if lsn.0 <= 400 { 1 } else { 2 });
}

/// While the log has the records, they are archived anew, and what is left of the old epoch is of no use.
#[test]
fn an_epoch_that_continues_nothing_is_forgotten_once_its_log_has_begun_another() {
    let place = two_epochs();
    fs::remove_dir_all(place.path("archive/0000000001")).unwrap();
    archive(&place, ("log", "archive"), "--abandon-epoch 2", (3, LAST + 100));
    place.run("forget-epoch URL --epoch 2").done();
    for words in ["list URL", "verify URL", "restore URL ./after"] {
        place.run(words).done();
    }
    check(&place.path("after"), 1, LAST + 100, |lsn| if lsn.0 <= 400 { 1 } else { 2 });
}

/// Nothing is wrong with the epoch.
#[test]
fn a_note_in_a_later_version_needs_a_newer_program_and_is_no_damage() {
    let place = two_epochs();
    fs::write(note(&place, 2), "{\"version\": 2}").unwrap();
    for words in ["list URL", "verify URL", "list URL --format json", "verify URL --format json"] {
        let ran = place.run(words);
        let told = "0000000002/epoch.json cannot be used: it is in version 2, which needs a newer mapwal-archive";
        assert!(ran.code == Some(4) && ran.out.contains(told), "{words}: {:?} {}", ran.code, ran.out);
        assert!(!ran.out.contains("forget-epoch") && !ran.out.contains("rebuild-note"), "{words}: {}", ran.out);
    }
    for words in ["restore URL ./restored", "rebuild-note URL --epoch 2", "forget-epoch URL --epoch 2"] {
        let refused = place.run(words).failed(4, "refused");
        assert!(refused.err.contains("a newer mapwal-archive"), "{}", refused.err);
        assert!(!refused.err.contains("forget-epoch") && !refused.err.contains("rebuild-note"), "{}", refused.err);
    }
    place.run("restore URL ./first-epoch --epoch 1").done();
    // Nor does `run` offer to leave the epoch.
    let out = fs::File::create(place.path("out")).unwrap();
    let service = Process::start(place.command("run ./log URL --status-interval 1ms").stdout(out));
    let told = || fs::read_to_string(place.path("out")).unwrap();
    wait_until(|| {
        told().contains("which needs a newer mapwal-archive); use that; nothing is said to be wrong with the epoch")
    });
    assert_eq!(service.terminate().code(), Some(0));
    assert!(!told().contains("abandon-epoch"), "{}", told());
}

#[test]
fn a_note_whose_proof_is_damaged_or_gone_is_given_up_as_it_is_said() {
    // The first objects are gone, and the log has them.
    let place = archived();
    fs::remove_file(note(&place, 1)).unwrap();
    for object in &objects(&place, 1, ".seg")[..2] {
        fs::remove_file(object).unwrap();
    }
    let refused = place.run("rebuild-note URL --epoch 1").failed(4, "refused");
    assert!(refused.err.contains("`run --abandon-epoch 1` archives them anew"), "{}", refused.err);
    let anew = twin(&place);
    let service = Process::start(
        anew.command("run ./log URL --abandon-epoch 1 --part-interval 20ms --status-interval never")
            .stdout(Stdio::null()),
    );
    wait_until(|| {
        let listed = anew.run("list URL --format json").json();
        listed["epochs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|epoch| epoch["next_lsn"] == LAST + 1 && epoch["first_lsn"] == 1)
    });
    assert_eq!(service.terminate().code(), Some(0));
    anew.run("forget-epoch URL --epoch 1").done();
    anew.run("verify URL").done();
    anew.run("restore URL ./after").done();
    check(&anew.path("after"), 1, LAST, |_| 1);
    place.run("rebuild-note URL --epoch 1 --begins").done();
    place.run("verify URL").done();
    // The first one is damaged.
    let place = archived();
    fs::remove_file(note(&place, 1)).unwrap();
    let first = &objects(&place, 1, ".seg")[0];
    flip(first);
    let refused = place.run("rebuild-note URL --epoch 1").failed(2, "damaged");
    assert!(refused.err.contains("; or move it out of the archive, and say --begins: "), "{}", refused.err);
    fs::remove_file(first).unwrap();
    place.run("rebuild-note URL --epoch 1 --begins").done();
    place.run("restore URL ./after").done();
    // Two begin the epoch.
    let (place, foreign) = (archived(), archived());
    fs::remove_file(note(&place, 1)).unwrap();
    let stray = &objects(&foreign, 1, ".seg")[0];
    let stray_here = place.path("archive/0000000001").join(stray.file_name().unwrap());
    fs::copy(stray, &stray_here).unwrap();
    let refused = place.run("rebuild-note URL --epoch 1").failed(2, "other contents");
    assert!(refused.err.contains("move that one away"), "{}", refused.err);
    fs::remove_file(&stray_here).unwrap();
    place.run("rebuild-note URL --epoch 1").done();
    place.run("verify URL").done();
    // Nothing is left to prove it by.
    fs::remove_file(note(&place, 1)).unwrap();
    for suffix in [".seg", ".part"] {
        objects(&place, 1, suffix).iter().for_each(|object| fs::remove_file(object).unwrap());
    }
    fs::write(note(&place, 1), "{").unwrap();
    let refused = place.run("rebuild-note URL --epoch 1").failed(4, "refused");
    assert!(refused.err.contains("or let forget-epoch delete what is left of epoch 1"), "{}", refused.err);
    place.run("forget-epoch URL --epoch 1").done();
}

/// Which an archiver waits for: another epoch would have less.
#[test]
fn an_archiver_whose_epoch_has_the_note_of_another_says_how_it_is_made_again_and_goes_on_then() {
    let place = two_epochs();
    fs::copy(note(&place, 1), note(&place, 2)).unwrap();
    let out = fs::File::create(place.path("out")).unwrap();
    let service = Process::start(place.command("run ./log URL --part-interval 20ms --status-interval 1ms").stdout(out));
    let told = |what: &str| fs::read_to_string(place.path("out")).unwrap().contains(what);
    wait_until(|| {
        told("0000000002/epoch.json (it is a copy of that of epoch 1), ") && told("let rebuild-note make it again")
    });
    place.run("rebuild-note URL --epoch 2").done();
    let log = open(&place.path("log"));
    append_up_to(&log, 2, LAST + 150);
    log.close().unwrap();
    wait_until(|| place.lists_up_to(LAST + 150));
    assert_eq!(service.terminate().code(), Some(0));
}

/// Its mark says that what came before may have been deleted, wherever the epoch began.
#[test]
fn a_note_that_is_lost_after_a_prune_is_made_again_without_another_word() {
    let place = archived();
    let pruned = place.run("prune URL --before 300").done();
    assert!(
        pruned.out.contains("; the first record of epoch 1, the newest that can be followed, is "),
        "{}",
        pruned.out
    );
    fs::remove_file(note(&place, 1)).unwrap();
    place.run("rebuild-note URL --epoch 1").done();
    for words in ["list URL", "verify URL", "restore URL ./after"] {
        place.run(words).done();
    }
    let first = open(&place.path("after")).first_lsn().0;
    assert!(first > 1 && first <= 300, "{first}");
    check(&place.path("after"), first, LAST, |_| 1);
    // What vanishes after that place is another thing.
    fs::remove_file(note(&place, 1)).unwrap();
    fs::remove_file(&objects(&place, 1, ".seg")[0]).unwrap();
    place.run("rebuild-note URL --epoch 1").failed(4, "refused");
}

#[test]
fn a_prune_beside_an_epoch_without_its_note_says_which_epoch_it_speaks_of() {
    let place = two_epochs();
    let lsns = place.run("prune URL --before 1 --format json").done().json();
    assert_eq!((&lsns["epoch"], &lsns["first_lsn"]), (&2.into(), &1.into()));
    for (bytes, is_later) in [(None, false), (Some("{\"version\": 2}"), true)] {
        fs::remove_file(note(&place, 2)).unwrap();
        bytes.into_iter().for_each(|bytes| fs::write(note(&place, 2), bytes).unwrap());
        let pruned = place.run("prune URL --before 200");
        assert_eq!(pruned.code, Some(2), "{is_later}: it was carried out: {}{}", pruned.out, pruned.err);
        assert!(
            pruned.out.contains("; the first record of epoch 1, the newest that can be followed, "),
            "{}",
            pruned.out
        );
        fs::write(note(&place, 2), "{").unwrap();
    }
}
