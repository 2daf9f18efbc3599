//! The two notes that each epoch has: where it comes from, written once, and which archiver writes it.

use std::time::{SystemTime, UNIX_EPOCH};

use mapwal::{Lsn, SegmentTip};
use serde::{Deserialize, Serialize};

use crate::error::ObjectDamage;

/// What is known of an epoch: written before its first segment, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EpochNote {
    pub(crate) version: u32,
    /// The identity of the log, in hexadecimal digits.
    pub(crate) log: String,
    /// Which archiver began it: the pin of the log says the same.
    pub(crate) token: String,
    /// Its first record.
    pub(crate) first_lsn: u64,
    /// The history that it continues.
    pub(crate) parent: Option<Parent>,
    /// Records that are in no epoch: they were trimmed before they were archived. From, and up to but without.
    pub(crate) lost: Option<(u64, u64)>,
    pub(crate) created_unix_ms: u64,
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
    pub(crate) process: u32,
    pub(crate) host: String,
    pub(crate) began_unix_ms: u64,
}

impl EpochNote {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn log_id(&self) -> Option<u128> {
        u128::from_str_radix(&self.log, 16).ok()
    }

    /// What is wrong with it as the note of epoch `number`, if anything is.
    pub(crate) fn fault(&self, number: u64) -> Option<ObjectDamage> {
        if self.version != Self::VERSION {
            return Some(ObjectDamage::Version { version: self.version });
        }
        let is_parent_older = self.parent.is_none_or(|parent| parent.epoch < number);
        let is_sound = is_parent_older && self.first_lsn > 0 && self.log_id().is_some();
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
    pub(crate) fn new() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let (process, host) = (std::process::id(), host.trim().to_owned());
        Self { token: token(), process, host, began_unix_ms: unix_ms() }
    }

    pub(crate) fn describe(&self) -> String {
        format!("process {} of {:?}, since {} ms", self.process, self.host, self.began_unix_ms)
    }
}

/// Whose a pin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An archiver that is about to begin an epoch with this token.
    Begins(String),
    /// That of an epoch.
    Of { epoch: u64, token: String },
}

impl Owner {
    pub(crate) fn parse(owner: &str) -> Option<Self> {
        let words: Vec<&str> = owner.split(' ').collect();
        match *words.as_slice() {
            ["mapwal-archive", "begins", token] => Some(Self::Begins(token.to_owned())),
            ["mapwal-archive", "epoch", epoch, token] => {
                Some(Self::Of { epoch: epoch.parse().ok()?, token: token.to_owned() })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begins(token) => write!(f, "mapwal-archive begins {token}"),
            Self::Of { epoch, token } => write!(f, "mapwal-archive epoch {epoch} {token}"),
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

pub(crate) fn lsn_range(range: Option<(u64, u64)>) -> Option<std::ops::Range<Lsn>> {
    range.map(|(from, to)| Lsn(from)..Lsn(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_pin_is_read_as_it_was_written_and_fits() {
        for owner in [Owner::Begins(token()), Owner::Of { epoch: 9_999_999_999, token: token() }] {
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner.clone()));
            assert!(owner.to_string().len() <= 64);
        }
        assert_eq!(Owner::parse("a replica in the cellar"), None);
    }
}
