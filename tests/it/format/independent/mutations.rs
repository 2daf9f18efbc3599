//! What may happen to the files of a log: to bits, to pages, to whole files, and to frames, with their checksums made
//! right again.

use std::ops::Range;

use fastrand::Rng;

use super::specimens::{Files, Specimen};
use crate::format::page;
use crate::support::stored::{self, CRC, FLAGS, FRAME_HEADER_LEN, HEADER_LEN, KIND, LEN, LSN, TAG};

const PAGE: usize = 4096;

/// Changes `files` in one to three ways; returns which.
pub(super) fn apply(random: &mut Rng, files: &mut Files, specimen: &Specimen) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..[1, 1, 1, 2, 3][random.usize(0..5)] {
        let name = pick(random, files);
        let kind = random.usize(0..22);
        change(random, kind, &name, files, specimen);
        done.push(format!("{kind} in {}", name.trim_start_matches('0')));
        if files.is_empty() {
            break;
        }
    }
    done
}

fn pick(random: &mut Rng, files: &Files) -> String {
    let segments: Vec<&String> = files.keys().filter(|name| name.ends_with(".seg")).collect();
    segments.get(random.usize(0..segments.len().max(1))).map_or("control".to_owned(), |&name| name.clone())
}

fn change(random: &mut Rng, kind: usize, name: &str, files: &mut Files, specimen: &Specimen) {
    let used = files.get(name).map_or(0, |bytes| used(bytes));
    match kind {
        0..=2 => flip(random, files, name, HEADER_LEN.min(used)..used),
        3 => flip(random, files, name, 0..72),
        4 => flip(random, files, "control", 0..800),
        5 => fill(random, files, name, true, |random| random.usize(0..16) * PAGE..PAGE),
        6 => cut_tail(random, files, name),
        7 => fill(random, files, name, false, |random| random.usize(HEADER_LEN..70_000)..random.usize(1..64)),
        8 => drop(files.remove(name)),
        9 => drop(files.remove("control")),
        10 => {
            let len = if random.bool() { random.usize(0..65536) } else { random.usize(0..40) * PAGE };
            files.entry(name.to_owned()).and_modify(|bytes| bytes.resize(len, 0));
        }
        11..=13 => forge(random, files, name),
        14 => {
            let other = files.get(&pick(random, files)).cloned().unwrap_or_default();
            files.insert(name.to_owned(), other);
        }
        15 => erase_frame(random, files, name),
        16 => append_forged(random, files, name),
        17 => forge_header(random, files, name),
        18 => {
            for (name, bytes) in specimen.older.iter().filter(|_| random.bool()) {
                files.insert(name.clone(), bytes.clone());
            }
        }
        19 => recycle(random, files, name),
        20 => add_segment(random, files, name),
        _ => forge_control(random, files),
    }
}

/// The end of what is not zero.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

fn flip(random: &mut Rng, files: &mut Files, name: &str, range: Range<usize>) {
    if let Some(byte) =
        files.get_mut(name).and_then(|bytes| bytes.get_mut(random.usize(range.start..range.end.max(range.start + 1))))
    {
        *byte ^= 1 << random.u8(0..8);
    }
}

/// `place` is a start and a length.
fn fill(random: &mut Rng, files: &mut Files, name: &str, zero: bool, place: impl Fn(&mut Rng) -> Range<usize>) {
    let Range { start, end: len } = place(random);
    let Some(bytes) = files.get_mut(name) else { return };
    let end = (start + len).min(bytes.len());
    for byte in bytes.get_mut(start..end).unwrap_or_default() {
        *byte = if zero { 0 } else { random.u8(..) };
    }
}

/// The offsets of frames, as far as their lengths lead.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let len = |at: usize| bytes.get(at..at + 4).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()) as usize);
    let next = |&at: &usize| Some(at + len(at).next_multiple_of(8));
    std::iter::successors(Some(HEADER_LEN), next)
        .take_while(|&at| len(at) >= FRAME_HEADER_LEN && at + len(at) <= bytes.len())
        .collect()
}

/// Nothing from the start of a frame on has reached the disk, or from the middle of one.
fn cut_tail(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name) else { return };
    let Some(start) = random.choice(frames(bytes)) else { return };
    let start = start + if random.bool() { 0 } else { random.usize(0..40) };
    bytes.iter_mut().skip(start).for_each(|byte| *byte = 0);
}

fn erase_frame(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name) else { return };
    let frames = frames(bytes);
    let Some(at) = random.choice(0..frames.len()) else { return };
    let end = if random.bool() { frames[at] + 8 } else { frames.get(at + 1).copied().unwrap_or(bytes.len()) };
    bytes[frames[at]..end].fill(0);
}

/// Changes a field of a frame, whose checksum is right then.
fn forge(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name) else { return };
    let Some(at) = random.choice(frames(bytes)) else { return };
    forge_at(random, bytes, at);
}

