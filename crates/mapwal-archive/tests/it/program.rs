//! The program `mapwal-archive`, run as a user would.

use std::fs;
use std::process::{Command, Stdio};

use mapwal::Lsn;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::Value;

use crate::child::Process;
use crate::logs::{append_up_to, check, open};
use crate::place::{PROGRAM, Place, make_log, output_in_time, wait_until};

const COMMANDS: [&str; 9] =
    ["run", "restore", "list", "verify", "prune", "rebuild-note", "forget-epoch", "completions", "man"];

fn from_nothing_to_a_restored_log(place: &Place) {
    make_log(&place.path("log"), 600);
    let told = place.archive(600);
    let last = told.last().expect("it says how far it is");
    assert_eq!(
        (&last["archived_lsn"], &last["lag_records"], &last["last_error"]),
        (&601.into(), &0.into(), &Value::Null)
    );

    let listed = place.run("list URL").done();
    assert!(listed.out.contains("1..600") && listed.out.contains("1 epoch"), "{}", listed.out);
    let objects = place.run("list URL --objects --format json").done().json();
    let objects = objects["epochs"][0]["objects"].as_array().unwrap().clone();
    assert!(objects.len() > 4 && objects[0]["first_lsn"] == 1 && objects[0]["key"].is_string());

    let verified = place.run("verify URL --changed-since ./seen").done();
    assert!(verified.out.starts_with("sound: ") && verified.out.ends_with(" 0 unchanged\n"), "{}", verified.out);
    let again = place.run("verify URL --changed-since ./seen --format json").done().json();
    let count = |name: &str| again[name].as_u64().unwrap();
    // The server's lists do not tell versions apart: all is read again then.
    let unchanged = if place.server.is_some() { 0 } else { objects.len() as u64 };
    assert_eq!((&again["sound"], count("unchanged")), (&true.into(), unchanged));
    assert_eq!(count("read") + count("unchanged"), objects.len() as u64);

    fs::remove_dir_all(place.path("log")).unwrap();
    let restored = place.run("restore URL ./log").done();
    assert!(restored.out.starts_with("restored: records 1..600, in "), "{}", restored.out);
    check(&place.path("log"), 1, 600, |_| 1);
    let earlier = place.run("restore URL ./earlier --to 333 --parallel 2 --format json").done().json();
    assert_eq!((&earlier["next_lsn"], &earlier["epoch"]), (&334.into(), &1.into()));
    check(&place.path("earlier"), 1, 333, |_| 1);

    let first = objects[2]["first_lsn"].as_u64().unwrap();
    let pruned = place.run(&format!("prune URL --before {}", first + 1)).done();
    assert!(pruned.out.starts_with("deleted 2 segments and "), "{}", pruned.out);
    assert!(
        pruned.out.ends_with(&format!("; the first record of epoch 1, the newest that can be followed, is {first}\n")),
        "{}",
        pruned.out
    );
    let pruned = place.run("prune URL --before 1 --format json").done().json();
    assert_eq!((&pruned["segments"], &pruned["first_lsn"]), (&0.into(), &first.into()));
    place.run("restore URL ./rest").done();
    check(&place.path("rest"), first, 600, |_| 1);
}

#[test]
fn from_nothing_to_a_restored_log_by_a_directory() {
    from_nothing_to_a_restored_log(&Place::new());
}

#[test]
fn from_nothing_to_a_restored_log_by_s3() {
    from_nothing_to_a_restored_log(&Place::with_server());
}

#[test]
fn what_is_wrong_with_an_archive_is_told_and_has_an_exit_code() {
    let place = Place::new();
    for words in ["list URL", "verify URL", "prune URL --before 2", "restore URL ./restored"] {
        place.run(words).failed(4, "no archive");
    }
    assert!(!place.path("archive").exists(), "looking makes nothing");
    make_log(&place.path("log"), 600);
    place.archive(600);
    place.run("restore URL ./log").failed(4, "cannot restore");
    place.run("restore URL ./restored --to 601").failed(3, "records are missing");
    let refused = place.run("restore URL ./restored --epoch 7").failed(4, "refused");
    assert!(refused.err.contains("the archive has no epoch 7; the newest is 1"), "{}", refused.err);

    let listed = place.run("list URL --objects --format json").done().json();
    let key = |index: usize| place.path("archive").join(listed["epochs"][0]["objects"][index]["key"].as_str().unwrap());
    let bytes = fs::read(key(1)).unwrap();
    fs::write(key(1), &bytes[1..]).unwrap();
    let verified = place.run("verify URL");
    assert_eq!((verified.code, &*verified.err), (Some(2), ""));
    let name = key(1).file_name().unwrap().to_str().unwrap().to_owned();
    assert!(verified.out.contains(&name) && verified.out.contains("damaged in 1 place: "), "{}", verified.out);
    assert_eq!(
        place.run("verify URL --format json").json()["damaged"][0]["key"],
        listed["epochs"][0]["objects"][1]["key"]
    );
    place.run("restore URL ./restored").failed(2, "damaged");
    fs::write(key(1), bytes).unwrap();

    let (first, next) =
        (&listed["epochs"][0]["objects"][3]["first_lsn"], &listed["epochs"][0]["objects"][3]["next_lsn"]);
    fs::remove_file(key(3)).unwrap();
    let missing = format!("records {first}..{} are missing", next.as_u64().unwrap() - 1);
    let verified = place.run("verify URL");
    assert_eq!(verified.code, Some(3));
    assert!(verified.out.contains(&missing), "{}", verified.out);
    let listed = place.run("list URL");
    assert_eq!(listed.code, Some(3));
    assert!(listed.out.contains("are missing"), "{}", listed.out);
    let restored = place.run("restore URL ./before").failed(3, "records are missing");
    let before = first.as_u64().unwrap() - 1;
    assert!(restored.err.contains(&format!("--to {before} ")), "{}", restored.err);
    place.run(&format!("restore URL ./before --to {before}")).done();
    check(&place.path("before"), 1, before, |_| 1);
}

