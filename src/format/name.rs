//! Names of the files in a log's directory.

/// Held under an exclusive lock by the writer.
pub(crate) const LOCK: &str = "LOCK";
/// The page of watermarks for followers in other processes.
pub(crate) const CONTROL: &str = "control";
/// The directory of named pins.
pub(crate) const PINS: &str = "pins";
/// What ends the name of a file that is not finished.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
/// The name under which that is made.
const PINS_TEMPORARY: &str = "pins.tmp";
const SEGMENT_SUFFIX: &str = ".seg";
const DIGITS: usize = 20;
/// Made by file systems and desktops, not by people: in the root of a volume, or in any directory that is looked at.
const OF_SYSTEM: [&str; 14] = [
    "lost+found",
    ".snapshot",
    ".snapshots",
    ".zfs",
    ".Trash",
    ".Trashes",
    ".fseventsd",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".DS_Store",
    ".localized",
    ".directory",
    "$RECYCLE.BIN",
    "System Volume Information",
];
/// Trash of one user; a file that was removed while it was open.
const OF_SYSTEM_PREFIXES: [&str; 2] = [".Trash-", ".nfs"];

/// The name of segment `number`: fixed width, so that listing order is log order.
pub(crate) fn segment(number: u64) -> String {
    format!("{number:0DIGITS$}{SEGMENT_SUFFIX}")
}

/// The name under which segment `number` is prepared.
pub(crate) fn temporary_segment(number: u64) -> String {
    format!("{number:0DIGITS$}{TEMPORARY_SUFFIX}")
}

/// The number of the segment that the file of this temporary name was to be, or has been.
pub(crate) fn temporary_number(name: &str) -> Option<u64> {
    parse_number(name.strip_suffix(TEMPORARY_SUFFIX)?)
}

/// What a directory entry's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Lock,
    Control,
    Pins,
    /// Left where it is, whatever it is, until the directory of pins is made.
    UnfinishedPins,
    Temporary,
    Segment(u64),
    /// Ends like a segment, but its number cannot be one's.
    BadSegment,
    /// What systems leave on volumes and in directories by themselves: it says nothing about whose the directory is.
    OfSystem,
    Foreign,
}

impl Name {
    pub(crate) fn parse(name: &[u8]) -> Self {
        let Ok(name) = std::str::from_utf8(name) else { return Self::Foreign };
        if let Some(stem) = name.strip_suffix(SEGMENT_SUFFIX) {
            return parse_number(stem).map_or(Self::BadSegment, Self::Segment);
        }
        if name == PINS_TEMPORARY {
            return Self::UnfinishedPins;
        }
        if let Some(stem) = name.strip_suffix(TEMPORARY_SUFFIX) {
            let ours = stem == CONTROL || parse_number(stem).is_some();
            return if ours { Self::Temporary } else { Self::Foreign };
        }
        match name {
            LOCK => Self::Lock,
            CONTROL => Self::Control,
            PINS => Self::Pins,
            _ if is_of_system(name) => Self::OfSystem,
            _ => Self::Foreign,
        }
    }
}

fn is_of_system(name: &str) -> bool {
    OF_SYSTEM.contains(&name) || OF_SYSTEM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn parse_number(stem: &str) -> Option<u64> {
    let well_formed = stem.len() == DIGITS && stem.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = if well_formed { stem.parse().ok()? } else { return None };
    (1..super::position::SEGMENT_NUMBER_LIMIT).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        assert_eq!(Name::parse(segment(42).as_bytes()), Name::Segment(42));
        assert_eq!(Name::parse(temporary_segment(42).as_bytes()), Name::Temporary);
    }

    #[test]
    fn numbers_out_of_range_or_of_another_width_are_bad_segments() {
        for name in ["1.seg", "00000000000000000000.seg", "+0000000000000000001.seg", "99999999999999999999.seg"] {
            assert_eq!(Name::parse(name.as_bytes()), Name::BadSegment, "{name}");
        }
        assert_eq!(Name::parse(b"notes.tmp"), Name::Foreign);
        assert_eq!(Name::parse(b"\xff.seg"), Name::Foreign);
    }
}
