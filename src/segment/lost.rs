//! What tells of a log none of whose segments is left.
//!
//! A log has a segment, durably, before it has a control page or a pin, and from then on it never is without one: a trim keeps the
//! segment that takes appends, and a truncation or a reset makes a new one first. `LOCK` comes before the first segment, and
//! unfinished files tell of nothing, so beside these alone a log may be begun.

use std::path::Path;

use crate::error::{Damage, Error};
use crate::format::name;
use crate::format::pin::{self, NamedPin};
use crate::lsn::Lsn;
use crate::segment::control::PageFound;
use crate::storage::{Access, Storage};

/// An error if a file beside them says that there were segments. What cannot be read says nothing.
pub(super) fn told_of(storage: &dyn Storage) -> Option<Error> {
    let page = PageFound::read(storage).ok().flatten().and_then(|found| found.state());
    let Some(stated) = page.and_then(|page| page.durable) else { return told_by_pin(storage) };
    let newest = storage.path().join(name::segment(stated.position.segment()));
    Some(all_missing(&newest, stated.lsn, name::CONTROL.to_owned()))
}

/// An error if a pin says that there were segments.
pub(super) fn told_by_pin(storage: &dyn Storage) -> Option<Error> {
    let (name, pin) = pin(storage)?;
    Some(all_missing(storage.path(), pin.lsn.previous(), format!("{}/{name}", name::PINS)))
}

fn all_missing(path: &Path, lsn: Lsn, witness: String) -> Error {
    let lsn = Some(lsn).filter(|&lsn| lsn > Lsn::ZERO);
    Error::corrupt(path, 0, lsn, Damage::AllSegmentsMissing { witness })
}

/// The sound pin that keeps the newest record, with its name.
fn pin(storage: &dyn Storage) -> Option<(String, NamedPin)> {
    let pins = storage.subdirectory(name::PINS, false).ok()?;
    let mut names = Vec::new();
    pins.entries(&mut |name, _| names.extend(str::from_utf8(name).ok().map(str::to_owned))).ok()?;
    let read = |name: String| {
        let mut bytes = vec![0; pin::LEN + 1];
        let len = pins.open(&name, Access::Read).and_then(|file| file.read_at(&mut bytes, 0)).ok()?;
        Some((name, NamedPin::parse(&bytes[..len]).ok()?))
    };
    names.into_iter().filter(|name| pin::is_name(name)).filter_map(read).max_by_key(|(_, pin)| pin.lsn)
}
