//! The log that is archived, in the writer's process or in another.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mapwal::inspect::{Inspection, SegmentCheck};
use mapwal::{DurablePrefix, Log, LogReader, Lsn, PinDirectory, PinStatus, SealedSegment, SegmentTip};

use crate::error::{Error, Result};

/// A log, or a layer over one, that this process writes.
pub(crate) type OpenLog = Arc<dyn AsRef<Log> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Source {
    Writer(OpenLog),
    Reader(LogReader, Arc<PinDirectory>),
}

impl Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.directory()).finish()
    }
}

/// A segment as its first frame and its successor tell of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) number: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) predecessor: Option<SegmentTip>,
    /// Where its frames end, if a segment follows.
    pub(crate) end: Option<u64>,
    pub(crate) file_len_bytes: u64,
}

/// The segments of a log, oldest first.
#[derive(Debug)]
pub(crate) struct LocalLog {
    pub(crate) log_id: u128,
    pub(crate) segments: Vec<Local>,
}

impl LocalLog {
    /// The first record of the newest segments of which the files have at most `len_bytes`, or of the newest one.
    pub(crate) fn first_within(&self, len_bytes: u64) -> Option<Lsn> {
        let mut sum_bytes = 0;
        let within = self.segments.iter().rev().take_while(|segment| {
            sum_bytes += segment.file_len_bytes;
            sum_bytes <= len_bytes
        });
        within.last().or(self.segments.last()).map(|segment| segment.first_lsn)
    }

    /// The number of the last segment that ends before record `lsn`.
    pub(crate) fn last_before(&self, lsn: Lsn) -> u64 {
        let before = self.segments.windows(2).filter(|pair| pair[1].first_lsn <= lsn).map(|pair| pair[0].number);
        before.max().unwrap_or(0)
    }
}

/// Keeps mapped bytes for as long as an upload needs them.
struct Mapped<T>(T);

impl AsRef<[u8]> for Mapped<SealedSegment> {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for Mapped<DurablePrefix> {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A sealed segment, ready to be uploaded: its frames are sound, and its checksum was taken before they were checked.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) tip: SegmentTip,
    pub(crate) predecessor: Option<SegmentTip>,
    pub(crate) first_lsn: Lsn,
    pub(crate) next_lsn: Lsn,
    pub(crate) checksum: u32,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
}

/// What is durable of the segment that takes appends.
#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    pub(crate) number: u64,
    pub(crate) predecessor: Option<SegmentTip>,
    pub(crate) first_lsn: Lsn,
    pub(crate) next_lsn: Lsn,
    /// Whether nothing would be lost without it.
    pub(crate) is_bare: bool,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
}

/// All of these may wait for the disk.
impl Source {
    pub(crate) fn directory(&self) -> &Path {
        match self {
            Self::Writer(log) => (**log).as_ref().directory(),
            Self::Reader(reader, _) => reader.directory(),
        }
    }

    pub(crate) fn next_sealed(&self, after: u64) -> Result<Option<Sealed>> {
        let sealed = match self {
            Self::Writer(log) => (**log).as_ref().next_sealed(after)?,
            Self::Reader(reader, _) => reader.next_sealed(after)?,
        };
        let Some(segment) = sealed else { return Ok(None) };
        let (tip, next_lsn) = (segment.tip(), segment.next_lsn());
        // What was sound when it was written, or read last, need not be so now.
        let mut check = SegmentCheck::new();
        let (checksum, checked) = sum_and_check(segment.bytes(), &mut check);
        let checked = checked.and_then(|()| check.expect_end(next_lsn, Some(tip.checksum)));
        checked.map_err(|error| in_file(error, segment.path()))?;
        Ok(Some(Sealed {
            tip,
            predecessor: segment.predecessor(),
            first_lsn: segment.first_lsn(),
            next_lsn,
            checksum,
            path: segment.path().clone(),
            bytes: Bytes::from_owner(Mapped(segment)),
        }))
    }

    pub(crate) fn durable_prefix(&self) -> Result<Option<Prefix>> {
        let prefix = match self {
            Self::Writer(log) => (**log).as_ref().durable_prefix()?,
            Self::Reader(reader, _) => reader.durable_prefix()?,
        };
        Ok(prefix.map(|prefix| Prefix {
            number: prefix.number(),
            predecessor: prefix.predecessor(),
            first_lsn: prefix.first_lsn(),
            next_lsn: prefix.next_lsn(),
            is_bare: prefix.is_bare(),
            path: prefix.path().clone(),
            bytes: Bytes::from_owner(Mapped(prefix)),
        }))
    }

    pub(crate) fn first_lsn(&self) -> Result<Lsn> {
        Ok(match self {
            Self::Writer(log) => (**log).as_ref().first_lsn(),
            Self::Reader(reader, _) => reader.first_lsn()?,
        })
    }

    /// The number after the last record that readers can see.
    pub(crate) fn next_lsn(&self) -> Result<Lsn> {
        Ok(match self {
            Self::Writer(log) => (**log).as_ref().published_lsn()?.next(),
            Self::Reader(reader, _) => reader.published_lsn()?.next(),
        })
    }

