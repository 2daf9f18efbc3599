//! What can go wrong, told as `program: what: why: where`, and with which exit code a program ends. Shared with `mapwal-archive`.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use indicatif::HumanCount;
use mapwal::Lsn;
use mapwal::error::Corruption;

/// The name that the program goes by.
const PROGRAM: &str = env!("CARGO_BIN_NAME");

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
        /// What keeps a log from being read, or copied.
        damage: Option<Box<Finding>>,
    },
}

/// What is damaged of a log, and where.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    /// The record expected there, where that is known.
    pub(crate) lsn: Option<Lsn>,
    pub(crate) damage: String,
}

impl From<&Corruption> for Finding {
    fn from(corruption: &Corruption) -> Self {
        let Corruption { path, offset, lsn, damage, .. } = corruption;
        Self { path: path.clone(), offset: *offset, lsn: *lsn, damage: damage.to_string() }
    }
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
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display, place: impl AsRef<Path>) -> Self {
        Self::Told {
            what: what.into(),
            why: why.to_string(),
            place: place.as_ref().to_owned(),
            outcome: Outcome::Failed,
            damage: None,
        }
    }

    /// What the system says about `place`.
    pub(crate) fn of_io(what: impl Into<String>, error: &io::Error, place: impl AsRef<Path>) -> Self {
        Self::new(what, describe(error), place)
    }

    /// The same, with another exit code.
    pub(crate) fn ending_with(self, outcome: Outcome) -> Self {
        match self {
            Self::PipeClosed => self,
            Self::Told { what, why, place, damage, .. } => Self::Told { what, why, place, outcome, damage },
        }
    }

    /// The same, because this is damaged.
    pub(crate) fn because_of(self, finding: Finding) -> Self {
        match self {
            Self::PipeClosed => self,
            Self::Told { what, why, place, .. } => {
                Self::Told { what, why, place, outcome: Outcome::Damaged, damage: Some(Box::new(finding)) }
            }
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
            return Self::usage("a command is missing, such as verify");
        }
        let text = error.render().to_string();
        let paragraph = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        Self::usage(paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// What does not go together on the command line.
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        let why = why.into();
        let (what, place) = ("bad command line".to_owned(), PathBuf::from(format!("see {PROGRAM} --help")));
        Self::Told { what, why, place, outcome: Outcome::Usage, damage: None }
    }

    /// Writing to the standard output failed.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::of_io("cannot write", error, "standard output"),
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
    pub(crate) fn damage(&self) -> Option<&Finding> {
        match self {
            Self::PipeClosed => None,
            Self::Told { damage, .. } => damage.as_deref(),
        }
    }

    /// Tells it to people, unless there is nothing to tell.
    pub(crate) fn tell(&self) -> Outcome {
        match self {
            Self::PipeClosed => Outcome::Done,
            Self::Told { outcome, .. } => {
                let name = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
                // What cannot be written cannot be read either; the code tells.
                let _ = writeln!(anstream::stderr(), "{name}{PROGRAM}{name:#}: {self}");
                *outcome
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PipeClosed => Ok(()),
            Self::Told { what, why, place, .. } => {
                f.write_str(&in_one_line(&format!("{what}: {why}: {}", place.display())))
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
