//! Damage to bytes that had been acknowledged: it must be reported, never passed over.

use std::sync::Arc;

use fastrand::Rng;
use mapwal::internals::{SimDisk, open_log};
use mapwal::{Error, Log, Lsn, Options};

use super::model::{FOREIGN_ID, Model, Observed, Provable, Rule, Violation, first_word, payload, tag};
use super::run::SEGMENT_BYTES;

/// Bytes of a frame before its payload.
const HEADER_BYTES: usize = 24;
/// Of so many of the last records no later one may tell.
const NEWEST: usize = 8;

/// Damages a record on `disk` that a later one, or the control page, proves to have been durable. Whether there was one to be damaged.
pub fn look(disk: &SimDisk, model: &Model, seed: u64) -> Result<bool, Violation> {
    let mut rng = Rng::with_seed(seed);
    let stated = if rng.bool() { stated_durable(disk) } else { None };
    let mut provable = if stated.is_some() { model.acknowledged() } else { model.provable() };
    // Shorter ones cannot be found by their first word.
    provable.retain(|record| record.len >= 8);
    let newest = provable.len().saturating_sub(NEWEST);
    let choice = if stated.is_some() { rng.choice(&provable[newest..]) } else { rng.choice(&provable) };
    let Some(&record) = choice else { return Ok(false) };
    let Some(frame) = Frame::find(disk, record) else {
        let message = format!("an acknowledged record of {} bytes is not on the device", record.len);
        return Err(Violation::new(Rule::Lost, message));
    };
    if stated.is_some_and(|stated| frame.end() > stated) {
        return Ok(false);
    }
    let what = harm(disk, &frame, &provable, &mut rng);
    let opened = open(disk, false);
    match opened.and_then(|log| Observed::read(&log)) {
        Err(Error::Corrupt(_)) => Ok(true),
        Err(error) => Err(Violation::new(Rule::MissedCorruption, format!("{what} is reported as {error}"))),
        Ok(_) => Err(Violation::new(Rule::MissedCorruption, format!("{what} goes unnoticed"))),
    }
}

fn open(disk: &SimDisk, create: bool) -> mapwal::Result<Log> {
    let options =
        Options::new().segment_size_bytes(4 * SEGMENT_BYTES).first_segment_size_bytes(SEGMENT_BYTES).create(create);
    // SAFETY: nobody else has this disk.
    #[expect(unsafe_code, reason = "opening a log is unsafe")]
    unsafe {
        open_log(Arc::new(disk.clone()), &options)
    }
}

/// Where a record is stored.
struct Frame {
    record: Provable,
    name: String,
    offset: usize,
}

impl Frame {
    fn find(disk: &SimDisk, record: Provable) -> Option<Self> {
        let (name, payload) = disk.find(first_word(record.id))?;
        Some(Self { record, name, offset: payload - HEADER_BYTES })
    }

    /// Segment and offset in one number.
    fn end(&self) -> (u64, usize) {
        (self.name[..20].parse().expect("a segment"), self.offset + self.len())
    }

    fn len(&self) -> usize {
        HEADER_BYTES + self.record.len as usize
    }

    fn bytes(&self, disk: &SimDisk) -> Vec<u8> {
        disk.stored(&self.name, self.offset, self.len())
    }

    fn replace(&self, disk: &SimDisk, bytes: &[u8]) {
        for (at, &byte) in (self.offset..).zip(bytes) {
            disk.damage(&self.name, at, |_| byte);
        }
    }
}

/// Up to which segment, and which offset in it, the control page on the device says that the log was durable, if it says so.
fn stated_durable(disk: &SimDisk) -> Option<(u64, usize)> {
    let bytes = disk.has("control").then(|| disk.stored("control", 0, 4096))?;
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let sum = |values: &[u64]| {
        let values: Vec<u8> = words[1..3].iter().chain(values).flat_map(|word| word.to_le_bytes()).collect();
        u64::from(crc32fast::hash(&values))
    };
    let low = |at: usize| words[at] & u64::from(u32::MAX);
    // Number, position and record, in halves, and the checksum of these.
    let whole = [80, 88].into_iter().filter(|&at| low(at + 6) == sum(&words[at..at + 6]));
    let newest = whole.max_by_key(|&at| low(at) | low(at + 1) << 32)?;
    let (offset, segment) = (low(newest + 2), low(newest + 3));
    (segment > 0).then_some((segment, usize::try_from(offset).ok()?))
}

/// Changes bytes of a frame; says what was changed.
fn harm(disk: &SimDisk, frame: &Frame, others: &[Provable], rng: &mut Rng) -> String {
    let Frame { name, offset, .. } = frame;
    let place = format!("at {offset} of {name}");
    match rng.u8(0..6) {
        0 => {
            frame.replace(disk, &vec![0; frame.len()]);
            format!("a frame of zeros {place}")
        }
        1 => {
            frame.replace(disk, &[0; 8]);
            format!("a commit word of zeros {place}")
        }
        2 => {
            frame.replace(disk, &foreign(frame.record, rng));
            format!("the frame of that number of another log {place}")
        }
        3 if let Some(other) = same_size(disk, frame, others, rng) => {
            frame.replace(disk, &other.bytes(disk));
            format!("the frame from {} of the same segment {place}", other.offset)
        }
        choice => {
            let at = offset + rng.usize(0..frame.len());
            let mask = if choice == 4 { rng.u8(1..) } else { 1 << rng.u8(0..8) };
            disk.damage(name, at, |byte| byte ^ mask);
            format!("a byte changed by {mask:#x} at {at}, in the frame {place}")
        }
    }
}

/// A good frame with the number and length of `record`, as another log holds it: what a device leaves that wrote a block
/// to the wrong place.
fn foreign(record: Provable, rng: &mut Rng) -> Vec<u8> {
    let disk = SimDisk::new(rng.u64(..));
    let log = open(&disk, true).expect("a new log opens");
    log.reset_to(Lsn(record.lsn)).expect("an empty log can be reset");
    log.append(tag(record.id), &payload(FOREIGN_ID, record.len as usize)).expect("there is room");
    log.close().expect("a new log closes");
    let stranger = Provable { id: FOREIGN_ID, ..record };
    Frame::find(&disk, stranger).expect("the log was closed").bytes(&disk)
}

/// Another record of the same segment and length.
fn same_size(disk: &SimDisk, frame: &Frame, others: &[Provable], rng: &mut Rng) -> Option<Frame> {
    let Frame { record, name, .. } = frame;
    let same = others.iter().filter(|other| other.len == record.len && other.id != record.id);
    let found = same.filter_map(|&other| Frame::find(disk, other)).filter(|other| other.name == *name);
    rng.choice(found.collect::<Vec<_>>())
}
