//! What can go wrong, told as `mapwal: what: why: where`, and with which exit code the program ends.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use indicatif::HumanCount;
use mapwal::Error;
use mapwal::error::{Corruption, Damage, Evidence, FormatFault};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There is a torn end, and no damage.
    Torn,
    /// Two logs differ: what `diff` says of files.
    Differ,
    /// Something that was durable is damaged.
    Damaged,
    /// What was copied has gaps.
    Gaps,
    /// The command could not be carried out.
    Failed,
    /// The command line is wrong: the number that `sysexits.h` has for it.
    Usage,
}

/// For people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for verify: the log is sound
  1   verify: a torn end (torn tail), as a crash leaves it, and no damage; diff: the logs differ;
      dump of a file: after its records comes what is none, torn or damaged
  2   something that was durable is damaged
  3   salvage, repair: records are lost
  4   the command could not be carried out
  64  the command line is wrong";

/// The file that says that a repair is under way. Ends like a segment's, and is none's: no log opens in a directory that has it.
pub(crate) const REPAIR_GUARD: &str = "repair-under-way.seg";

/// The same for a copy that is not finished.
pub(crate) const BACKUP_GUARD: &str = "backup-under-way.seg";

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No process reads the output any more: nothing to report.
    PipeClosed,
    Told {
        what: String,
        why: String,
        place: PathBuf,
        outcome: Outcome,
        /// What keeps a log from being read.
        damage: Option<Box<Corruption>>,
    },
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Torn | Outcome::Differ => 1,
            Outcome::Damaged => 2,
            Outcome::Gaps => 3,
            Outcome::Failed => 4,
            Outcome::Usage => 64,
        })
    }
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display, place: &Path) -> Self {
        Self::Told {
            what: what.into(),
            why: why.to_string(),
            place: place.to_owned(),
            outcome: Outcome::Failed,
            damage: None,
        }
    }

    /// What the library says about the log in `place`.
    pub(crate) fn of_log(error: &Error, place: &Path) -> Self {
        let told = |what: &str, why: String, place: &Path| Self::new(what, why, place);
        match error {
            Error::Io { operation, path, source } => told(&format!("cannot {operation}"), describe(source), path),
            Error::Corrupt(corruption) => {
                let at = corruption.lsn.map_or(String::new(), |lsn| format!(", record {lsn}"));
                let mut why = match corruption.damage {
                    Damage::AllSegmentsMissing { .. } | Damage::MissingSegment { .. } | Damage::MissingEnd { .. } => {
                        format!("{}{at}", corruption.damage)
                    }
                    _ => format!("{} at offset {}{at}", corruption.damage, corruption.offset),
                };
                if let Some(page @ Evidence::ControlPage { .. }) = &corruption.evidence {
                    why = format!("{why}; {page}");
                }
                let (what, place) = ("damaged".to_owned(), corruption.path.clone());
                Self::Told { what, why, place, outcome: Outcome::Damaged, damage: Some(corruption.clone()) }
            }
            Error::Locked { path, pid } => {
                let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                told("cannot open for writing", format!("{who} has the log open"), path)
            }
            Error::NotALog { path } if path.ends_with(BACKUP_GUARD) => {
                told("not a log", "a backup was not finished; delete the directory".to_owned(), path)
            }
            Error::NotALog { path } if path.ends_with(REPAIR_GUARD) => told(
                "not a log",
                "a repair was not finished; `mapwal repair` with --apply or --undo goes on from there".to_owned(),
                path,
            ),
            Error::NotALog { path } => {
                told("not a log", "this is no file of mapwal, and a log needs a directory of its own".to_owned(), path)
            }
            Error::NoLog { path } => told("no log", "there are no segments".to_owned(), path),
            Error::NotARegularFile { path, found } => {
                told("not a log", format!("this is {found}, where a regular file belongs"), path)
            }
            Error::Format { path, fault: FormatFault::Version { found, supported } } => {
                told("unknown version", format!("written in format {found}; this mapwal reads {supported}"), path)
            }
            Error::Displaced { path } => {
                told("not where it was", "removed or replaced while the log is open".to_owned(), path)
            }
            Error::UnsupportedFileSystem { path, file_system, reason } => {
                told("no place for a log", format!("{file_system}, {reason}"), path)
            }
            Error::NoSpace { path, needed_bytes, left } => {
                let left = left.as_ref().map_or(String::new(), |left| match left.inodes {
                    Some(0) => ", and no inodes are left".to_owned(),
                    _ => format!(", and {} are left", left.bytes),
                });
                told("disk full", format!("{needed_bytes} bytes are needed{left}"), path)
            }
            Error::Poisoned { source, .. } => told("cannot sync", describe(source), place),
            other => told("refused", other.to_string(), place),
        }
    }

    /// The same, of a command that has come to this `place` in its input.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Self::PipeClosed => self,
            Self::Told { what, why, place: path, outcome, damage } => {
                Self::Told { what, why: format!("{why}; it stopped at {place}"), place: path, outcome, damage }
            }
        }
    }

    /// The same, and what is to be `done` about it.
    pub(crate) fn and(self, done: &str) -> Self {
        match self {
            Self::PipeClosed => self,
            Self::Told { what, why, place, outcome, damage } => {
                Self::Told { what, why: format!("{why}; {done}"), place, outcome, damage }
            }
        }
    }

    /// What is wrong with the command line.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage("a command is missing, such as verify or stat");
        }
        let text = error.render().to_string();
        let paragraph = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        Self::usage(paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// What does not go together on the command line.
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        let why = why.into();
        let (what, place) = ("bad command line".to_owned(), PathBuf::from("see mapwal --help"));
        Self::Told { what, why, place, outcome: Outcome::Usage, damage: None }
    }

    /// Writing to the standard output failed.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::new("cannot write", describe(error), Path::new("standard output")),
        }
    }

    /// With which code the program ends because of it; `None` if there is nothing to report.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::PipeClosed => None,
            Self::Told { outcome, .. } => Some(*outcome),
        }
    }

    /// The damage that it is about.
    pub(crate) fn damage(&self) -> Option<&Corruption> {
        match self {
            Self::PipeClosed => None,
            Self::Told { damage, .. } => damage.as_deref(),
        }
    }

    /// Tells it to people, unless there is nothing to tell.
    pub(crate) fn tell(&self) -> Outcome {
        match self {
            Self::PipeClosed => Outcome::Done,
            Self::Told { what, why, place, outcome, .. } => {
                let name = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
                let told = in_one_line(&format!("{what}: {why}: {}", place.display()));
                // What cannot be written cannot be read either; the code tells.
                let _ = writeln!(anstream::stderr(), "{name}mapwal{name:#}: {told}");
                *outcome
            }
        }
    }
}

