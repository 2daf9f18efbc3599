//! A restore that ends at any step: what it leaves is refused by whatever opens a log, or it is all of the log.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use mapwal::LogReader;
use mapwal::inspect::Inspection;

use crate::child::Process;
use crate::logs::{append_up_to, check, open};
use crate::place::{Place, Ran, make_log, output_in_time, wait_until};
use crate::synced::{CALLS, Disk, calls, can_trace, quoted};

const GUARD: &str = "restore-under-way.seg";
/// What gives files their names, takes them away, and makes them durable.
const STEPS: [&str; 7] = ["mkdir", "rename", "unlink", "rmdir", "ftruncate", "fsync", "fdatasync"];

fn archived() -> Place {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    place.archive(300);
    place
}

/// Restores into `./restored` with these options of strace.
fn restore_traced(place: &Place, options: &[&str]) -> Ran {
    let restore = place.command("restore URL ./restored --parallel 1");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(place.path("trace")).args(options);
    command.arg(restore.get_program()).args(restore.get_args());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = output_in_time(child);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_restore_that_is_killed_at_any_step_leaves_what_no_log_opens_or_all_of_the_log() {
    if !can_trace() {
        return;
    }
    let place = archived();
    let restored = place.path("restored");
    let mut guarded = 0;
    for step in STEPS {
        for at in 1.. {
            let inject = format!("inject={step}:signal=SIGKILL:when={at}");
            let ran = restore_traced(&place, &["-e", &format!("trace={step}"), "-e", &inject]);
            if ran.code == Some(0) {
                check(&restored, 1, 300, |_| 1);
                fs::remove_dir_all(&restored).unwrap();
                break;
            }
            guarded += check_killed(&place, &format!("killed at {step} {at}"));
            let _ = fs::remove_dir_all(&restored);
        }
    }
    assert!(guarded > 12, "{guarded}");
}

/// How many of one restore that was killed were to be gone on with.
fn check_killed(place: &Place, when: &str) -> u64 {
    let restored = place.path("restored");
    let names = || {
        fs::read_dir(&restored)
            .map_or_else(|_| Vec::new(), |names| names.map(|name| name.unwrap().file_name()).collect())
    };
    let is_guarded = names().iter().any(|name| name == GUARD);
    // SAFETY: nothing writes to it.
    let opened = unsafe { LogReader::open(&restored) };
    if opened.is_err() {
        assert!(Inspection::open(&restored).is_err(), "{when}");
        if is_guarded {
            // SAFETY: as above, and no log is there.
            assert!(unsafe { mapwal::Log::open(&restored, &crate::logs::small()) }.is_err(), "{when}");
        }
        let ran = place.run("restore URL ./restored");
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{when}");
    } else {
        assert!(!is_guarded, "{when}");
    }
    check(&restored, 1, 300, |_| 1);
    assert!(names().iter().all(|name| !name.to_str().unwrap().contains("under-way")), "{when}: {:?}", names());
    u64::from(is_guarded)
}

/// What is made is a log of its own shortly before the end, and no less under way.
#[test]
fn no_log_opens_in_the_directory_in_which_a_restore_that_was_killed_has_made_it() {
    if !can_trace() {
        return;
    }
    let place = archived();
    let (restored, folder) = (place.path("restored"), place.path("restored/restore-under-way"));
    let mut whole = 0;
    for step in ["rename", "fsync", "fdatasync", "ftruncate", "pwrite64", "openat", "unlink"] {
        for at in (1..).step_by(if step == "openat" { 3 } else { 1 }) {
            let inject = format!("inject={step}:signal=SIGKILL:when={at}");
            let ran = restore_traced(&place, &["-e", &format!("trace={step}"), "-e", &inject]);
            if ran.code == Some(0) {
                fs::remove_dir_all(&restored).unwrap();
                break;
            }
            let names = || {
                fs::read_dir(&folder)
                    .map_or_else(|_| Vec::new(), |names| names.map(|it| it.unwrap().file_name()).collect())
            };
            let segments =
                names().iter().filter(|name| *name != GUARD && name.to_str().unwrap().ends_with(".seg")).count();
            whole += usize::from(segments > 1);
            if segments > 0 {
                // SAFETY: nothing writes to it.
                assert!(unsafe { LogReader::open(&folder) }.is_err(), "{step} {at}: {:?}", names());
                assert!(Inspection::open(&folder).is_err(), "{step} {at}");
                // SAFETY: as above.
                assert!(unsafe { mapwal::Log::open(&folder, &crate::logs::small()) }.is_err(), "{step} {at}");
            }
            // It may not have been made.
            let _ = fs::remove_dir_all(&restored);
        }
    }
    assert!(whole > 6, "{whole}");
    // What another hand has put there is in the way of nothing.
    let _ = restore_traced(&place, &["-e", "trace=rename", "-e", "inject=rename:signal=SIGKILL:when=4"]);
    fs::create_dir_all(folder.join("pins")).unwrap();
    fs::write(folder.join("pins/mine"), "mine").unwrap();
    place.run("restore URL ./restored").done();
    check(&restored, 1, 300, |_| 1);
}

#[test]
fn a_restore_says_whose_the_unfinished_one_is_that_is_in_its_way() {
    let (place, other) = (archived(), archived());
    let objects = place.run("list URL --objects --format json").done().json();
    let key = objects["epochs"][0]["objects"][1]["key"].as_str().unwrap().to_owned();
    let key = place.path("archive").join(key);
    let good = fs::read(&key).unwrap();
    fs::write(&key, &good[1..]).unwrap();
    place.run("restore URL ./restored").failed(2, "damaged");
    fs::write(&key, good).unwrap();
    let refused = place.run(&format!("restore {} ./restored", other.url())).failed(4, "cannot restore");
    let log = objects["log_id"].as_str().unwrap();
    assert!(refused.err.contains(&format!("of another log, {log}, is there; ")), "{}", refused.err);
    assert!(!refused.err.contains("--epoch"), "{}", refused.err);
    // One that says nothing.
    fs::write(place.path("restored").join(GUARD), "").unwrap();
    let refused = place.run("restore URL ./restored").failed(4, "cannot restore");
    assert!(refused.err.contains("without the directory another one can begin"), "{}", refused.err);
    assert!(refused.err.contains(GUARD), "{}", refused.err);
    fs::remove_dir_all(place.path("restored")).unwrap();
    place.run("restore URL ./restored").done();
}

/// Of a power cut after any call: the mark is there before anything else, and goes when all else is durable.
#[test]
fn a_restore_removes_its_mark_when_all_else_would_survive_a_power_cut() {
    if !can_trace() {
        return;
    }
    let place = archived();
    let ran = restore_traced(&place, &["-y", "-s", "256", "-e", CALLS]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let restored = place.path("restored").canonicalize().unwrap();
    let guard = restored.join(GUARD);
    let mut disk = Disk::new(&restored);
    let (mut made, mut is_removed) = (0, false);
    for call in calls(&fs::read_to_string(place.path("trace")).unwrap()) {
        let is_of_folder = quoted(&call).first().is_some_and(|path| path.contains("/restore-under-way/"));
        if is_of_folder {
            made += 1;
            assert!(disk.lasts(&guard), "{call}");
        }
        if call.starts_with("unlink")
            && quoted(&call).first().is_some_and(|path| path.ends_with(GUARD))
            && !is_of_folder
        {
            is_removed = true;
            for path in fs::read_dir(&restored).unwrap().map(|entry| entry.unwrap().path()) {
                assert!(disk.has_name(&path), "{}", path.display());
                // What a log has written to when it was opened is synced by its mapping, which is not seen here.
                let is_downloaded =
                    path.ends_with("00000000000000000001.seg") || path.ends_with("00000000000000000002.seg");
                assert!(!is_downloaded || disk.lasts(&path), "{}", path.display());
            }
            assert!(disk.has_name(&restored));
        }
        disk.carry_out(&call);
    }
    assert!(is_removed && made > 10, "{made}");
}

#[test]
fn what_opens_a_log_says_that_a_restore_was_not_finished() {
    let place = archived();
    let objects = place.run("list URL --objects --format json").done().json();
    let last = objects["epochs"][0]["objects"].as_array().unwrap().last().unwrap()["key"].as_str().unwrap().to_owned();
    let last = place.path("archive").join(last);
    let good = fs::read(&last).unwrap();
    fs::write(&last, &good[1..]).unwrap();
    place.run("restore URL ./restored").failed(2, "damaged");
    assert!(place.path("restored").join(GUARD).exists());
    let err = fs::File::create(place.path("err")).unwrap();
    let service = Process::start(place.command("run ./restored URL").stdout(Stdio::null()).stderr(err));
    let told = || fs::read_to_string(place.path("err")).unwrap();
    wait_until(|| told().contains("a restore was not finished; the same `mapwal-archive restore` goes on from there"));
    assert_eq!(service.terminate().code(), Some(0));
    fs::write(&last, good).unwrap();
    place.run("restore URL ./restored").done();
    check(&place.path("restored"), 1, 300, |_| 1);
}

/// The newest epoch is another one by then.
#[test]
fn a_restore_says_which_arguments_go_on_with_it_after_another_epoch_has_begun() {
    for (to, last) in [("", 300), (" --to 250", 250)] {
        let place = archived();
        let listed = place.run("list URL --objects --format json").done().json();
        let key = listed["epochs"][0]["objects"][2]["key"].as_str().unwrap().to_owned();
        let (object, aside) = (place.path("archive").join(key), place.path("aside"));
        place.run("restore URL ./other --to 100").done();
        fs::rename(&object, &aside).unwrap();
        fs::write(&object, "").unwrap();
        place.run(&format!("restore URL ./restored{to}")).failed(2, "damaged");
        fs::remove_file(&object).unwrap();
        fs::rename(&aside, &object).unwrap();
        let log = open(&place.path("other"));
        append_up_to(&log, 2, 320);
        log.close().unwrap();
        fs::rename(place.path("log"), place.path("first")).unwrap();
        fs::rename(place.path("other"), place.path("log")).unwrap();
        place.archive(320);
        let refused = place.run(&format!("restore URL ./restored{to}")).failed(4, "cannot restore");
        let told: BTreeMap<_, _> = [(300, "--epoch 1 --to latest"), (250, "--epoch 1 --to 250")].into();
        let way = told[&last];
        assert!(refused.err.contains(&format!("with {way} it goes on")), "{}", refused.err);
        place.run(&format!("restore URL ./restored {way}")).done();
        check(&place.path("restored"), 1, last, |_| 1);
    }
}

#[test]
fn two_restores_into_one_directory_are_told_apart_from_archivers() {
    let place = Place::new();
    make_log(&place.path("log"), 30);
    place.archive(30);
    fs::create_dir(place.path("restored")).unwrap();
    let mark = fs::File::create(place.path("restored/restore-under-way.seg")).unwrap();
    rustix::fs::flock(&mark, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    place.run("restore URL ./restored").failed(4, "another restore");
}
