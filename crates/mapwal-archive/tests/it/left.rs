//! Epochs that are left to themselves: forgotten, pruned, or abandoned, with or without an archiver at work in them.

use std::fs;

use crate::advice::{LAST, note, two_epochs};
use crate::child::Process;
use crate::copies::{archive, copy};
use crate::logs::{append_up_to, check, open};
use crate::place::{Place, make_log, wait_until};

const WAY_OUT: &str =
    "leave it, or archive it at another URL; only if the archive is to go on with this log, `run --abandon-epoch ";
const NEWEST: &str = "which is the newest from then on, and what `restore` gives without --epoch";

#[test]
fn an_archiver_whose_epoch_is_forgotten_ends_and_says_so_and_so_does_the_next_one() {
    let place = Place::new();
    make_log(&place.path("log"), 500);
    archive(&place, ("log", "archive"), "", (1, 500));
    copy(&place, "log", "old");
    make_log(&place.path("log"), 900);
    archive(&place, ("log", "archive"), "", (1, 900));
    let mut command = place.command("run ./old URL --part-interval 20ms --status-interval 1ms");
    command.stdout(fs::File::create(place.path("out")).unwrap()).stderr(fs::File::create(place.path("err")).unwrap());
    let mut service = Process::start(&mut command);
    wait_until(|| fs::read_to_string(place.path("out")).unwrap().contains("epoch 2  archived up to 500 "));
    place.run("forget-epoch URL --epoch 2").done();
    let log = open(&place.path("old"));
    append_up_to(&log, 2, 600);
    log.close().unwrap();
    wait_until(|| service.ended().is_some());
    assert_eq!(service.ended().unwrap().code(), Some(4));
    let left: Vec<_> =
        fs::read_dir(place.path("archive/0000000002")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["forgotten"], "nothing that it has uploaded meanwhile");
    let again = place.run("run ./old URL --status-interval never").failed(4, "refused").err;
    for told in [fs::read_to_string(place.path("err")).unwrap(), again] {
        for part in ["epoch 2, of pin archive, was deleted from the archive by forget-epoch; ", WAY_OUT, NEWEST] {
            assert!(told.contains(part), "{told}");
        }
    }
    place.run("verify URL").done();
}

#[test]
fn an_archiver_whose_epoch_was_pruned_is_told_what_another_epoch_would_be() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    archive(&place, ("log", "archive"), "", (1, 300));
    place.run("restore URL ./other").done();
    let other = open(&place.path("other"));
    append_up_to(&other, 2, 900);
    other.close().unwrap();
    archive(&place, ("other", "archive"), "", (2, 900));
    place.run("prune URL --before 850").done();
    let refused = place.run("run ./log URL --status-interval never").failed(4, "refused");
    for part in ["was pruned from the archive, which goes on with a later one; ", WAY_OUT, NEWEST] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
}

/// With the note that made it be abandoned, or one that was made again since.
#[test]
fn an_epoch_that_was_abandoned_can_be_forgotten() {
    for is_made_again in [false, true] {
        let place = two_epochs();
        fs::copy(note(&place, 1), note(&place, 2)).unwrap();
        place.run("forget-epoch URL --epoch 2").failed(2, "damaged");
        archive(&place, ("log", "archive"), "--abandon-epoch 2", (3, LAST + 100));
        if is_made_again {
            place.run("rebuild-note URL --epoch 2").done();
        }
        place.run("forget-epoch URL --epoch 1").failed(4, "refused");
        let forgotten = place.run("forget-epoch URL --epoch 2").done();
        assert!(forgotten.out.starts_with("forgotten: epoch 2, "), "{}", forgotten.out);
        for words in ["list URL", "verify URL", "restore URL ./after"] {
            place.run(words).done();
        }
        check(&place.path("after"), 1, LAST + 100, |lsn| if lsn.0 <= 400 { 1 } else { 2 });
    }
}