/// It is an archive, and there is nothing in it to restore.
#[test]
fn an_archive_of_a_log_without_a_record_is_sound_and_empty() {
    let place = Place::new();
    make_log(&place.path("log"), 0);
    let service = Process::start(place.command("run ./log URL --status-interval never").stdout(Stdio::null()));
    wait_until(|| place.run("list URL").code == Some(0));
    assert_eq!(service.terminate().code(), Some(0));
    assert_eq!(place.run("verify URL").done().out, "sound: 0 objects read, 0 unchanged\n");
    assert_eq!(place.run("verify URL --format json").done().json()["epochs"], 1);
    assert_eq!(place.run("prune URL --before 1 --format json").done().json()["segments"], 0);
    let refused = place.run("prune URL --before 2").failed(3, "records are missing");
    assert!(refused.err.contains("which has no record, ") && refused.err.contains("--before 1: "), "{}", refused.err);
    place.run("restore URL ./restored").failed(4, "refused");
}

/// A file that may not become longer stands for a disk that is full.
#[test]
fn a_restore_onto_a_full_disk_leaves_no_log_and_goes_on_when_there_is_room() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" restore \"$1\" \"$2\"", PROGRAM, &place.url()]);
    shell.arg(place.path("restored")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let full = output_in_time(shell.spawn().unwrap());
    let told = String::from_utf8(full.stderr).unwrap();
    assert_eq!(full.status.code(), Some(4), "{told}");
    assert!(told.starts_with("mapwal-archive: cannot write: ") && told.contains(".seg"), "{told}");
    assert!(mapwal::inspect::Inspection::open(place.path("restored")).is_err(), "it is no log");
    place.run("restore URL ./restored").done();
    check(&place.path("restored"), 1, 600, |_| 1);
}

/// There a file with holes cannot even be read.
#[test]
fn a_restore_onto_a_full_disk_in_memory_says_that_it_is_full_wherever_it_is_by_then() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "none"]).arg(&disk).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let sizes: Vec<u64> = (0..28).map(|at| 300 + 8 * at).collect();
    let mut full = 0;
    for size in sizes {
        if !mount(&format!("size={size}k")) {
            eprintln!("skipped: nothing can be mounted here");
            return;
        }
        let ran = place.run("restore URL ./disk/restored");
        let grown = ran.code == Some(0) || mount("remount,size=4m");
        let again = if ran.code == Some(0) { ran.code } else { place.run("restore URL ./disk/restored").code };
        let unmounted = Command::new("umount").arg(&disk).status().unwrap().success();
        assert!(unmounted && grown && again == Some(0), "{size}: {again:?}");
        if ran.code != Some(0) {
            full += 1;
            let is_told = ran.err.contains("no space left on device") || ran.err.contains(": disk full: ");
            assert!(ran.code == Some(4) && is_told, "{size}: {}", ran.err);
        }
    }
    assert!(full > 5, "{full}");
}

