//! `mapwal-archive run`: the service.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};
use mapwal::LogReader;
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error, ObjectDamage, Status};
use serde_json::json;
use tokio::time::Instant;

use crate::arguments::{Format, Run};
use crate::failure::{
    AFTER_CONFLICT, AFTER_DAMAGE, AFTER_VERSION, Failure, Outcome, Result, after_damage, document, is_note, new_epoch,
};
use crate::printer::Printer;
use crate::stop::Stop;
use crate::store::NotOpened;

/// What can be done where an archiver's epoch was deleted on purpose.
const AFTER_LEFT: &str = "if this is an old copy of the log, or one that was restored for a test, leave it, or archive it at another URL; only if \
     the archive is to go on with this log,";

/// How often it looks whether there is a log, and how things stand.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) async fn run(arguments: &Run, mut stop: Stop) -> Result<Outcome> {
    let mut report = Report::new(arguments);
    let ended = loop {
        let archiver = tokio::select! {
            archiver = wait_for_log(arguments, &mut report) => Arc::new(archiver?),
            () = stop.asked() => break Ok(Outcome::Done),
        };
        let ended = tokio::select! {
            ended = archiver.run() => ended.map(|never| match never {}),
            never = report.look_again_and_again(&archiver) => match never {},
            () = stop.asked() => Ok(Outcome::Done),
        };
        report.look(&archiver, true).await;
        match ended {
            // Another one may be put there, such as a restored one.
            Err(error @ Error::Log(mapwal::Error::Displaced { .. })) => report.waits(&of_log(&error, arguments)),
            ended => break ended.map_err(|error| of_log(&error, arguments)),
        }
    };
    report.printer.end();
    ended
}

fn of_log(error: &Error, arguments: &Run) -> Failure {
    let failure = Failure::of_archive(error, arguments.directory.display());
    match error {
        Error::OtherArchive { epoch, objects, .. } => {
            let url = &arguments.url;
            let first = if *objects == 0 {
                format!(
                    "is {url} the right store and prefix? If it is, put back what was removed, as from a backup of the store"
                )
            } else {
                "put the note back, as from a backup of the store, or let rebuild-note make it again".to_owned()
            };
            failure.and(&format!("{first}; only if that cannot be done, {}", new_epoch(*epoch)))
        }
        Error::Conflict { .. } => failure.and(
            "its key tells of what the log has, so that the object is damaged: delete it, and `run` uploads it again",
        ),
        Error::Pruned { epoch, .. } | Error::Forgotten { epoch, .. } => {
            failure.and(&format!("{AFTER_LEFT} {}", new_epoch(*epoch)))
        }
        Error::OtherEpoch { epoch, .. } => failure.and(&format!(
            "is {} the right store and prefix? If it is, `run --abandon-epoch {epoch}` begins another epoch there, which goes on from what it \
             has of this log, and is what `restore` gives without --epoch from then on",
            arguments.url
        )),
        _ => failure,
    }
}