fn forge_at(random: &mut Rng, bytes: &mut [u8], at: usize) {
    let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    match random.usize(0..8) {
        0 => bytes[at + KIND] = random.u8(0..9),
        1 => bytes[at + FLAGS] = random.u8(0..4),
        2 => bytes[at + TAG.start] ^= random.u8(0..3),
        3 => bytes[at + LSN.start] = bytes[at + LSN.start].wrapping_add(random.u8(0..4)),
        4 => {
            let lag = [0, 1, random.u32(0..2000), 0x2000_0000, u32::MAX][random.usize(0..5)];
            bytes[at + 16..at + 20].copy_from_slice(&lag.to_le_bytes());
        }
        5 if len > FRAME_HEADER_LEN => bytes[at + random.usize(FRAME_HEADER_LEN..len)] = random.u8(0..4),
        6 => {
            // The padding, which no checksum is of.
            if let Some(byte) = bytes.get_mut(at + len..(at + len).next_multiple_of(8)).and_then(<[u8]>::first_mut) {
                *byte = random.u8(..);
            }
        }
        _ => {
            let shorter = len.saturating_sub(random.usize(0..9)).max(FRAME_HEADER_LEN);
            bytes[at..at + LEN.end].copy_from_slice(&u32::try_from(shorter).unwrap().to_le_bytes());
        }
    }
    stored::seal_frame(bytes, at);
}

/// A frame of the segment once more, after its end, or after some zeros.
fn append_forged(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name) else { return };
    let frames = frames(bytes);
    let (Some(from), Some(&last)) = (random.choice(frames.iter().copied()), frames.last()) else { return };
    let len_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let to = last + len_at(last).next_multiple_of(8) + [0, 0, 8, 64][random.usize(0..4)];
    let frame = bytes[from..from + len_at(from)].to_vec();
    let lsn: [u8; 8] = bytes[last + LSN.start..last + LSN.end].try_into().unwrap();
    let Some(place) = bytes.get_mut(to..to + frame.len()) else { return };
    place.copy_from_slice(&frame);
    let next = u64::from_le_bytes(lsn).wrapping_add(random.u64(0..3));
    bytes[to + LSN.start..to + LSN.end].copy_from_slice(&next.to_le_bytes());
    stored::seal_frame(bytes, to);
    if random.bool() {
        forge_at(random, bytes, to);
    }
    const { assert!(CRC.end == 8) };
}

fn forge_header(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name).filter(|bytes| bytes.len() >= HEADER_LEN) else { return };
    match random.usize(0..6) {
        0 => bytes[8] = random.u8(0..6),
        1 => bytes[stored::NUMBER.start] ^= random.u8(0..3),
        2 => bytes[stored::SEGMENT_SIZE.start + 2] ^= random.u8(0..4),
        3 => bytes[stored::LOG_ID.start] ^= 1,
        4 => bytes[stored::INCOMPATIBLE.start + random.usize(0..12)] = random.u8(0..3),
        _ => bytes[stored::FIELDS_END + random.usize(0..4000)] = random.u8(..),
    }
    stored::seal_header(bytes);
}

/// The file was another segment before, and holds what that has left.
fn recycle(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(bytes) = files.get_mut(name).filter(|bytes| bytes.len() >= HEADER_LEN) else { return };
    stored::recycle(bytes);
    let used = used(bytes).next_multiple_of(8) + random.usize(0..3) * 8;
    for byte in bytes.iter_mut().skip(used).take(random.usize(0..600)) {
        *byte = random.u8(..);
    }
}

/// A file after the newest, or in a hole: a spare, or what a crash has left of one.
fn add_segment(random: &mut Rng, files: &mut Files, name: &str) {
    let Some(mut bytes) = files.get(name).cloned().filter(|bytes| bytes.len() >= HEADER_LEN) else { return };
    let newest = files.keys().filter_map(|name| name.strip_suffix(".seg")?.parse::<u64>().ok()).max().unwrap_or(0);
    let number = newest + random.u64(1..3);
    bytes[stored::NUMBER].copy_from_slice(&number.to_le_bytes());
    stored::seal_header(&mut bytes);
    match random.usize(0..4) {
        0 => {}
        1 => bytes.iter_mut().skip(HEADER_LEN + random.usize(1..200)).for_each(|byte| *byte = 0),
        _ => bytes.iter_mut().skip(HEADER_LEN).for_each(|byte| *byte = 0),
    }
    files.insert(format!("{number:020}.seg"), bytes);
}

/// A word of the control page, with its checksum.
fn forge_control(random: &mut Rng, files: &mut Files) {
    let end = files.iter().rfind(|(name, _)| name.ends_with(".seg")).map_or(1 << 32, |(name, bytes)| {
        (name[..20].parse::<u64>().unwrap() << 32) + used(bytes).next_multiple_of(8) as u64
    });
    let Some(page) = files.get_mut("control").filter(|page| page.len() == page::LEN) else { return };
    match random.usize(0..5) {
        0 => {
            let at = page::DURABLE[random.usize(0..2)];
            let position = [end, end + 8, end - 32, (end | 0xffff_ffff) + 1, 0][random.usize(0..5)];
            let mut values = page::values(page, at, page::DURABLE_WORDS).unwrap_or_else(|| vec![0; 3]);
            values[1] = position;
            let mut words = page::group(page, at, &values);
            if random.bool() {
                // Half of it is as it was, as a crash may leave it.
                let from = random.usize(0..words.len());
                words.truncate(from);
            }
            page::put(page, at, &words);
        }
        1 => {
            let at = [7, 9][random.usize(0..2)];
            page::put_signed(page, at, random.u32(0..6));
        }
        2 => {
            let position = [end, end - 24, end - 32, end - 56, 0][random.usize(0..5)];
            page::put_group(page, page::CLOSED, &[position]);
        }
        3 => {
            let (version, is_whole) = (random.u32(0..4), random.bool());
            let word = if is_whole { page::signed(page, 5, version) } else { u64::from(version) };
            page::put(page, 5, &[word]);
        }
        _ => page::put(page, random.usize(0..100), &[random.u64(0..3)]),
    }
}
