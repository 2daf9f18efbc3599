//! The steps of a repair, and of what undoes or ends one that was not finished.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mapwal::inspect::{Inspection, SegmentFile, VerifyOptions};
use mapwal::{Error, Log, Options};
use rustix::fs::FallocateFlags;

use super::folders::{RESERVE, WORK};
use super::guard::{Guard, Phase};
use super::plan::{Plan, is_held_here_alone};
use super::rename;
use crate::arguments::Salvage;
use crate::failure::{Explain, Failure, Outcome, Result, counted, describe, say};
use crate::step::step;
use crate::{open, out, progress, salvage};

const CONTROL: &str = "control";
/// The list of what is lost, in the folder.
const LOST: &str = "lost";
/// A part of what directories may take, held until it is needed, whatever fills the disk meanwhile.
const RESERVE_BYTES: u64 = 512 << 10;

const GO_ON: &str = "the log is made; `mapwal repair` with --apply goes on from there";
const GO_ON_OR_BACK: &str = "`mapwal repair` with --apply or --undo goes on from there";

/// Repairs the log, or leaves it as it was.
pub(super) fn apply(directory: &Path, plan: &Plan) -> Result<Outcome> {
    check_room(directory, plan)?;
    let guard = Guard {
        phase: Phase::Moving,
        folder: plan.folder.clone(),
        kept_below: plan.kept_below(),
        files: plan.inspection.segments().len(),
    };
    let done = Guard { phase: Phase::Done, ..guard.clone() };
    let made = make(directory, plan, &guard).and_then(|outcome| set_done(directory, &done).map(|()| outcome));
    let outcome = match made {
        Ok(outcome) => outcome,
        Err(failure) => {
            let told = |why: &'static str| move |failure: Failure| failure.and(why);
            // What keeps it from being taken back keeps the guard as well: that is for another try.
            match Guard::find(directory)? {
                Some(Guard { phase: Phase::Done, .. }) => return Err(told(GO_ON)(failure)),
                Some(Guard { phase: Phase::Moving, .. }) => {
                    take_back(directory, &guard).map_err(told(GO_ON_OR_BACK))?;
                }
                None => remove_directory(&guard.folder)?,
            }
            return Err(failure.and("the log is as it was"));
        }
    };
    carry_through(directory, &done).map_err(|failure| failure.and(GO_ON))?;
    Ok(outcome)
}

/// Has the guard say that the log is made, with the room that is held for that if there is no other.
fn set_done(directory: &Path, done: &Guard) -> Result<()> {
    done.set(directory).or_else(|_| release(done).and_then(|()| done.set(directory)))
}

fn check_room(directory: &Path, plan: &Plan) -> Result<()> {
    let (needed, room) = (plan.needed_bytes(), plan.room_bytes(directory)?);
    if room >= needed {
        return Ok(());
    }
    let free = room - plan.freed_bytes().min(room);
    let why = format!(
        "{needed} bytes are needed, and {free} are left; `mapwal salvage` makes a copy elsewhere, and `mapwal trim` drops what is not \
         needed"
    );
    Err(Failure::new("nothing repaired", why, directory))
}

