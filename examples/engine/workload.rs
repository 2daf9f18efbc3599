//! The process of the engine: it restarts, shows its pages, and does what the trace says until it is killed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::arguments::Arguments;
use crate::engine::{Engine, Wish, Work};
use crate::page::{ROW_LEN, Row};
use crate::report::Reporter;
use crate::restart::Setup;
use crate::trace::{Action, Step, Trace};

/// Threads that share the transactions of the trace, each of which stays with one of them.
const WORKERS: usize = 4;
/// Lines of the trace from one checkpoint to the next, besides the checkpoints that it has.
const CHECKPOINT_INTERVAL: usize = 3000;
/// Longer than it takes to kill a process.
const HOLD: Duration = Duration::from_secs(10);
/// Of the records that belong to no transaction.
const PLAIN_TAG: u16 = 0x8000;

/// Never returns but with an error: somebody kills this process.
pub(crate) fn run(arguments: &Arguments, directory: &Path) -> Result<(), Failure> {
    let reporter = Reporter::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let trace = Trace::load(arguments.trace.as_deref())?;
    reporter.restarting()?;
    let setup = Setup { page_count: trace.page_count, loses_power: arguments.loses_power(), broken: arguments.broken };
    let (engine, restarted) = Engine::open(directory, setup, |undone| {
        if arguments.hold_at == Some(undone) {
            reporter.holding(undone)?;
            // The process that reads the reports kills this one now, or is dead, and then nothing reads what comes
            // next.
            std::thread::sleep(HOLD);
        }
        Ok(())
    })?;
    reporter.restarted(&restarted)?;
    for page in 0..engine.page_count() {
        engine.look(page, |page| reporter.page(page))??;
    }
    reporter.ready()?;
    let workers = |number| {
        let (engine, reporter, trace) = (&engine, &reporter, &trace);
        move || Worker { number, engine, reporter, open: HashMap::new() }.run(trace, arguments.start)
    };
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let worker = workers(number);
            scope.spawn(move || {
                if let Err(error) = worker() {
                    eprintln!("error: worker {number}: {error}");
                    // The others go on for ever.
                    std::process::exit(1);
                }
            });
        }
    });
    Ok(())
}

struct Worker<'e> {
    number: usize,
    engine: &'e Engine,
    reporter: &'e Reporter,
    /// The transactions that it has begun, by the trace's numbers.
    open: HashMap<u32, Work<'e>>,
}

impl<'e> Worker<'e> {
    /// Does its part of the trace over and over, for the first time from line `start` on.
    fn run(mut self, trace: &Trace, start: usize) -> Result<(), Failure> {
        let mut start = start % trace.steps.len();
        loop {
            for (line, step) in trace.steps.iter().enumerate().skip(start) {
                if step.xid.map_or(line, |xid| xid as usize) % WORKERS == self.number {
                    self.step(step)?;
                }
                if line.is_multiple_of(CHECKPOINT_INTERVAL) && line / CHECKPOINT_INTERVAL % WORKERS == self.number {
                    self.engine.checkpoint()?;
                }
            }
            // The trace ends before these do.
            self.open.drain().try_for_each(|(_, work)| self.engine.abort(work))?;
            start = 0;
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match (&step.action, step.xid) {
            (&Action::Change(wish, page), Some(xid)) => self.change(step, xid, wish, page),
            (Action::Commit, Some(xid)) => self.commit(xid),
            (Action::Abort, Some(xid)) => {
                let work = self.take(xid)?;
                self.engine.abort(work)
            }
            (Action::Checkpoint, _) => self.engine.checkpoint(),
            (&Action::Plain(len), _) => self.engine.log_plain(PLAIN_TAG, &vec![0x2e; len]),
            (action, None) => Err(format!("{action:?} without a transaction").into()),
        }
    }

    fn change(&mut self, step: &Step, xid: u32, wish: Wish, page: u64) -> Result<(), Failure> {
        let mut work = self.take(xid)?;
        let row = row(work.id().0, step);
        self.engine.change(&mut work, wish, page, &row)?;
        self.open.insert(xid, work);
        Ok(())
    }

    /// A commit is reported when it has returned, and before another transaction can change its rows: reports about a
    /// row come in the order of its changes.
    fn commit(&mut self, xid: u32) -> Result<(), Failure> {
        let work = self.take(xid)?;
        let id = work.id();
        self.reporter.committing(id, work.images())?;
        let rows = work.commit()?;
        self.reporter.committed(id)?;
        drop(rows);
        Ok(())
    }

    /// The transaction of this number, which begins where it is seen first.
    fn take(&mut self, xid: u32) -> Result<Work<'e>, Failure> {
        match self.open.remove(&xid) {
            Some(work) => Ok(work),
            None => self.engine.begin(),
        }
    }
}

/// A row that no other line and no other transaction writes: it begins with the number of its transaction.
fn row(transaction: u64, step: &Step) -> Row {
    let mut row = [0; ROW_LEN];
    row[..8].copy_from_slice(&transaction.to_le_bytes());
    row[8..16].copy_from_slice(&step.lsn.to_le_bytes());
    fastrand::Rng::with_seed(transaction ^ step.lsn.rotate_left(32)).fill(&mut row[16..]);
    row
}
