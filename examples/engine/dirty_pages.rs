//! Which pages have changes that the disk may not have, and since which record: the dirty page table of ARIES.

use std::collections::HashMap;

use mapwal::Lsn;
use mapwal::wal::{DirtyPage, PageId};

/// A page enters with the first change that its place in the file does not have. Being written does not take it off: what
/// was written may still be lost, until the file is synced.
#[derive(Default)]
pub(crate) struct DirtyPages {
    pages: HashMap<u64, Dirty>,
    /// How many syncs of the file have begun.
    syncs: u64,
}

struct Dirty {
    /// The oldest change that may not be durable in the file.
    recovery_lsn: Lsn,
    /// The last write, by the number of syncs that had begun before it.
    written: Option<u64>,
    /// The oldest change since the last write: none if the file has what memory has.
    unwritten: Option<Lsn>,
}

impl DirtyPages {
    pub(crate) fn changed(&mut self, page: u64, lsn: Lsn) {
        let new = Dirty { recovery_lsn: lsn, written: None, unwritten: None };
        self.pages.entry(page).or_insert(new).unwritten.get_or_insert(lsn);
    }

    pub(crate) fn written(&mut self, page: u64) {
        if let Some(dirty) = self.pages.get_mut(&page) {
            dirty.written = Some(self.syncs);
            dirty.unwritten = None;
        }
    }

    /// Whether the file lacks something of the page.
    pub(crate) fn is_unwritten(&self, page: u64) -> bool {
        self.pages.get(&page).is_some_and(|dirty| dirty.unwritten.is_some())
    }

    /// The pages in memory with a change from before record `lsn` that was not written.
    pub(crate) fn unwritten_before(&self, lsn: Lsn) -> Vec<u64> {
        let old = |dirty: &Dirty| dirty.unwritten.is_some_and(|first| first < lsn);
        self.pages.iter().filter(|(_, dirty)| old(dirty)).map(|(&page, _)| page).collect()
    }

    /// To be called before the file is synced.
    pub(crate) fn sync_begins(&mut self) {
        self.syncs += 1;
    }

    /// To be called after the sync: what was written before it began is durable.
    pub(crate) fn sync_ended(&mut self) {
        let syncs = self.syncs;
        self.pages.retain(|_, dirty| {
            if dirty.written.is_none_or(|written| written >= syncs) {
                return true;
            }
            dirty.written = None;
            dirty.unwritten.inspect(|&lsn| dirty.recovery_lsn = lsn).is_some()
        });
    }

    /// As a checkpoint lists them.
    pub(crate) fn list(&self) -> Vec<DirtyPage> {
        let entry = |(&page, dirty): (&u64, &Dirty)| DirtyPage::new(PageId(page), Some(dirty.recovery_lsn));
        self.pages.iter().map(entry).collect()
    }
}
