//! `mapwal tail`: records as they come.

mod filter;
mod last;
mod position;

use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::inspect::Inspection;
use mapwal::{Error, Follower, LogReader, Lsn, Record, Visibility};

use crate::arguments::{From, Tail};
use crate::failure::{Explain, Failure, Outcome, Result, Written};
use crate::look::page_fault;
use crate::open;
use crate::print::{Printer, check_is_read, sync_output};
use crate::stop::Stop;
pub(crate) use filter::Filter;
use last::Last;
use position::{Position, Said};

/// How often it is asked whether to stop, and whether a log is there again.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often the position is kept.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &Tail) -> Result<Outcome> {
    let stop = match arguments.no_follow {
        false => Some(Stop::by_signals_and_keys()?),
        // The position is kept.
        true if arguments.since_last_run.is_some() => Some(Stop::by_signals()?),
        true => None,
    };
    let mut tailing = Tailing::start(arguments)?;
    let mut is_idle = false;
    let mut has_all = false;
    while !stop.as_ref().is_some_and(Stop::is_asked) {
        is_idle = match tailing.step(is_idle) {
            Ok(Step::Printed) => false,
            Ok(Step::Idle) if arguments.no_follow => {
                has_all = true;
                break;
            }
            Ok(Step::Idle) => true,
            Ok(Step::Displaced(why)) => match &stop {
                Some(stop) if !arguments.no_follow => {
                    tailing.follow_anew(stop, &why)?;
                    false
                }
                _ => return Err(why),
            },
            Err(failure) => {
                // What is good has been printed, whatever follows.
                tailing.hand_over(true)?;
                return Err(failure);
            }
        };
    }
    tailing.hand_over(true)?;
    if arguments.no_follow && !has_all {
        let why = "before the last record; the next run goes on from here";
        return Err(Failure::new("stopped", why, &arguments.directory));
    }
    Ok(Outcome::Done)
}

/// A log that is followed.
struct Tailing<'a> {
    arguments: &'a Tail,
    log_id: u128,
    follower: Follower,
    printer: Printer,
    position: Option<Position>,
    /// The last record that was seen.
    last: Option<Last>,
    saved: Instant,
    /// Some of what was to be printed is lost: the position stays where it is.
    is_cut: bool,
}

/// What came of a look for the next record.
enum Step {
    Printed,
    /// There is none yet, and all before has been handed over.
    Idle,
    /// The log is not there any more.
    Displaced(Failure),
}

impl<'a> Tailing<'a> {
    fn start(arguments: &'a Tail) -> Result<Self> {
        let directory = &*arguments.directory;
        let reader = open::reader(directory, arguments.archive)?;
        let inspection = Inspection::open(directory).about(directory)?;
        if arguments.durable {
            check_is_told(&inspection, directory)?;
        }
        if arguments.durable && arguments.no_follow {
            // Frames may show that more was durable than the control page says.
            open::again(|| reader.published_lsn()).about(directory)?;
        }
        let log_id = inspection.log_id();
        let position =
            arguments.since_last_run.as_deref().map(|name| Position::take(name, directory, log_id)).transpose()?;
        position.as_ref().map_or(Ok(()), |position| position.check(&reader, directory))?;
        let said = position.as_ref().and_then(Position::said);
        let default = if arguments.no_follow || position.is_some() { From::Start } else { From::End };
        let from = arguments.from.unwrap_or(default);
        let from = said.map_or(from, |said| From::Record(said.next));
        let follower = match (follow(&reader, from, arguments.visibility()), &position) {
            (Err(Error::Trimmed { lsn, first }), Some(position)) if said.is_some() => {
                return Err(position.trimmed(lsn, first));
            }
            (followed, _) => followed.about(directory)?,
        };
        let printer = Printer::new(arguments.format, arguments.wal);
        Ok(Self {
            arguments,
            log_id,
            follower,
            printer,
            position,
            last: said.and_then(|said| said.last),
            saved: Instant::now(),
            is_cut: false,
        })
    }

    /// Prints the next record if there is one and it is wanted; waits for it a little if that `is_idle`.
    fn step(&mut self, is_idle: bool) -> Result<Step> {
        let directory = &*self.arguments.directory;
        let next = if is_idle { self.follower.next_timeout(LOOK_INTERVAL) } else { self.follower.next() };
        match next {
            Ok(Some(record)) => {
                if self.arguments.wants(&record)
                    && let Err(error) = self.printer.print(&record)
                {
                    self.is_cut = true;
                    return Err(error).written();
                }
                self.last = Some(Last::of(&record));
                if self.position.is_some() && self.saved.elapsed() >= SAVE_INTERVAL {
                    self.hand_over(true)?;
                }
                Ok(Step::Printed)
            }
            Ok(None) => {
                // What has come is shown before waiting for more.
                self.hand_over(self.saved.elapsed() >= SAVE_INTERVAL)?;
                check_is_read().written()?;
                Ok(Step::Idle)
            }
            Err(Error::Rewound { to }) => {
                self.last = self.last.filter(|last| last.lsn < to);
                let why = format!("it goes back to record {to}");
                Failure::new("the log was truncated", why, directory).tell();
                Ok(Step::Printed)
            }
            Err(error @ Error::Displaced { .. }) => {
                self.hand_over(true)?;
                Ok(Step::Displaced(Failure::of_log(&error, directory)))
            }
            Err(Error::Trimmed { lsn, first }) => Err(self.trimmed(lsn, first)),
            Err(error) => Err(Failure::of_log(&error, directory)),
        }
    }

