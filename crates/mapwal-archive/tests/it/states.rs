//! Each command on an archive in each state: none ends with 0 and less than what is there.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::{Place, make_log};

/// The exit codes of `list`, `verify`, `restore` and of a prune that deletes nothing.
type Codes = [i32; 4];
const COMMANDS: [&str; 4] = ["list URL", "verify URL", "restore URL ./restored", "prune URL --before 1"];

struct State {
    place: Place,
    /// The files of the objects with records, in the log's order.
    objects: Vec<PathBuf>,
}

impl State {
    fn new() -> Self {
        let place = Place::new();
        make_log(&place.path("log"), 600);
        place.archive(600);
        let listed = place.run("list URL --objects --format json").done().json();
        let objects = listed["epochs"][0]["objects"].as_array().unwrap();
        let path = |object: &Value| place.path("archive").join(object["key"].as_str().unwrap());
        let objects = objects.iter().map(path).collect();
        Self { place, objects }
    }

    fn note(&self, epoch: u64) -> PathBuf {
        self.place.path("archive").join(format!("{epoch:010}/epoch.json"))
    }

    #[track_caller]
    fn ends_with(&self, codes: Codes, named: &str) {
        for (command, code) in COMMANDS.iter().zip(codes) {
            for format in ["text", "json"] {
                let ran = self.place.run(&format!("{command} --format {format}"));
                let told = format!("{}{}", ran.out, ran.err);
                assert_eq!(ran.code, Some(code), "{command}: {told}");
                assert!(code == 0 || told.contains(named), "{command}: {told} does not name {named}");
                let _ = fs::remove_dir_all(self.place.path("restored"));
            }
        }
    }
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn nothing_and_foreign_files_are_no_archive() {
    let place = Place::new();
    fs::create_dir(place.path("archive")).unwrap();
    let state = State { place, objects: Vec::new() };
    state.ends_with([4; 4], "nothing");
    fs::create_dir(state.place.path("archive/9999999999")).unwrap();
    fs::write(state.place.path("archive/9999999999/notes.txt"), "mine").unwrap();
    fs::write(state.place.path("archive/zzz"), "mine").unwrap();
    state.ends_with([4; 4], "nothing");
}

#[test]
fn a_damaged_note_is_damage_to_every_command() {
    let state = State::new();
    fs::write(state.note(1), "{").unwrap();
    state.ends_with([2; 4], "0000000001/epoch.json");
    let listed = state.place.run("list URL --format json").json();
    let fault = listed["epochs"][0]["fault"].as_str().unwrap();
    assert!(fault.contains("epoch.json") && fault.contains("line 1"), "{fault}");
    fs::remove_file(state.note(1)).unwrap();
    state.ends_with([2; 4], "0000000001/epoch.json");
}

#[test]
fn an_epoch_beside_one_with_a_damaged_note_goes_on() {
    let state = State::new();
    let place = &state.place;
    place.run("restore URL ./again --to 400").done();
    fs::rename(place.path("log"), place.path("first")).unwrap();
    fs::rename(place.path("again"), place.path("log")).unwrap();
    make_log(&place.path("log"), 700);
    place.archive(700);
    fs::write(state.note(2), "").unwrap();
    state.ends_with([2; 4], "0000000002/epoch.json");
    place.run("restore URL ./first-epoch --epoch 1").done();
    crate::logs::check(&place.path("first-epoch"), 1, 600, |_| 1);
    let pruned = place.run("prune URL --before 200 --format json");
    assert_eq!(pruned.code, Some(2));
    let pruned = pruned.json();
    assert!(pruned["segments"].as_u64() > Some(0) && pruned["faults"][0].as_str().unwrap().contains("0000000002/"));
}

#[test]
fn a_missing_object_is_a_gap_wherever_it_was() {
    for at in ["first", "middle", "last"] {
        let state = State::new();
        // After the last one nothing could tell.
        let at = match at {
            "first" => 0,
            "middle" => state.objects.len() / 2,
            _ => state.objects.len() - 2,
        };
        fs::remove_file(&state.objects[at]).unwrap();
        state.ends_with([3, 3, 3, 3], "are missing");
        let pruned = state.place.run("prune URL --before 600 --format json");
        assert_eq!((pruned.code, &pruned.json()["segments"]), (Some(3), &0.into()), "{}", pruned.err);
        assert!(
            pruned.json()["refused"]["missing"].is_array() && pruned.err.contains("--give-up-gaps"),
            "{}",
            pruned.err
        );
        assert_eq!(state.objects.iter().filter(|path| path.exists()).count(), state.objects.len() - 1);
        let beyond = state.place.run("prune URL --before 9000 --format json").failed(3, "records are missing");
        assert_eq!(beyond.json()["refused"]["beyond"], 9000);
        let pruned = state.place.run("prune URL --before 600 --give-up-gaps").done();
        assert!(pruned.out.starts_with("deleted "), "{}", pruned.out);
        state.ends_with([0; 4], "");
    }
}

#[test]
fn a_damaged_object_is_found_by_what_reads_it_and_named() {
    let state = State::new();
    for at in [2, 0] {
        let good = fs::read(&state.objects[at]).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        // A list shows lengths.
        for (bytes, code) in [(good[..good.len() - 7].to_vec(), 2), (flipped, 0), (Vec::new(), 2)] {
            fs::write(&state.objects[at], bytes).unwrap();
            state.ends_with([code, 2, 2, code], &name(&state.objects[at]));
            let verified = state.place.run("verify URL --format json").json();
            assert!(verified["faults"][0].as_str().unwrap().contains(&name(&state.objects[at])), "{verified}");
        }
        if at > 0 {
            fs::write(&state.objects[at], good).unwrap();
        }
    }
    let refused = state.place.run("restore URL ./restored").failed(2, "damaged");
    assert!(refused.err.contains(", from byte 0 on, where record 1 is expected; "), "{}", refused.err);
}

#[test]
fn a_copy_of_an_epoch_is_damage() {
    let state = State::new();
    let (from, to) = (state.place.path("archive/0000000001"), state.place.path("archive/0000000002"));
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
    state.ends_with([2; 4], "it is a copy of that of epoch 1");
}

#[test]
fn a_report_of_verify_that_cannot_be_kept_is_a_failure() {
    let state = State::new();
    let place = &state.place;
    for path in ["/dev/full", "/dev/zero", "/dev/null", "/proc/none", "/"] {
        let ran = place.run(&format!("verify URL --changed-since {path}"));
        assert_eq!(ran.code, Some(4), "{path}: {}{}", ran.out, ran.err);
    }
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device(), "it is still there");
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    fs::write(place.path("target"), "{}").unwrap();
    place.run("verify URL --changed-since ./link").failed(4, "not a report of verify");
    fs::remove_file(place.path("target")).unwrap();
    fs::remove_file(place.path("link")).unwrap();
    place.run("verify URL --changed-since ./target").done();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    place.run("verify URL --changed-since ./link").done();
    assert!(fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
    // What is found comes first.
    fs::write(&state.objects[0], "").unwrap();
    let ran = place.run("verify URL --changed-since ./none/report");
    assert!(
        ran.code == Some(2) && ran.out.contains("damaged") && ran.err.contains("cannot write"),
        "{}{}",
        ran.out,
        ran.err
    );
}

#[test]
fn an_output_that_is_full_or_closed_is_a_failure() {
    let state = State::new();
    for command in ["list", "verify", "prune --before 1"] {
        for output in [">/dev/full", ">&-"] {
            let mut shell = std::process::Command::new("sh");
            let script = format!("exec \"$0\" {command} \"$1\" {output}");
            let ran = shell.args(["-c", &script, crate::place::PROGRAM]).arg(state.place.url()).output().unwrap();
            assert_eq!(ran.status.code(), Some(4), "{command} {output}");
            let err = String::from_utf8(ran.stderr).unwrap();
            assert!(err.contains("cannot write: "), "{command} {output}: {err}");
        }
    }
}

/// Such as by a copy of files that took the wrong directory.
#[test]
fn a_copy_of_an_object_in_a_later_epoch_is_told_and_nothing_is_less_for_it() {
    let place = crate::advice::two_epochs();
    let first = crate::advice::objects(&place, 1, ".seg").remove(0);
    let copy = place.path("archive/0000000002").join(first.file_name().unwrap());
    fs::copy(&first, &copy).unwrap();
    let state = State { place, objects: vec![copy.clone()] };
    state.ends_with([2, 2, 0, 2], "is a copy of 0000000001/");
    for words in ["list URL", "verify URL", "prune URL --before 1"] {
        let told = state.place.run(words).out;
        assert!(told.contains("\nof a copy: no restore needs it; if the other one is damaged, put it in "), "{told}");
    }
    assert!(state.place.run("verify URL").out.contains("\n1 copy that nothing needs: "));
    fs::remove_file(copy).unwrap();
    state.ends_with([0; 4], "");
}
