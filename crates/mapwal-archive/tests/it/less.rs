//! Archives that have less than the log had: what the program says of them, with which exit code, and what it offers.

use std::fs;
use std::process::Stdio;

use mapwal::Lsn;

use crate::child::Process;
use crate::logs::{append_up_to, check, open};
use crate::place::{Place, make_log, wait_until};

/// Archives `./log` with more options, until epoch `epoch` has record `last`; what it has printed by then.
fn archive(place: &Place, words: &str, (epoch, last): (u64, u64)) -> String {
    let mut command = place
        .command(&format!("run ./log URL --part-interval 20ms --check-interval 20ms --status-interval 1ms {words}"));
    let service = Process::start(command.stdout(fs::File::create(place.path("out")).unwrap()));
    let has_it = |listed: serde_json::Value| {
        let epochs = listed["epochs"].as_array().unwrap().clone();
        epochs.iter().any(|found| found["epoch"] == epoch && found["next_lsn"] == last + 1)
    };
    let told = format!("epoch {epoch}  archived up to {last} ");
    wait_until(|| {
        let listed = place.run("list URL --format json");
        listed.code != Some(4)
            && has_it(listed.json())
            && fs::read_to_string(place.path("out")).unwrap().contains(&told)
    });
    assert_eq!(service.terminate().code(), Some(0));
    fs::read_to_string(place.path("out")).unwrap()
}

/// The first record that is left after a trim of all before record `lsn`.
fn trim(place: &Place, lsn: u64) -> u64 {
    let log = open(&place.path("log"));
    log.trim_before(Lsn(lsn)).unwrap();
    let first = log.first_lsn().0;
    log.close().unwrap();
    first
}

#[test]
fn records_that_are_in_no_epoch_are_told_by_every_command() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    archive(&place, "", (1, 300));
    let log = open(&place.path("log"));
    log.drop_pin("archive").unwrap();
    append_up_to(&log, 1, 900);
    log.close().unwrap();
    let first = trim(&place, 800);
    assert!(first > 301);
    let lost = format!("records 301..{}, before ", first - 1);
    let out = archive(&place, "", (2, 900));
    assert!(out.contains(&lost), "{out}");
    for words in ["list URL", "verify URL", "prune URL --before 1"] {
        let ran = place.run(words);
        assert_eq!(ran.code, Some(3), "{words}: {}", ran.out);
        assert!(ran.out.contains(&lost), "{words}: {}", ran.out);
    }
    // Also an epoch that no other one continues is something to be kept.
    let refused = place.run("prune URL --before 850").failed(3, "records are missing");
    let ways =
        format!("; --before 300 at most keeps the records before, and --before {first} --give-up-gaps at least ");
    assert!(refused.err.contains(&ways), "{}", refused.err);
    assert!(place.run("prune URL --before 300").out.contains("\ndeleted "));
    let restored = place.run("restore URL ./restored");
    assert_eq!((restored.code, &*restored.err), (Some(3), ""), "{}", restored.out);
    let lines: Vec<&str> = restored.out.lines().collect();
    assert!(lines[0].starts_with(&format!("restored: records {first}..900, in ")), "{}", restored.out);
    let kept = place.run("list URL --format json").json()["epochs"][0]["first_lsn"].as_u64().unwrap();
    assert!(kept > 1, "something was pruned");
    assert_eq!(lines[1], format!("not restored: records {kept}..300 of epoch 1, which --epoch 1 restores"));
    assert!(lines[2].starts_with("missing: ") && lines[2].contains(&lost), "{}", restored.out);
    check(&place.path("restored"), first, 900, |_| 1);
    let json = place.run("restore URL ./json --format json").json();
    assert_eq!((&json["lost"][0], &json["others"][0]["lsns"][1]), (&301.into(), &301.into()));
    // All of what was asked for.
    place.run("restore URL ./second --epoch 2").done();
    place.run("restore URL ./first --epoch 1").done();
    check(&place.path("first"), kept, 300, |_| 1);
    let refused = place.run(&format!("restore URL ./early --to {kept}")).failed(3, "records are missing");
    assert!(
        refused.err.contains(&format!("record {kept} is not in epoch 2")) && refused.err.contains("epoch 1 has it"),
        "{}",
        refused.err
    );
}

