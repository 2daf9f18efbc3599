//! What must not be: how it is told, and what is kept of it.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::child::End;
use crate::event::Action;
use crate::filesystem::Filesystem;
use crate::image::Image;
use crate::model::Violation;
use crate::replay::History;
use crate::tally::Finding;

/// Where the disks of findings are kept, and how many of one run.
const KEPT_IN: &str = "/tmp/powercut-findings";
const KEPT_MAX: usize = 8;

static KEPT: AtomicUsize = AtomicUsize::new(0);

/// One finding.
#[derive(Debug, Clone)]
pub struct Found {
    pub finding: Finding,
    message: String,
    depth: usize,
}

impl Found {
    pub fn broken(violation: &Violation, depth: usize) -> Self {
        Self { finding: Finding::Broken(violation.rule), message: violation.message.clone(), depth }
    }

    pub fn at(self, depth: usize) -> Self {
        Self { depth, ..self }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {} cuts: {}", self.finding, self.depth, self.message)
    }
}

/// What is to be said of the end of a process.
pub enum Ending {
    Fine,
    /// A signal that is promised where a store meets a file system that takes no more.
    BusError,
    Wrong(Found),
}

/// Judges how a process ended. Nothing but a store to a failed file system may kill one, and with the guard not even that.
pub fn of_end(end: End, history: &History, guarded: bool) -> Ending {
    let action = history.last_action();
    let stores = matches!(
        action,
        Action::Append | Action::Batch | Action::InPlace | Action::Void | Action::Meta | Action::Committers
    );
    let may_die = stores && (history.is_failing() || history.stopped) && !guarded;
    match end {
        End::Done => Ending::Fine,
        End::Died(_) if end.signal() == Some(libc::SIGBUS) && may_die => Ending::BusError,
        End::Died(status) => {
            let with = if guarded { "with" } else { "without" };
            let message = format!("the process died in {action:?}, {with} the guard: {status}");
            Ending::Wrong(Found { finding: Finding::Died, message, depth: 0 })
        }
        End::Hung => {
            let message = format!("{action:?} does not come to an end");
            Ending::Wrong(Found { finding: Finding::Hung, message, depth: 0 })
        }
    }
}

/// Keeps a disk that shows something, and the story that led to it.
pub fn keep(image: &Image, filesystem: Filesystem, seed: u64, story: &str) -> Result<()> {
    let number = KEPT.fetch_add(1, Ordering::Relaxed);
    if number >= KEPT_MAX {
        return Ok(());
    }
    let name = format!("{}-{seed}-{}-{number}.img", filesystem.name(), std::process::id());
    let path = PathBuf::from(KEPT_IN).join(name);
    std::fs::create_dir_all(KEPT_IN).with_context(|| format!("cannot make {KEPT_IN}"))?;
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    file.set_len(filesystem.len_bytes())?;
    image.show(&file)?;
    std::fs::write(path.with_extension("txt"), story)?;
    eprintln!("its disk is kept in {}", path.display());
    Ok(())
}
