//! The trace of a PostgreSQL log (see `examples/data/README.md`) as work for the engine.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use crate::Failure;
use crate::engine::Wish;
use crate::rows::{self, Row};

/// The lines of a trace, and how many pages they speak of.
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
    /// At least 1.
    pub(crate) page_count: u64,
}

/// What a line asks the engine to do.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its position in the traced log.
    pub(crate) lsn: u64,
    /// `None` for a record outside of transactions.
    pub(crate) xid: Option<u32>,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Change a row of this page.
    Change(Wish, u64),
    Commit,
    Abort,
    Checkpoint,
    /// Log that many bytes.
    Plain(usize),
}

impl Trace {
    /// Reads `path`, a CSV file that may be compressed by gzip, or the bundled one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let mut pages = Pages(HashMap::new());
        let mut steps = Vec::new();
        match path {
            None => rows::read(rows::BUNDLED)?.try_for_each(|row| pages.add(&row?, &mut steps))?,
            Some(path) => rows::read(File::open(path)?)?.try_for_each(|row| pages.add(&row?, &mut steps))?,
        }
        if steps.is_empty() {
            return Err("the trace has no records".into());
        }
        Ok(Self { steps, page_count: (pages.0.len() as u64).max(1) })
    }
}

/// The blocks that have been seen, numbered as pages in the order of their first appearance.
struct Pages(HashMap<(u32, u32), u64>);

impl Pages {
    fn add(&mut self, row: &Row, steps: &mut Vec<Step>) -> Result<(), Failure> {
        let page = row.relation.zip(row.block).map(|block| {
            let next = self.0.len() as u64;
            *self.0.entry(block).or_insert(next)
        });
        let xid = (row.xid != 0).then_some(row.xid);
        steps.push(Step { lsn: parse_lsn(&row.lsn)?, xid, action: action(row, xid, page) });
        Ok(())
    }
}

fn action(row: &Row, xid: Option<u32>, page: Option<u64>) -> Action {
    match (row.resource_manager.as_str(), row.record_type.as_str(), xid, page) {
        ("heap" | "btree", kind, Some(_), Some(page)) if kind.starts_with("insert") => {
            Action::Change(Wish::Insert, page)
        }
        ("heap", "hot_update" | "update" | "lock", Some(_), Some(page)) => Action::Change(Wish::Update, page),
        ("heap" | "btree", "delete", Some(_), Some(page)) => Action::Change(Wish::Delete, page),
        ("transaction", "commit", Some(_), _) => Action::Commit,
        ("transaction", "abort", Some(_), _) => Action::Abort,
        ("xlog", kind, ..) if kind.starts_with("checkpoint") => Action::Checkpoint,
        _ => Action::Plain(row.record_length),
    }
}

/// Two hexadecimal numbers: the high and the low half.
fn parse_lsn(text: &str) -> Result<u64, Failure> {
    let (high, low) = text.split_once('/').ok_or_else(|| format!("not a log position: {text}"))?;
    Ok(u64::from(u32::from_str_radix(high, 16)?) << 32 | u64::from(u32::from_str_radix(low, 16)?))
}