#[test]
fn an_epoch_that_has_vanished_is_asked_about_and_abandoned_on_request_alone() {
    for is_all_gone in [false, true] {
        let place = Place::new();
        make_log(&place.path("log"), 600);
        archive(&place, "", (1, 600));
        let first = trim(&place, 400);
        assert!(first > 1);
        if is_all_gone {
            fs::rename(place.path("archive"), place.path("elsewhere")).unwrap();
        } else {
            fs::remove_file(place.path("archive/0000000001/epoch.json")).unwrap();
        }
        let offers = "if the archive is gone for good, `run --abandon-epoch 1` begins another epoch";
        let refused = if is_all_gone {
            let err = fs::File::create(place.path("err")).unwrap();
            let service = Process::start(place.command("run ./log URL").stdout(Stdio::null()).stderr(err));
            let told = || fs::read_to_string(place.path("err")).unwrap();
            wait_until(|| told().contains('\n'));
            assert!(
                told().contains("no archive: there is no such directory, ") && told().contains(offers),
                "{}",
                told()
            );
            assert_eq!(service.terminate().code(), Some(0));
            assert!(!place.path("archive").exists());
            fs::create_dir_all(place.path("archive/0000000007")).unwrap();
            let refused = place.run("run ./log URL --status-interval never").failed(4, "refused");
            assert!(
                refused.err.contains(&format!("is {} the right store and prefix?", place.url())),
                "{}",
                refused.err
            );
            refused
        } else {
            let refused = place.run("run ./log URL --status-interval never").failed(4, "refused");
            assert!(refused.err.contains("put the note back"), "{}", refused.err);
            refused
        };
        let offers = "only if that cannot be done, `run --abandon-epoch 1` begins another epoch";
        assert!(
            refused.err.contains(offers) && refused.err.contains("nothing can be restored that only"),
            "{}",
            refused.err
        );
        let out = archive(&place, "--abandon-epoch 1", (2, 600));
        let lost = format!("records 1..{}, before ", first - 1);
        assert!(out.contains(&lost), "{out}");
        for (words, code) in [("list URL", 3), ("verify URL", 3), ("restore URL ./restored", 3)] {
            let ran = place.run(words);
            // A note that is missing is damage.
            let code = if is_all_gone || words.starts_with("restore") { code } else { 2 };
            assert_eq!(ran.code, Some(code), "{words}: {}{}", ran.out, ran.err);
            assert!(ran.out.contains(&lost), "{words}: {}", ran.out);
        }
        check(&place.path("restored"), first, 600, |_| 1);
    }
}

/// Nothing of an epoch can be restored without the one that it continues.
#[test]
fn a_run_says_that_the_epoch_before_its_own_is_gone_and_offers_another_one() {
    let place = Place::new();
    make_log(&place.path("first"), 300);
    let mut log = "first".to_owned();
    let start = |log: &str, words: &str| {
        let words = format!("run ./{log} URL --part-interval 20ms --check-interval 20ms --status-interval 1ms {words}");
        let out = fs::File::create(place.path("out")).unwrap();
        Process::start(place.command(&words).stdout(out).stderr(Stdio::null()))
    };
    for (epoch, last) in [(1, 300), (2, 600)] {
        if epoch == 2 {
            place.run("restore URL ./second --to 200").done();
            make_log(&place.path("second"), 600);
            log = "second".to_owned();
        }
        let service = start(&log, "");
        wait_until(|| place.lists_up_to(last));
        assert_eq!(service.terminate().code(), Some(0));
    }
    let printed = |what: &str| fs::read_to_string(place.path("out")).unwrap().contains(what);
    // Its own note that cannot be read.
    let note = place.path("archive/0000000002/epoch.json");
    let sound = fs::read(&note).unwrap();
    fs::write(&note, "{").unwrap();
    let service = start(&log, "");
    wait_until(|| printed("epoch -  archived up to -  ") && printed("`run --abandon-epoch 2` begins another epoch"));
    assert_eq!(service.terminate().code(), Some(0));
    fs::write(&note, sound).unwrap();
    for gone in ["0000000001/epoch.json", "0000000001"] {
        fs::rename(place.path("archive").join(gone), place.path("gone")).unwrap();
        let service = start(&log, "");
        wait_until(|| {
            printed("0000000001/epoch.json (it is missing), without which nothing of epoch 2 can be restored")
        });
        assert!(printed("; put it back, ") && printed("`run --abandon-epoch 2` begins another epoch"), "{gone}");
        assert_eq!(service.terminate().code(), Some(0));
        let service = start(&log, "--format json");
        wait_until(|| printed("\"damage\":\"it is missing\""));
        assert!(printed("epoch.json is damaged: it is missing\""), "the last error");
        assert_eq!(service.terminate().code(), Some(0));
        if gone.ends_with(".json") {
            fs::rename(place.path("gone"), place.path("archive").join(gone)).unwrap();
        }
    }
    let service = start(&log, "--abandon-epoch 2");
    wait_until(|| printed("epoch 3  archived up to 600 ") && printed("  beside what this epoch leads to: epoch 2: "));
    assert_eq!(service.terminate().code(), Some(0));
    place.run("restore URL ./restored").done();
    check(&place.path("restored"), 1, 600, |_| 1);
}

