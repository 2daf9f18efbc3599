//! The names in a directory: as processes see them, as the device holds them, and what happened in between.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// Names and their files.
pub type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// A directory with changes that are not durable yet.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    seen: Names,
    durable: Names,
    pending: Vec<Change>,
}

impl Directory {
    pub fn names(&self) -> &Names {
        &self.seen
    }

    pub fn create(&mut self, name: &str, file: usize) {
        self.change(Change::Create(name.to_owned(), file));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    pub fn remove(&mut self, name: &str) {
        self.change(Change::Remove(name.to_owned()));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.pending.clear();
    }

    /// The names that a power cut leaves: of the pending changes a prefix, as with a journal; or whatever POSIX leaves
    /// open, which is any of them as long as those of one name stay in order.
    pub fn after_power_cut(&self, rng: &mut Rng) -> Self {
        let mut names = self.durable.clone();
        if rng.bool() {
            let kept = rng.usize(0..=self.pending.len());
            self.pending[..kept].iter().for_each(|change| change.apply(&mut names));
        } else {
            let mut stopped = BTreeSet::new();
            for change in &self.pending {
                if rng.bool() && !change.names().any(|name| stopped.contains(name)) {
                    change.apply(&mut names);
                } else {
                    stopped.extend(change.names());
                }
            }
        }
        Self::settled(names)
    }

    /// Whether a name may lead to `file` by now or after a power cut.
    pub fn knows(&self, file: usize) -> bool {
        let is_pending = |change: &Change| matches!(change, Change::Create(_, id) if *id == file);
        self.seen.values().chain(self.durable.values()).any(|&id| id == file) || self.pending.iter().any(is_pending)
    }

    /// With all changes durable.
    pub fn settled(names: Names) -> Self {
        Self { durable: names.clone(), seen: names, pending: Vec::new() }
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Create(name, _) | Self::Remove(name) => (name, None),
            Self::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }
}