/// An archiver, once there are a log and a store.
async fn wait_for_log(arguments: &Run, report: &mut Report<'_>) -> Result<Archiver> {
    let parts = arguments.part_interval.0;
    let options = ArchiverOptions::new().pin(&arguments.pin).pin_limit_bytes(arguments.pin_limit).part_interval(parts);
    let options = options.check_interval(arguments.check_interval.0).abandon_epoch(arguments.abandon_epoch);
    arguments.url.check()?;
    loop {
        arguments.url.check_outside(&arguments.directory)?;
        match open(arguments, &options) {
            Ok(archiver) => {
                report.waiting = None;
                return Ok(archiver);
            }
            Err(NotOpened::Passing(failure)) => report.waits(&failure),
            Err(NotOpened::Final(failure)) => return Err(failure),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The log comes first: its pin says whether there must be an archive. If that is not there, the log is told to keep
/// everything.
fn open(arguments: &Run, options: &ArchiverOptions) -> Result<Archiver, NotOpened> {
    let of_log = |error: Error| {
        let failure = of_log(&error, arguments);
        if may_come(&error) { NotOpened::Passing(failure) } else { NotOpened::Final(failure) }
    };
    let reader = open_log(arguments).map_err(of_log)?;
    let begun = Archiver::epoch_of(&reader, &arguments.pin).map_err(of_log)?;
    let (store, prefix) = match begun.filter(|&epoch| arguments.abandon_epoch != Some(epoch)) {
        Some(epoch) => {
            let opened = arguments.url.open_begun(epoch);
            match opened {
                Err(NotOpened::Passing(failure)) => match Archiver::keep_all(&reader, options) {
                    // Without how much is left: that changes all the time, and why it waits is told when it changes.
                    Err(Error::Log(mapwal::Error::NoSpace { .. })) => {
                        return Err(NotOpened::Passing(
                            failure.and("there is no room on the log's disk for its pin, which stays where it is"),
                        ));
                    }
                    kept => {
                        kept.map_err(of_log)?;
                        return Err(NotOpened::Passing(failure));
                    }
                },
                opened => opened?,
            }
        }
        None => arguments.url.open()?,
    };
    Archiver::of_reader(reader, Archive::new(store, prefix), options.clone()).map_err(of_log)
}

fn open_log(arguments: &Run) -> Result<LogReader, Error> {
    // SAFETY: by naming the directory to this program the user says, as its manual asks for, that it is on a local file
    // system, and that nothing but mapwal writes to its files meanwhile.
    Ok(tokio::task::block_in_place(|| unsafe { LogReader::open(&arguments.directory) })?)
}

/// Whether there may be a log soon: the service was started first, or the writer, a restore or a backup is at work.
fn may_come(error: &Error) -> bool {
    use mapwal::Error as Log;
    match error {
        Error::Io { .. } => true,
        Error::Log(error) => {
            !matches!(error, Log::NotARegularFile { .. } | Log::Format { .. } | Log::UnsupportedFileSystem { .. })
        }
        _ => false,
    }
}

/// What it says while it is at work.
struct Report<'a> {
    arguments: &'a Run,
    printer: Printer,
    printed: Option<Instant>,
    /// Whether what was printed last was a failure.
    failing: bool,
    waiting: Option<Waiting>,
}

/// That there is no log, or no store.
struct Waiting {
    /// Why, as it was told last.
    why: String,
    tries: u64,
    /// When a record was seen first that is not archived.
    lagging: Option<Instant>,
}

impl<'a> Report<'a> {
    fn new(arguments: &'a Run) -> Self {
        Self { arguments, printer: Printer::start(), printed: None, failing: false, waiting: None }
    }

    /// There is no log, or no store. Why is told once; and from time to time, with how things stand where there is a log.
    fn waits(&mut self, failure: &Failure) {
        let waiting = self.waiting.get_or_insert(Waiting { why: String::new(), tries: 0, lagging: None });
        waiting.tries += 1;
        let why = failure.to_string();
        let is_new = waiting.why != why;
        if is_new {
            (waiting.why, self.printed) = (why, None);
        }
        let is_due = self.is_due(true);
        let status = is_due.then(|| self.status_without_store()).flatten();
        if is_new || is_due && status.is_none() {
            failure.tell();
        }
        if let Some(status) = status {
            self.print(&status);
        }
    }

    /// How things stand where there is a log, and no store.
    fn status_without_store(&mut self) -> Option<Status> {
        let log = open_log(self.arguments).ok()?;
        let status = tokio::task::block_in_place(|| Archiver::status_without(&log, &self.arguments.pin));
        let (mut status, waiting) = (status.ok()?, self.waiting.as_mut()?);
        waiting.lagging = waiting.lagging.filter(|_| status.lag_records > 0);
        if status.lag_records > 0 {
            status.lag = waiting.lagging.get_or_insert_with(Instant::now).elapsed();
        }
        (status.failures, status.last_error) = (waiting.tries, Some(waiting.why.clone()));
        Some(status)
    }

    async fn look_again_and_again(&mut self, archiver: &Arc<Archiver>) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look(archiver, false).await;
        }
    }

    async fn look(&mut self, archiver: &Arc<Archiver>, is_last: bool) {
        let is_due = self.is_due(
            archiver.last_error().is_some() || !archiver.missing().is_empty() || !archiver.damaged().is_empty(),
        );
        if !is_due && (!is_last || self.arguments.status_interval.0.is_none()) {
            return;
        }
        // A log of many segments takes a while to look at: the archiver goes on meanwhile.
        let archiver = Arc::clone(archiver);
        let Ok(status) = tokio::task::spawn_blocking(move || archiver.status()).await else { return };
        self.print(&status);
    }

    fn print(&self, status: &Status) {
        self.printer.print(match self.arguments.format {
            Format::Text => text(status),
            Format::Json => as_json(status).to_string(),
        });
    }

    /// From time to time, and whenever failures begin or end.
    fn is_due(&mut self, failing: bool) -> bool {
        let Some(interval) = self.arguments.status_interval.0 else { return false };
        let is_due = self.printed.is_none_or(|printed| printed.elapsed() >= interval) || failing != self.failing;
        if is_due {
            (self.printed, self.failing) = (Some(Instant::now()), failing);
        }
        is_due
    }
}