#[test]
fn a_restore_that_fails_says_what_can_be_restored() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    let epoch = place.path("archive/0000000001");
    let names = fs::read_dir(&epoch).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
    segments.sort();
    let (stray, copy) = (place.path("archive/0000000007"), epoch.join(&segments[0]));
    fs::create_dir(&stray).unwrap();
    fs::copy(&copy, stray.join(&segments[0])).unwrap();
    let refused = place.run("restore URL ./restored").failed(2, "damaged");
    assert!(refused.err.contains("; --epoch 1 restores records 1..600 of that epoch"), "{}", refused.err);
    fs::remove_dir_all(&stray).unwrap();
    // Damage in the middle.
    let second = epoch.join(&segments[1]);
    let sound = fs::read(&second).unwrap();
    fs::write(&second, &sound[..sound.len() / 2]).unwrap();
    let listed = place.run("list URL");
    assert_eq!(listed.code, Some(2));
    assert!(
        listed.out.contains(&segments[1])
            && listed.out.contains("or move it out of the archive, and keep it: `run` uploads it again"),
        "{}",
        listed.out
    );
    let refused = place.run("restore URL ./restored").failed(2, "damaged");
    let way_out = refused.err.split("--to ").nth(1).unwrap_or_else(|| panic!("{}", refused.err));
    let to: u64 = way_out.split(' ').next().unwrap().parse().unwrap();
    assert!(
        refused.err.contains("or move it out of the archive, and keep it: `run` uploads it again"),
        "{}",
        refused.err
    );
    let refused_restore = refused.err;
    // A prune would leave nothing that can be restored.
    let refused = place.run("prune URL --before 500").failed(2, "damaged");
    for told in [&*segments[1], "nothing was deleted", &format!("--before {to} at most "), " --give-up-gaps "] {
        assert!(refused.err.contains(told), "{}", refused.err);
    }
    let refused = place.run("prune URL --before 500 --format json").json();
    assert_eq!((&refused["segments"], &refused["refused"]["from"]), (&0.into(), &(to + 1).into()), "{refused}");
    assert!(refused["refused"]["damaged"]["key"].as_str().unwrap().ends_with(&segments[1]), "{refused}");
    assert!(copy.exists());
    // What is left of that try.
    assert!(
        refused_restore.contains(&format!("--to {to} restores what is before, into another directory")),
        "{refused_restore}"
    );
    let other = place.run(&format!("restore URL ./restored --to {to}")).failed(4, "cannot restore");
    assert!(other.err.contains("an interrupted restore of epoch 1 up to its latest record is there"), "{}", other.err);
    place.run(&format!("restore URL ./before --to {to}")).done();
    check(&place.path("before"), 1, to, |_| 1);
    fs::write(&second, sound).unwrap();
    // Nothing comes before the first one.
    fs::remove_file(&copy).unwrap();
    let refused = place.run("restore URL ./none").failed(3, "records are missing");
    assert!(!refused.err.contains("--to"), "{}", refused.err);
    let gives_up = format!("prune --before {} --give-up-gaps", to + 1);
    assert!(refused.err.contains(&gives_up), "{}", refused.err);
    let refused = place.run("prune URL --before 500").failed(3, "records are missing");
    assert!(refused.err.contains("--give-up-gaps at least") && !refused.err.contains("keeps"), "{}", refused.err);
    let verified = place.run("verify URL");
    assert!(
        verified.code == Some(3) && verified.out.contains("\nrecords are missing in 1 place: "),
        "{}",
        verified.out
    );
    fs::write(epoch.join("epoch.json"), "{").unwrap();
    let listed = place.run("list URL");
    assert!(listed.out.contains("log unknown: 1 epoch"), "{}", listed.out);
}

