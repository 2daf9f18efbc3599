//! A log whose control page has any words, before segments that may be changed too, is read, followed and opened:
//! nothing panics, and what opens works.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use std::fs;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use support::Change;

const PAGE_WORDS: usize = 512;
const MAGIC: u64 = u64::from_le_bytes(*b"mapwctl\x01");
/// Where the log id stands in a segment's header.
const LOG_ID_AT: usize = 32;

/// What the page says.
#[derive(Debug, Arbitrary)]
struct Page {
    pid: u32,
    poisoned: u8,
    active: u32,
    oldest: u32,
    /// Number, segment and offset of a position, and record: what is durable, twice.
    durable: [(u64, u32, u16, u64); 2],
    version: bool,
    /// Other words than these, for any word.
    words: Vec<(u16, u64)>,
}

impl Page {
    fn encode(&self, id: &[u8; 16]) -> Vec<u8> {
        let mut words = [0; PAGE_WORDS];
        words[0] = MAGIC;
        for (word, half) in words[1..].iter_mut().zip(id.as_chunks().0) {
            *word = u64::from_le_bytes(*half);
        }
        words[4] = self.pid.into();
        words[5] = self.version.into();
        words[7] = signed(id, self.active);
        words[8] = self.poisoned.into();
        words[9] = signed(id, self.oldest);
        for (at, (number, segment, offset, lsn)) in [80, 88].into_iter().zip(self.durable) {
            let said = [number, u64::from(segment) << 32 | u64::from(offset), lsn];
            words[at..at + 3].copy_from_slice(&said);
            words[at + 3] = checksum(id, &said).into();
        }
        for (at, word) in &self.words {
            words[usize::from(*at) % PAGE_WORDS] = *word;
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

fn checksum(id: &[u8; 16], words: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id);
    words.iter().for_each(|word| hasher.update(&word.to_le_bytes()));
    hasher.finalize()
}

fn signed(id: &[u8; 16], number: u32) -> u64 {
    u64::from(number) | u64::from(checksum(id, &[number.into()])) << 32
}

fuzz_target!(|input: (Page, Vec<Change>)| {
    let (page, changes) = input;
    let segments = support::changed(&changes);
    let dir = support::lay_out(&segments);
    let id = segments.first().and_then(|(_, bytes)| bytes.get(LOG_ID_AT..)?.first_chunk());
    let page = page.encode(id.unwrap_or(&[0; 16]));
    fs::write(dir.path().join("control"), page).expect("there is room");
    support::read_all(dir.path());
});