/// Makes the log as it will be, in the folder.
fn make(directory: &Path, plan: &Plan, guard: &Guard) -> Result<Outcome> {
    let work = work(guard);
    for made in [&plan.folder, &work] {
        fs::create_dir(made).map_err(|error| Failure::new("cannot create", describe(&error), made))?;
        out::give(made, &out::looked_at(directory)?)?;
        step();
    }
    reserve(&plan.folder)?;
    out::sync_directory(&plan.folder)?;
    guard.set(directory)?;
    for file in plan.unused.iter().filter(|file| !file.is_read) {
        remove_file(&file.path)?;
    }
    let control = directory.join(CONTROL);
    for path in plan.aside.iter().chain(control.exists().then_some(&control)) {
        move_into(path, &plan.folder)?;
    }
    for file in &plan.kept {
        move_into(&file.path, &work)?;
    }
    // New files are made like the lock file.
    let lock = work.join("LOCK");
    let like = segments(&plan.folder)?.first().map(|name| plan.folder.join(name));
    let like = like.or_else(|| plan.kept.first().map(|file| work.join(name(&file.path))));
    File::create(&lock).map_err(|error| Failure::new("cannot create", describe(&error), &lock))?;
    like.map_or(Ok(()), |like| out::give(&lock, &out::looked_at(&like)?))?;
    for synced in [&plan.folder, &work, directory] {
        out::sync_directory(synced)?;
    }
    let outcome = append_anew(directory, plan, &work)?;
    step();
    let found = Inspection::open(&work).about(&work)?;
    let bar = progress::of_bytes("verify", found.bytes_to_verify());
    let report = found.verify(VerifyOptions::new(), &mut |bytes| bar.inc(bytes)).about(&work)?;
    bar.finish_and_clear();
    match report.damage.first() {
        None => Ok(outcome),
        Some(damage) => Err(Failure::of_log(&Error::Corrupt(Box::new(damage.clone())), &work)),
    }
}

fn append_anew(directory: &Path, plan: &Plan, work: &Path) -> Result<Outcome> {
    let log = plan.next.map(|_| open_kept(plan, work)).transpose()?;
    let moved = |file: &SegmentFile| {
        let mut moved = file.clone();
        moved.path = plan.folder.join(name(&file.path));
        moved
    };
    let files: Vec<SegmentFile> = plan.anew.iter().map(moved).collect();
    let further: Vec<SegmentFile> = plan.remains.copies().iter().map(moved).collect();
    let next = plan.next.map(|(next, _)| next).or_else(|| files.first().and_then(|file| file.first_lsn));
    let arguments = Salvage { directory: directory.to_owned(), out: work.to_owned(), renumber: false, archive: false };
    let path = plan.folder.join(LOST);
    let list = File::create(&path).map_err(|error| Failure::new("cannot create", describe(&error), &path))?;
    out::give(&path, &out::looked_at(&work.join("LOCK"))?)?;
    let saved = list.try_clone().map_err(|error| Failure::new("cannot create", describe(&error), &path))?;
    let copied = salvage::copy_records(
        &arguments,
        (&plan.inspection, &plan.remains),
        salvage::Sources { files: &files, held: VecDeque::new(), copies: &further },
        salvage::Target {
            part: work,
            log,
            next,
            sealed_into: plan.next.and_then(|(_, named)| named),
            kept: plan.kept.last().map_or(0, |last| last.number),
            list: Some(list),
            is_told: true,
            // What an end leaves is gone on with, or taken back.
            stop: None,
        },
    )?
    .ok_or_else(|| salvage::nothing_to_save(directory))?;
    let outcome = copied.outcome();
    saved.sync_all().map_err(|error| Failure::new("cannot sync", describe(&error), &path))?;
    // A repair that is gone on with lists it once more.
    out::sync_directory(&plan.folder)?;
    let copied = counted(copied.records, "record", "records");
    say(&format!("appended {copied} anew"))?;
    Ok(outcome)
}

/// Opens the log of the segments that stay.
fn open_kept(plan: &Plan, work: &Path) -> Result<Log> {
    // No number of a file that was set aside is used again: a log goes on above the number of an unfinished file.
    let unfinished = work.join(format!("{:020}.tmp", plan.last_number()));
    File::create(&unfinished).map_err(|error| Failure::new("cannot create", describe(&error), &unfinished))?;
    let options = Options::new().create(false).archive(true);
    let size = salvage::segment_size(&plan.remains);
    let log =
        open::writer(work, &size.map_or_else(|| options.clone(), |size| options.clone().segment_size_bytes(size)))?;
    let (found, wanted) = (log.next_lsn(), plan.next.map(|(next, _)| next));
    if wanted != Some(found) {
        let why = format!("the segments that stay end before record {found}, and not where they did");
        return Err(Failure::new("the repair has gone wrong", why, work));
    }
    Ok(log)
}

