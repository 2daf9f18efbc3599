//! `mapwal-archive run` goes on, whatever happens around it, until it is told to stop.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::child::Process;
use crate::logs::{append_up_to, check, open};
use crate::place::{PROGRAM, Place, document, make_log, wait_until};
use crate::synced::can_trace;

/// Started before there is a log; its writer comes and goes; the store refuses everything for a while.
#[test]
fn the_service_survives_everything_but_being_told_to_stop() {
    let place = Place::with_server();
    let server = place.server.as_ref().unwrap();
    let mut command = place.command("run ./log URL --part-interval 20ms --status-interval 1ms");
    command.stdout(fs::File::create(place.path("out")).unwrap()).stderr(fs::File::create(place.path("err")).unwrap());
    let mut service = Process::start(&mut command);
    wait_until(|| fs::read_to_string(place.path("err")).unwrap().starts_with("mapwal-archive: "));
    for last in [300, 600] {
        make_log(&place.path("log"), last);
        wait_until(|| place.lists_up_to(last));
    }
    server.seen().refuses = true;
    make_log(&place.path("log"), 900);
    wait_until(|| fs::read_to_string(place.path("out")).unwrap().contains("  failing: cannot "));
    assert_eq!(service.ended(), None, "it waits for the store");
    server.seen().refuses = false;
    wait_until(|| place.lists_up_to(900));
    assert_eq!(service.terminate().code(), Some(0));
}

/// What it needs to go on is one of the first things that it makes.
#[test]
fn a_signal_that_comes_while_the_service_begins_ends_it_in_order() {
    if !can_trace() {
        return;
    }
    let place = Place::new();
    make_log(&place.path("log"), 300);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=epoll_create1"]);
    command.args(["-e", "inject=epoll_create1:signal=TERM:when=1", PROGRAM, "run"]);
    let ran = command.arg(place.path("log")).arg(place.url()).stdout(Stdio::null()).status().unwrap();
    assert_eq!(ran.code(), Some(0), "{ran}");
}

/// What it prints may be read by a program that ends, or be written to a disk that is full.
#[test]
fn the_service_goes_on_where_what_it_prints_goes_nowhere() {
    let place = Place::new();
    let words = "run ./log URL --part-interval 20ms --status-interval 1ms";
    make_log(&place.path("log"), 300);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut service = Process::start(place.command(words).stdout(writer));
    reader.read_exact(&mut [0; 6]).unwrap();
    drop(reader);
    for last in [600, 900] {
        make_log(&place.path("log"), last);
        wait_until(|| place.lists_up_to(last));
        // Some time for what it prints then.
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    assert_eq!(service.ended(), None);
    assert_eq!(service.terminate().code(), Some(0));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let service = Process::start(place.command(words).stdout(full));
    make_log(&place.path("log"), 1200);
    wait_until(|| place.lists_up_to(1200));
    assert_eq!(service.terminate().code(), Some(0));
}

#[test]
fn a_log_that_is_restored_to_its_place_is_archived_by_the_service_that_is_running() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    let words = "run ./log URL --part-interval 20ms --status-interval never";
    let mut service = Process::start(place.command(words).stdout(Stdio::null()));
    wait_until(|| place.lists_up_to(600));
    fs::remove_dir_all(place.path("log")).unwrap();
    place.run("restore URL ./log --to 400").done();
    let log = open(&place.path("log"));
    append_up_to(&log, 2, 700);
    log.close().unwrap();
    wait_until(|| place.lists_up_to(700));
    assert_eq!(service.ended(), None);
    assert_eq!(service.terminate().code(), Some(0));
    place.run("restore URL ./again").done();
    check(&place.path("again"), 1, 700, |lsn| if lsn.0 <= 400 { 1 } else { 2 });
}

