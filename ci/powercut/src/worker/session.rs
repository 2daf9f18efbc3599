//! One session with a log: what is done to it, as the seed decides, and what is told of it.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use fastrand::Rng;
use mapwal::{Error, Log, Lsn, Options};

use super::Job;
use super::committers::{self, Numbers};
use super::watch::Watch;
use crate::event::{Action, Event, Failure, Teller};
use crate::model::{Entry, Observed, SLOTS, meta_value, payload, tag};
use crate::system::{self, GoingDown};

/// The smallest segments, so that little data makes many.
const SEGMENT_BYTES: u64 = 64 << 10;
/// A log of more bytes is trimmed, so that the disk does not fill.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// How often a log is opened until it is given up.
const OPENS_MAX: usize = 3;

/// What is done, and how often.
const WEIGHTS: [(Action, u32); 16] = [
    (Action::Append, 30),
    (Action::Batch, 8),
    (Action::InPlace, 4),
    (Action::Void, 2),
    (Action::Meta, 7),
    (Action::Sync, 14),
    (Action::WaitDurable, 5),
    (Action::Rotate, 5),
    (Action::Trim, 4),
    (Action::Truncate, 4),
    (Action::Reset, 1),
    (Action::Read, 2),
    (Action::Committers, 4),
    (Action::Close, 4),
    (Action::Drop, 3),
    (Action::WriteBack, 5),
];

struct Session<'a> {
    job: &'a Job,
    teller: &'a Arc<Teller>,
    watch: &'a Watch,
    numbers: Numbers,
    log: Option<Arc<Log>>,
    rng: Rng,
}

/// Why a session ends before its last step. It has been told.
struct Ended;

/// Does a job.
pub fn run(job: &Job, teller: Teller) {
    let (teller, watch) = (Arc::new(teller), Watch::default());
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(&teller));
        let numbers = Numbers::new(job.first_id);
        let rng = Rng::with_seed(job.seed);
        let mut session = Session { job, teller: &teller, watch: &watch, numbers, log: None, rng };
        // How it ended has been told.
        let _ = session.run();
        session.let_go();
        watch.stop();
    });
}

fn random_action(rng: &mut Rng) -> Action {
    let mut at = rng.u32(0..WEIGHTS.iter().map(|(_, weight)| weight).sum());
    for (action, weight) in WEIGHTS {
        match at.checked_sub(weight) {
            Some(rest) => at = rest,
            None => return action,
        }
    }
    Action::Append
}