/// Ends a repair that has come to its result.
pub(super) fn carry_through(directory: &Path, guard: &Guard) -> Result<()> {
    let work = work(guard);
    // The control page last: it misses what is not there.
    for name in segments(&work)?.into_iter().chain([OsString::from(CONTROL)]) {
        let path = work.join(&name);
        if path.exists() {
            put(guard, &path, &directory.join(&name))?;
        }
    }
    out::sync_directory(directory)?;
    release(guard)?;
    Guard::remove(directory)?;
    remove_directory(&work)
}

/// Has the log be as it was before.
pub(super) fn take_back(directory: &Path, guard: &Guard) -> Result<()> {
    let (folder, work) = (&guard.folder, work(guard));
    // What was made besides goes with the folder.
    let is_old =
        |name: &OsString| salvage::segment_number(Path::new(name)).is_some_and(|number| number < guard.kept_below);
    for name in segments(&work)?.into_iter().filter(is_old) {
        put(guard, &work.join(&name), &directory.join(&name))?;
    }
    let aside = segments(folder)?.into_iter().chain(named(folder, "tmp")?);
    for name in aside.chain([OsString::from(CONTROL)]) {
        let path = folder.join(&name);
        if path.exists() {
            put(guard, &path, &directory.join(&name))?;
        }
    }
    out::sync_directory(directory)?;
    let found = segments(directory)?.len();
    if found < guard.files {
        let why = format!("{found} segments are there of {}: some have been removed from the folder", guard.files);
        return Err(Failure::new("cannot be taken back", why, folder));
    }
    remove_directory(folder)?;
    step();
    Guard::remove(directory)
}

/// Lists again what a repair has found lost.
pub(super) fn tell_lost(guard: &Guard) -> Result<Outcome> {
    let path = guard.folder.join(LOST);
    let list = fs::read_to_string(&path).map_err(|error| Failure::new("cannot read", describe(&error), &path))?;
    list.lines().try_for_each(say)?;
    Ok(if list.is_empty() { Outcome::Done } else { Outcome::Gaps })
}

/// Takes room that only this repair can give free again.
fn reserve(folder: &Path) -> Result<()> {
    let path = folder.join(RESERVE);
    let made = File::create(&path).and_then(|file| {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // Where nothing can be held, what is free has to do.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    });
    made.map_err(|error| Failure::new("cannot create", describe(&error), &path))
}

/// Renames a file, with that room if there is no other.
fn put(guard: &Guard, from: &Path, to: &Path) -> Result<()> {
    rename(from, to).or_else(|failure| {
        if !guard.folder.join(RESERVE).exists() {
            return Err(failure);
        }
        release(guard)?;
        rename(from, to)
    })
}

/// Gives that room free.
fn release(guard: &Guard) -> Result<()> {
    remove_file(&guard.folder.join(RESERVE))
}

/// Removes a file whose room is to be free at once: XFS gives that of a removed one free some time later. What it holds stays
/// under its other names, such as those of backups.
fn remove_file(path: &Path) -> Result<()> {
    let empty = || if is_held_here_alone(path)? { File::options().write(true).open(path)?.set_len(0) } else { Ok(()) };
    match empty().and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new("cannot remove", describe(&error), path))
        }
        _ => Ok(()),
    }
}

fn work(guard: &Guard) -> PathBuf {
    guard.folder.join(WORK)
}

/// The names of segments in a folder, by number.
fn segments(folder: &Path) -> Result<Vec<OsString>> {
    named(folder, "seg")
}

/// The names in a folder that are numbers of segments with this extension, by number.
fn named(folder: &Path, extension: &str) -> Result<Vec<OsString>> {
    let failed = |error| Failure::new("cannot list", describe(&error), folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let is_named = |path: &Path| path.extension().is_some_and(|found| found == extension);
    let is_number = |path: &Path| salvage::segment_number(&path.with_extension("seg")).is_some();
    names.retain(|name| is_named(Path::new(name)) && is_number(Path::new(name)));
    names.sort();
    Ok(names)
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}

fn move_into(path: &Path, folder: &Path) -> Result<()> {
    rename(path, &folder.join(name(path)))
}

pub(super) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new("cannot remove", describe(&error), path))
        }
        _ => Ok(()),
    }
}
