//! Copies of a log and of its archive, and which of them goes on where.

use std::fs;
use std::process::Command;

use mapwal::Lsn;

use crate::child::Process;
use crate::logs::{append_up_to, check, open};
use crate::place::{Place, make_log, wait_until};

fn url(place: &Place, name: &str) -> String {
    format!("file://{}", place.path(name).display())
}

/// Archives log `log` in `archive` until epoch `epoch` has record `last`.
pub(crate) fn archive(place: &Place, (log, archive): (&str, &str), more: &str, (epoch, last): (u64, u64)) {
    let url = url(place, archive);
    let out = fs::File::create(place.path("out")).unwrap();
    let words = format!("run ./{log} {url} --part-interval 20ms --status-interval 1ms {more}");
    let service = Process::start(place.command(&words).stdout(out));
    let told = format!("epoch {epoch}  archived up to {last} ");
    wait_until(|| fs::read_to_string(place.path("out")).unwrap().contains(&told));
    assert_eq!(service.terminate().code(), Some(0));
}

pub(crate) fn copy(place: &Place, from: &str, to: &str) {
    let copied = Command::new("cp").arg("-a").args([place.path(from), place.path(to)]).status();
    assert!(copied.unwrap().success());
}

/// An old copy of the log's directory, trimmed or not before it is archived: it has no record of its own.
#[test]
fn a_newest_epoch_with_less_than_an_older_one_is_told_by_each_command_and_can_be_forgotten() {
    for is_trimmed in [false, true] {
        let place = Place::new();
        make_log(&place.path("log"), 500);
        archive(&place, ("log", "archive"), "", (1, 500));
        copy(&place, "log", "old");
        make_log(&place.path("log"), 900);
        archive(&place, ("log", "archive"), "", (1, 900));
        if is_trimmed {
            let old = open(&place.path("old"));
            old.trim_before(Lsn(450)).unwrap();
            assert!(old.first_lsn() > Lsn(1));
            old.close().unwrap();
        }
        archive(&place, ("old", "archive"), "", (2, 500));
        let told = "epoch 2, the newest, has less than epoch 1: that has all of its records, and more\n";
        for words in ["list URL", "verify URL", "prune URL --before 1"] {
            let ran = place.run(words);
            assert_eq!(ran.code, Some(3), "{is_trimmed} {words}: {}{}", ran.out, ran.err);
            assert!(ran.out.contains(told) && ran.out.contains("let forget-epoch delete it"), "{words}: {}", ran.out);
        }
        let verdict = place.run("verify URL").out;
        assert!(verdict.contains("\nthe newest epoch has less than an older one: "), "{verdict}");
        let restored = place.run("restore URL ./restored");
        assert!(restored.code == Some(3) && restored.out.contains("\nless than epoch 1: "), "{}", restored.out);
        place.run("restore URL ./first --epoch 1").done();
        check(&place.path("first"), 1, 900, |_| 1);
        // The way out that is named.
        place.run("forget-epoch URL --epoch 1").failed(4, "refused");
        place.run("forget-epoch URL --epoch 2").done();
        for words in ["list URL", "verify URL", "restore URL ./second"] {
            place.run(words).done();
        }
        check(&place.path("second"), 1, 900, |_| 1);
    }
}

/// One record of its own makes it a history of its own.
#[test]
fn a_newest_epoch_with_a_record_of_its_own_is_not_less_and_not_forgotten() {
    for (last, era) in [(501, 2), (450, 1)] {
        let place = Place::new();
        make_log(&place.path("log"), 500);
        archive(&place, ("log", "archive"), "", (1, 500));
        let to = if era == 2 { 450 } else { 500 };
        place.run(&format!("restore URL ./other --to {to}")).done();
        make_log(&place.path("log"), 900);
        archive(&place, ("log", "archive"), "", (1, 900));
        let log = open(&place.path("other"));
        if era == 2 {
            append_up_to(&log, 2, last);
        } else {
            log.truncate_after(Lsn(last)).unwrap();
        }
        log.close().unwrap();
        archive(&place, ("other", "archive"), "", (2, last));
        if era == 2 {
            place.run("list URL").done();
            place.run("verify URL").done();
            place.run("forget-epoch URL --epoch 2").failed(4, "refused");
        } else {
            assert_eq!(place.run("list URL").code, Some(3), "a log that was shortened has less");
        }
    }
}