fn random_len(rng: &mut Rng) -> usize {
    match rng.u8(..) {
        0..24 => rng.usize(0..8),
        24..180 => rng.usize(8..200),
        180..230 => rng.usize(200..3000),
        230..250 => rng.usize(3000..12_000),
        _ => rng.usize(12_000..50_000),
    }
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), Ended> {
        self.open()?;
        let goes_down = self.job.goes_down.then(|| self.rng.usize(0..self.job.steps.max(1)));
        for step in 0..self.job.steps {
            let action = if goes_down == Some(step) { Action::ShutDown } else { random_action(&mut self.rng) };
            self.step(action)?;
            if self.log().stats().disk_bytes > LOG_BYTES_MAX {
                self.step(Action::Trim)?;
            }
        }
        if self.job.look_again {
            let action = if self.rng.bool() { Action::Drop } else { Action::Close };
            self.step(action)?;
        }
        Ok(())
    }

    fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().expect("the log is open between steps"))
    }

    /// Opens the log, at the third try if need be: an error may be one that comes once.
    fn open(&mut self) -> Result<(), Ended> {
        (1..OPENS_MAX).find_map(|_| self.try_open().ok()).map_or_else(|| self.try_open(), Ok)
    }

    /// Opens the log and tells what is in it.
    fn try_open(&mut self) -> Result<(), Ended> {
        self.teller.tell(Event::Doing(Action::Open));
        // They grow with the log.
        let options = Options::new().segment_size_bytes(4 * SEGMENT_BYTES).first_segment_size_bytes(SEGMENT_BYTES);
        // SAFETY: the directory is on a file system of ours, which nobody else knows of.
        let opened = unsafe { Log::open(&self.job.log, &options) };
        let read = opened.and_then(|log| Ok((Observed::read(&log)?, log)));
        match read {
            Ok((observed, log)) => {
                let log = Arc::new(log);
                self.teller.tell(Event::Opened(observed));
                self.watch.look_at(&log);
                self.log = Some(log);
                Ok(())
            }
            Err(error) => {
                self.tell_failure(Action::Open, &error, 0);
                Err(Ended)
            }
        }
    }

    /// Lets go of the log, as the death of the process would.
    fn let_go(&mut self) {
        self.watch.look_away();
        if self.log.take().is_some() {
            self.teller.tell(Event::Dropped);
        }
    }

    fn tell_failure(&self, action: Action, error: &Error, next: u64) {
        let error_text = format!("{error} ({error:?})");
        self.teller.tell(Event::Failed { action, failure: Failure::of(error), error: error_text, next });
    }

    /// Does one step. After a failed sync the log is let go and opened.
    fn step(&mut self, action: Action) -> Result<(), Ended> {
        self.teller.tell(Event::Doing(action));
        let Err(error) = self.act(action)? else { return Ok(()) };
        let Some(log) = self.log.clone() else {
            self.tell_failure(action, &error, 0);
            return self.open();
        };
        self.tell_failure(action, &error, log.next_lsn().0);
        if Failure::of(&error) == Failure::Poisoned {
            let acknowledged =
                log.sync().is_ok() || log.append(0, b"x").is_ok() || log.wait_durable(log.durable_lsn()).is_ok();
            if acknowledged {
                self.teller.tell(Event::AcknowledgedAfterFailure);
            }
            drop(log);
            self.let_go();
            return self.open();
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<Result<(), Error>, Ended> {
        Ok(match action {
            Action::Append | Action::InPlace => self.append(action),
            Action::Batch => self.append_batch(),
            Action::Void => self.append_void(),
            Action::Meta => self.put_meta(),
            Action::Sync => self.sync(),
            Action::WaitDurable => self.wait_durable(),
            Action::Rotate => self.log().rotate().map(drop),
            Action::Trim => self.trim(),
            Action::Truncate => self.truncate(),
            Action::Reset => self.reset(),
            Action::Read => Observed::read(&self.log()).map(|observed| self.teller.tell(Event::Shown(observed))),
            Action::Committers => committers::run(&self.log(), self.teller, &self.numbers, &mut self.rng),
            Action::Close => return self.close(),
            Action::Drop => {
                self.let_go();
                self.open()?;
                Ok(())
            }
            Action::WriteBack => {
                self.write_back();
                Ok(())
            }
            Action::ShutDown => {
                self.shut_down();
                Ok(())
            }
            Action::Open => unreachable!("a session opens the log by itself"),
        })
    }

    fn submit(&self, entries: &[Entry]) -> u64 {
        let call = self.numbers.call();
        self.teller.tell(Event::Submitted { call, entries: entries.to_vec() });
        call
    }

    fn appended(&self, call: u64, appended: Result<Option<Lsn>, Error>) -> Result<(), Error> {
        match appended {
            Ok(lsn) => {
                self.teller.tell(Event::Appended { call, lsn: lsn.map(|lsn| lsn.0) });
                Ok(())
            }
            Err(error) => {
                self.teller.tell(Event::Refused { call });
                Err(error)
            }
        }
    }

    fn append(&mut self, action: Action) -> Result<(), Error> {
        let (id, len) = (self.numbers.id(), random_len(&mut self.rng));
        let call = self.submit(&[Entry::Record { id, len: len as u32, continues: false }]);
        let bytes = payload(id, len);
        let log = self.log();
        let appended = if action == Action::InPlace {
            log.append_with(tag(id), len, |place| place.copy_from_slice(&bytes))
        } else if self.rng.u8(..) < 32 {
            let (front, back) = bytes.split_at(len / 3);
            log.append_vectored(tag(id), &[front, &[], back])
        } else {
            log.append(tag(id), &bytes)
        };
        self.appended(call, appended.map(Some))
    }

    fn append_batch(&mut self) -> Result<(), Error> {
        let count = self.rng.usize(1..6);
        let records: Vec<(u64, usize)> =
            (0..count).map(|_| (self.numbers.id(), random_len(&mut self.rng).min(9000))).collect();
        let call = self.submit(&committers::batch_entries(&records));
        let payloads: Vec<(u16, Vec<u8>)> = records.iter().map(|&(id, len)| (tag(id), payload(id, len))).collect();
        let batch: Vec<(u16, &[u8])> = payloads.iter().map(|(tag, bytes)| (*tag, &bytes[..])).collect();
        let appended = self.log().append_batch(&batch);
        self.appended(call, appended.map(|range| Some(range.start)))
    }

    /// A record that a panic gives up.
    fn append_void(&mut self) -> Result<(), Error> {
        let len = random_len(&mut self.rng).min(500);
        let call = self.submit(&[Entry::Void]);
        let log = self.log();
        let append = || {
            log.append_with(0, len, |place| {
                place.fill(0xee);
                // Without the panic hook, which would print.
                resume_unwind(Box::new(()));
            })
        };
        let caught = catch_unwind(AssertUnwindSafe(append));
        self.appended(call, caught.unwrap_or(Ok(Lsn::ZERO)).map(|_| None))
    }

    fn put_meta(&mut self) -> Result<(), Error> {
        let (slot, id) = (self.rng.usize(0..SLOTS), self.numbers.id());
        let call = self.submit(&[Entry::Meta { slot, id }]);
        let put = self.log().put_meta(slot, &meta_value(id));
        self.appended(call, put.map(|_mark| None))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.log().sync().map(|durable| self.teller.tell(Event::Synced(durable.0)))
    }

    fn wait_durable(&mut self) -> Result<(), Error> {
        let log = self.log();
        let (first, next) = (log.first_lsn().0, log.next_lsn().0);
        if first == next {
            return Ok(());
        }
        let lsn = self.rng.u64(first..next);
        log.wait_durable(Lsn(lsn)).map(|()| self.teller.tell(Event::Durable(lsn)))
    }

    fn trim(&mut self) -> Result<(), Error> {
        let log = self.log();
        let (first, next) = (log.first_lsn().0, log.next_lsn().0);
        let lsn = self.rng.u64(first.midpoint(next)..=next);
        self.teller.tell(Event::Trimming(lsn));
        let dropped = log.trim_before(Lsn(lsn))?;
        self.teller.tell(Event::Trimmed { dropped, first: log.first_lsn().0 });
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), Error> {
        let log = self.log();
        let (first, next) = (log.first_lsn().0, log.next_lsn().0);
        let last = self.rng.u64(first.max(next.saturating_sub(12))..=next) - 1;
        if last + 1 >= next {
            // Drops nothing.
            return log.truncate_after(Lsn(last));
        }
        self.watch.look_away();
        self.teller.tell(Event::Truncating(last));
        let truncated = log.truncate_after(Lsn(last));
        self.replaced(&log, truncated)
    }

    fn reset(&mut self) -> Result<(), Error> {
        let log = self.log();
        let next = log.next_lsn().0;
        let first = self.rng.u64(next.saturating_sub(10).max(1)..next + 10);
        self.watch.look_away();
        self.teller.tell(Event::Resetting(first));
        let reset = log.reset_to(Lsn(first));
        self.replaced(&log, reset)
    }

    fn replaced(&self, log: &Arc<Log>, replaced: Result<(), Error>) -> Result<(), Error> {
        replaced?;
        self.teller.tell(Event::Replaced);
        self.watch.look_at(log);
        Ok(())
    }

    fn close(&mut self) -> Result<Result<(), Error>, Ended> {
        self.watch.look_away();
        let log = self.log.take().expect("the log is open between steps");
        let closed = log.close();
        match &closed {
            Ok(()) => {
                self.teller.tell(Event::Closed);
                self.open()?;
            }
            Err(_) => self.teller.tell(Event::Dropped),
        }
        Ok(closed)
    }

    /// Begins to write some files of the log back, or makes the whole file system durable: no promise of the log.
    fn write_back(&mut self) {
        let Ok(directory) = File::open(&self.job.log) else { return };
        if self.rng.u8(..) < 64 {
            let _ = rustix::fs::syncfs(&directory);
            return;
        }
        let files = std::fs::read_dir(&self.job.log).into_iter().flatten().filter_map(Result::ok);
        for file in files.filter_map(|entry| File::open(entry.path()).ok()) {
            if self.rng.bool() {
                system::start_writing(&file);
            }
        }
    }

    fn shut_down(&mut self) {
        let how = [GoingDown::Default, GoingDown::JournalWritten, GoingDown::AsItIs][self.rng.usize(0..3)];
        self.teller.tell(Event::ShutDown);
        if let Err(error) = system::shut_down(&self.job.log, how) {
            eprintln!("the file system does not stop: {error}");
        }
    }
}
