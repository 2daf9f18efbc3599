//! Damage to bytes that had been acknowledged: it must be reported, never passed over.

use std::sync::Arc;

use fastrand::Rng;
use mapwal::testing::open_log;
use mapwal::{Error, Options};

use super::disk::SimDisk;
use super::model::{Model, Observed, Rule, Violation, first_word};
use super::run::SEGMENT_BYTES;

/// Bytes of a frame in front of its payload.
const HEADER_BYTES: usize = 24;

/// Damages a record on `disk` that a later one proves to have been durable. Whether there was one to be damaged.
pub fn look(disk: &SimDisk, model: &Model, seed: u64) -> Result<bool, Violation> {
    let mut rng = Rng::with_seed(seed);
    let mut provable = model.provable();
    // Shorter ones cannot be found by their first word.
    provable.retain(|(_, len)| *len >= 8);
    let Some(&(id, len)) = rng.choice(&provable) else { return Ok(false) };
    let Some((name, payload)) = disk.find(first_word(id)) else {
        return Err(Violation::new(Rule::Lost, format!("an acknowledged record of {len} bytes is not on the device")));
    };
    let what = harm(disk, &name, payload - HEADER_BYTES, len as usize, &mut rng);
    let options = Options::new().segment_size_bytes(SEGMENT_BYTES).create(false);
    // SAFETY: nobody else has this copy of the disk.
    #[expect(unsafe_code, reason = "opening a log is unsafe")]
    let opened = unsafe { open_log(Arc::new(disk.clone()), &options) };
    match opened.and_then(|log| Observed::read(&log)) {
        Err(Error::Corrupt(_)) => Ok(true),
        Err(error) => Err(Violation::new(Rule::MissedCorruption, format!("{what} is reported as {error}"))),
        Ok(_) => Err(Violation::new(Rule::MissedCorruption, format!("{what} goes unnoticed"))),
    }
}

/// Changes bytes of the frame at `offset`; says what was changed.
fn harm(disk: &SimDisk, name: &str, offset: usize, len: usize, rng: &mut Rng) -> String {
    let frame = offset..offset + HEADER_BYTES + len;
    match rng.u8(0..4) {
        0 => {
            frame.clone().for_each(|at| disk.damage(name, at, |_| 0));
            format!("a frame of zeros at {offset} of {name}")
        }
        1 => {
            (offset..offset + 8).for_each(|at| disk.damage(name, at, |_| 0));
            format!("a commit word of zeros at {offset} of {name}")
        }
        2 => {
            let at = rng.usize(frame);
            let mask = rng.u8(1..);
            disk.damage(name, at, |byte| byte ^ mask);
            format!("a byte changed by {mask:#x} at {at} of {name}, in the frame at {offset}")
        }
        _ => {
            let bit = rng.u8(0..8);
            let at = rng.usize(frame);
            disk.damage(name, at, |byte| byte ^ (1 << bit));
            format!("bit {bit} flipped at {at} of {name}, in the frame at {offset}")
        }
    }
}