    /// Seals the segment that takes appends, durably.
    pub(crate) fn rotate(&self) -> Result<()> {
        let Self::Writer(log) = self else { return Err(Error::NotTheWriter) };
        let log = (**log).as_ref();
        log.rotate()?;
        log.sync()?;
        Ok(())
    }

    pub(crate) fn look(&self) -> Result<LocalLog> {
        let inspection = Inspection::open(self.directory())?;
        let counting = inspection.segments().iter().filter(|file| file.counts);
        let segments = counting
            .filter_map(|file| {
                let (number, predecessor, end) = (file.number, file.predecessor, file.end);
                Some(Local {
                    number,
                    first_lsn: file.first_lsn?,
                    predecessor,
                    end,
                    file_len_bytes: file.file_len_bytes,
                })
            })
            .collect();
        Ok(LocalLog { log_id: inspection.log_id(), segments })
    }

    pub(crate) fn pins(&self) -> Result<Vec<PinStatus>> {
        Ok(match self {
            Self::Writer(log) => (**log).as_ref().pins(),
            Self::Reader(_, pins) => pins.list()?,
        })
    }

    pub(crate) fn pin(&self, name: &str) -> Result<Option<PinStatus>> {
        Ok(self.pins()?.into_iter().find(|pin| pin.name == name))
    }

    pub(crate) fn create_pin(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().create_pin(name, owner, lsn, limit_bytes),
            Self::Reader(_, pins) => pins.create(name, owner, lsn, limit_bytes),
        };
        Ok(done?)
    }

    /// As [`Self::create_pin`], in the place of the one of that name, in one step.
    pub(crate) fn replace_pin(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().replace_pin(name, owner, lsn, limit_bytes),
            Self::Reader(_, pins) => pins.replace(name, owner, lsn, limit_bytes),
        };
        Ok(done?)
    }

    pub(crate) fn assign_pin(&self, name: &str, owner: &str) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().assign_pin(name, owner),
            Self::Reader(_, pins) => pins.assign(name, owner),
        };
        Ok(done?)
    }

    pub(crate) fn limit_pin(&self, name: &str, limit_bytes: Option<u64>) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().limit_pin(name, limit_bytes),
            Self::Reader(_, pins) => pins.limit(name, limit_bytes),
        };
        Ok(done?)
    }

    pub(crate) fn advance_pin(&self, name: &str, lsn: Lsn) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().advance_pin(name, lsn),
            Self::Reader(_, pins) => pins.advance(name, lsn),
        };
        Ok(done?)
    }

    /// As far as it goes.
    pub(crate) fn rewind_pin(&self, name: &str, lsn: Lsn) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().rewind_pin(name, lsn),
            Self::Reader(_, pins) => pins.rewind(name, lsn),
        };
        Ok(done?)
    }

    pub(crate) fn drop_pin(&self, name: &str) -> Result<()> {
        let done = match self {
            Self::Writer(log) => (**log).as_ref().drop_pin(name),
            Self::Reader(_, pins) => pins.remove(name),
        };
        Ok(done?)
    }
}

/// Stays in the cache of a processor until it has been checked.
const PIECE_LEN: usize = 256 << 10;

impl Prefix {
    /// The checksum of what follows byte `from`, and `check` after all of it, which has passed what comes before, or nothing.
    pub(crate) fn checked(&self, from: u64, mut check: SegmentCheck) -> Result<(u32, SegmentCheck)> {
        let begin = usize::try_from(from.min(self.bytes.len() as u64)).expect("it is in memory");
        let checked_to = usize::try_from(check.offset()).unwrap_or(begin).min(begin);
        let before = check.push(&self.bytes[checked_to..begin]);
        let (checksum, checked) = sum_and_check(&self.bytes[begin..], &mut check);
        let checked = before.and(checked).and_then(|()| check.expect_end(self.next_lsn, None));
        checked.map_err(|error| in_file(error, &self.path))?;
        Ok((checksum, check))
    }
}

/// The checksum of `bytes`, which come next in `check`, and what that says. Piece by piece, so that each comes from memory once; its checksum
/// first: bytes that change in between have another one than what is uploaded.
fn sum_and_check(bytes: &[u8], check: &mut SegmentCheck) -> (u32, mapwal::Result<()>) {
    let mut hasher = crc32fast::Hasher::new();
    let checked = bytes.chunks(PIECE_LEN).try_for_each(|piece| {
        hasher.update(piece);
        check.push(piece)
    });
    (hasher.finalize(), checked)
}

/// The same error, of the file at `path`.
fn in_file(error: mapwal::Error, path: &Path) -> mapwal::Error {
    match error {
        mapwal::Error::Corrupt(mut corruption) => {
            path.clone_into(&mut corruption.path);
            mapwal::Error::Corrupt(corruption)
        }
        mapwal::Error::Format { fault, .. } => mapwal::Error::Format { path: path.to_owned(), fault },
        error => error,
    }
}

/// Runs a call that may wait for the disk where that holds up nothing else.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down.
            Err(error) => Err(Error::io("look at", Path::new("the log"), error.into())),
        },
    }
}
