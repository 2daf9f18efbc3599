//! The words of the control page, and what they say.

use std::io;
use std::path::Path;

use super::activity::Activity;
pub(super) use super::layout::{Word, checksum};
use super::signed::{CLOSED_WORDS, GROUPS, SINGLE, WATERMARK_WORDS, damage_of, group, signed, value_of, values};
use crate::error::{Corruption, Damage, Error, Evidence, Result};
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::storage::{Access, Storage};

pub(super) const LEN: u64 = 4096;
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"mapwctl\x01");
/// In the place of [`MAGIC`] while a writer sets the page up. Never zero, which would not be told from a word that was lost.
pub(super) const UNFINISHED: u64 = u64::from_le_bytes(*b"mapwopen");

/// The version of the page.
pub(super) const VERSION: u32 = 2;

/// Whether the page of log `log_id` with this for its version is of another one: that says nothing. Where the checksum is wrong, the word is damaged,
/// which says nothing of the others.
pub(super) fn is_other(log_id: u128, version: u64) -> bool {
    value_of(log_id, Word::Version as usize, version).is_some_and(|number| number != VERSION)
}

/// How often a follower looks for a watermark that the writer is not just writing.
const LOOKS_MAX: u32 = 64;

/// What the page says at one moment, from a copy of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ControlState {
    /// As the writer has left it: it may be dead.
    pub(crate) writer_pid: Option<u32>,
    /// `None` if the page does not say so.
    pub(crate) durable: Option<Stated>,
    /// 0 if the page does not say so.
    pub(crate) active_segment: u64,
    pub(crate) oldest_segment: Option<u64>,
    pub(crate) poisoned: bool,
    pub(crate) takes_requests: bool,
    pub(crate) activity: Option<Activity>,
}

impl ControlState {
    /// What `words` say of the log `log_id`; `None` if they say nothing.
    fn of(words: &[u64], log_id: u128) -> Option<Self> {
        let word = |word: Word| words[word as usize];
        let said = Said { log_id, word: |index| words[index] };
        let is_page = [MAGIC, UNFINISHED].contains(&word(Word::Magic)) && log_id_of(words) == log_id;
        (said.is_understood() && (is_page || said.is_of_log())).then(|| Self {
            writer_pid: u32::try_from(word(Word::WriterPid)).ok().filter(|&pid| pid != 0),
            durable: said.durable(),
            active_segment: said.segment_number(Word::ActiveSegment).unwrap_or(0),
            oldest_segment: said.segment_number(Word::OldestSegment),
            poisoned: word(Word::Poisoned) != 0,
            takes_requests: word(Word::TakesRequests) == word(Word::Epoch),
            activity: said.activity(),
        })
    }
}

/// What is wrong with the control page of log `log_id`; `is_old` is that of [`PageFound::fault`]. A page that is damaged could have said that what
/// looks like a torn end was durable. So nothing is dropped as long as it is there.
///
/// # Errors
/// When the page is there and cannot be read.
pub(crate) fn page_fault(storage: &dyn Storage, log_id: u128, is_old: bool) -> Result<Option<Corruption>> {
    let look = || {
        let found = PageFound::read(storage);
        let found = found.map_err(|source| Error::io("read", &storage.path().join(name::CONTROL), source))?;
        Ok(found.and_then(|found| found.fault(storage.path(), log_id, is_old)))
    };
    // A word may be seen that is just being written.
    let Some(fault) = look()? else { return Ok(None) };
    look().map(|again| again.filter(|again| *again == fault))
}

/// A page as it is on disk.
pub(crate) struct PageFound {
    /// Empty if the file is not as long as a page.
    words: Vec<u64>,
    len: u64,
}

impl PageFound {
    /// `None` if there is no page.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn read(storage: &dyn Storage) -> io::Result<Option<Self>> {
        let file = match storage.open(name::CONTROL, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let (mut bytes, len) = ([0; LEN as usize], file.len_bytes()?);
        let is_page = len == LEN && file.read_at(&mut bytes, 0)? == bytes.len();
        let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok(Some(Self { words: words.filter(|_| is_page).collect(), len }))
    }

