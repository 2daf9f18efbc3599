//! Every call of the storage fails once, one after the other: whatever it is, nothing acknowledged is lost, nothing that
//! was not appended appears, and the log can be opened again. A follower in another process goes on over the place where
//! the writer was stopped.

use std::path::Path;
use std::sync::Arc;

use mapwal::{Error, Follower, Lsn, Result, Visibility};
use rustix::io::Errno;

use crate::support::faulty::Faulty;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::until;
use crate::support::{assert_record, assert_records, payload, read_only, try_open_on};

/// What is known of a log from the outside.
#[derive(Debug, Default)]
struct Known {
    appended: u64,
    durable: u64,
}

impl Known {
    /// One life of a log: three groups of records, the last without a sync, in a segment each.
    fn live(&mut self, storage: &Arc<Faulty>, close: bool) -> Result<()> {
        let log = try_open_on(storage)?;
        // What was appended and not made durable may be gone after a failure.
        self.appended = log.next_lsn().previous().0;
        assert!(self.appended >= self.durable, "{self:?}");
        self.durable = self.appended;
        for group in 0..3 {
            for _ in 0..5 {
                assert_eq!(log.append(0, &payload(self.appended + 1))?, Lsn(self.appended + 1));
                self.appended += 1;
            }
            if group < 2 {
                self.durable = log.sync()?.0;
                assert_eq!(self.durable, self.appended);
                log.rotate()?;
            }
        }
        if close {
            log.close()?;
            self.durable = self.appended;
        }
        Ok(())
    }

    fn check(&self, directory: &Path) {
        let log = open_small(directory);
        let last = log.next_lsn().previous().0;
        assert!((self.durable..=self.appended).contains(&last), "{last} records, {self:?}");
        if last > 0 {
            assert_records(&log.snapshot().unwrap(), 1, last);
        }
    }
}

/// Lives that are dropped, closed, and go on after either.
const CLOSES: [bool; 4] = [false, true, true, false];

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let mut known = Known::default();
    for close in CLOSES {
        known.live(&storage, close).unwrap();
    }
    assert_eq!(known.appended, 60);
    let calls = storage.calls().len();
    for error in [Errno::IO, Errno::NOSPC] {
        for number in 0..calls {
            println!("call {number} fails with {error}");
            let dir = scratch();
            let storage = Faulty::new(dir.path());
            storage.fail_number(number, error);
            let mut known = Known::default();
            for close in CLOSES {
                // The life ends with the failure, if it notices it.
                let _ = known.live(&storage, close);
            }
            drop(storage);
            known.check(dir.path());
        }
    }
}

/// A follower as another process has it, and the number of the record that it comes to next.
struct Following {
    follower: Follower,
    next: u64,
}

impl Following {
    fn catch_up(&mut self) {
        loop {
            match self.follower.next() {
                Ok(Some(record)) => {
                    assert_record(&record, self.next);
                    self.next += 1;
                }
                Ok(None) => return,
                Err(Error::Rewound { to }) => self.next = to.0,
                Err(error) => panic!("after record {}: {error}", self.next - 1),
            }
        }
    }
}

#[test]
fn a_follower_goes_on_whatever_call_of_the_writer_fails() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let mut known = Known::default();
    known.live(&storage, CLOSES[0]).unwrap();
    let first = storage.calls().len();
    for close in &CLOSES[1..] {
        known.live(&storage, *close).unwrap();
    }
    for number in first..storage.calls().len() {
        println!("call {number} fails");
        let dir = scratch();
        let storage = Faulty::new(dir.path());
        let mut known = Known::default();
        known.live(&storage, CLOSES[0]).unwrap();
        // How many calls that took depends a little on when the log's own thread came to its work.
        storage.fail_number(storage.calls().len() + number - first, Errno::IO);
        let follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
        let mut following = Following { follower, next: 1 };
        for close in &CLOSES[1..] {
            following.catch_up();
            let _ = known.live(&storage, *close);
        }
        drop(storage);
        let next = open_small(dir.path()).next_lsn().0;
        // A control page that could not be written has been replaced; a follower looks for that twice a second.
        until("its end", || {
            following.catch_up();
            following.next >= next
        });
        assert_eq!(following.next, next);
    }
}