#[test]
fn objects_of_two_logs_are_named_with_what_can_be_done() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    let epoch = place.path("archive/0000000001");
    let mut segments: Vec<_> = fs::read_dir(&epoch).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|suffix| suffix == "seg"));
    segments.sort();
    let name = segments[1].file_name().unwrap().to_str().unwrap();
    let first: u64 = name[..20].parse().unwrap();
    // That of another log with the same beginning.
    place.run(&format!("restore URL ./copy --to {}", first - 1)).done();
    let log = open(&place.path("copy"));
    append_up_to(&log, 2, 600);
    log.close().unwrap();
    let elsewhere = format!("run ./copy file://{} --status-interval never", place.path("elsewhere").display());
    let service = Process::start(place.command(&elsewhere).stdout(Stdio::null()));
    let begins = format!("{first:020}-");
    let find = || {
        let names = fs::read_dir(place.path("elsewhere/0000000001")).ok()?;
        names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with(&begins) && name.ends_with(".seg"))
    };
    wait_until(|| find().is_some());
    assert_eq!(service.terminate().code(), Some(0));
    let other = &find().unwrap();
    fs::copy(place.path("elsewhere/0000000001").join(other), epoch.join(other)).unwrap();
    for words in ["list URL", "verify URL"] {
        let ran = place.run(words);
        assert_eq!(ran.code, Some(2), "{words}");
        let names =
            format!("both have record {first}, and differ; the segment after them goes on from 0000000001/{name}\n");
        for told in [&**other, name, &names, "\nof objects that differ: two copies of the log were archived here: "] {
            assert!(ran.out.contains(told), "{words}: {}", ran.out);
        }
    }
    let refused = place.run("restore URL ./restored").failed(2, "other contents");
    for told in ["; two copies of the log were archived here: ", &format!("--to {} restores what is before", first - 1)]
    {
        assert!(refused.err.contains(told), "{}", refused.err);
    }
    place.run(&format!("restore URL ./restored --to {}", first - 1)).done();
    check(&place.path("restored"), 1, first - 1, |_| 1);
    // An epoch of its own has what the log has, and needs none of both.
    archive(&place, "", (2, 600));
    place.run("restore URL ./newest").done();
    check(&place.path("newest"), 1, 600, |_| 1);
}

/// With all that is needed to restore them.
#[test]
fn what_is_not_restored_of_an_epoch_with_a_gap_is_said_up_to_that() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    place.run("restore URL ./again --to 300").done();
    fs::remove_dir_all(place.path("log")).unwrap();
    fs::rename(place.path("again"), place.path("log")).unwrap();
    let log = open(&place.path("log"));
    append_up_to(&log, 2, 500);
    log.close().unwrap();
    place.archive(500);
    let epoch = place.path("archive/0000000001");
    let mut segments: Vec<_> = fs::read_dir(&epoch).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|suffix| suffix == "seg"));
    segments.sort();
    let first = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap()[..20].parse::<u64>().unwrap();
    let at = segments.iter().position(|path| first(path) > 400).unwrap();
    let last = first(&segments[at]) - 1;
    fs::remove_file(&segments[at]).unwrap();
    let out = place.run("restore URL ./restored").done().out;
    let told = format!("not restored: records 301..{last} of epoch 1, which --epoch 1 --to {last} restores");
    assert!(out.contains(&told), "{out}");
    place.run(&format!("restore URL ./first --epoch 1 --to {last}")).done();
    check(&place.path("first"), 1, last, |_| 1);
}

#[test]
fn an_archive_in_the_directory_of_its_log_is_refused() {
    let place = Place::new();
    make_log(&place.path("log"), 30);
    std::os::unix::fs::symlink(place.path("log"), place.path("link")).unwrap();
    for inside in ["log", "log/archive", "link/a/b"] {
        let url = format!("file://{}", place.path(inside).display());
        place.run(&format!("run ./log {url} --status-interval never")).failed(4, "no place for an archive");
    }
    assert!(!place.path("log/archive").exists());
    let beside = format!("file://{}", place.path("log-archive").display());
    let service = Process::start(place.command(&format!("run ./log {beside}")).stdout(Stdio::null()));
    wait_until(|| place.path("log-archive/0000000001").exists());
    assert_eq!(service.terminate().code(), Some(0));
}

/// An old copy of the log's directory, to which nothing was appended: its epoch is the newest.
#[test]
fn a_newest_epoch_that_has_less_than_an_older_one_and_nothing_else_is_told() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    place.archive(300);
    let copied = std::process::Command::new("cp").arg("-a").args([place.path("log"), place.path("old")]).status();
    assert!(copied.unwrap().success());
    make_log(&place.path("log"), 600);
    place.archive(600);
    fs::rename(place.path("log"), place.path("first")).unwrap();
    fs::rename(place.path("old"), place.path("log")).unwrap();
    archive(&place, "", (2, 300));
    let restored = place.run("restore URL ./restored");
    assert!(restored.code == Some(3) && restored.out.contains("\nless than epoch 1: "), "{}", restored.out);
    assert!(restored.out.contains("which --epoch 1 restores"), "{}", restored.out);
    assert_eq!(place.run("restore URL ./json --format json").json()["longer"], 1);
    place.run("restore URL ./second --epoch 2").done();
    place.run("restore URL ./early --to 200").done();
    place.run("restore URL ./archive/inside").failed(4, "refused");
    place.run("verify URL --changed-since ./archive/report").failed(4, "refused");
    fs::write(place.path("report"), "").unwrap();
    assert_eq!(place.run("verify URL --changed-since ./report").code, Some(3));
    // Records of its own make it a history of its own.
    let log = open(&place.path("log"));
    append_up_to(&log, 2, 310);
    log.close().unwrap();
    archive(&place, "", (2, 310));
    assert!(!place.run("restore URL ./other").done().out.contains("less than"));
}
