//! What a reader knows of the directory that it reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::claims::Claims;
use crate::error::Result;
use crate::format::position::Position;
use crate::segment::control::{ControlPage, Stated};
use crate::segment::directory::Found;
use crate::storage::{FileIdentity, Storage};

#[derive(Debug)]
pub(super) struct State {
    /// The log's identity, once a segment has told it.
    pub(super) log_id: Option<u128>,
    /// Every segment seen, by number. Those with a link do not change any more.
    pub(super) found: BTreeMap<u64, Found>,
    pub(super) control: Option<Arc<ControlPage>>,
    /// For a log whose control page does not say what is durable.
    pub(super) claims: Claims,
    /// The control page's generation when the directory was read last.
    pub(super) generation: Option<[u64; 3]>,
    /// The newest segment that counts, by its number, and which file it was.
    pub(super) newest: Option<(u64, FileIdentity)>,
    /// When it was read last; `None` if that failed, so that each call fails until it is as it has to be.
    pub(super) listed: Option<Instant>,
}

impl State {
    /// What the control page says is durable, if it says so.
    pub(super) fn stated(&self) -> Option<Stated> {
        self.control.as_deref().and_then(ControlPage::durable)
    }

    /// What the newest frames claim to be durable.
    pub(super) fn hear_claims(&mut self, storage: &dyn Storage) -> Result<Position> {
        self.claims.hear(storage, self.found.keys().rev().copied())
    }
}
