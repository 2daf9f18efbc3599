//! The objects of an archive and their keys, which say all that has to be known of them: they sort in the log's order, and
//! show gaps.

use mapwal::Lsn;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::error::ObjectDamage;
use crate::marks::Mark;

const SEGMENT_SUFFIX: &str = ".seg";
const PART_SUFFIX: &str = ".part";
const EPOCH: &str = "epoch.json";
const SESSION: &str = "session.json";
const FORGOTTEN: &str = "forgotten";
const PRUNED: &str = "pruned";
/// As many as have digits in a key.
pub(crate) const EPOCH_MAX: u64 = 9_999_999_999;

/// A segment, or a part of one, in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchivedSegment {
    /// The epoch that it belongs to.
    pub epoch: u64,
    /// The number of its first record; the same as `next_lsn` if it has none.
    pub first_lsn: Lsn,
    /// The number after its last record.
    pub next_lsn: Lsn,
    /// The segment's number.
    pub number: u64,
    /// Where it begins in the segment, if it is a part of one: a byte offset. A sealed segment is whole.
    pub part: Option<u64>,
    /// The CRC-32 of its bytes.
    pub checksum: u32,
    /// The length that it was uploaded with, in bytes: its key says it.
    pub len_bytes: u64,
    /// The length that the store has. Another one is damage.
    pub stored_bytes: u64,
    /// Its key.
    pub key: Path,
    /// What tells its versions apart, if the store says so.
    pub e_tag: Option<String>,
}

impl ArchivedSegment {
    pub(crate) fn with_key(mut self, prefix: &Path) -> Self {
        self.key = epoch_prefix(prefix, self.epoch).join(self.file_name());
        self
    }

    fn file_name(&self) -> String {
        let Self { first_lsn: Lsn(first), next_lsn: Lsn(next), number, len_bytes: len, checksum, .. } = self;
        let begin = format!("{first:020}-{next:020}-{number:010}");
        match self.part {
            None => format!("{begin}-{len:010}-{checksum:08x}{SEGMENT_SUFFIX}"),
            Some(offset) => format!("{begin}-{offset:010}-{len:010}-{checksum:08x}{PART_SUFFIX}"),
        }
    }

    /// The log's order, of segments of one history.
    pub(crate) fn order(&self) -> (Lsn, Lsn, u64) {
        (self.first_lsn, self.next_lsn, self.number)
    }

    /// Byte offset in the segment after its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.part.unwrap_or(0) + self.len_bytes
    }

    /// What the store's list shows to be wrong with it.
    pub(crate) fn damage(&self) -> Option<ObjectDamage> {
        let (expected, found) = (self.len_bytes, self.stored_bytes);
        (expected != found).then_some(ObjectDamage::Length { expected, found })
    }

    fn parse(epoch: u64, name: &str) -> Option<Self> {
        let (stem, is_part) = match (name.strip_suffix(SEGMENT_SUFFIX), name.strip_suffix(PART_SUFFIX)) {
            (Some(stem), _) => (stem, false),
            (None, Some(stem)) => (stem, true),
            (None, None) => return None,
        };
        let mut fields = stem.split('-');
        let mut number = |width| fields.next().filter(|field| field.len() == width).and_then(digits);
        let (first, next, segment) = (number(20)?, number(20)?, number(10)?);
        let part = if is_part { Some(number(10)?) } else { None };
        let len_bytes = number(10)?;
        let checksum = fields.next().filter(|field| field.len() == 8)?;
        let checksum = u32::from_str_radix(checksum, 16).ok()?;
        let is_in_order = first >= 1 && first <= next && fields.next().is_none();
        let found = Self {
            epoch,
            first_lsn: Lsn(first),
            next_lsn: Lsn(next),
            number: segment,
            part,
            checksum,
            len_bytes,
            stored_bytes: len_bytes,
            key: Path::default(),
            e_tag: None,
        };
        // One key for one thing: nothing but what is written here is read here.
        (is_in_order && found.file_name() == name).then_some(found)
    }
}

fn parse_mark(name: &str) -> Option<Mark> {
    let (before, epoch) = name.split_once('-').filter(|(before, epoch)| (before.len(), epoch.len()) == (20, 10))?;
    Some(Mark { before: Lsn(digits(before)?), epoch: digits(epoch)? })
}

fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What a key below the prefix is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Segment(ArchivedSegment),
    /// What is known of an epoch.
    Epoch(u64),
    /// Which archiver writes an epoch.
    Session(u64),
    /// That an epoch was forgotten: its number stays taken.
    Forgotten(u64),
    /// Which records were pruned.
    Pruned(Mark),
    /// Not an archive's.
    Foreign,
}

