//! The model: what a log holds, without files.

use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: u16,
    pub(super) payload: Vec<u8>,
}

/// Consecutive records; `None` is one given up.
pub(super) type Records = Vec<Option<Rc<Entry>>>;

#[derive(Debug)]
pub(super) struct Oracle {
    records: Records,
    /// The number of each segment's first record, the active one's last.
    bases: Vec<u64>,
    meta: BTreeMap<usize, Vec<u8>>,
    /// The last record that is durable for certain.
    durable: u64,
    /// The active segment has nothing but its link.
    only_link: bool,
    /// Nothing has been appended to the active segment since it was opened.
    untouched: bool,
    /// The log ends with a close.
    closed: bool,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            bases: vec![1],
            meta: BTreeMap::new(),
            durable: 0,
            only_link: true,
            untouched: true,
            closed: false,
        }
    }
}

impl Oracle {
    pub(super) fn first(&self) -> u64 {
        self.bases[0]
    }

    pub(super) fn next(&self) -> u64 {
        self.first() + self.records.len() as u64
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn sealed(&self) -> usize {
        self.bases.len() - 1
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    pub(super) fn meta(&self, slot: usize) -> Option<&[u8]> {
        self.meta.get(&slot).map(Vec::as_slice)
    }

    pub(super) fn durable_to(&mut self, lsn: u64) {
        self.durable = lsn;
    }

    /// `sealed` segments there are now: one more when these records opened the next segment.
    pub(super) fn append(&mut self, entries: Records, sealed: usize) {
        if !entries.is_empty() {
            self.touch(sealed);
        }
        self.records.extend(entries);
    }

    /// Records that come to nothing, since a crash took some of them: the `first` one, `all` of them.
    pub(super) fn append_lost(&mut self, first: bool, all: bool, sealed: usize) {
        if sealed == self.bases.len() {
            self.open_segment();
        }
        self.only_link &= first;
        self.closed &= all;
    }

    pub(super) fn put_meta(&mut self, slot: usize, value: &[u8], sealed: usize) {
        self.touch(sealed);
        self.meta.insert(slot, value.to_vec());
    }

    pub(super) fn rotate(&mut self) {
        if !self.untouched {
            self.open_segment();
        }
    }

    /// Drops the segments whose records are all below `bound`, and returns how many.
    pub(super) fn trim(&mut self, bound: u64) -> usize {
        let count = self.bases[1..].iter().take_while(|&&next_base| next_base <= bound).count();
        let gone = self.bases[count] - self.first();
        self.bases.drain(..count);
        self.records.drain(..usize::try_from(gone).expect("few records"));
        count
    }

    /// False if there was nothing after `lsn`.
    pub(super) fn truncate(&mut self, lsn: u64) -> bool {
        let next = lsn + 1;
        if next >= self.next() {
            return false;
        }
        self.records.truncate(usize::try_from(next - self.first()).expect("few records"));
        self.bases.retain(|&base| base < next);
        self.bases.push(next);
        self.cut_off(lsn);
        true
    }

    pub(super) fn reset(&mut self, lsn: u64) {
        self.records.clear();
        self.bases = vec![lsn];
        self.cut_off(lsn - 1);
    }

    fn cut_off(&mut self, lsn: u64) {
        (self.only_link, self.untouched, self.closed) = (false, true, false);
        self.durable = lsn;
    }

    /// Whether the log ends with a close, if it is closed now or was left alone since.
    pub(super) fn is_clean(&self, closed: bool) -> bool {
        closed || self.closed
    }

    /// `sealed` segments were found.
    pub(super) fn reopen(&mut self, closed: bool, sealed: usize) {
        self.durable = self.next() - 1;
        if self.is_clean(closed) && sealed == self.sealed() {
            (self.only_link, self.untouched, self.closed) = (false, false, true);
        } else if self.only_link && !closed {
            // A segment in which nothing happened gives its place to the new one.
            self.untouched = true;
        } else {
            // Left without a close, or without room after it.
            self.open_segment();
        }
    }

    fn touch(&mut self, sealed: usize) {
        if sealed == self.bases.len() {
            self.open_segment();
        }
        (self.only_link, self.untouched, self.closed) = (false, false, false);
    }

    fn open_segment(&mut self) {
        self.bases.push(self.next());
        (self.only_link, self.untouched, self.closed) = (true, true, false);
    }
}