/// Restored from one archive, archived in another, and then in the first: its history is another one, whatever numbers pins name.
#[test]
fn a_restored_log_does_not_go_on_in_an_epoch_of_the_original_whose_note_was_made_again() {
    for is_session_left in [true, false] {
        let place = Place::new();
        make_log(&place.path("log"), 300);
        archive(&place, ("log", "archive"), "", (1, 300));
        place.run("restore URL ./second").done();
        make_second(&place);
        archive(&place, ("second", "new"), "", (1, 400));
        // With the note it had, and with one that was made again.
        for round in 0..2 {
            let refused = place.run("run ./second URL --status-interval never").failed(4, "refused");
            let way = "is not known to be the one of the archive; is ";
            assert!(refused.err.contains(way), "{round}: {}", refused.err);
            assert!(!refused.err.contains("epoch.json") && !refused.err.contains("rebuild-note"), "{}", refused.err);
            fs::remove_file(place.path("archive/0000000001/epoch.json")).unwrap();
            if !is_session_left {
                let _ = fs::remove_file(place.path("archive/0000000001/session.json"));
            }
            place.run("rebuild-note URL --epoch 1").done();
        }
        // The original goes on where that can be known, or as it is said.
        make_log(&place.path("log"), 500);
        if is_session_left {
            archive(&place, ("log", "archive"), "", (1, 500));
        } else {
            let refused = place.run("run ./log URL --status-interval never").failed(4, "refused");
            assert!(refused.err.contains("`run --abandon-epoch 1` begins another epoch there"), "{}", refused.err);
            archive(&place, ("log", "archive"), "--abandon-epoch 1", (2, 500));
        }
        let next = if is_session_left { 2 } else { 3 };
        archive(&place, ("second", "archive"), "--abandon-epoch 1", (next, 400));
        place.run("list URL").done();
        place.run("restore URL ./newest").done();
        check(&place.path("newest"), 1, 400, |lsn| if lsn.0 <= 300 { 1 } else { 2 });
        place.run(&format!("restore URL ./original --epoch {}", next - 1)).done();
        check(&place.path("original"), 1, 500, |_| 1);
    }
}

fn make_second(place: &Place) {
    let log = open(&place.path("second"));
    append_up_to(&log, 2, 400);
    log.close().unwrap();
}

/// A drill goes by the exit code: what was pruned on purpose is not called missing.
#[test]
fn after_a_prune_of_two_sound_epochs_each_restore_of_the_newest_ends_with_success() {
    let place = Place::new();
    make_log(&place.path("log"), 900);
    archive(&place, ("log", "archive"), "", (1, 900));
    place.run("restore URL ./other --to 490").done();
    let log = open(&place.path("other"));
    append_up_to(&log, 2, 890);
    log.close().unwrap();
    archive(&place, ("other", "archive"), "", (2, 890));
    for before in [300, 450, 500, 619, 700, 800] {
        place.run(&format!("prune URL --before {before}")).done();
        place.run("verify URL").done();
        let (directory, earlier) = (format!("./at-{before}"), format!("./to-{before}"));
        let restored = place.run(&format!("restore URL {directory} --format json")).done().json();
        assert_eq!((&restored["epoch"], &restored["next_lsn"]), (&2.into(), &891.into()), "{before}");
        assert_eq!(restored["begins_late"], false, "{before}");
        place.run(&format!("restore URL {earlier} --to {before}")).done();
        assert!(restored["first_lsn"].as_u64().unwrap() <= before);
    }
}

/// Its note says that records are in no epoch, until the one that has them has its note again.
#[test]
fn what_an_abandoned_epoch_has_is_not_missing_any_more_once_its_note_is_back() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    archive(&place, ("log", "archive"), "", (1, 600));
    let log = open(&place.path("log"));
    log.trim_before(Lsn(400)).unwrap();
    let first = log.first_lsn().0;
    log.close().unwrap();
    fs::remove_file(place.path("archive/0000000001/epoch.json")).unwrap();
    archive(&place, ("log", "archive"), "--abandon-epoch 1", (2, 600));
    let told = format!("epoch 2: records 1..{}, before its first one, are missing\n", first - 1);
    let listed = place.run("list URL");
    assert!(listed.code == Some(2) && listed.out.contains(&told), "{}", listed.out);
    place.run("rebuild-note URL --epoch 1").done();
    for words in ["list URL", "verify URL"] {
        let ran = place.run(words).done();
        assert!(!ran.out.contains("missing") && !ran.out.contains("given up"), "{words}: {}", ran.out);
    }
    let listed = place.run("list URL --format json").json();
    assert_eq!(listed["epochs"][1]["lost"], serde_json::Value::Null, "epoch 1 has them");
    let restored = place.run("restore URL ./restored");
    let told = "late: epoch 2 begins after records that another epoch has\n";
    assert!(restored.code == Some(3) && restored.out.contains(told), "{}", restored.out);
    assert!(!restored.out.contains("missing: "), "{}", restored.out);
    assert_eq!(place.run("restore URL ./json --format json").json()["begins_late"], true);
    place.run("restore URL ./first --epoch 1").done();
    // Without them they are missing again.
    fs::remove_dir_all(place.path("archive/0000000001")).unwrap();
    assert_eq!(place.run("list URL").code, Some(3));
}
