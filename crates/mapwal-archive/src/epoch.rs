//! The two notes that each epoch has: where it comes from, written once, and which archiver writes it.

use std::time::{SystemTime, UNIX_EPOCH};

use mapwal::{Lsn, SegmentTip};
use serde::{Deserialize, Serialize};

use crate::error::ObjectDamage;
use crate::store::encode;

/// What is known of an epoch: written before its first segment, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EpochNote {
    pub(crate) version: u32,
    /// The identity of the log, in hexadecimal digits.
    pub(crate) log: String,
    /// Which archiver began it: the pin of the log says the same. Empty in one that was made again where nothing had it any more: then it is
    /// that of no pin.
    pub(crate) token: String,
    /// Its first record.
    pub(crate) first_lsn: u64,
    /// The history that it continues.
    pub(crate) parent: Option<Parent>,
    /// Records that were in no epoch when it began: they were trimmed before they were archived. From, and up to but without.
    pub(crate) lost: Option<(u64, u64)>,
    /// The epoch in whose place it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instead_of: Option<u64>,
    pub(crate) created_unix_ms: u64,
    /// The CRC-32 of the note as it is written without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<u32>,
}

/// Where an epoch leaves another one: the end of the last segment that both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) end_bytes: u64,
    pub(crate) checksum: u32,
}

/// The archiver that writes an epoch. The only note that is ever written over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionNote {
    pub(crate) token: String,
    /// That of the epoch, for a note that has to be made again.
    #[serde(default)]
    pub(crate) epoch_token: String,
    pub(crate) process: u32,
    pub(crate) host: String,
    pub(crate) began_unix_ms: u64,
}

impl EpochNote {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn log_id(&self) -> Option<u128> {
        u128::from_str_radix(&self.log, 16).ok()
    }

    /// With its checksum.
    pub(crate) fn signed(mut self) -> Self {
        self.checksum = Some(self.sum());
        self
    }

    fn sum(&self) -> u32 {
        crc32fast::hash(&encode(&Self { checksum: None, ..self.clone() }))
    }

    /// The note of epoch `number`, if the bytes are one and nothing is wrong with it.
    pub(crate) fn parse(bytes: &[u8], number: u64) -> Result<Self, ObjectDamage> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // A later one may have other members.
        let version = serde_json::from_slice(bytes).ok().map(|Version { version }| version);
        if let Some(version) = version.filter(|&version| version != Self::VERSION) {
            // Unless it is one of this version, with a digit that has changed.
            let known =
                serde_json::from_slice::<Self>(bytes).map(|note| (note.sum(), Self { version: Self::VERSION, ..note }));
            return Err(match known {
                Ok((found, note)) if note.checksum == Some(note.sum()) => {
                    ObjectDamage::Checksum { expected: note.sum(), found }
                }
                _ => ObjectDamage::Version { version },
            });
        }
        let note: Self = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line() as u64, error.column() as u64);
            ObjectDamage::Note { line, column }
        })?;
        note.fault(number).map_or(Ok(note), Err)
    }

    /// What is wrong with it as the note of epoch `number`, if anything is.
    fn fault(&self, number: u64) -> Option<ObjectDamage> {
        let expected = self.checksum.unwrap_or_default();
        let found = self.sum();
        if self.checksum != Some(found) {
            return Some(ObjectDamage::Checksum { expected, found });
        }
        let is_parent_older = self.parent.is_none_or(|parent| parent.epoch < number);
        let is_lost_before = self.lost.is_none_or(|(from, to)| 1 <= from && from < to && to <= self.first_lsn);
        let is_sound = is_parent_older && is_lost_before && self.first_lsn > 0 && self.log_id().is_some();
        (!is_sound).then_some(ObjectDamage::Contents)
    }
}

impl Parent {
    pub(crate) fn new(epoch: u64, tip: SegmentTip) -> Self {
        Self { epoch, number: tip.number, end_bytes: tip.end_bytes, checksum: tip.checksum }
    }

    pub(crate) fn is_at(&self, tip: SegmentTip) -> bool {
        (self.number, self.end_bytes, self.checksum) == (tip.number, tip.end_bytes, tip.checksum)
    }
}