#[test]
fn the_service_ends_where_going_on_would_do_harm() {
    let place = Place::with_server();
    make_log(&place.path("log"), 600);
    place.archive(600);
    make_log(&place.path("other"), 600);
    place.run("run ./other URL --status-interval never").failed(4, "refused");

    let server = place.server.as_ref().unwrap();
    let sessions = || server.seen().stored["logs/a/0000000001/session.json"].len();
    let before = sessions();
    let first = Process::start(place.command("run ./log URL --status-interval never").stdout(Stdio::null()));
    wait_until(|| sessions() > before);
    place.run("run ./log URL --status-interval never").failed(4, "another archiver");
    drop(first);

    // What is in the way of the records that come next is waited for.
    let log = open(&place.path("log"));
    let archived = log.pins()[0].lsn;
    append_up_to(&log, 1, 700);
    log.rotate().unwrap();
    log.sync().unwrap();
    let sealed = log.sealed(0).unwrap().into_iter().find(|segment| segment.first_lsn() == archived).unwrap();
    let (first, next, number, sum) = (sealed.first_lsn().0, sealed.next_lsn().0, sealed.number(), sealed.checksum());
    let len = sealed.bytes().len();
    let key = format!("logs/a/0000000001/{first:020}-{next:020}-{number:010}-{len:010}-{sum:08x}.seg");
    let store = server.store();
    crate::tools::wait_for(store.put(&key.as_str().into(), PutPayload::from_static(b"something else"))).unwrap();
    let out = fs::File::create(place.path("out")).unwrap();
    let mut service = Process::start(place.command("run ./log URL --status-interval 1ms").stdout(out));
    let told = |what: &str| fs::read_to_string(place.path("out")).unwrap().contains(what);
    wait_until(|| {
        told(&format!("  failing: {key} is damaged "))
            && told("; put a sound copy in its place; or move it out of the archive, ")
    });
    let kept = crate::tools::wait_for(async { store.get(&key.as_str().into()).await.unwrap().bytes().await.unwrap() });
    assert_eq!((service.ended(), &kept[..]), (None, b"something else".as_slice()), "it waits, and writes over nothing");
    assert_eq!(log.pins()[0].lsn, Lsn(first), "it is not archived");
    crate::tools::wait_for(store.delete(&key.as_str().into())).unwrap();
    wait_until(|| place.lists_up_to(700));
    assert_eq!(service.terminate().code(), Some(0));
}

#[test]
fn each_command_has_help_with_an_example() {
    for command in COMMANDS {
        let help = Place::new().run(&format!("{command} --help")).done();
        let example = format!("mapwal-archive {command} ");
        assert!(help.out.contains("Example:\n  ") && help.out.contains(&example), "{command}");
    }
}

#[test]
fn exit_codes_are_in_the_help_and_in_the_manual() {
    for words in ["--help", "man"] {
        let text = Place::new().run(words).done().out;
        for code in ["0 ", "2 ", "3 ", "4 ", "64"] {
            assert!(text.lines().any(|line| line.trim_start().starts_with(code)), "{code} is not in\n{text}");
        }
        assert!(text.contains("s3://") && text.contains("file:///"));
    }
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&format!("completions {shell}")).done();
        assert!(COMMANDS.iter().all(|command| script.out.contains(command)), "{shell}");
    }
    place.run("man ./man").done();
    for command in COMMANDS {
        let page = fs::read_to_string(place.path("man").join(format!("mapwal-archive-{command}.1"))).unwrap();
        assert!(page.contains(".TH"), "{page}");
    }
    fs::write(place.path("notes"), "mine").unwrap();
    place.run("man ./notes/man").failed(4, "cannot write");
}

#[test]
fn a_bad_command_line_is_no_damage() {
    for words in [
        "",
        "list",
        "list /a/path",
        "frobnicate URL",
        "restore URL ./a --to soon",
        "restore URL ./a --parallel 0",
        "prune URL",
        "run ./log URL --part-interval 5",
        "run ./log URL --pin a/b",
    ] {
        let ran = Place::new().run(words).failed(64, "bad command line");
        assert_eq!(ran.out, "");
    }
    let place = Place::new();
    for (url, what) in [
        ("memory:///a", "no place for an archive"),
        ("file://host/a", "cannot open"),
        ("x://a/b", "cannot use the store"),
    ] {
        place.run(&format!("run ./log {url}")).failed(4, what);
    }
}

/// As `verify | head -1` may.
#[test]
fn what_is_found_is_told_by_the_exit_code_though_no_process_reads_it() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    place.archive(600);
    let listed = place.run("list URL --objects --format json").done().json();
    let key = place.path("archive").join(listed["epochs"][0]["objects"][1]["key"].as_str().unwrap());
    fs::write(&key, "damage").unwrap();
    for (words, code) in [("verify URL", 2), ("verify URL --format json", 2), ("list URL", 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = place.command(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output_in_time(child);
        assert_eq!((output.status.code(), &*output.stderr), (Some(code), &b""[..]), "{words}");
    }
    // Nothing at all is done where nothing could be told.
    let listed = place.run("list URL --objects --format json").json();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" prune \"$1\" --before 300 >&-", PROGRAM, &place.url()]).stderr(Stdio::piped());
    let closed = output_in_time(shell.spawn().unwrap());
    assert_eq!(closed.status.code(), Some(4));
    assert_eq!(
        String::from_utf8_lossy(&closed.stderr),
        "mapwal-archive: cannot write: it is closed, or open for the other direction only: standard output\n"
    );
    assert_eq!(place.run("list URL --objects --format json").json(), listed);
}

/// `object_store` takes `TOKEN` for a setting as well as `AWS_TOKEN`.
#[test]
fn variables_that_are_about_something_else_are_not_read() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::with_server();
    make_log(&place.path("log"), 300);
    place.archive(300);
    let mut command = place.command("list URL");
    command.env("TOKEN", "another's").env("REGION", "elsewhere").env("ENDPOINT", "http://127.0.0.1:1");
    command.env("STRANGE", std::ffi::OsStr::from_bytes(b"\xff"));
    let ran = output_in_time(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
}
