//! A log whose control page has any words, before segments that may be changed too, is read, followed and opened:
//! nothing panics, and what opens works.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, clippy::unwrap_used, reason = "as before")]
#[path = "../../tests/it/format/page.rs"]
mod page;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use std::fs;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use support::Change;

const PAGE_WORDS: usize = 512;
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
    /// The position of a close.
    closed: u64,
    is_shown: bool,
    /// Other words than these, for any word.
    words: Vec<(u16, u64)>,
}

impl Page {
    fn encode(&self, id: &[u8; 16]) -> Vec<u8> {
        let mut bytes = vec![0; page::LEN];
        bytes[..8].copy_from_slice(if self.is_shown { page::SHOWN } else { page::UNFINISHED });
        bytes[8..24].copy_from_slice(id);
        page::put(&mut bytes, 4, &[self.pid.into()]);
        page::put(&mut bytes, 8, &[self.poisoned.into()]);
        for (at, value) in page::SINGLE.into_iter().zip([page::VERSION, self.active, self.oldest]) {
            page::put_signed(&mut bytes, at, value);
        }
        for (at, (number, segment, offset, lsn)) in page::DURABLE.into_iter().zip(self.durable) {
            page::put_group(&mut bytes, at, &[number, u64::from(segment) << 32 | u64::from(offset), lsn]);
        }
        page::put_group(&mut bytes, page::CLOSED, &[self.closed]);
        for (at, word) in &self.words {
            page::put(&mut bytes, usize::from(*at) % PAGE_WORDS, &[*word]);
        }
        bytes
    }
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