impl SessionNote {
    /// Of an archiver that writes the epoch with this token.
    pub(crate) fn new(epoch_token: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let (process, host) = (std::process::id(), host.trim().to_owned());
        Self { token: token(), epoch_token: epoch_token.to_owned(), process, host, began_unix_ms: unix_ms() }
    }

    pub(crate) fn describe(&self) -> String {
        format!("process {} of {:?}, since {}", self.process, self.host, utc(self.began_unix_ms))
    }
}

/// Whose a pin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An archiver that is about to begin an epoch with this token, in the place of one that was `abandoned`, if one was.
    Begins { token: String, abandoned: Option<u64> },
    /// That of an epoch; where the pin was taken back, with the record before which all was confirmed.
    Of { epoch: u64, token: String, confirmed: Option<Lsn> },
}

impl Owner {
    pub(crate) fn parse(owner: &str) -> Option<Self> {
        let words: Vec<&str> = owner.split(' ').collect();
        match *words.as_slice() {
            ["mapwal-archive", "begins", token] => Some(Self::Begins { token: token.to_owned(), abandoned: None }),
            ["mapwal-archive", "begins", token, "without", epoch] => {
                Some(Self::Begins { token: token.to_owned(), abandoned: Some(epoch.parse().ok()?) })
            }
            ["mapwal-archive", "epoch", epoch, token] => {
                Some(Self::Of { epoch: epoch.parse().ok()?, token: token.to_owned(), confirmed: None })
            }
            ["mapwal-archive", "epoch", epoch, token, confirmed] => {
                let confirmed = Some(Lsn(confirmed.parse().ok()?));
                Some(Self::Of { epoch: epoch.parse().ok()?, token: token.to_owned(), confirmed })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begins { token, abandoned: None } => write!(f, "mapwal-archive begins {token}"),
            Self::Begins { token, abandoned: Some(epoch) } => {
                write!(f, "mapwal-archive begins {token} without {epoch}")
            }
            Self::Of { epoch, token, confirmed } => {
                let owner = format!("mapwal-archive epoch {epoch} {token}");
                // A pin has no more room than that; no log has as many epochs and records.
                let whole = confirmed.map(|lsn| format!("{owner} {lsn}")).filter(|whole| whole.len() <= 64);
                f.write_str(&whole.unwrap_or(owner))
            }
        }
    }
}

/// No two are the same, as far as chance goes.
pub(crate) fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time for people, to the second.
fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // Years that begin in March end with the day that not all of them have, and 400 of them have as many days as any other 400.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (year, hour, minute) = (era * 400 + year + next, second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

pub(crate) fn lsn_range(range: Option<(u64, u64)>) -> Option<std::ops::Range<Lsn>> {
    range.map(|(from, to)| Lsn(from)..Lsn(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_pin_is_read_as_it_was_written_and_fits() {
        let begins = |abandoned| Owner::Begins { token: token(), abandoned };
        let of = |epoch, confirmed| Owner::Of { epoch, token: token(), confirmed };
        let back = of(9999, Some(Lsn(u64::MAX)));
        for owner in [begins(None), begins(Some(9_999_999_999)), of(9_999_999_999, None), back] {
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner.clone()));
            assert!(owner.to_string().len() <= 64);
        }
        let longest = of(9_999_999_999, Some(Lsn(u64::MAX))).to_string();
        assert!(matches!(Owner::parse(&longest), Some(Owner::Of { confirmed: None, .. })), "{longest}");
        assert_eq!(Owner::parse("a replica in the cellar"), None);
    }

    #[test]
    fn times_are_told_as_dates() {
        let told = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399_999, "2000-02-28 23:59:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_000, "2024-02-29 23:59:59 UTC"),
            (1_735_689_599_000, "2024-12-31 23:59:59 UTC"),
            (1_735_689_600_000, "2025-01-01 00:00:00 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ];
        for (unix_ms, expected) in told {
            assert_eq!(utc(unix_ms), expected);
        }
    }
}
