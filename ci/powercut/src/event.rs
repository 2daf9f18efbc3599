//! What the workload tells of its calls, with the place in the disk's recording at which it told it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use mapwal::Error;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::{Entry, Observed};
use crate::recording::Recording;

const BRIEF_LEN: usize = 240;

/// What a session does to a log, by the name of what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Open,
    Append,
    Batch,
    InPlace,
    Void,
    Meta,
    Sync,
    WaitDurable,
    Rotate,
    Trim,
    Truncate,
    Reset,
    Read,
    /// Threads that append and wait at the same time.
    Committers,
    Close,
    /// The log is dropped, and opened.
    Drop,
    /// The system writes back, though nobody waits for it.
    WriteBack,
    /// The file system stops.
    ShutDown,
}

/// Why a call failed, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    Poisoned,
    NoSpace,
    /// The file system says that it is damaged.
    Damaged,
    Other,
}

impl Failure {
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Poisoned { .. } => Self::Poisoned,
            Error::NoSpace { .. } => Self::NoSpace,
            _ if is_damage(error) => Self::Damaged,
            _ => Self::Other,
        }
    }
}

/// Whether it comes from what only a file system says that has found itself damaged. Nothing here is mounted to be read only.
fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
        .any(|code| [libc::EROFS, libc::EUCLEAN, libc::EBADMSG].contains(&code))
}

/// One thing that happened. Calls are told of before and after.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    Doing(Action),
    Opened(Observed),
    /// What the open log shows.
    Shown(Observed),
    Submitted {
        call: u64,
        entries: Vec<Entry>,
    },
    /// Metadata has no number.
    Appended {
        call: u64,
        lsn: Option<u64>,
    },
    Refused {
        call: u64,
    },
    /// From here on several threads append, until `Apart`.
    Together,
    Apart,
    /// All that was submitted before is durable, and all records up to this one.
    Synced(u64),
    /// All records up to this one are durable.
    Durable(u64),
    Trimming(u64),
    Trimmed {
        dropped: usize,
        first: u64,
    },
    Truncating(u64),
    Resetting(u64),
    Replaced,
    Closed,
    Dropped,
    Failed {
        action: Action,
        failure: Failure,
        error: String,
        next: u64,
    },
    /// Something was acknowledged after a failed sync.
    AcknowledgedAfterFailure,
    ShutDown,
}

impl Event {
    /// In one line: of what a log holds the start.
    pub fn brief(&self) -> String {
        let mut text = format!("{self:?}");
        text.truncate(text.floor_char_boundary(BRIEF_LEN));
        text
    }
}

/// An event, and how many operations the disk had been asked for by then.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stamped {
    pub index: u64,
    pub event: Event,
}

/// Where events are told.
#[derive(Debug)]
pub struct Teller {
    recording: Recording,
    file: Mutex<File>,
}

impl Teller {
    /// Begins anew in `path`.
    pub fn new(path: &Path, recording: Recording) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { recording, file: Mutex::new(file) })
    }

    /// Tells of `event`. The place in the recording is looked up here, so what an event says was so by then.
    pub fn tell(&self, event: Event) {
        let mut file = self.file.lock();
        let stamped = Stamped { index: self.recording.operations(), event };
        let bytes = postcard::to_stdvec(&stamped).expect("events can be encoded");
        file.write_all(&bytes).expect("the memory takes events");
    }
}

/// All events that were told in `path`. The last may have been cut short by the death of the process.
pub fn told(path: &Path) -> Result<Vec<Stamped>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while let Ok((event, after)) = postcard::take_from_bytes(rest) {
        events.push(event);
        rest = after;
    }
    Ok(events)
}
