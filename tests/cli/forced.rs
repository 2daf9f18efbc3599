//! `trim --force`, and requests that are taken back: what does not come to a trim changes nothing.
//!
//! Planted, and noticed: pins that stay dropped; a request that goes on after its process; a word that is said before the trim.

use std::fs;
use std::io::Read;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::logs::{closed, live, scratch};
use crate::program::{Ran, Running, run, start};
use crate::wait;

#[test]
fn a_request_that_is_interrupted_is_taken_back_and_pins_are_there_as_before() {
    let directory = scratch();
    let mut writer = live(directory.path(), 1200);
    run(directory.path(), "pins DIR add p 900 --limit 1GiB --owner me").done();
    let before = run(directory.path(), "pins DIR --format json").done();
    let pid = Pid::from_child(&writer.child);
    kill_process(pid, Signal::STOP).unwrap();
    let mut trim = Running::start(directory.path(), "trim DIR --before 1000 --force");
    wait::until("it has dropped the pin", || !directory.path().join("pins/p").exists());
    trim.interrupt();
    assert_eq!(trim.line(), None);
    assert_eq!(trim.child.wait().unwrap().code(), Some(4));
    let mut told = String::new();
    trim.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.starts_with("mapwal: stopped: the request is taken back, "), "{told}");
    assert_eq!(run(directory.path(), "pins DIR --format json").done().text(), before.text());
    kill_process(pid, Signal::CONT).unwrap();
    // It looks twice a second.
    std::thread::sleep(Duration::from_millis(1200));
    let dumped = run(directory.path(), "dump DIR").done();
    assert_eq!(dumped.lines().len(), 1200, "what was taken back was done");
    writer.say("goes on");
    assert_eq!(writer.line().as_deref(), Some("1201"));
}

#[test]
fn which_pins_are_dropped_is_said_once_the_log_is_trimmed() {
    let log = closed(2000);
    run(log.path(), "pins DIR add p 300").done();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = Ran::new(start(log.path(), "trim DIR --before 1000 --force").stdout(full).output().unwrap());
    assert_eq!((ran.code, ran.err.contains("; the log is trimmed: ")), (4, true), "{}", ran.err);
    assert_eq!(run(log.path(), "pins DIR").done().text(), "");
    let first = run(log.path(), "dump DIR").done().lines()[0].split('\t').next().unwrap().parse::<u64>().unwrap();
    assert!(first > 300, "{first}");
}
