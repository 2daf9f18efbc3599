//! What a log must hold: the oracle.
//!
//! A log is a stream of records and metadata. At any moment there is one stream that was submitted, and a place in it up
//! to which everything has been acknowledged; whatever a crash leaves must be a prefix of that stream that is at least as
//! long, and splits no batch. While a call that replaces the stream is under way, there are two.

use std::ops::RangeInclusive;

use mapwal::{Log, Result};
use serde::{Deserialize, Serialize};

/// Metadata slots that are used.
pub const SLOTS: usize = 3;
const TAGS: u64 = 7;

/// One thing that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A record whose contents follow from its identity; `continues` in all of a batch but the last.
    Record { id: u64, len: u32, continues: bool },
    /// A record given up by a panic.
    Void,
    /// A metadata slot's new value, which follows from its identity.
    Meta { slot: usize, id: u64 },
}

impl Entry {
    fn takes_lsn(self) -> bool {
        !matches!(self, Self::Meta { .. })
    }
}

/// An entry, and how many entries had been acknowledged when it was appended.
#[derive(Debug, Clone, Copy)]
struct Appended {
    entry: Entry,
    acknowledged: usize,
}

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// An acknowledged record, or metadata, is gone.
    Lost,
    /// Something is there that was never appended in this place, or a batch in parts.
    Phantom,
    /// The records are not dense, or the log does not begin where it must.
    Gap,
    /// A crash alone made the log corrupt, or unusable.
    FalseCorruption,
    /// Damage was not reported.
    MissedCorruption,
}

/// Which rule was broken, and how.
#[derive(Debug, Clone)]
pub struct Violation {
    pub rule: Rule,
    pub message: String,
}

impl Violation {
    pub fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }

    /// With the crash after which it showed.
    pub fn after(self, crash: impl std::fmt::Debug, depth: usize) -> Self {
        Self { message: format!("{} (after crash {depth}, {crash:?})", self.message), ..self }
    }
}

/// One stream.
#[derive(Debug, Clone)]
struct Stream {
    /// The number of the first record in `entries`.
    start: u64,
    /// Where the log may begin after a crash.
    first: RangeInclusive<u64>,
    entries: Vec<Appended>,
    acknowledged: usize,
    /// Entries that the next open must find because only a process has died: all that were published.
    published: usize,
    /// The metadata before `entries`.
    meta: [Option<u64>; SLOTS],
    /// A trim with metadata is under way: if the log begins after this record, so many entries are there.
    trimmed_with: Option<(u64, usize)>,
}

/// What may be in the log.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the log shows now.
    current: Stream,
    /// What it shows instead if the call that is under way takes effect.
    next: Option<Stream>,
    next_id: u64,
}

/// A record whose damage must be noticed.
#[derive(Debug, Clone, Copy)]
pub struct Provable {
    pub lsn: u64,
    pub id: u64,
    pub len: u32,
}

/// An identity that no entry of a model has.
pub const FOREIGN_ID: u64 = 1;

/// What a log holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    first: u64,
    next: u64,
    /// Number, type number and payload length of each record, and whether the payload is the one of that identity.
    records: Vec<(u64, u16, Vec<u8>)>,
    meta: [Option<Vec<u8>>; SLOTS],
}

impl Observed {
    /// Reads all of `log`.
    pub fn read(log: &Log) -> Result<Self> {
        let snapshot = log.snapshot()?;
        let mut records = Vec::new();
        for record in &snapshot {
            let record = record?;
            records.push((record.lsn().0, record.tag(), record.payload().to_vec()));
        }
        let meta = std::array::from_fn(|slot| log.meta(slot));
        Ok(Self { first: snapshot.first_lsn().0, next: snapshot.next_lsn().0, records, meta })
    }
}

/// The payload of record `id`.
pub fn payload(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = first_word(id);
    while bytes.len() < len {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }
    bytes.truncate(len);
    bytes
}

