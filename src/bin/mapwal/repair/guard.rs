//! The file that says that a repair is under way.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::folders::GUARD;
use crate::failure::{Failure, REPAIR_GUARD, Result, describe};
use crate::out;
use crate::step::step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Moving,
    Done,
}

/// What the guard says.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) phase: Phase,
    /// The folder in the directory.
    pub(super) folder: PathBuf,
    /// Files in `work` with smaller numbers were those of the log.
    pub(super) kept_below: u64,
    /// How many segments' files the log had before.
    pub(super) files: usize,
}

impl Guard {
    /// The one that is there.
    pub(super) fn find(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(REPAIR_GUARD);
        let text = match fs::read_to_string(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            read => read.map_err(|error| Failure::new("cannot read", describe(&error), &path))?,
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let guard = match words[..] {
            [phase @ ("moving" | "done"), folder, kept_below, files, _] => {
                kept_below.parse().ok().zip(files.parse().ok()).map(|(kept_below, files)| Self {
                    phase: if phase == "done" { Phase::Done } else { Phase::Moving },
                    folder: directory.join(folder),
                    kept_below,
                    files,
                })
            }
            _ => None,
        };
        let is_whole = |guard: &Self| guard.text() == text;
        guard.filter(is_whole).map(Some).ok_or_else(|| {
            let why = "this says nothing of a repair, or is damaged; what a repair has moved is in the folders repair-N and repair-N/work beside it, and \
                       `mapwal salvage` copies what is in each of them";
            Failure::new("cannot repair", why, &path)
        })
    }

    /// With a checksum, so that a file that has changed leads to no other folder.
    fn text(&self) -> String {
        let phase = if self.phase == Phase::Done { "done" } else { "moving" };
        let name = self.folder.file_name().unwrap_or_default().display();
        let said = format!("{phase} {name} {} {}", self.kept_below, self.files);
        let sum = crc32fast::hash(said.as_bytes());
        format!("{said} {sum:08x}\n")
    }

    /// Has it say what this says, durably.
    pub(super) fn set(&self, directory: &Path) -> Result<()> {
        let made = self.folder.join(GUARD);
        let write = || {
            let mut file = File::create(&made)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| Failure::new("cannot write", describe(&error), &made))?;
        step();
        super::rename(&made, &directory.join(REPAIR_GUARD))?;
        out::sync_directory(directory)
    }

    pub(super) fn remove(directory: &Path) -> Result<()> {
        let path = directory.join(REPAIR_GUARD);
        fs::remove_file(&path).map_err(|error| Failure::new("cannot remove", describe(&error), &path))?;
        step();
        out::sync_directory(directory)
    }
}
