//! What an open would drop as torn, for a reader whose control page is damaged: that page could have said that it was durable.

use std::io;

use super::known::State;
use super::scan::{ScanItem, SegmentScan};
use crate::error::{Corruption, Error, Result};
use crate::format::name;
use crate::lsn::Lsn;
use crate::segment::chain::Chain;
use crate::segment::{control, directory};
use crate::storage::Storage;

/// An error if records from some number on look torn, and the control page of the log of `state` is damaged.
pub(super) fn check_page(
    storage: &dyn Storage,
    state: &State,
    torn_from: impl FnOnce() -> Result<Option<Lsn>>,
) -> Result<()> {
    let Some(log_id) = state.log_id else { return Ok(()) };
    let fault = control::page_fault(storage, log_id, directory::is_old(state.found.values()))?;
    let Some(fault) = fault else { return Ok(()) };
    torn_from()?.map_or(Ok(()), |next| Err(Corruption { lsn: Some(next), ..fault }.into()))
}

/// The number of the first record of a torn end after `chain`; `None` if nothing is torn.
pub(super) fn torn_from(storage: &dyn Storage, chain: &Chain) -> Result<Option<Lsn>> {
    let mut next = Lsn::FIRST;
    if let Some(tip) = chain.links.last() {
        let Some(mut scan) = open(storage, tip.info.number)? else { return Ok(None) };
        let mut is_torn = false;
        while let Some(item) = scan.next()? {
            is_torn |= matches!(item, ScanItem::Gap { .. });
            if is_torn {
                break;
            }
        }
        let (end, lsn) = scan.whole_up_to();
        if is_torn || end < scan.tip().end_bytes {
            return Ok(Some(lsn));
        }
        next = lsn;
    }
    for segment in &chain.beyond {
        if let Some(mut scan) = open(storage, segment.number)?
            && scan.next()?.is_some()
        {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// `None` if it has been trimmed meanwhile.
fn open(storage: &dyn Storage, number: u64) -> Result<Option<SegmentScan>> {
    let name = name::segment(number);
    match SegmentScan::open_in(storage, &name, &storage.path().join(&name)) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}