    /// What the page says of the log `log_id`, if it says something.
    pub(crate) fn state_of(&self, log_id: u128) -> Option<ControlState> {
        if self.words.is_empty() { None } else { ControlState::of(&self.words, log_id) }
    }

    /// As [`Self::state_of`], with what has been trimmed as the page says it by `now`, if it does.
    pub(crate) fn trimmed_since(&self, now: Option<&Self>, log_id: u128) -> Option<ControlState> {
        let before = self.state_of(log_id)?;
        let oldest = now.and_then(|now| now.state_of(log_id)).map_or(before.oldest_segment, |now| now.oldest_segment);
        Some(ControlState { oldest_segment: oldest, ..before })
    }

    /// What it says of the log that it names.
    pub(crate) fn state(&self) -> Option<ControlState> {
        self.words.first().and_then(|_| self.state_of(log_id_of(&self.words)))
    }

    /// What no writer and no crash leaves in the page of log `log_id` in `directory`. `is_old` if the newest segment that was begun is of version 2:
    /// then a page without a version is by a writer of that.
    pub(crate) fn fault(&self, directory: &Path, log_id: u128, is_old: bool) -> Option<Corruption> {
        let (offset, damage) = self.damage(log_id, is_old)?;
        Some(Corruption { path: directory.join(name::CONTROL), offset, lsn: None, damage, evidence: None })
    }

    pub(super) fn damage(&self, log_id: u128, is_old: bool) -> Option<(u64, Damage)> {
        let fault = |word: usize, damage| Some(((word * size_of::<u64>()) as u64, damage));
        let Some(&magic) = self.words.get(Word::Magic as usize) else {
            return fault(0, Damage::PageLength { found: self.len });
        };
        let version = self.words[Word::Version as usize];
        if is_old && version == 0 {
            return None;
        }
        if ![MAGIC, UNFINISHED].contains(&magic) {
            return fault(Word::Magic as usize, Damage::Magic);
        }
        let found = log_id_of(&self.words);
        if is_other(found, version) {
            return None;
        }
        if found != log_id {
            return fault(Word::LogIdLow as usize, Damage::ForeignPage { expected: log_id, found });
        }
        words_with_checksum().find_map(|at| fault(at, damage_of(log_id, at, self.words[at])?))
    }
}

/// The indices of the words that have a checksum.
fn words_with_checksum() -> impl Iterator<Item = usize> {
    let grouped = GROUPS.into_iter().flat_map(|(first, len)| first as usize..first as usize + len);
    SINGLE.into_iter().map(|word| word as usize).chain(grouped)
}

/// The words of a page that says nothing yet but which log it is of, and that segments below `oldest` were trimmed.
pub(super) fn new_page(log_id: u128, oldest: u64) -> Vec<u64> {
    let mut words = vec![0; LEN as usize / size_of::<u64>()];
    words[Word::Magic as usize] = UNFINISHED;
    words[Word::LogIdLow as usize] = log_id as u64;
    words[Word::LogIdHigh as usize] = (log_id >> 64) as u64;
    for (word, value) in SINGLE.into_iter().zip([VERSION, 0, oldest as u32]) {
        words[word as usize] = signed(log_id, word as usize, value);
    }
    for place in [Word::DurableEven, Word::DurableOdd] {
        put(&mut words, place, group::<WATERMARK_WORDS>(log_id, place, &[0; 3]));
    }
    put(&mut words, Word::Closed, group::<CLOSED_WORDS>(log_id, Word::Closed, &[0]));
    words
}

fn put<const WORDS: usize>(words: &mut [u64], first: Word, values: [u64; WORDS]) {
    words[first as usize..][..WORDS].copy_from_slice(&values);
}

