//! `mapwal repair`: what `salvage` does into a copy, in place.
//!
//! The full segments before the first damage stay as they are. Of the others, what passes its checks is appended anew, with
//! numbers without records where some are lost, and their files are set aside in a folder in the directory, unchanged.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | 1. The folder `repair-N` is made, and in it the guard | the log as it was, and a folder beside its files, which `--undo` and the next repair remove, and `stat` names |
//! | 2. The guard gets its name in the directory, durably. A name like that no log has, so that from now on nothing opens the directory | the guard says *moving* |
//! | 3. Files of dropped segments, which hold nothing, are removed, but for those of numbers that the control page does not call dropped. These, the files from the first damage on, and the control page, are renamed into the folder; those before it into `repair-N/work` | the same; each file is in one of the three places |
//! | 4. In `repair-N/work` the log is opened as one of sealed copies. The records of what was set aside are appended, and it is closed and verified | the same, with more segments in `work`, of other numbers than the files before the damage |
//! | 5. The guard is replaced by one that says *done*, durably | the guard says *done* |
//! | 6. The files of `work` are renamed into the directory, the control page last | the same |
//! | 7. The guard is removed, durably | the repaired log |
//!
//! A guard that says *moving* is undone: files go back under their names, and what was made in `work` is removed. Nothing has been
//! written to a file that is moved: the last segment before the damage ends with a seal, after which no log goes on in a file. A guard
//! that says *done* is carried through: the rest of step 6, and 7, and what is lost is listed once more, from a list in the folder. Both may be interrupted, and begun again. A repair that is
//! refused, fails, or finds no room, is undone as well. Names that move may need room in a directory: a file in the folder holds
//! some from the first step on, until a repair is undone or carried through.

mod folders;
mod guard;
mod lock;
mod plan;
mod steps;

use std::path::Path;

use indicatif::BinaryBytes;
use mapwal::inspect::Inspection;

use crate::arguments::Repair;
use crate::failure::{Failure, Outcome, Result, counted, say};
use crate::step::step;
use crate::writer::Writer;
pub(crate) use folders::{Folder, folders};
use guard::{Guard, Phase};
use lock::Lock;
use plan::Plan;

pub(crate) fn run(arguments: &Repair) -> Result<Outcome> {
    let directory = &*arguments.directory;
    // What only looks keeps no writer out.
    let _lock = (arguments.apply || arguments.undo).then(|| Lock::take(directory)).transpose()?;
    if let Some(guard) = Guard::find(directory)? {
        if arguments.dry_run || (!arguments.apply && !arguments.undo) {
            let why = "a repair was not finished; with --apply it is, with --undo the log is as it was before";
            return Err(Failure::new("nothing done", why, directory));
        }
        match guard.phase {
            Phase::Done if arguments.undo => {
                let why = "the repair has come to its result, and is ended with --apply; what was set aside stays";
                return Err(Failure::new("nothing taken back", why, &guard.folder));
            }
            Phase::Done => {
                steps::carry_through(directory, &guard)?;
                say("the repair that was under way is finished")?;
                return steps::tell_lost(&guard);
            }
            Phase::Moving => steps::take_back(directory, &guard)?,
        }
        say("the repair that was under way has been taken back")?;
        if arguments.undo {
            return Ok(Outcome::Done);
        }
    } else {
        let begun = folders(directory).into_iter().filter(|folder| folder.is_begun);
        let begun: Vec<Folder> = begun.filter(|_| arguments.undo || arguments.apply).collect();
        for folder in &begun {
            steps::remove_directory(&folder.path)?;
            say(&format!("{} is removed, which a repair had begun to make", folder.path.display()))?;
        }
        match (arguments.undo, begun.is_empty()) {
            (true, true) => return Err(Failure::new("nothing taken back", "no repair is under way", directory)),
            (true, false) => return Ok(Outcome::Done),
            _ => {}
        }
    }
    check_unused(directory)?;
    let Some(plan) = Plan::make(directory)? else { return Ok(Outcome::Done) };
    explain(directory, &plan)?;
    if !arguments.apply {
        say("nothing is changed; --apply carries it out")?;
        return Ok(Outcome::Damaged);
    }
    let outcome = steps::apply(directory, &plan)?;
    say(&format!("what was set aside is in {}", plan.folder.display()))
        .map_err(|failure| failure.and("the log is repaired"))?;
    Ok(outcome)
}

/// An error if a process has the log open: what it writes meanwhile would look like damage.
fn check_unused(directory: &Path) -> Result<()> {
    match Inspection::open(directory) {
        Ok(found) if Writer::find(&found).is_alive() => {
            Err(Failure::new("cannot repair", "a process has the log open", directory))
        }
        // What is wrong with it comes next.
        _ => Ok(()),
    }
}

/// Says what would be done.
fn explain(directory: &Path, plan: &Plan) -> Result<()> {
    let kept = counted(plan.kept.len() as u64, "segment", "segments");
    match plan.kept.last() {
        Some(last) => {
            let stay = if plan.kept.len() == 1 { "stays as it is" } else { "stay as they are" };
            say(&format!("{kept} up to number {} {stay}", last.number))?;
        }
        None => say("no segment stays as it is: the log gets a new identity")?,
    }
    let anew = counted(plan.aside.len() as u64, "segment", "segments");
    let bytes = BinaryBytes(plan.needed_bytes());
    let folder = plan.folder.display();
    say(&format!("{anew} to be set aside in {folder}, and what is sound in them appended anew: {bytes} are needed"))?;
    if let freed @ 1.. = plan.freed_bytes() {
        let freed = BinaryBytes(freed.min(plan.needed_bytes()));
        say(&format!("{freed} of them come from files that are kept for further segments"))?;
    }
    match plan.room_bytes(directory)? {
        room if room < plan.needed_bytes() => {
            say(&format!("there is no room for that: {} are left", BinaryBytes(room)))
        }
        _ => Ok(()),
    }
}

/// Renames a file, into a directory that is synced later.
fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Failure::new("cannot rename", crate::failure::describe(&error), from))?;
    step();
    Ok(())
}
