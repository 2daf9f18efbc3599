//! Records appended and made durable every few KiB or MiB: from the first byte of a log on, and in the steady state in which it
//! is trimmed as it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::peer::Stream;
use crate::task::Outcome;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
/// The files of each log that has more than one.
pub(crate) const SEGMENT_BYTES: usize = 16 * MIB;
/// What a log in its steady state keeps.
pub(crate) const RETAINED_BYTES: usize = 64 * MIB;
const PAYLOAD_LEN: usize = 1000;
/// What a record counts as: the length of its frame in mapwal.
pub(crate) const RECORD_LEN: usize = 1 << 10;
/// Appended before the steady state is measured: what is kept, and half as much of what is trimmed. Small syncs are not waited
/// for that often.
const WARM_UP_BYTES: usize = RETAINED_BYTES * 3 / 2;
const WARM_UP_SYNC_BYTES_MIN: usize = 64 * KIB;
/// Then, with syncs of the size that is measured: the rest of a file and the one that is ready were made for larger ones.
const SETTLING_BYTES: usize = 2 * SEGMENT_BYTES;
const SEED: u64 = 1;

/// Of a log's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lap {
    /// A log that was just made, and keeps everything.
    First,
    /// A log of a length that stays the same: after each sync it lets go of what is older.
    Steady,
}

/// Until this much is appended, this many syncs are done, or the time is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Amount {
    pub(crate) lap: Lap,
    pub(crate) sync_bytes: usize,
    pub(crate) bytes: usize,
    pub(crate) syncs: usize,
    pub(crate) seconds: f64,
}

/// Streams to a new log in this process.
pub(crate) fn run<S: Stream>(directory: &Path, amount: Amount) -> Result<Outcome> {
    // What was written before must not be on its way to the disk meanwhile.
    rustix::fs::syncfs(File::open(directory)?)?;
    let mut log =
        Appended { log: S::open(directory, amount.sync_bytes)?, bytes: 0, marks: VecDeque::new(), lap: amount.lap };
    if amount.lap == Lap::Steady {
        log.stream(amount.sync_bytes.max(WARM_UP_SYNC_BYTES_MIN), WARM_UP_BYTES)?;
        log.stream(amount.sync_bytes, SETTLING_BYTES)?;
    }
    measure(&mut log, amount, directory)
}

fn measure<S: Stream>(log: &mut Appended<S>, amount: Amount, directory: &Path) -> Result<Outcome> {
    let noise = noise(amount.sync_bytes);
    let records = records(&noise);
    let device = Device::of(directory);
    let written = || device.as_ref().and_then(Device::bytes_written);
    let count = amount.syncs.min(amount.bytes / amount.sync_bytes);
    let mut took = Vec::with_capacity(count);
    let (before, began) = (written(), Instant::now());
    while took.len() < count && began.elapsed().as_secs_f64() < amount.seconds {
        log.append(black_box(&records))?;
        took.push(log.sync()?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let appended = (took.len() * amount.sync_bytes) as f64;
    took.sort_unstable();
    Ok(Outcome::Stream {
        mib_per_second: appended / MIB as f64 / seconds,
        p50_us: quantile_us(&took, 0.5),
        p99_us: quantile_us(&took, 0.99),
        amp: before.zip(written()).map(|(before, after)| (after - before) as f64 / appended),
    })
}

/// A log, and where it had come to at each sync, as far as that is still in it.
struct Appended<S: Stream> {
    log: S,
    bytes: usize,
    marks: VecDeque<(S::Mark, usize)>,
    lap: Lap,
}

impl<S: Stream> Appended<S> {
    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        self.log.append(records)?;
        self.bytes += records.len() * RECORD_LEN;
        Ok(())
    }

    fn stream(&mut self, sync_bytes: usize, bytes: usize) -> Result<()> {
        let noise = noise(sync_bytes);
        let records = records(&noise);
        for _ in 0..bytes / sync_bytes {
            self.append(&records)?;
            self.sync()?;
        }
        Ok(())
    }

    /// How long the sync took. Then lets go of what is older than the log keeps.
    fn sync(&mut self) -> Result<Duration> {
        let clock = Instant::now();
        let mark = self.log.sync()?;
        let took = clock.elapsed();
        if self.lap == Lap::Steady {
            self.marks.push_back((mark, self.bytes));
            self.trim()?;
        }
        Ok(took)
    }

    fn trim(&mut self) -> Result<()> {
        let retained_from = self.bytes.saturating_sub(RETAINED_BYTES);
        let mut oldest = None;
        while let Some((mark, _)) = self.marks.pop_front_if(|(_, bytes)| *bytes <= retained_from) {
            oldest = Some(mark);
        }
        oldest.map_or(Ok(()), |mark| self.log.trim(mark))
    }
}

/// Bytes in which no compressor finds anything.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(SEED);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// As many records as count as `noise`.
fn records(noise: &[u8]) -> Vec<&[u8]> {
    noise.chunks_exact(PAYLOAD_LEN).take(noise.len() / RECORD_LEN).collect()
}

/// Microseconds that a share of `quantile` of those in order did not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn quantile_us(sorted: &[Duration], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e6)
}