    /// Record `lsn` was trimmed before it was printed.
    fn trimmed(&self, lsn: Lsn, first: Lsn) -> Failure {
        match &self.position {
            Some(position) => position.trimmed(lsn, first),
            None => Failure::of_log(&Error::Trimmed { lsn, first }, &self.arguments.directory),
        }
    }

    /// Flushes what was printed, and then, if `is_kept`, the position say so.
    fn hand_over(&mut self, is_kept: bool) -> Result<()> {
        if self.is_cut {
            return Ok(());
        }
        if let Err(error) = self.printer.flush() {
            self.is_cut = true;
            return Err(error).written();
        }
        if let Some(position) = self.position.as_mut().filter(|_| is_kept) {
            // What the position counts as printed is to outlive a power cut as it does.
            sync_output().written()?;
            position.save(Said { next: self.follower.next_lsn(), last: self.last })?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// Waits for a log to be there again, for reason of `why`, and goes on with it.
    fn follow_anew(&mut self, stop: &Stop, why: &Failure) -> Result<()> {
        let directory = &*self.arguments.directory;
        why.tell();
        Failure::new("waiting", "for a log to be there again", directory).tell();
        while !stop.is_asked() {
            std::thread::sleep(LOOK_INTERVAL);
            // One that is being made, or copied to its place, is none until it is complete.
            let Ok(found) = Inspection::open(directory) else { continue };
            let Ok(reader) = open::try_reader(directory, self.arguments.archive) else { continue };
            if self.arguments.durable && found.durable_lsn().is_none() {
                continue;
            }
            if let Some(follower) = self.follow_found(&reader, found.log_id())? {
                self.follower = follower;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Follows the log `log_id` that is there by now; `None` if it is gone again.
    fn follow_found(&mut self, reader: &LogReader, log_id: u128) -> Result<Option<Follower>> {
        let directory = &*self.arguments.directory;
        let visibility = self.arguments.visibility();
        let next = self.follower.next_lsn();
        let is_same = match self.last.filter(|_| log_id == self.log_id) {
            Some(last) => last.is_in(reader).about(directory)?,
            None => log_id == self.log_id,
        };
        let (found, how) = if is_same {
            match reader.follow(next, visibility) {
                // Nothing was printed that could be given anew.
                Err(Error::NotAppended { .. }) => (follow(reader, From::End, visibility), "from its end on".to_owned()),
                found => (found, format!("it goes on with record {next}")),
            }
        } else if let Some(position) = &self.position {
            let why = if log_id == self.log_id { "an older copy" } else { "another log" };
            return Err(position.parted(&format!("{why} has taken the place of this log")));
        } else if log_id == self.log_id {
            // What comes after it is new.
            (follow(reader, From::End, visibility), format!("an older copy, without record {}", next.previous()))
        } else {
            (follow(reader, From::Start, visibility), "it is another one, from its first record on".to_owned())
        };
        match found {
            Ok(follower) => {
                self.log_id = log_id;
                Failure::new("a log is there again", how, directory).tell();
                Ok(Some(follower))
            }
            Err(Error::Displaced { .. }) => Ok(None),
            Err(Error::Trimmed { lsn, first }) => Err(self.trimmed(lsn, first)),
            Err(error) => Err(Failure::of_log(&error, directory)),
        }
    }
}

fn follow(reader: &LogReader, from: From, visibility: Visibility) -> mapwal::Result<Follower> {
    match from {
        From::Start => open::again(|| reader.follow(reader.first_lsn()?, visibility)),
        From::End => open::again(|| reader.follow(reader.published_lsn()?.next(), visibility)),
        From::Record(lsn) => reader.follow(lsn, visibility),
    }
}

impl Tail {
    fn visibility(&self) -> Visibility {
        if self.durable { Visibility::Durable } else { Visibility::Published }
    }

    fn wants(&self, record: &Record<'_>) -> bool {
        self.filters.iter().all(|filter| filter.passes(record))
    }
}

/// An error if nothing says which records are durable: none would be printed, as if there were none.
fn check_is_told(inspection: &Inspection, directory: &Path) -> Result<()> {
    // One that is damaged may tell of less.
    if let Some(fault) = page_fault(inspection) {
        return Err(Failure::of_log(&fault.clone().into(), directory));
    }
    match inspection.durable_lsn() {
        Some(_) => Ok(()),
        None => Err(Failure::new("cannot tell what is durable", "there is no control page", directory)),
    }
}
