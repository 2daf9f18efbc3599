//! What must be in the pages, by what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::page::{NO_ROW, Page, Row};
use crate::report::RowImage;
use crate::row_locks::RowId;

/// The rows that committed transactions have left.
#[derive(Default)]
pub(crate) struct Model {
    rows: HashMap<RowId, Row>,
    /// Transactions known to have committed, which wrote what they should have written.
    committed: HashSet<u64>,
    /// Commits that were begun and not acknowledged. No two of them have a row in common, since rows stay locked until
    /// the acknowledgement.
    in_doubt: BTreeMap<u64, Vec<RowImage>>,
    acknowledged: u64,
}

/// How the pages after a restart differ from what must be there.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Rows that do not have what an acknowledged transaction left there.
    pub(crate) lost: u64,
    /// Rows that have what a transaction left there that did not commit, or is there in parts.
    pub(crate) resurrected: u64,
    /// Commits without an acknowledgement that are there as a whole.
    pub(crate) in_doubt_kept: u64,
    /// Those of which nothing is there.
    pub(crate) in_doubt_gone: u64,
    /// The first difference, in words.
    pub(crate) first: Option<String>,
}

impl Findings {
    pub(crate) fn is_bad(&self) -> bool {
        self.lost + self.resurrected > 0
    }
}

impl Model {
    pub(crate) fn committing(&mut self, transaction: u64, images: Vec<RowImage>) {
        self.in_doubt.insert(transaction, images);
    }

    pub(crate) fn committed(&mut self, transaction: u64) {
        let images = self.in_doubt.remove(&transaction).unwrap_or_default();
        self.apply(transaction, &images);
        self.acknowledged += 1;
    }

    /// How many commits have been acknowledged in all.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Compares all `pages` with what must be there, and learns from them how the commits in doubt came out.
    pub(crate) fn compare(&mut self, pages: &[Box<Page>]) -> Findings {
        let mut findings = Findings::default();
        for (transaction, images) in std::mem::take(&mut self.in_doubt) {
            self.decide(transaction, &images, pages, &mut findings);
        }
        for (page, number) in pages.iter().zip(0..) {
            for (slot, found) in page.rows().iter().enumerate() {
                self.judge((number, slot), found, &mut findings);
            }
        }
        findings
    }

    fn decide(&mut self, transaction: u64, images: &[RowImage], pages: &[Box<Page>], findings: &mut Findings) {
        let there = |image: &&RowImage| found(pages, image.id()) == Some(&image.row);
        let changed: Vec<&RowImage> = images.iter().filter(|image| self.expected(image.id()) != image.row).collect();
        let kept = changed.iter().copied().filter(there).count();
        if kept == changed.len() {
            self.apply(transaction, images);
            findings.in_doubt_kept += 1;
        } else {
            // If some are there all the same, they are found to belong to no transaction that committed; a delete that
            // is there shows as a row that is not.
            findings.in_doubt_gone += 1;
        }
    }

    fn judge(&self, id: RowId, found: &Row, findings: &mut Findings) {
        let expected = self.expected(id);
        if *found == expected {
            return;
        }
        let foreign = *found != NO_ROW && !self.committed.contains(&writer(found));
        *(if foreign { &mut findings.resurrected } else { &mut findings.lost }) += 1;
        let tell = || {
            let (page, slot) = id;
            format!("row {slot} of page {page} is {} and should be {}", describe(found), describe(&expected))
        };
        findings.first.get_or_insert_with(tell);
    }

    fn apply(&mut self, transaction: u64, images: &[RowImage]) {
        self.committed.insert(transaction);
        self.rows.extend(images.iter().map(|image| (image.id(), image.row)));
    }

    fn expected(&self, id: RowId) -> Row {
        self.rows.get(&id).copied().unwrap_or(NO_ROW)
    }
}

fn found(pages: &[Box<Page>], (page, slot): RowId) -> Option<&Row> {
    pages.get(usize::try_from(page).ok()?)?.rows().get(slot)
}

/// The transaction that wrote a row.
fn writer(row: &Row) -> u64 {
    let (number, _) = row.split_first_chunk().expect("a row is longer than a number");
    u64::from_le_bytes(*number)
}

fn describe(row: &Row) -> String {
    if *row == NO_ROW { "empty".to_owned() } else { format!("of transaction {}", writer(row)) }
}
