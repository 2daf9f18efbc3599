//! Threads that a log starts where mappings have run out.

use std::io::Write;

use mapwal::{Log, Lsn};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::support::append;
use crate::support::child::{self, Child};
use crate::support::scratch::{open_small, scratch};

const PAGE_LEN: usize = 4096;

/// All mappings that the system lets this process have, but for so many.
struct Exhausted(Vec<usize>);

impl Exhausted {
    fn all_but(left: usize) -> Self {
        let mut addresses = Vec::with_capacity(1 << 20);
        // In turn, so that they do not merge.
        for protection in [ProtFlags::READ, ProtFlags::READ | ProtFlags::WRITE].into_iter().cycle() {
            if addresses.len() == addresses.capacity() {
                break;
            }
            // SAFETY: the system chooses the place, and nobody is told of it.
            match unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE_LEN, protection, MapFlags::PRIVATE) } {
                Ok(address) => addresses.push(address as usize),
                Err(_) => break,
            }
        }
        let mut exhausted = Self(addresses);
        (0..left).for_each(|_| exhausted.let_one_go());
        exhausted
    }

    fn let_one_go(&mut self) {
        let Some(address) = self.0.pop() else { return };
        // SAFETY: a page that `all_but` has mapped, and nobody uses.
        unsafe { munmap(address as *mut _, PAGE_LEN) }.unwrap();
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        while !self.0.is_empty() {
            self.let_one_go();
        }
    }
}

/// A log with two segments that are mapped.
fn log_in(directory: &std::path::Path) -> Log {
    let log = open_small(directory);
    append(&log, 1..=10);
    log.rotate().unwrap();
    append(&log, 11..=20);
    log.sync().unwrap();
    log
}

/// Has a log start each of its optional threads while so many mappings are left as it is told.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn starts_threads() {
    let Some(directory) = child::directory() else { return };
    for (number, line) in std::io::stdin().lines().enumerate() {
        let left: usize = line.unwrap().parse().unwrap();
        let log = log_in(&directory.join(number.to_string()));
        // What prepares segments maps one now and then.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let exhausted = Exhausted::all_but(left);
        let called = log.on_durable(log.durable_lsn(), |_| {}).is_ok();
        let read = log.snapshot().map_or(0, |snapshot| snapshot.iter().map_while(Result::ok).count());
        let trimmed = log.trim_before(Lsn(11)).map_or_else(|error| error.to_string(), |count| count.to_string());
        drop(exhausted);
        child::answer(&format!("{called} {read} {trimmed}"));
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_thread_that_could_not_go_on_is_not_started() {
    let dir = scratch();
    let mut child = Child::spawn("write::threads::starts_threads", dir.path());
    for left in 0..12 {
        let answer = child.ask(&left.to_string());
        assert_eq!(answer, "false 20 1", "with {left} mappings left");
    }
    assert_eq!(child.ask("1000"), "true 20 1");
}
