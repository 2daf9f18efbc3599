//! `mapwal trim`: drops old segments, also on a full disk: of a log that no process writes, or by the process that writes it.
//!
//! All that may refuse it is looked at before the log is opened for writing, which drops a torn end, unless a writer alone opens it.

mod ask;
mod dropped;
mod extent;

use std::io::ErrorKind;
use std::path::Path;

use indicatif::{BinaryBytes, ProgressBar};
use mapwal::inspect::{Inspection, SegmentFile};
use mapwal::{Error, Log, Lsn, Options, PinState, PinStatus, SealedSegment, Snapshot};

use crate::arguments::Trim;
use crate::checkpoint::Needed;
use crate::failure::{Explain, Failure, Outcome, Result, counted, say};
use crate::tip::Tip;
use crate::writer::Writer;
use crate::{checkpoint, open};
use dropped::Dropped;

pub(crate) fn run(arguments: &Trim) -> Result<Outcome> {
    let directory = &*arguments.directory;
    let options = match open::newest_segment_size(directory) {
        Some(size) => Options::new().segment_size_bytes(size),
        None => Options::new(),
    };
    let options = options.create(false);
    let found = Inspection::open(directory).about(directory)?;
    if let Writer::Alive(pid) = Writer::find(&found)
        && let Some(done) = ask::writer(&found, pid, arguments)?
    {
        return Ok(done);
    }
    let before = match open::try_reader(directory, false).and_then(|reader| reader.snapshot()) {
        // A writer may open it all the same, or says why not.
        Err(Error::Corrupt(_)) => None,
        looked => Some(check(&found, &looked.about(directory)?, arguments, directory)?),
    };
    let log = open::writer(directory, &options)?;
    let before = before.map_or_else(|| check(&found, &log.snapshot().about(directory)?, arguments, directory), Ok);
    let trimmed = before.and_then(|before| trim(&log, before, arguments.force, found.segments(), directory));
    let closed = log.close().about(directory);
    let mut trimmed = trimmed?;
    if trimmed.is_left() {
        // A log that ends waits for its files only so long; one that is opened, until they are gone.
        let log = open::writer(directory, &options)?;
        trimmed.failure = trimmed.failure.or_else(|| trimmed.files.iter().find_map(|file| remove(file).err()));
        log.close().about(directory)?;
    }
    trimmed.report(directory)?;
    closed.map(|()| Outcome::Done)
}

/// What a trim has done.
struct Trimmed<'f> {
    /// The files of segments that are out of the log.
    files: Vec<&'f SegmentFile>,
    first: Lsn,
    failure: Option<Error>,
    /// What came of saying which pins are gone.
    said: Result<()>,
}

/// The first record that stays; an error if one that goes is needed.
fn check(found: &Inspection, snapshot: &Snapshot, arguments: &Trim, directory: &Path) -> Result<Lsn> {
    let before = extent::first_to_keep(&arguments.extent, found, snapshot);
    if !arguments.force {
        check_recovery(found, snapshot, before, directory)?;
        check_pins(&found.pins().about(directory)?, before, directory)?;
    }
    Ok(extent::first_of_last(found, snapshot).map_or(before, |last| before.min(last)))
}

/// Trims the log that had the files `found` before it was opened.
fn trim<'f>(log: &Log, before: Lsn, force: bool, found: &'f [SegmentFile], directory: &Path) -> Result<Trimmed<'f>> {
    let pins = log.pins();
    let make = |pin: &PinStatus| log.create_pin(&pin.name, &pin.owner, pin.lsn, pin.limit_bytes);
    let mut dropped = Dropped::none(directory, &make);
    if force {
        dropped.drop_all(&pins, before, &|name| log.drop_pin(name))?;
    } else {
        // Another process may have made one meanwhile.
        check_pins(&pins, before, directory)?;
    }
    let first = log.first_lsn();
    let failure = log.trim_before(before).err();
    if failure.is_some() && log.first_lsn() == first {
        dropped.restore();
    }
    let files = files_below(log, found).about(directory)?;
    let said = dropped.say().and_then(|()| say_lost(&pins, &log.pins()));
    Ok(Trimmed { files, first: log.first_lsn(), failure, said })
}

