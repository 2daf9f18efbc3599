//! A log that a process writes: that process trims it, if it takes requests.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use indicatif::BinaryBytes;
use mapwal::error::RequestFault;
use mapwal::inspect::{Inspection, SegmentFile};
use mapwal::{Error, Lsn, PinDirectory, PinState, PinStatus, request_trim_while};

use super::dropped::Dropped;
use super::{check, say_lost};
use crate::arguments::Trim;
use crate::failure::{Explain, Failure, Outcome, Result, counted, say};
use crate::open;
use crate::stop::Stop;

/// Has process `pid`, which has the log open, trim it. `None` if it has closed the log meanwhile.
pub(super) fn writer(found: &Inspection, pid: Option<u32>, arguments: &Trim) -> Result<Option<Outcome>> {
    let directory = &*arguments.directory;
    let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    if !found.takes_requests() {
        return refused(found, &who, RequestFault::NotTaken, directory);
    }
    let snapshot = open::again(|| open::try_reader(directory, false)?.snapshot()).about(directory)?;
    let before = check(found, &snapshot, arguments, directory)?.min(snapshot.next_lsn());
    drop(snapshot);
    // From now on the request is taken back by what ends this.
    let stop = Stop::by_signals()?;
    let files = PinDirectory::open(directory).about(directory)?;
    let make = |pin: &PinStatus| files.create(&pin.name, &pin.owner, pin.lsn, pin.limit_bytes);
    let mut gone = Dropped::none(directory, &make);
    let pins = found.pins().about(directory)?;
    if arguments.force {
        gone.drop_all(&pins, before, &|name| files.remove(name))?;
    }
    let numbers: Vec<u64> = found.segments().iter().map(|file| inode(&file.path)).collect();
    let asked = request_trim_while(directory, before, || !stop.is_asked());
    let first = match asked {
        Ok(trimmed) => trimmed.first_lsn,
        Err(error) => {
            gone.restore();
            return match error {
                Error::Request(RequestFault::NoAnswer) if stop.is_asked() => {
                    let why = "the request is taken back, what has begun goes on";
                    Err(Failure::new("stopped", why, directory))
                }
                Error::Request(fault) => refused(found, &who, fault, directory),
                error => Err(error).about(directory),
            };
        }
    };
    let after = Inspection::open(directory).about(directory)?;
    let now = after.pins().about(directory)?;
    gone.say().and_then(|()| say_lost(&pins, &now)).map_err(|failure| failure.and("the log is trimmed"))?;
    let dropped = found.segments().iter().zip(numbers).filter(|(file, _)| file.counts && ends_by(file, first));
    report(&dropped.collect::<Vec<_>>(), first, directory)?;
    let stays = after.segments().iter().any(|file| file.counts && ends_by(file, before));
    if stays {
        let why = format!("{who} needs record {first} and all after it");
        return Err(Failure::new("not all is trimmed", why, directory));
    }
    Ok(Some(Outcome::Done))
}

/// Whether all its records are below `lsn`, and it takes appends no more.
fn ends_by(file: &SegmentFile, lsn: Lsn) -> bool {
    file.next_lsn.is_some_and(|next| next <= lsn)
}

/// Why the process does not do it. `None` if it has closed the log.
fn refused(found: &Inspection, who: &str, fault: RequestFault, directory: &Path) -> Result<Option<Outcome>> {
    let has_it = format!("{who} has the log open");
    let why = match fault {
        RequestFault::NoWriter => return Ok(None),
        RequestFault::NotTaken => {
            let kept = kept(found);
            format!("{has_it}, and takes no requests (Options::trim_on_request): it trims the log itself{kept}")
        }
        RequestFault::NoAnswer => {
            format!(
                "{has_it}, and did not answer for ten seconds; the request is taken back, what it has begun goes on"
            )
        }
        _ => format!("{has_it}, and could not trim it; its events say why"),
    };
    Err(Failure::new("nothing trimmed", why, directory))
}

/// Says which pin keeps the process from trimming, if one does.
fn kept(found: &Inspection) -> String {
    // Where they cannot be read, `pins` tells why.
    let pins = found.pins().unwrap_or_default();
    let oldest = pins.iter().filter(|pin| pin.state == PinState::Reserved).min_by_key(|pin| pin.lsn);
    oldest.map_or(String::new(), |pin| {
        format!("; what pin {} keeps, from record {} on, it does not trim: `mapwal pins DIR drop`", pin.name, pin.lsn)
    })
}

/// The number of a file in its file system; 0 if it is gone.
fn inode(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.ino())
}

/// Says what was dropped. Some of the files may be in the directory all the same, under other names.
fn report(dropped: &[(&SegmentFile, u64)], first: Lsn, directory: &Path) -> Result<()> {
    let there: HashSet<u64> = fs::read_dir(directory)
        .map_err(|error| Failure::new("cannot list", crate::failure::describe(&error), directory))?
        .filter_map(|entry| Some(inode(&entry.ok()?.path())))
        .collect();
    let bytes = |is_there: bool| -> u64 {
        let files = dropped.iter().filter(|(_, inode)| there.contains(inode) == is_there);
        files.map(|(file, _)| file.file_len_bytes).sum()
    };
    let segments = counted(dropped.len() as u64, "segment", "segments");
    let kept = match bytes(true) {
        0 => String::new(),
        kept => format!(", {} kept for further segments", BinaryBytes(kept)),
    };
    let freed = BinaryBytes(bytes(false));
    say(&format!("{segments} dropped, {freed} freed{kept}; the log starts at record {first}"))
        .map_err(|failure| failure.and("the log is trimmed"))
}
