//! `mapwal append`: a record for each line, each number printed once its record is as durable as was asked for.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

use mapwal::{Log, Lsn, Options};

use crate::arguments::{Append, Sync};
use crate::checkpoint::{CHECKPOINT_SLOT, NUMBERS_SLOT, PLAIN_TAG_MIN};
use crate::failure::{Explain, Failure, Outcome, Result, shown};
use crate::input::{Input, Place};
use crate::{input, open};

/// Records appended and not yet durable, at most.
const PENDING_MAX: usize = 1 << 16;

pub(crate) fn run(arguments: &Append) -> Result<Outcome> {
    let directory = &*arguments.directory;
    // Nothing is made for an input that is not there.
    let source = input::source(arguments.input.as_deref())?;
    let options = match (arguments.segment_size, open::newest_segment_size(directory)) {
        (Some(size), _) => Options::new().segment_size_bytes(size),
        (None, Some(newest)) => open::growing_from(newest),
        (None, None) => Options::new(),
    };
    // It needs no record itself.
    let log = open::writer(directory, &options.trim_on_request(true))?;
    if !arguments.force
        && arguments.tag < PLAIN_TAG_MIN
        && [NUMBERS_SLOT, CHECKPOINT_SLOT].into_iter().any(|slot| log.meta(slot).is_some())
    {
        let why = format!(
            "by its metadata this is a log of transactions, whose recovery would fail on records with tag {}: others have \
             tags from {PLAIN_TAG_MIN} on, or see --force",
            arguments.tag
        );
        log.close().about(directory)?;
        return Err(Failure::new("refused", why, directory));
    }
    let stop = Arc::default();
    let input = Input::new(source, arguments.length_prefixed, log.payload_len_max(), &stop)?;
    let appended = Appender { arguments, log: &log, input: Mutex::new(input), stop }.run();
    // Closed in any case, so that the next open need not look for the end.
    let closed = log.close().about(directory);
    appended.and(closed).map(|()| Outcome::Done)
}

struct Appender<'a> {
    arguments: &'a Append,
    log: &'a Log,
    input: Mutex<Input>,
    /// A thread has failed: the others need not go on.
    stop: Arc<AtomicBool>,
}

/// Why a thread stopped, and where in the input: all records before that are done, as far as this thread knows.
struct Stopped {
    place: Place,
    failure: Failure,
}

impl Appender<'_> {
    fn run(&self) -> Result<()> {
        let (sender, receiver) = sync_channel(PENDING_MAX);
        std::thread::scope(|scope| {
            let no_thread = |error: io::Error| {
                self.stop.store(true, Ordering::Relaxed);
                Failure::of_io("cannot start a thread of", &error, "this process")
            };
            let group = self.arguments.sync == Sync::Group;
            let printer = group.then(|| Builder::new().spawn_scoped(scope, || self.sync_and_print(receiver)));
            let printer = printer.transpose().map_err(no_thread)?;
            let spawn = |_| {
                let sender = sender.clone();
                Builder::new().spawn_scoped(scope, move || self.append(&sender))
            };
            let (mut appenders, mut missing) = (Vec::new(), None);
            for appender in (0..self.arguments.threads).map(spawn) {
                match appender {
                    Ok(appender) => appenders.push(appender),
                    // Those that there are do the work.
                    Err(error) => missing = Some(error),
                }
            }
            drop(sender);
            if let Some(error) = missing.filter(|_| appenders.is_empty()) {
                return Err(no_thread(error));
            }
            let all = appenders.into_iter().chain(printer);
            let outcomes: Vec<_> = all.map(|thread| thread.join().expect("no thread panics")).collect();
            // Records are taken in order, and each that was taken is done or has failed: all before the first of those are done.
            let first = outcomes.into_iter().filter_map(std::result::Result::err).min_by_key(|stopped| stopped.place);
            first.map_or(Ok(()), |stopped| Err(stopped.failure.at(stopped.place)))
        })
    }

    /// Has all threads stop: at `place`, because of `failure`.
    fn stopped(&self, place: Place, failure: Failure) -> Stopped {
        self.stop.store(true, Ordering::Relaxed);
        Stopped { place, failure }
    }

    /// Appends records until there are no more.
    fn append(&self, pending: &SyncSender<(Lsn, Place)>) -> Result<(), Stopped> {
        let mut record = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            // A poisoned lock means that another thread has panicked, which the scope passes on.
            let mut input = self.input.lock().expect("no thread panics");
            let next = input.next(&mut record).map_err(|failure| self.stopped(input.place(), failure))?;
            drop(input);
            let Some(place) = next else { break };
            self.append_one(&record, place, pending).map_err(|failure| self.stopped(place, failure))?;
        }
        Ok(())
    }

    fn append_one(&self, record: &[u8], place: Place, pending: &SyncSender<(Lsn, Place)>) -> Result<()> {
        let directory = &self.arguments.directory;
        let lsn = self.log.append(self.arguments.tag, record).about(directory)?;
        match self.arguments.sync {
            Sync::None => print(&[lsn]),
            Sync::Each => {
                self.log.wait_durable(lsn).about(directory)?;
                print(&[lsn])
            }
            Sync::Group => {
                pending.send((lsn, place)).expect("the printing thread takes all, also when it has failed");
                Ok(())
            }
        }
    }

    /// Syncs as many records as have come, and prints their numbers.
    #[expect(clippy::needless_pass_by_value, reason = "it is taken from until the appenders end")]
    fn sync_and_print(&self, pending: Receiver<(Lsn, Place)>) -> Result<(), Stopped> {
        while let Ok(first) = pending.recv() {
            let (mut group, places): (Vec<Lsn>, Vec<Place>) = std::iter::once(first).chain(pending.try_iter()).unzip();
            group.sort_unstable();
            let synced = self.log.sync().about(&self.arguments.directory);
            if let Err(failure) = synced.and_then(|_| print(&group)) {
                let mut stopped = self.stopped(first.1, failure);
                // Those of other threads may come later, and be earlier in the input.
                stopped.place =
                    places.into_iter().chain(pending.iter().map(|(_, place)| place)).fold(first.1, Place::min);
                return Err(stopped);
            }
        }
        Ok(())
    }
}

/// Prints numbers, one a line, and sees to it that they are read. If no process reads them any more, what was begun goes on all the
/// same.
fn print(lsns: &[Lsn]) -> Result<()> {
    // In one piece, so that the pipe is not written to for each.
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = lsns.iter().try_for_each(|lsn| writeln!(out, "{lsn}")).and_then(|()| out.flush());
    shown(printed, Outcome::Done).map(drop)
}