impl Trimmed<'_> {
    fn is_left(&self) -> bool {
        self.files.iter().any(|file| is_there(file))
    }

    /// Says what is gone; an error if not all is.
    fn report(self, directory: &Path) -> Result<()> {
        let Self { files, first, failure, said } = self;
        said.map_err(|failure| failure.and("the log is trimmed"))?;
        let (left, gone): (Vec<&SegmentFile>, Vec<&SegmentFile>) = files.into_iter().partition(|file| is_there(file));
        if failure.is_none() || !gone.is_empty() {
            let freed = BinaryBytes(gone.iter().map(|file| file.file_len_bytes).sum());
            let segments = counted(gone.len() as u64, "segment", "segments");
            say(&format!("{segments} dropped, {freed} freed; the log starts at record {first}"))
                .map_err(|failure| failure.and("the log is trimmed"))?;
        }
        if let Some(error) = failure.filter(|_| gone.is_empty() || !left.is_empty()) {
            return Err(error).about(directory);
        }
        if left.is_empty() {
            return Ok(());
        }
        let why = format!("{} cannot be removed", counted(left.len() as u64, "segment", "segments"));
        Err(Failure::new("not all is freed", why, directory))
    }
}

/// What keeps a file from going that is left, while the log is open.
fn remove(file: &SegmentFile) -> mapwal::Result<()> {
    for path in [file.path.clone(), file.path.with_extension("tmp")] {
        if let Err(source) = std::fs::remove_file(&path)
            && source.kind() != ErrorKind::NotFound
        {
            return Err(Error::Io { operation: "remove", path, source });
        }
    }
    Ok(())
}

/// Those of segments that are out of the log by now.
fn files_below<'f>(log: &Log, found: &'f [SegmentFile]) -> mapwal::Result<Vec<&'f SegmentFile>> {
    let (first, sealed) = (log.first_lsn(), log.sealed(0)?);
    let oldest = sealed.first().map_or(0, SealedSegment::number);
    // One without a record begins with the number that the next one begins with.
    let is_below = |file: &&SegmentFile| file.number < oldest || file.first_lsn.is_some_and(|lsn| lsn < first);
    Ok(found.iter().filter(is_below).collect())
}

/// Under its name, or under the one that it has until it is removed.
fn is_there(file: &SegmentFile) -> bool {
    file.path.exists() || file.path.with_extension("tmp").exists()
}

/// An error if recovery of transactions needs some of what is to go.
fn check_recovery(found: &Inspection, snapshot: &Snapshot, before: Lsn, directory: &Path) -> Result<()> {
    let tip = Tip::read(found, Some(snapshot.next_lsn()), &ProgressBar::hidden()).about(directory)?;
    let meta = |slot: usize| tip.as_ref()?.slots.get(&slot).map(|slot| slot.value.clone());
    let needed = checkpoint::needed(meta, snapshot).about(directory)?;
    match needed.filter(|needed| needed.first < before) {
        None => Ok(()),
        Some(Needed { first, checkpoint }) => {
            let what = match checkpoint {
                Some(lsn) => format!("checkpoint {lsn}"),
                None => "a log of transactions without a checkpoint".to_owned(),
            };
            let why = format!(
                "recovery from {what} needs record {first} and all after it; \
                 with --force they go; RecoverFrom::OldestRecord opens the rest, without what they would have told of open transactions"
            );
            Err(Failure::new("nothing trimmed", why, directory))
        }
    }
}

/// The pins that keep what is to go. One that holds back more than its limit keeps nothing.
fn keepers(pins: &[PinStatus], before: Lsn) -> impl Iterator<Item = &PinStatus> {
    let keeps = move |pin: &&PinStatus| matches!(pin.state, PinState::Reserved | PinState::Damaged) && pin.lsn < before;
    pins.iter().filter(keeps)
}

/// An error if a pin keeps what is to go.
fn check_pins(pins: &[PinStatus], before: Lsn, directory: &Path) -> Result<()> {
    let Some(pin) = keepers(pins, before).next() else { return Ok(()) };
    let damaged = if pin.state == PinState::Damaged { "damaged " } else { "" };
    let why = format!("{damaged}pin {} keeps record {} and all after it; --force drops the pin", pin.name, pin.lsn);
    Err(Failure::new("nothing trimmed", why, directory))
}

/// Names each pin that held back more than its limit, and has lost records by the trim.
fn say_lost(before: &[PinStatus], after: &[PinStatus]) -> Result<()> {
    let is_lost = |pin: &&PinStatus| {
        let now = after.iter().find(|now| now.name == pin.name);
        pin.state != PinState::Lost && now.is_some_and(|now| now.state == PinState::Lost)
    };
    before.iter().filter(is_lost).try_for_each(|pin| {
        say(&format!("pin {} lost, which held back more than its limit, from record {} on", pin.name, pin.lsn))
    })
}