impl Object {
    pub(crate) fn of(prefix: &Path, meta: &ObjectMeta) -> Self {
        let names = meta.location.prefix_match(prefix).map(|parts| parts.map(|part| part.as_ref().to_owned()));
        let names: Vec<String> = names.into_iter().flatten().collect();
        let [directory, name] = names.as_slice() else { return Self::Foreign };
        if directory == PRUNED {
            return parse_mark(name).map_or(Self::Foreign, Self::Pruned);
        }
        let Some(epoch) = digits(directory).filter(|&epoch| directory.len() == 10 && epoch > 0) else {
            return Self::Foreign;
        };
        match name.as_str() {
            EPOCH => Self::Epoch(epoch),
            SESSION => Self::Session(epoch),
            FORGOTTEN => Self::Forgotten(epoch),
            _ => ArchivedSegment::parse(epoch, name).map_or(Self::Foreign, |segment| {
                let (key, e_tag) = (meta.location.clone(), meta.e_tag.clone());
                Self::Segment(ArchivedSegment { stored_bytes: meta.size, key, e_tag, ..segment })
            }),
        }
    }
}

fn epoch_prefix(prefix: &Path, epoch: u64) -> Path {
    prefix.clone().join(format!("{epoch:010}"))
}

/// How the key of the segment of `epoch` begins that has record `first` as its first one.
pub(crate) fn key_from(prefix: &Path, epoch: u64, first: Lsn) -> String {
    format!("{}/{:020}-", epoch_prefix(prefix, epoch), first.0)
}

pub(crate) fn epoch_key(prefix: &Path, epoch: u64) -> Path {
    epoch_prefix(prefix, epoch).join(EPOCH)
}

/// Whether the key is that of the note of an epoch.
pub(crate) fn is_note(key: &str) -> bool {
    key.ends_with(EPOCH)
}

pub(crate) fn session_key(prefix: &Path, epoch: u64) -> Path {
    epoch_prefix(prefix, epoch).join(SESSION)
}

pub(crate) fn forgotten_key(prefix: &Path, epoch: u64) -> Path {
    epoch_prefix(prefix, epoch).join(FORGOTTEN)
}

/// What is there for a moment, so that a store syncs the names beside it.
pub(crate) fn synced_key(prefix: &Path, epoch: u64) -> Path {
    epoch_prefix(prefix, epoch).join("synced")
}

pub(crate) fn pruned_key(prefix: &Path, Mark { before: Lsn(before), epoch }: Mark) -> Path {
    prefix.clone().join(PRUNED).join(format!("{before:020}-{epoch:010}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Object {
        let now = std::time::SystemTime::UNIX_EPOCH.into();
        let meta = ObjectMeta { location: Path::from(key), last_modified: now, size: 7, e_tag: None, version: None };
        Object::of(&Path::from("a/log"), &meta)
    }

    fn segment(part: Option<u64>) -> ArchivedSegment {
        let (key, e_tag, len_bytes) = (Path::default(), None, 7);
        let (first_lsn, next_lsn) = (Lsn(1), Lsn(u64::MAX));
        let found = ArchivedSegment {
            epoch: 3,
            first_lsn,
            next_lsn,
            number: 2,
            part,
            checksum: 0xab,
            len_bytes,
            stored_bytes: len_bytes,
            key,
            e_tag,
        };
        found.with_key(&Path::from("a/log"))
    }

    #[test]
    fn a_key_says_what_the_object_is() {
        for part in [None, Some(4 << 30)] {
            let written = segment(part);
            assert_eq!(object(written.key.as_ref()), Object::Segment(written));
        }
        assert_eq!(
            segment(None).key.as_ref(),
            "a/log/0000000003/00000000000000000001-18446744073709551615-0000000002-0000000007-000000ab.seg"
        );
        let prefix = Path::from("a/log");
        assert_eq!(object(epoch_key(&prefix, 9).as_ref()), Object::Epoch(9));
        assert_eq!(object(session_key(&prefix, 9).as_ref()), Object::Session(9));
        assert_eq!(object(forgotten_key(&prefix, 9).as_ref()), Object::Forgotten(9));
        let mark = Mark { before: Lsn(9), epoch: 3 };
        assert_eq!(object(pruned_key(&prefix, mark).as_ref()), Object::Pruned(mark));
    }

    #[test]
    fn what_is_not_written_here_is_not_read_here() {
        let good = segment(None).key.to_string();
        for (from, to) in
            [("ab.seg", "AB.seg"), ("0000000003/", "3/"), (".seg", ".seg.tmp"), ("-0000000002", ""), ("/log", "/lag")]
        {
            assert_eq!(object(&good.replace(from, to)), Object::Foreign, "{from} {to}");
        }
        assert_eq!(object("a/log/0000000000/epoch.json"), Object::Foreign);
        assert_eq!(object("a/log/0000000003/b/epoch.json"), Object::Foreign);
        assert_eq!(object("a/log/pruned/00000000000000000009"), Object::Foreign);
    }
}