/// The first eight bytes of its payload: no other word that is ever written is the same.
pub fn first_word(id: u64) -> u64 {
    (id << 1 | 1).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

pub fn tag(id: u64) -> u16 {
    (id % TAGS) as u16
}

/// The value that metadata `id` sets.
pub fn meta_value(id: u64) -> Vec<u8> {
    payload(id, (id % 40) as usize + 1)
}

impl Stream {
    fn new(start: u64, meta: [Option<u64>; SLOTS]) -> Self {
        Self {
            start,
            first: start..=start,
            entries: Vec::new(),
            acknowledged: 0,
            published: 0,
            meta,
            trimmed_with: None,
        }
    }

    fn records_in(entries: &[Appended]) -> u64 {
        entries.iter().filter(|appended| appended.entry.takes_lsn()).count() as u64
    }

    fn end(&self) -> u64 {
        self.start + Self::records_in(&self.entries)
    }

    fn meta_after(&self, count: usize) -> [Option<u64>; SLOTS] {
        let mut meta = self.meta;
        for appended in &self.entries[..count] {
            if let Entry::Meta { slot, id } = appended.entry {
                meta[slot] = Some(id);
            }
        }
        meta
    }

    /// How many entries there are up to record `lsn`, metadata after it not counted.
    fn entries_to(&self, lsn: u64) -> usize {
        let mut next = self.start;
        for (index, appended) in self.entries.iter().enumerate() {
            if appended.entry.takes_lsn() {
                if next == lsn {
                    return index + 1;
                }
                next += 1;
            }
        }
        if lsn < self.start { 0 } else { self.entries.len() }
    }

    /// How many of the entries `observed` is.
    fn check(&self, observed: &Observed) -> Result<usize, Violation> {
        let needed = self.trimmed_with.filter(|(first, _)| observed.first > *first).map_or(0, |(_, count)| count);
        let durable = self.acknowledged.max(self.published).max(needed);
        let kept = self.start + Self::records_in(&self.entries[..durable]);
        let (first, next, end) = (observed.first, observed.next, self.end());
        if next < kept {
            return Err(Violation::new(Rule::Lost, format!("next is {next}, all before {kept} must be there")));
        }
        if next > end {
            return Err(Violation::new(Rule::Phantom, format!("next is {next}, nothing was appended from {end} on")));
        }
        if !self.first.contains(&first) {
            return Err(Violation::new(Rule::Gap, format!("begins at {first}, not in {:?}", self.first)));
        }
        self.check_records(observed)?;
        let shortest = if next == self.start { 0 } else { self.entries_to(next - 1) }.max(durable);
        if shortest > 0 && matches!(self.entries[shortest - 1].entry, Entry::Record { continues: true, .. }) {
            return Err(Violation::new(Rule::Phantom, format!("the batch around record {next} is there in part")));
        }
        let longest = self.entries[shortest..].iter().take_while(|appended| !appended.entry.takes_lsn()).count();
        let same = |count: &usize| {
            let expected = self.meta_after(*count);
            expected.iter().zip(&observed.meta).all(|(id, value)| id.map(meta_value) == *value)
        };
        (shortest..=shortest + longest).rev().find(same).ok_or_else(|| {
            let expected = self.meta_after(shortest);
            let message = format!("metadata at record {next} is {:?}, expected {expected:?} or later", observed.meta);
            Violation::new(Rule::Lost, message)
        })
    }

    fn check_records(&self, observed: &Observed) -> Result<(), Violation> {
        let mut found = observed.records.iter();
        let mut lsn = self.start;
        for appended in &self.entries {
            if lsn >= observed.next {
                break;
            }
            if !appended.entry.takes_lsn() {
                continue;
            }
            if let Entry::Record { id, len, .. } = appended.entry
                && lsn >= observed.first
            {
                let Some((number, found_tag, bytes)) = found.next() else {
                    return Err(Violation::new(Rule::Gap, format!("record {lsn} is missing")));
                };
                if *number != lsn {
                    return Err(Violation::new(Rule::Gap, format!("record {number} comes where {lsn} must")));
                }
                if *found_tag != tag(id) || *bytes != payload(id, len as usize) {
                    return Err(Violation::new(Rule::Phantom, format!("record {lsn} has other contents")));
                }
            }
            lsn += 1;
        }
        match found.next() {
            None => Ok(()),
            Some((number, ..)) => Err(Violation::new(Rule::Phantom, format!("record {number} is a void one, or more"))),
        }
    }
}

impl Model {
    /// An empty log whose first record is 1.
    pub fn new() -> Self {
        Self { current: Stream::new(1, [None; SLOTS]), next: None, next_id: FOREIGN_ID }
    }

    /// An identity that no other entry has.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The number of the next record.
    pub fn next_lsn(&self) -> u64 {
        self.current.end()
    }

    /// The first record kept.
    pub fn first_lsn(&self) -> u64 {
        *self.current.first.start()
    }

    /// Entries are about to be appended. Returns the number that the first record of them must get.
    ///
    /// While a call that replaces the stream makes that durable, they come after what it leaves.
    pub fn submit(&mut self, entries: &[Entry]) -> u64 {
        // What the links of a replaced stream claim may be as old as they are.
        let acknowledged = if self.next.is_some() { 0 } else { self.current.acknowledged };
        let stream = self.next.as_mut().unwrap_or(&mut self.current);
        let expected = stream.end();
        stream.entries.extend(entries.iter().map(|&entry| Appended { entry, acknowledged }));
        expected
    }

    /// The last `count` entries have been refused.
    pub fn withdraw(&mut self, count: usize) {
        let stream = self.next.as_mut().unwrap_or(&mut self.current);
        let len = stream.entries.len() - count;
        stream.entries.truncate(len);
    }

    /// How many entries there are: to be handed to [`Self::acknowledge`].
    pub fn submitted(&self) -> usize {
        self.current.entries.len()
    }

    /// The first `count` entries have been called durable.
    pub fn acknowledge(&mut self, count: usize) {
        self.current.acknowledged = self.current.acknowledged.max(count);
    }

    /// The records up to `lsn` have been called durable.
    pub fn acknowledge_to(&mut self, lsn: u64) {
        if self.next.is_none() {
            self.acknowledge(self.current.entries_to(lsn));
        }
    }

    /// Record `lsn` of those that are acknowledged.
    pub fn acknowledged_lsn(&self) -> u64 {
        self.current.start + Stream::records_in(&self.current.entries[..self.current.acknowledged])
    }

    /// A trim begins that may drop records below `lsn`. Returns where the log might begin before.
    pub fn begin_trim(&mut self, lsn: u64) -> RangeInclusive<u64> {
        let before = self.current.first.clone();
        self.current.trimmed_with = None;
        self.current.first = *before.start()..=lsn.max(*before.end());
        before
    }

    /// As [`Self::begin_trim`], with metadata that has been submitted just now.
    pub fn begin_trim_with(&mut self, lsn: u64) -> RangeInclusive<u64> {
        let before = self.begin_trim(lsn);
        self.current.trimmed_with = Some((*before.end(), self.current.entries.len()));
        before
    }

    /// The trim is over, and its metadata durable.
    pub fn end_trim_with(&mut self) {
        if let Some((_, count)) = self.current.trimmed_with.take() {
            self.acknowledge(count);
        }
    }

    /// A trim dropped nothing. One before it that failed halfway may still have.
    pub fn undo_trim(&mut self, before: RangeInclusive<u64>) {
        self.current.first = before;
        self.current.trimmed_with = None;
    }

    /// The log begins at `first` for good.
    pub fn settle_first(&mut self, first: u64) {
        let stream = &mut self.current;
        stream.trimmed_with = None;
        stream.first = first..=first;
        let dropped = if first > stream.start { stream.entries_to(first - 1) } else { 0 };
        // Entries that are still needed to tell how much is acknowledged stay.
        let dropped = dropped.min(stream.acknowledged);
        stream.meta = stream.meta_after(dropped);
        stream.start += Stream::records_in(&stream.entries[..dropped]);
        stream.entries.drain(..dropped);
        stream.acknowledged -= dropped;
        for appended in &mut stream.entries {
            appended.acknowledged = appended.acknowledged.saturating_sub(dropped);
        }
    }

    /// A truncation begins that keeps the records up to `lsn`, and sets metadata.
    pub fn begin_truncate(&mut self, lsn: u64, set: &[(usize, u64)]) {
        let current = &self.current;
        let mut next = current.clone();
        next.entries.truncate(current.entries_to(lsn));
        if let Some(Appended { entry: Entry::Record { continues, .. }, .. }) = next.entries.last_mut() {
            *continues = false;
        }
        // Metadata stays as it is, wherever it was put.
        let mut meta = current.meta_after(current.entries.len());
        for &(slot, id) in set {
            meta[slot] = Some(id);
        }
        let kept = next.meta_after(next.entries.len());
        for slot in 0..SLOTS {
            if let Some(id) = meta[slot].filter(|_| meta[slot] != kept[slot]) {
                // It stands in the new segment's link, whose claim may be as old as that segment.
                next.entries.push(Appended { entry: Entry::Meta { slot, id }, acknowledged: 0 });
            }
        }
        next.acknowledged = next.entries.len();
        next.published = 0;
        self.next = Some(next);
    }

    /// A reset begins that sets metadata.
    pub fn begin_reset(&mut self, lsn: u64, set: &[(usize, u64)]) {
        let mut meta = self.current.meta_after(self.current.entries.len());
        for &(slot, id) in set {
            meta[slot] = Some(id);
        }
        self.next = Some(Stream::new(lsn, meta));
    }

    /// The call that was under way took effect, or did not.
    pub fn end_replace(&mut self, took_effect: bool) {
        if let Some(next) = self.next.take().filter(|_| took_effect) {
            self.current = next;
        }
    }

    /// Checks what an open has found, and goes on from there: all of it is durable. That the first records are gone is
    /// so only after a crash of the system: else what a trim has begun may still be undone by one.
    pub fn recovered(&mut self, observed: &Observed, power_cut: bool) -> Result<(), Violation> {
        let count = match (self.current.check(observed), &self.next) {
            (Err(violation), Some(next)) => {
                let count = next.check(observed).map_err(|other| {
                    let message = format!(
                        "neither as before the call: {}, nor as after it: {}",
                        violation.message, other.message
                    );
                    Violation::new(other.rule, message)
                })?;
                self.end_replace(true);
                count
            }
            (checked, _) => {
                let count = checked?;
                self.end_replace(false);
                count
            }
        };
        let stream = &mut self.current;
        stream.trimmed_with = None;
        stream.entries.truncate(count);
        stream.acknowledged = count;
        stream.published = 0;
        if power_cut {
            self.settle_first(observed.first);
        } else {
            stream.first = *stream.first.start()..=observed.first;
        }
        Ok(())
    }

    /// Checks what a running log shows: everything that was submitted.
    pub fn check_running(&self, observed: &Observed) -> Result<(), Violation> {
        let mut all = self.current.clone();
        all.acknowledged = all.entries.len();
        all.check(observed).map(drop)
    }

    /// A death of the process loses nothing that was published: all but what was appended after `hole`.
    pub fn published_survive(&mut self, hole: Option<usize>) {
        self.current.published = hole.unwrap_or(self.current.entries.len());
    }

    /// After a crash of the system, or once a write-back has failed, what was only published may be gone.
    pub fn forget_published(&mut self) {
        self.current.published = 0;
    }

    /// Records whose damage must be noticed: an acknowledged entry after them was appended after their acknowledgement.
    pub fn provable(&self) -> Vec<Provable> {
        let stream = &self.current;
        let proven = stream.entries[..stream.acknowledged].iter().map(|appended| appended.acknowledged).max();
        self.records_in(proven.unwrap_or(0))
    }

    /// Records that have been acknowledged.
    pub fn acknowledged(&self) -> Vec<Provable> {
        self.records_in(self.current.acknowledged)
    }

    /// The records among the first `count` entries that no trim may have taken.
    fn records_in(&self, count: usize) -> Vec<Provable> {
        let stream = &self.current;
        let mut lsn = stream.start;
        let mut found = Vec::new();
        for appended in &stream.entries[..count] {
            if let Entry::Record { id, len, .. } = appended.entry
                && lsn >= *stream.first.end()
            {
                found.push(Provable { lsn, id, len });
            }
            lsn += u64::from(appended.entry.takes_lsn());
        }
        found
    }
}