/// A file that may not become longer stands for a disk that is full.
#[test]
fn a_store_that_is_full_is_told_by_the_status_and_tried_again() {
    let place = Place::new();
    make_log(&place.path("log"), 600);
    let mut shell = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f 40; exec \"$0\" run \"$1\" \"$2\" --status-interval 1ms --format json";
    shell.args(["-c", script, PROGRAM]).arg(place.path("log")).arg(place.url());
    let mut service = Process::start(shell.stdout(fs::File::create(place.path("out")).unwrap()));
    let status = |words: &str| {
        let mut found = None;
        wait_until(|| {
            let out = fs::read_to_string(place.path("out")).unwrap();
            found = out.lines().find(|line| line.contains(words)).and_then(|line| serde_json::from_str(line).ok());
            found.is_some()
        });
        found.unwrap_or(serde_json::Value::Null)
    };
    let failing = status("cannot write");
    let error = failing["last_error"].as_str().unwrap();
    assert!(error.starts_with("cannot write 0000000001/") && error.contains("File too large"), "{error}");
    assert!(failing["failures"].as_u64() > Some(0) && failing["lag_bytes"].as_u64() > Some(0), "{failing}");
    assert_eq!(service.ended(), None);
    service.let_files_grow();
    let done = status("\"archived_lsn\":601");
    assert_eq!((&done["last_error"], &done["failures"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!(service.terminate().code(), Some(0));
    place.run("verify URL").done();
}

#[test]
fn a_store_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    fs::write(place.path("archive"), "a file, where the directory of the store belongs").unwrap();
    let mut command = place.command("run ./log URL --part-interval 20ms --status-interval 1ms");
    command.stdout(Stdio::null()).stderr(fs::File::create(place.path("err")).unwrap());
    let mut service = Process::start(&mut command);
    wait_until(|| fs::read_to_string(place.path("err")).unwrap().starts_with("mapwal-archive: cannot open: "));
    assert_eq!(service.ended(), None);
    fs::remove_file(place.path("archive")).unwrap();
    wait_until(|| place.lists_up_to(300));
    assert_eq!(service.terminate().code(), Some(0));
}

/// The log grows meanwhile, and what was confirmed is kept.
#[test]
fn a_run_that_waits_for_its_archive_says_how_things_stand_and_why_it_waits() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    place.archive(300);
    fs::rename(place.path("archive"), place.path("unmounted")).unwrap();
    make_log(&place.path("log"), 600);
    let confirmed = mapwal::PinDirectory::open(place.path("log")).unwrap().list().unwrap().remove(0).lsn.0;
    let start = |words: &str| {
        let mut command = place.command(&format!("run ./log URL {words}"));
        command.stdout(fs::File::create(place.path("out")).unwrap());
        Process::start(command.stderr(fs::File::create(place.path("err")).unwrap()))
    };
    let lines = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(place.path(name)).unwrap();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
    };
    let why = "no archive: there is no such directory, and the log was archived there in epoch 1; ";
    for words in ["--status-interval 1ms --format json", "--status-interval 1ms", "--status-interval never"] {
        let service = start(words);
        wait_until(|| lines("out").len() > 2 || words.ends_with("never") && !lines("err").is_empty());
        // Some time for what it must not say again.
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert_eq!(service.terminate().code(), Some(0));
        let (out, err) = (lines("out"), lines("err"));
        assert!(err.len() == 1 && err[0].contains(why), "{words}: {err:?}");
        if words.ends_with("never") {
            assert_eq!(out, Vec::<String>::new());
        } else if words.ends_with("json") {
            let told: Vec<_> = out.iter().map(|line| document(line)).collect();
            for told in &told {
                assert_eq!((&told["epoch"], &told["sealed_lsn"]), (&serde_json::Value::Null, &1.into()), "{told}");
                assert_eq!((&told["archived_lsn"], &told["next_lsn"]), (&confirmed.into(), &601.into()), "{told}");
                assert_eq!(told["lag_records"], 601 - confirmed, "{told}");
                assert!(told["lag_bytes"].as_u64() > Some(0) && told["failures"].as_u64() > Some(0), "{told}");
                assert!(told["last_error"].as_str().unwrap().starts_with(why), "{told}");
            }
            assert!(told[2]["lag_seconds"].as_f64() > told[0]["lag_seconds"].as_f64(), "{told:?}");
        } else {
            let lag = format!("epoch -  archived up to -  lag {} records, ", 601 - confirmed);
            assert!(out.iter().all(|line| line.starts_with(&lag) && line.contains(why)), "{out:?}");
        }
    }
}

