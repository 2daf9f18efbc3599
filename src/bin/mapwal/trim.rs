//! `mapwal trim`: drops old segments of a log that nobody writes to, also on a full disk.

use std::io::Write;
use std::path::Path;

use indicatif::BinaryBytes;
use mapwal::{Log, Lsn, Options, PinState, PinStatus, SealedSegment};

use crate::arguments::Trim;
use crate::failure::{Explain, Failure, Outcome, Result, Written, counted};
use crate::open;

pub(crate) fn run(arguments: &Trim) -> Result<Outcome> {
    let directory = &*arguments.directory;
    let options = match open::newest_segment_size(directory) {
        Some(size) => Options::new().segment_size_bytes(size),
        None => Options::new(),
    };
    let log = open::writer(directory, &options.create(false))?;
    let trimmed = trim(&log, arguments, directory);
    let closed = log.close().about(directory);
    trimmed.and(closed).map(|()| Outcome::Done)
}

fn trim(log: &Log, arguments: &Trim, directory: &Path) -> Result<()> {
    let before = first_to_keep(log, arguments, directory)?;
    pass_pins(log, before, arguments.force, directory)?;
    let held = log.stats().disk_bytes;
    let count = log.trim_before(before).about(directory)?;
    let freed = BinaryBytes(held.saturating_sub(log.stats().disk_bytes));
    let segments = counted(count as u64, "segment", "segments");
    let first = log.first_lsn();
    let mut out = anstream::stdout().lock();
    writeln!(out, "{segments} dropped, {freed} freed; the log starts at record {first}")
        .and_then(|()| out.flush())
        .written()
}

/// The first record that is asked to stay.
fn first_to_keep(log: &Log, arguments: &Trim, directory: &Path) -> Result<Lsn> {
    let next = log.next_lsn();
    Ok(match (arguments.extent.before, arguments.extent.keep_records, arguments.extent.keep_bytes) {
        (Some(before), ..) => Lsn(before),
        (_, Some(records), _) => Lsn(next.0.saturating_sub(records)),
        (.., bytes) => first_within(log, bytes.unwrap_or(u64::MAX)).about(directory)?,
    })
}

/// The first record of the newest segments that take no more than `bytes` together, the one that takes appends included.
fn first_within(log: &Log, bytes: u64) -> mapwal::Result<Lsn> {
    let sealed = log.sealed(0)?;
    let of_sealed: u64 = sealed.iter().map(SealedSegment::file_len_bytes).sum();
    let mut kept = log.stats().disk_bytes.saturating_sub(of_sealed);
    for segment in sealed.iter().rev() {
        kept += segment.file_len_bytes();
        if kept > bytes {
            return Ok(segment.next_lsn());
        }
    }
    Ok(log.first_lsn())
}

/// An error if a pin keeps what is to go; with `force`, such pins go first.
fn pass_pins(log: &Log, before: Lsn, force: bool, directory: &Path) -> Result<()> {
    let keeps = |pin: &&PinStatus| matches!(pin.state, PinState::Reserved | PinState::Damaged) && pin.lsn < before;
    for pin in log.pins().iter().filter(keeps) {
        if !force {
            let damaged = if pin.state == PinState::Damaged { "damaged " } else { "" };
            let why =
                format!("{damaged}pin {} keeps record {} and all after it; --force drops the pin", pin.name, pin.lsn);
            return Err(Failure::new("nothing trimmed", why, directory));
        }
        log.drop_pin(&pin.name).about(directory)?;
    }
    Ok(())
}
