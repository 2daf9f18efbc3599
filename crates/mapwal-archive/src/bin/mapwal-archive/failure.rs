//! What can go wrong, told as `mapwal-archive: what: why: where`, and with which exit code the program ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use indicatif::HumanCount;
use mapwal_archive::Error;

/// How the program ends: with the codes of the program `mapwal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done = 0,
    /// Something that was archived is damaged or missing.
    Damaged = 2,
    /// What was restored ends at a gap.
    Gaps = 3,
    /// The command could not be carried out.
    Failed = 4,
    /// The command line is wrong: the number that `sysexits.h` has for it.
    Usage = 64,
}

/// For people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for verify: the archive is sound
  2   an object or a segment is damaged, or is not what it was
  3   records are missing from the archive
  4   the command could not be carried out
  64  the command line is wrong";

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No process reads the output any more: nothing to report.
    PipeClosed,
    Told {
        what: String,
        why: String,
        place: String,
        outcome: Outcome,
    },
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display, place: impl fmt::Display) -> Self {
        Self::Told { what: what.into(), why: one_line(&why), place: place.to_string(), outcome: Outcome::Failed }
    }

    pub(crate) fn of_io(what: &str, error: &io::Error, place: impl fmt::Display) -> Self {
        Self::new(what, describe(error), place)
    }

    /// What the library says about the archive, or the log, in `place`.
    pub(crate) fn of_archive(error: &Error, place: impl fmt::Display) -> Self {
        match error {
            Error::Store { operation, key, source } => {
                let place = if key.is_empty() { place.to_string() } else { key.clone() };
                Self::new(format!("cannot {operation}"), source, place)
            }
            Error::Io { operation, path, source } | Error::Log(mapwal::Error::Io { operation, path, source }) => {
                Self::of_io(&format!("cannot {operation}"), source, path.display())
            }
            Error::Damaged { key, damage } => Self::new("damaged", damage, key).ending_with(Outcome::Damaged),
            Error::Conflict { key, other, lsn } => {
                let why = format!("it differs from {other} in record {lsn} or after it");
                Self::new("other contents", why, key).ending_with(Outcome::Damaged)
            }
            Error::Log(mapwal::Error::Corrupt(corruption)) => {
                let why = format!("{} at offset {}", corruption.damage, corruption.offset);
                Self::new("damaged", why, corruption.path.display()).ending_with(Outcome::Damaged)
            }
            Error::Gap { .. } | Error::NotArchived { .. } => {
                Self::new("records are missing", error, place).ending_with(Outcome::Gaps)
            }
            Error::Busy { .. } | Error::Superseded { .. } => Self::new("another archiver", error, place),
            Error::NotEmpty { path } => Self::new("cannot restore", "the directory is not empty", path.display()),
            other => Self::new("refused", other, place),
        }
    }

    /// What is wrong with the command line.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let paragraph = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        let place = "see mapwal-archive --help".to_owned();
        Self::Told { what: "bad command line".into(), why: one_line(&paragraph), place, outcome: Outcome::Usage }
    }

    pub(crate) fn ending_with(self, outcome: Outcome) -> Self {
        match self {
            Self::Told { what, why, place, .. } => Self::Told { what, why, place, outcome },
            closed @ Self::PipeClosed => closed,
        }
    }

    /// Tells it to people, unless there is nothing to tell.
    pub(crate) fn tell(&self) -> Outcome {
        match self {
            Self::PipeClosed => Outcome::Done,
            Self::Told { what, why, place, outcome } => {
                let name = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
                anstream::eprintln!("{name}mapwal-archive{name:#}: {what}: {why}: {place}");
                *outcome
            }
        }
    }
}

fn one_line(text: &impl fmt::Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lower case, and without the number that the standard library adds.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Turns errors of writing to the standard output into failures.
pub(crate) trait Written<T> {
    fn written(self) -> Result<T>;
}

impl<T> Written<T> for io::Result<T> {
    fn written(self) -> Result<T> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::of_io("cannot write", &error, "standard output"),
        })
    }
}

/// Turns errors of the library into failures.
pub(crate) trait Explain<T> {
    /// About the archive, or the log, in `place`.
    fn about(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> Explain<T> for mapwal_archive::Result<T> {
    fn about(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::of_archive(&error, place))
    }
}

/// `count` with the noun that goes with it.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}