/// The service is started before the disk of its archive is mounted.
#[test]
fn an_archive_whose_disk_is_not_mounted_is_waited_for_and_nothing_is_made_in_its_place() {
    for (place_of_it, why) in
        [(None, "there is no such directory"), (Some(""), "is empty"), (Some("lost+found"), "is empty")]
    {
        let place = Place::new();
        let start = || {
            let mut command = place.command("run ./log URL --part-interval 20ms --status-interval 1ms");
            if why == "is empty" {
                // Of which half is more than the log has.
                command.args(["--pin-limit", "1GiB"]);
            }
            let err = fs::File::create(place.path("err")).unwrap();
            Process::start(command.stdout(Stdio::null()).stderr(err))
        };
        let told = |what: &str| fs::read_to_string(place.path("err")).unwrap().contains(what);
        let mut service = start();
        wait_until(|| told("mapwal-archive: "));
        assert!(!place.path("archive").exists(), "there is no log yet");
        make_log(&place.path("log"), 300);
        wait_until(|| place.lists_up_to(300));
        assert_eq!((service.ended(), service.terminate().code()), (None, Some(0)));
        fs::rename(place.path("archive"), place.path("unmounted")).unwrap();
        if let Some(name) = place_of_it {
            fs::create_dir_all(place.path("archive").join(name)).unwrap();
        }
        make_log(&place.path("log"), 600);
        let pin = || mapwal::PinDirectory::open(place.path("log")).unwrap().list().unwrap().remove(0).lsn.0;
        let confirmed = pin();
        let mut service = start();
        wait_until(|| told("is its disk mounted, and is it the right URL?"));
        assert!(pin() == 1 && confirmed > 1, "what was confirmed may be nowhere");
        assert!(told(why) && told("`run --abandon-epoch 1` begins another epoch"), "{why}");
        let there = fs::read_dir(place.path("archive")).map_or(0, |entries| entries.count());
        assert_eq!((service.ended(), there), (None, usize::from(place_of_it == Some("lost+found"))));
        if place_of_it.is_some() {
            fs::remove_dir_all(place.path("archive")).unwrap();
        }
        fs::rename(place.path("unmounted"), place.path("archive")).unwrap();
        wait_until(|| place.lists_up_to(600) && pin() > confirmed);
        assert_eq!((service.ended(), service.terminate().code()), (None, Some(0)));
    }
}

/// As a command that `nohup` runs, or a shell in the background.
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    let mut shell = std::process::Command::new("sh");
    let script = "trap '' INT; exec \"$0\" run \"$1\" \"$2\" --part-interval 20ms --status-interval never";
    shell.args(["-c", script, PROGRAM]).arg(place.path("log")).arg(place.url());
    let mut service = Process::start(shell.stdout(Stdio::null()));
    wait_until(|| place.lists_up_to(300));
    service.interrupt();
    make_log(&place.path("log"), 600);
    wait_until(|| place.lists_up_to(600));
    assert_eq!(service.ended(), None);
    assert_eq!(service.terminate().code(), Some(0));
}

/// Its client would try for minutes before it fails.
#[test]
fn a_store_that_does_not_answer_is_told_of_before_it_fails() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command =
        place.command("run ./log s3://bucket/logs/a --part-interval 20ms --status-interval 1ms --format json");
    command.env("AWS_ENDPOINT", format!("http://{}", deaf.local_addr().unwrap()));
    command.envs([("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")]);
    command.envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]);
    let began = std::time::Instant::now();
    let service = Process::start(command.stdout(fs::File::create(place.path("out")).unwrap()));
    let told = || fs::read_to_string(place.path("out")).unwrap();
    wait_until(|| told().contains("\"last_error\":\"no answer for "));
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{}", told());
    let line = told().lines().find(|line| line.contains("no answer for ")).map(crate::place::document).unwrap();
    assert!(line["unanswered_seconds"].as_f64() >= Some(5.0) && line["failures"] == 0, "{line}");
    assert!(line["last_error"].as_str().unwrap().ends_with(" s: list logs/a"), "{line}");
    assert_eq!(service.terminate().code(), Some(0));
}
