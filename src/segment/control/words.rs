//! The words of the control page, and what they say.

use std::io;

use super::activity::Activity;
use crate::error::{Damage, Evidence};
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::storage::{Access, Storage};

pub(super) const LEN: u64 = 4096;
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"mapwctl\x01");

/// The words of the page, by index. Each is written by the writer alone, but for the two that followers set
/// when they want to be woken, and for requests.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// Stored last when the page is set up, so that a process that sees it sees the rest.
    Magic = 0,
    LogIdLow = 1,
    LogIdHigh = 2,
    /// Different in each run of a writer.
    Epoch = 3,
    /// The writer's process, 0 after a clean shutdown.
    WriterPid = 4,
    /// The version of the page in its low half, a checksum of it in its high half. 0 in a page of a log of version 2.
    Version = 5,
    /// The number of the segment that takes appends in its low half, a checksum of it in its high half.
    ActiveSegment = 7,
    /// 1 once a sync has failed.
    Poisoned = 8,
    /// The number of the oldest segment retained, in the same way.
    OldestSegment = 9,
    /// On a cache line of its own, since every append looks at it: 1 if a follower waits for a record to be published.
    PublishedWanted = 16,
    /// On another: counts the wake-ups for it. Followers wait on its first half.
    PublishedWakes = 32,
    /// The same for records to become durable.
    DurableWanted = 48,
    DurableWakes = 64,
    /// What is durable, written in turn to two places of four words: if one is half written, there is the other.
    /// Number, position, record, and a checksum of the three.
    DurableEven = 80,
    DurableOdd = 88,
    /// The position of the close with which the log was shut down, and a checksum of it. Zero as long as it may be appended to.
    Closed = 96,
    ClosedChecksum = 97,
    /// What the writer has done, and a checksum of that and of its run.
    Activity = 104,
    /// That of the run, if its writer takes requests to trim.
    TakesRequests = 120,
    /// What a process asks for: number, record, and a checksum of the run and these.
    Request = 128,
    /// What came of a request: its number, outcome, segments dropped, first record, and a checksum in the same way.
    Answer = 136,
}

/// The version of the page.
pub(super) const VERSION: u64 = 1;

/// Whether the page of log `log_id` with this for its version is of a later one: that says nothing. Where the checksum is wrong, the word is damaged, which says
/// nothing of the others.
pub(super) fn is_later(log_id: u128, version: u64) -> bool {
    let number = version & u64::from(u32::MAX);
    number > VERSION && version == signed(log_id, number)
}

/// How often a follower looks for a watermark that the writer is not just writing.
const LOOKS_MAX: u32 = 64;

/// What the page says at one moment, from a copy of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ControlState {
    pub(crate) log_id: u128,
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
    /// `None` if there is no page, or one that is being set up.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn read(storage: &dyn Storage) -> io::Result<Option<PageFound>> {
        let mut bytes = [0; LEN as usize];
        let file = match storage.open(name::CONTROL, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = file.len_bytes()?;
        if len != LEN || file.read_at(&mut bytes, 0)? != bytes.len() {
            return Ok(Some(PageFound { state: None, fault: Some((0, Damage::PageLength { found: len })) }));
        }
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Ok(Some(PageFound { state: Self::of(&words), fault: fault_of(&words) }))
    }

    fn of(words: &[u64]) -> Option<Self> {
        let word = |word: Word| words[word as usize];
        let log_id = log_id(|index| words[index]);
        let said = Said { log_id, word: |index| words[index] };
        (word(Word::Magic) == MAGIC && !is_later(log_id, word(Word::Version))).then(|| Self {
            log_id,
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

/// A page as it is on disk.
pub(crate) struct PageFound {
    pub(crate) state: Option<ControlState>,
    /// What no writer and no crash leaves in it, and at which byte.
    pub(crate) fault: Option<(u64, Damage)>,
}

/// What no writer and no crash leaves in a page, and at which byte. Single words are written whole; of one that has never been, a crash
/// leaves zero. What is of several words may be half there, and says nothing then.
fn fault_of(words: &[u64]) -> Option<(u64, Damage)> {
    let at = |word: Word| word as u64 * size_of::<u64>() as u64;
    let magic = words[Word::Magic as usize];
    if magic != 0 && magic != MAGIC {
        return Some((at(Word::Magic), Damage::Magic));
    }
    let (log_id, version) = (log_id(|index| words[index]), words[Word::Version as usize]);
    // In a page of a log of version 2 the other words have no checksums.
    let is_known = version != 0 && !is_later(log_id, version);
    if magic != MAGIC || !is_whole(log_id) || !is_known {
        return None;
    }
    [Word::Version, Word::ActiveSegment, Word::OldestSegment].into_iter().find_map(|word| {
        let value = words[word as usize];
        let (expected, found) = ((signed(log_id, value & u64::from(u32::MAX)) >> 32) as u32, (value >> 32) as u32);
        (value != 0 && expected != found).then(|| (at(word), Damage::Checksum { expected, found }))
    })
}

/// Whether both words of an identity have been written.
pub(crate) fn is_whole(log_id: u128) -> bool {
    log_id as u64 != 0 && log_id >> 64 != 0
}

/// The page of a copy that goes from segment `oldest` to a place in segment `newest`, with the last record before it. All of it
/// is durable, and no process has it open.
pub(crate) fn page_of_copy(log_id: u128, oldest: u64, newest: u64, (end, last): (Position, Lsn)) -> Vec<u8> {
    let mut words = [0; LEN as usize / size_of::<u64>()];
    words[Word::Magic as usize] = MAGIC;
    words[Word::Version as usize] = signed(log_id, VERSION);
    words[Word::LogIdLow as usize] = log_id as u64;
    words[Word::LogIdHigh as usize] = (log_id >> 64) as u64;
    words[Word::ActiveSegment as usize] = signed(log_id, newest);
    words[Word::OldestSegment as usize] = signed(log_id, oldest);
    let watermark = [1, end.0, last.0];
    let place = Word::DurableOdd as usize;
    words[place..place + watermark.len()].copy_from_slice(&watermark);
    words[place + watermark.len()] = checksum(log_id, &watermark).into();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
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
        let words = [place, place + 1, place + 2].map(&self.word);
        let [number, position, lsn] = words;
        let is_whole = (self.word)(place + words.len()) == u64::from(checksum(self.log_id, &words));
        is_whole.then_some(Watermark { number, position: Position(position), lsn: Lsn(lsn) })
    }

    /// The position of the close with which the log was shut down.
    pub(super) fn closed(&self) -> Option<Position> {
        let [position, sum] = [Word::Closed, Word::ClosedChecksum].map(|word| (self.word)(word as usize));
        (position != 0 && sum == u64::from(checksum(self.log_id, &[position]))).then_some(Position(position))
    }

    pub(super) fn segment_number(&self, word: Word) -> Option<u64> {
        let word = (self.word)(word as usize);
        let number = word & u64::from(u32::MAX);
        (word == signed(self.log_id, number)).then_some(number)
    }
}

pub(super) fn log_id(word: impl Fn(usize) -> u64) -> u128 {
    u128::from(word(Word::LogIdHigh as usize)) << 64 | u128::from(word(Word::LogIdLow as usize))
}

pub(super) fn checksum(log_id: u128, words: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&log_id.to_le_bytes());
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}

/// `number`, which is that of a segment and so has 32 bits, with its checksum.
pub(super) fn signed(log_id: u128, number: u64) -> u64 {
    number | u64::from(checksum(log_id, &[number])) << 32
}