pub(super) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The page of a copy that goes from segment `oldest` to a place in segment `newest`, with the last record before it. All of it
/// is durable, and no process has it open.
pub(crate) fn page_of_copy(log_id: u128, oldest: u64, newest: u64, (end, last): (Position, Lsn)) -> Vec<u8> {
    let mut words = new_page(log_id, oldest);
    words[Word::Magic as usize] = MAGIC;
    words[Word::ActiveSegment as usize] = signed(log_id, Word::ActiveSegment as usize, newest as u32);
    let place = Word::DurableOdd;
    put(&mut words, place, group::<WATERMARK_WORDS>(log_id, place, &[1, end.0, last.0]));
    bytes_of(&words)
}

/// A watermark as it is on the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watermark {
    /// How many there have been; the largest counts.
    pub(super) number: u64,
    pub(super) position: Position,
    pub(super) lsn: Lsn,
}

/// How far the log was durable, by what the page says: a sync had made it so before that was written. Positions are bounded where
/// they are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) position: Position,
    /// The last record before that, or fewer than that once a truncation has begun.
    pub(crate) lsn: Lsn,
}

impl Stated {
    pub(crate) fn evidence(self) -> Evidence {
        Evidence::ControlPage { segment: self.position.segment(), offset: self.position.offset(), lsn: self.lsn }
    }
}

/// What the words of a page say of the log `log_id`, as far as their checksums bear it out.
pub(super) struct Said<F> {
    pub(super) log_id: u128,
    pub(super) word: F,
}

impl<F: Fn(usize) -> u64> Said<F> {
    /// Whether the page is of a version that is known; another one says nothing.
    pub(super) fn is_understood(&self) -> bool {
        let version = (self.word)(Word::Version as usize);
        !is_other(self.log_id, version) && !is_other(log_id(&self.word), version)
    }

    /// Whether a word has the checksum that it has on the page of this log: then that is what the page is, whatever else is damaged.
    pub(super) fn is_of_log(&self) -> bool {
        words_with_checksum().any(|at| value_of(self.log_id, at, (self.word)(at)).is_some())
    }

    pub(super) fn watermark(&self) -> Option<Watermark> {
        (0..LOOKS_MAX).find_map(|_| {
            let found = [Word::DurableEven, Word::DurableOdd].map(|place| self.watermark_at(place as usize));
            found.into_iter().flatten().max_by_key(|watermark| watermark.number)
        })
    }

    /// How far the log was durable, unless nothing was.
    pub(super) fn durable(&self) -> Option<Stated> {
        let stated = |Watermark { position, lsn, .. }| Stated { position, lsn };
        self.watermark().map(stated).filter(|stated| stated.position > Position::ZERO)
    }

    /// The watermark at `place`, if it is whole.
    fn watermark_at(&self, place: usize) -> Option<Watermark> {
        let words: [u64; WATERMARK_WORDS] = std::array::from_fn(|at| (self.word)(place + at));
        let [number, position, lsn] = values(self.log_id, &words)?;
        Some(Watermark { number, position: Position(position), lsn: Lsn(lsn) })
    }

    /// The position of the close with which the log was shut down.
    pub(super) fn closed(&self) -> Option<Position> {
        let words: [u64; CLOSED_WORDS] = std::array::from_fn(|at| (self.word)(Word::Closed as usize + at));
        let [position] = values(self.log_id, &words)?;
        (position != 0).then_some(Position(position))
    }

    pub(super) fn segment_number(&self, word: Word) -> Option<u64> {
        value_of(self.log_id, word as usize, (self.word)(word as usize)).map(u64::from)
    }
}

fn log_id_of(words: &[u64]) -> u128 {
    log_id(|index| words[index])
}

pub(super) fn log_id(word: impl Fn(usize) -> u64) -> u128 {
    u128::from(word(Word::LogIdHigh as usize)) << 64 | u128::from(word(Word::LogIdLow as usize))
}