fn text(status: &Status) -> String {
    let epoch = status.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
    let archived = match status.archived_lsn.0 {
        // Of an archive that has not been looked at, nothing is known.
        _ if status.epoch.is_none() => "-".to_owned(),
        next => next.saturating_sub(1).to_string(),
    };
    let (records, bytes) = (HumanCount(status.lag_records), BinaryBytes(status.lag_bytes));
    let (segments, parts) = (HumanCount(status.segments), HumanCount(status.parts));
    let seconds = status.lag.as_secs_f64();
    let failing = status.last_error.as_ref().filter(|_| status.failures > 0 || status.unanswered.is_some());
    let error = failing.map_or(String::new(), |error| format!("  failing: {error}"));
    let (missing, damaged) = (missing(status), damaged(status));
    let pin = status.pin_error.as_ref().map_or(String::new(), |error| format!("  the pin stays where it is: {error}"));
    let lost = status.lost.as_ref().map_or(String::new(), |lost| {
        let (from, to) = (lost.start, lost.end.0.saturating_sub(1));
        format!("  records {from}..{to}, before this epoch, are missing in the archive")
    });
    let beside = beside(status);
    format!(
        "epoch {epoch}  archived up to {archived}  lag {records} records, {bytes}, {seconds:.1} s  {segments} segments, {parts} parts{error}{pin}{missing}{damaged}{lost}{beside}"
    )
}

/// What is wrong elsewhere in the archive.
fn beside(status: &Status) -> String {
    if status.beside.is_empty() {
        return String::new();
    }
    let each = status.beside.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    format!("  beside what this epoch leads to: {each}; `list` says what can be done")
}

/// What has vanished from the archive for good, and what can be done.
fn missing(status: &Status) -> String {
    if status.missing.is_empty() {
        return String::new();
    }
    let each = status.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let way_out = new_epoch(status.epoch.unwrap_or_else(|| status.missing[0].epoch));
    format!("  missing in the archive: {each}; put the objects back; only if that cannot be done, {way_out}")
}

/// What is damaged in the archive, and what can be done.
fn damaged(status: &Status) -> String {
    if status.damaged.is_empty() {
        return String::new();
    }
    let is_other = |damaged: &&(String, ObjectDamage)| matches!(damaged.1, ObjectDamage::Other { .. });
    let (notes, objects): (Vec<_>, Vec<_>) = status.damaged.iter().partition(|(key, _)| is_note(key));
    let (others, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_other);
    let each = |damaged: &[&(String, ObjectDamage)]| {
        damaged.iter().map(|(key, damage)| format!("{key} ({damage})")).collect::<Vec<_>>().join(", ")
    };
    let mut told = String::new();
    let is_later = |note: &&(String, ObjectDamage)| matches!(note.1, ObjectDamage::Version { .. });
    let (later, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(is_later);
    if !later.is_empty() {
        told = format!("  not to be used in the archive: {}; {AFTER_VERSION}", each(&later));
    }
    if let Some((key, _)) = notes.first() {
        let epoch = status.epoch.or_else(|| epoch_of(key));
        let of = epoch.map_or("this epoch".to_owned(), |epoch| format!("epoch {epoch}"));
        told = format!(
            "{told}  damaged in the archive: {}, without which nothing of {of} can be restored; put it back, with what else is gone of that \
             epoch, as from a backup of the store, or let rebuild-note make it again",
            each(&notes)
        );
        if let Some(epoch) = epoch {
            told = format!("{told}; only if that cannot be done, {}", new_epoch(epoch));
        }
    }
    let (early, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|(_, damage)| matches!(damage, ObjectDamage::Early { .. }));
    let early_way = early.first().map_or("", |(_, damage)| after_damage(damage));
    for (damaged, way_out) in [(objects, AFTER_DAMAGE), (early, early_way), (others, AFTER_CONFLICT)] {
        if !damaged.is_empty() {
            told = format!("{told}  damaged in the archive: {}; {way_out}", each(&damaged));
        }
    }
    told
}

/// That of a note, by its key.
fn epoch_of(note: &str) -> Option<u64> {
    note.rsplit('/').nth(1)?.parse().ok()
}

fn as_json(status: &Status) -> serde_json::Value {
    let members = json!({
        "epoch": status.epoch,
        "sealed_lsn": status.sealed_lsn.0,
        "archived_lsn": status.archived_lsn.0,
        "next_lsn": status.next_lsn.0,
        "lag_records": status.lag_records,
        "lag_bytes": status.lag_bytes,
        "lag_seconds": status.lag.as_secs_f64(),
        "segments": status.segments,
        "parts": status.parts,
        "bytes": status.bytes,
        "failures": status.failures,
        "pin_error": status.pin_error,
        "unanswered_seconds": status.unanswered.map(|time| time.as_secs_f64()),
        "last_error": status.last_error,
        "uploaded_again": status.uploaded_again,
        "missing": status.missing.iter().map(|missing| json!({
            "epoch": missing.epoch,
            "lsns": [missing.lsns.start.0, missing.lsns.end.0],
            "key": missing.key,
            "log_fault": missing.log_fault,
        })).collect::<Vec<_>>(),
        "damaged": status.damaged.iter().map(|(key, damage)| json!({
            "key": key,
            "damage": damage.to_string(),
        })).collect::<Vec<_>>(),
        "lost": status.lost.as_ref().map(|lost| [lost.start.0, lost.end.0]),
        "beside": status.beside.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    document("run", members)
}
