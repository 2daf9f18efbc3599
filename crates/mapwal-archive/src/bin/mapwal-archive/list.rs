//! `mapwal-archive list`: what is in an archive.

use std::io::{self, Write};

use indicatif::{BinaryBytes, HumanCount};
use mapwal::Lsn;
use mapwal_archive::{Archive, ArchivedSegment, EpochFault, EpochListing, Listing, ObjectDamage};
use serde_json::{Value, json};

use crate::arguments::{Format, List};
use crate::failure::{
    Explain, Failure, Outcome, Result, counted, document, outcome_of, shown, tell_after_damage, tell_ways_out,
};

pub(crate) async fn run(arguments: &List) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let listing = Archive::new(store, prefix).list().await.about(&arguments.url)?;
    if listing.epochs.is_empty() {
        return Err(Failure::new("no archive", "nothing is archived there", arguments.url.to_string()));
    }
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        Format::Text => print(&mut out, &listing, arguments.objects),
        Format::Json => writeln!(out, "{}", as_json(&listing, arguments.objects)),
    };
    shown(printed.and_then(|()| out.flush()), outcome_of(&listing.faults))
}

fn print(out: &mut impl Write, listing: &Listing, with_objects: bool) -> io::Result<()> {
    writeln!(
        out,
        "{:>10}  {:>41}  {:>14}  {:>8}  {:>6}  {:>11}",
        "EPOCH", "LSN", "NUMBERS", "SEGMENTS", "PARTS", "BYTES"
    )?;
    for epoch in &listing.epochs {
        let is_lost =
            |fault: &EpochFault| matches!(fault, EpochFault::Lost { epoch: lost, .. } if *lost == epoch.epoch);
        print_epoch(out, epoch, listing.faults.iter().any(is_lost))?;
        if with_objects {
            for object in objects(epoch) {
                writeln!(out, "{:>10}  {:>41}  {}", "", range(object.first_lsn, object.next_lsn), object.key)?;
            }
        }
    }
    let log = listing.log_id.map_or("unknown".to_owned(), |log| format!("{log:032x}"));
    let epochs = counted(listing.epochs.len() as u64, "epoch", "epochs");
    for fault in &listing.faults {
        writeln!(out, "{fault}")?;
    }
    tell_after_damage(out, damages(&listing.faults))?;
    tell_ways_out(out, &listing.faults)?;
    for epoch in listing.epochs.iter().filter(|epoch| epoch.overlaps > 0) {
        let of = counted(epoch.overlaps, "segment has", "segments have");
        writeln!(
            out,
            "epoch {}: {of} parts beside what a restore takes: verify compares them, and prune deletes those that a sealed segment has",
            epoch.epoch
        )?;
    }
    let pruned = match listing.pruned_before {
        Lsn(0) => String::new(),
        before => format!(", pruned before record {before} or an earlier one"),
    };
    writeln!(out, "log {log}: {epochs}, {}{pruned}", BinaryBytes(listing.len_bytes()))
}

/// What is wrong with damaged objects.
pub(crate) fn damages(faults: &[EpochFault]) -> impl Iterator<Item = &ObjectDamage> {
    faults.iter().filter_map(|fault| match fault {
        EpochFault::Damaged { damage, .. } => Some(damage),
        _ => None,
    })
}

fn print_epoch(out: &mut impl Write, epoch: &EpochListing, is_lost: bool) -> io::Result<()> {
    let (number, lsns) = (epoch.epoch, range(epoch.first_lsn, epoch.next_lsn));
    let numbers = HumanCount(epoch.next_lsn.0.saturating_sub(epoch.first_lsn.0)).to_string();
    let (segments, parts) = (epoch.segments.len(), epoch.parts.len());
    let bytes = BinaryBytes(objects(epoch).map(|object| object.len_bytes).sum()).to_string();
    write!(out, "{number:>10}  {lsns:>41}  {numbers:>14}  {segments:>8}  {parts:>6}  {bytes:>11}")?;
    if let Some(parent) = epoch.parent {
        write!(out, "  continues {parent} at record {}", epoch.begins_at)?;
    }
    if let Some(lost) = &epoch.lost {
        let are = if is_lost { "are missing" } else { "were given up" };
        write!(out, "  records {} before it {are}", range(lost.start, lost.end))?;
    }
    if epoch.fault.is_some() {
        write!(out, "  not whole")?;
    }
    writeln!(out)
}

fn as_json(listing: &Listing, with_objects: bool) -> Value {
    let epoch = |epoch: &EpochListing| {
        let objects = with_objects.then(|| objects(epoch).map(object_json).collect::<Vec<_>>());
        json!({
            "epoch": epoch.epoch,
            "parent": epoch.parent,
            "begins_at": epoch.begins_at.0,
            "created_unix_ms": epoch.created_unix_ms,
            "lost": epoch.lost.as_ref().map(|lost| [lost.start.0, lost.end.0]),
            "first_lsn": epoch.first_lsn.0,
            "next_lsn": epoch.next_lsn.0,
            "segments": epoch.segments.len(),
            "parts": epoch.parts.len(),
            "overlaps": epoch.overlaps,
            "fault": epoch.fault.as_ref().map(ToString::to_string),
            "objects": objects,
        })
    };
    let members = json!({
        "log_id": listing.log_id.map(|id| format!("{id:032x}")),
        "pruned_before": listing.pruned_before.0,
        "bytes": listing.len_bytes(),
        "faults": listing.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "epochs": listing.epochs.iter().map(epoch).collect::<Vec<_>>(),
    });
    document("list", members)
}

fn object_json(object: &ArchivedSegment) -> Value {
    json!({
        "key": object.key.as_ref(),
        "segment": object.number,
        "part_offset": object.part,
        "first_lsn": object.first_lsn.0,
        "next_lsn": object.next_lsn.0,
        "bytes": object.len_bytes,
        "stored_bytes": object.stored_bytes,
        "checksum": format!("{:08x}", object.checksum),
    })
}

pub(crate) fn objects(epoch: &EpochListing) -> impl Iterator<Item = &ArchivedSegment> {
    epoch.segments.iter().chain(&epoch.parts)
}

/// `first..last`, or `-`.
fn range(first: Lsn, next: Lsn) -> String {
    if first < next { format!("{first}..{}", next.0 - 1) } else { "-".into() }
}
