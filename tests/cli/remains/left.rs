//! What is left of a damaged log, and what is listed as lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::original::{Original, number_of, path_of};
use crate::logs::segments;
use crate::program::Ran;

/// What `salvage` or `repair` lists as lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) up_to: Option<u64>,
    pub(super) from: Option<u64>,
}

impl Listed {
    pub(super) fn of(ran: &Ran) -> Self {
        let mut listed = Self::default();
        for line in ran.lines().into_iter().filter_map(|line| line.strip_prefix("lost ")) {
            let words: Vec<&str> = line.split([' ', ':']).collect();
            match words[..] {
                ["all", "up", "to", last, ..] => listed.up_to = Some(last.parse().unwrap()),
                ["what", "there", "was", "from", first, ..] => listed.from = Some(first.parse().unwrap()),
                _ => {
                    let (first, last) = words[0].split_once("..").unwrap();
                    listed.ranges.push((first.parse().unwrap(), last.parse().unwrap()));
                }
            }
        }
        listed
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&number))
            || self.up_to.is_some_and(|last| number <= last)
            || self.from.is_some_and(|first| number >= first)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is still there, by the bytes from before.
pub(super) struct Left {
    pub(super) sound: BTreeSet<u64>,
    /// The control page is as it was.
    pub(super) has_control: bool,
    /// Numbers up to this one were in use, by the control page or a frame that is sound.
    pub(super) told: u64,
    /// Nothing tells that something was before the first segment that is left.
    pub(super) is_beginning_open: bool,
    /// Nothing tells that something was after the last.
    pub(super) is_end_open: bool,
}

impl Left {
    pub(super) fn find(original: &Original, log: &Path) -> Self {
        let sources = original.sources(log);
        let has_control = fs::read(log.join("control")).is_ok_and(|control| control == original.control);
        let mut left = Self {
            sound: BTreeSet::new(),
            has_control,
            told: if has_control { original.durable } else { 0 },
            is_beginning_open: !has_control,
            is_end_open: true,
        };
        for (number, bytes) in &sources {
            let segment = &original.segments[number];
            for frame in &segment.frames {
                if bytes.get(frame.at..frame.end) != Some(&segment.bytes[frame.at..frame.end]) {
                    continue;
                }
                let is_number = frame.kind <= 2;
                left.told = left.told.max(if is_number { frame.lsn } else { frame.lsn - 1 });
                if frame.kind == 1 {
                    left.sound.insert(frame.lsn);
                }
                // A seal names a segment that has no file any more.
                let is_next_gone = !sources.iter().any(|(other, _)| other > number) && !has_name(log, number + 1);
                left.is_end_open &= frame.kind != 4 || !is_next_gone;
            }
        }
        let first = sources.iter().map(|&(number, _)| number).min().unwrap_or(0);
        let names: Vec<u64> = segments(log).iter().map(|path| number_of(path)).collect();
        left.is_beginning_open &= names.iter().all(|&name| name >= first);
        left
    }

    /// Whether something tells that record `number`, which is not there, was.
    pub(super) fn is_told(&self, number: u64) -> bool {
        let is_before = self.sound.first().is_none_or(|&first| number < first);
        let is_after = self.sound.last().is_none_or(|&last| number > last);
        match (is_before, is_after) {
            _ if is_after => number <= self.told || !self.is_end_open,
            (true, _) => !self.is_beginning_open,
            _ => true,
        }
    }
}

pub(super) fn has_name(log: &Path, number: u64) -> bool {
    path_of(log, number).exists()
}
