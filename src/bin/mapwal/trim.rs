//! `mapwal trim`: drops old segments of a log that nobody writes to, also on a full disk.

use std::io::Write;
use std::path::Path;

use indicatif::BinaryBytes;
use mapwal::{ActiveTransaction, Error, Log, Lsn, Options, PinState, PinStatus, SealedSegment, WalRecord};

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
    if !arguments.force {
        check_recovery(log, before, directory)?;
    }
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

/// The metadata slots of a log of transactions, as `docs/design/transactions.md` has them.
const NUMBERS_SLOT: usize = 14;
const CHECKPOINT_SLOT: usize = 15;

/// An error if recovery of transactions needs some of what is to go.
fn check_recovery(log: &Log, before: Lsn, directory: &Path) -> Result<()> {
    let needed = match checkpoint(log).about(directory)? {
        Some((lsn, needed)) => Some((needed, format!("checkpoint {lsn}"))),
        None if has_transactions(log).about(directory)? => {
            Some((log.first_lsn(), "a log of transactions without a checkpoint".to_owned()))
        }
        None => None,
    };
    match needed.filter(|&(needed, _)| needed < before) {
        None => Ok(()),
        Some((needed, what)) => {
            let why = format!(
                "recovery from {what} needs record {needed} and all after it; \
                 with --force they go, and only RecoverFrom::OldestRecord opens the rest"
            );
            Err(Failure::new("nothing trimmed", why, directory))
        }
    }
}

/// The last checkpoint of a log of transactions, and the first record that recovery from it needs.
fn checkpoint(log: &Log) -> mapwal::Result<Option<(Lsn, Lsn)>> {
    let named = log.meta(CHECKPOINT_SLOT).and_then(|value| value.try_into().ok());
    let Some(lsn) = named.map(u64::from_le_bytes).map(Lsn) else { return Ok(None) };
    let snapshot = log.snapshot()?;
    let record = match snapshot.get(lsn) {
        Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => None,
        found => found?,
    };
    let record = record.and_then(|record| WalRecord::parse(&record).ok());
    let Some(checkpoint) = record.as_ref().and_then(WalRecord::checkpoint) else { return Ok(None) };
    let first = checkpoint.active_transactions().iter().filter_map(ActiveTransaction::first_lsn);
    Ok(Some((lsn, first.fold(checkpoint.redo_lsn(), Lsn::min))))
}

/// Whether the log is one of transactions that has never had a checkpoint.
fn has_transactions(log: &Log) -> mapwal::Result<bool> {
    let has_numbers = log.meta(NUMBERS_SLOT).is_some_and(|value| value.len() == size_of::<u64>());
    if !has_numbers || log.meta(CHECKPOINT_SLOT).is_some() {
        return Ok(false);
    }
    let snapshot = log.snapshot()?;
    let first = snapshot.iter().next().transpose()?;
    Ok(first.is_some_and(|record| WalRecord::parse(&record).is_ok()))
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