/// As it is, but for what would end the line, or change how a terminal shows it: names of files may have all of that.
fn in_one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Lower case, and without the number that the standard library adds.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// `count` with the noun that goes with it.
pub(crate) fn counted(count: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { singular } else { plural })
}

/// Turns errors of the library into failures.
pub(crate) trait Explain<T> {
    /// About the log in `place`.
    fn about(self, place: &Path) -> Result<T>;
}

impl<T> Explain<T> for mapwal::Result<T> {
    fn about(self, place: &Path) -> Result<T> {
        self.map_err(|error| Failure::of_log(&error, place))
    }
}

/// Turns errors of writing to the standard output into failures.
pub(crate) trait Written<T> {
    fn written(self) -> Result<T>;
}

/// How a command ends that has shown what it found: as that is, also when no process reads it to its end.
pub(crate) fn shown(printed: io::Result<()>, outcome: Outcome) -> Result<Outcome> {
    match printed.written() {
        Ok(()) | Err(Failure::PipeClosed) => Ok(outcome),
        Err(failure) => Err(failure),
    }
}

/// Prints a line about work that goes on, also when no process reads it.
pub(crate) fn say(line: &str) -> Result<()> {
    shown(writeln!(io::stdout().lock(), "{line}"), Outcome::Done).map(drop)
}

impl<T> Written<T> for io::Result<T> {
    fn written(self) -> Result<T> {
        self.map_err(|error| Failure::of_output(&error))
    }
}
