//! `mapwal append`: a record for each line, each number printed once its record is as durable as was asked for.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mapwal::{Log, Lsn, Options};

use crate::arguments::{Append, Sync};
use crate::failure::{Explain, Outcome, Result, Written};
use crate::input::{Input, Place};
use crate::{input, open};

/// Records appended and not yet durable, at most.
const PENDING_MAX: usize = 1 << 16;

pub(crate) fn run(arguments: &Append) -> Result<Outcome> {
    let directory = &*arguments.directory;
    // Nothing is made for an input that is not there.
    let source = input::source(arguments.input.as_deref())?;
    let options = match arguments.segment_size.or_else(|| open::newest_segment_size(directory)) {
        Some(size) => Options::new().segment_size_bytes(size),
        None => Options::new(),
    };
    let log = open::writer(directory, &options)?;
    let input = Input::new(source, arguments.length_prefixed, log.payload_len_max())?;
    let appended = Appender { arguments, log: &log, input: Mutex::new(input), stop: AtomicBool::new(false) }.run();
    // Closed in any case, so that the next open need not look for the end.
    let closed = log.close().about(directory);
    appended.and(closed).map(|()| Outcome::Done)
}

struct Appender<'a> {
    arguments: &'a Append,
    log: &'a Log,
    input: Mutex<Input>,
    /// A thread has failed: the others need not go on.
    stop: AtomicBool,
}

impl Appender<'_> {
    fn run(&self) -> Result<()> {
        let (sender, receiver) = sync_channel(PENDING_MAX);
        std::thread::scope(|scope| {
            let group = self.arguments.sync == Sync::Group;
            let printer = group.then(|| scope.spawn(|| self.noting(self.sync_and_print(receiver))));
            let spawn = |_| {
                let sender = sender.clone();
                scope.spawn(move || self.noting(self.append(&sender)))
            };
            let appenders: Vec<_> = (0..self.arguments.threads).map(spawn).collect();
            drop(sender);
            let all = appenders.into_iter().chain(printer);
            let outcomes: Vec<Result<()>> = all.map(|thread| thread.join().expect("no thread panics")).collect();
            outcomes.into_iter().collect()
        })
    }

    fn noting(&self, outcome: Result<()>) -> Result<()> {
        if outcome.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Appends records until there are no more.
    fn append(&self, pending: &SyncSender<(Lsn, Place)>) -> Result<()> {
        let directory = &self.arguments.directory;
        let mut record = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            // A poisoned lock means that another thread has panicked, which the scope passes on.
            let next = self.input.lock().expect("no thread panics").next(&mut record)?;
            let Some(place) = next else { break };
            let lsn = self.log.append(self.arguments.tag, &record).about(directory);
            let lsn = lsn.map_err(|failure| failure.at(place))?;
            match self.arguments.sync {
                Sync::None => print(&[lsn])?,
                Sync::Each => {
                    self.log.wait_durable(lsn).about(directory).map_err(|failure| failure.at(place))?;
                    print(&[lsn])?;
                }
                // The printing thread has failed, and says why.
                Sync::Group if pending.send((lsn, place)).is_err() => break,
                Sync::Group => {}
            }
        }
        Ok(())
    }

    /// Syncs as many records as have come, and prints their numbers.
    #[expect(clippy::needless_pass_by_value, reason = "its end tells the appenders")]
    fn sync_and_print(&self, pending: Receiver<(Lsn, Place)>) -> Result<()> {
        while let Ok(first) = pending.recv() {
            let (mut group, places): (Vec<Lsn>, Vec<Place>) = std::iter::once(first).chain(pending.try_iter()).unzip();
            let synced = self.log.sync().about(&self.arguments.directory);
            // The first in the input of those that may not be durable.
            synced.map_err(|failure| {
                places.into_iter().min().map_or_else(|| unreachable!("one came"), |at| failure.at(at))
            })?;
            group.sort_unstable();
            print(&group)?;
        }
        Ok(())
    }
}

/// Prints numbers, one a line, and sees to it that they are read.
fn print(lsns: &[Lsn]) -> Result<()> {
    // In one piece, so that the pipe is not written to for each.
    let mut out = io::BufWriter::new(io::stdout().lock());
    lsns.iter().try_for_each(|lsn| writeln!(out, "{lsn}")).and_then(|()| out.flush()).written()
}
