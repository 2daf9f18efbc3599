//! The ends of nodes: those that were brought about, and all others.

use std::process::ExitStatus;
use std::time::Duration;

use super::cluster::Cluster;
use super::process::{last_words, was_killed};
use crate::api::Order;
use crate::node::code;
use crate::{DiskKind, Outcome};

const END: Duration = Duration::from_secs(20);

impl Cluster {
    /// Waits until a node that was hit has ended.
    pub(super) async fn expect_end(&mut self, id: u64) -> Outcome {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(mut process) = node.process.take() else { return Ok(()) };
        let status = process.end(END).await?;
        let is_expected = match node.kind {
            DiskKind::Files => was_killed(status),
            DiskKind::Simulated => status.code() == Some(code::POWER),
        };
        self.clients.addresses.lock().remove(&id);
        if is_expected { Ok(()) } else { self.judge_end(id, status) }
    }

    /// Whether a node still runs.
    pub(super) fn is_up(&mut self, id: u64) -> Outcome<bool> {
        self.look()?;
        Ok(self.nodes[&id].process.is_some())
    }

    /// A node has ended, and was not told to.
    fn judge_end(&mut self, id: u64, status: ExitStatus) -> Outcome {
        self.clients.addresses.lock().remove(&id);
        if self.nodes[&id].may_fail && status.code() == Some(code::STORAGE) {
            self.note(&format!("node {id} has ended, since its disk has failed: {}", last_words(&self.said_of(id))));
            return Ok(());
        }
        if self.nodes[&id].loses_power && status.code() == Some(code::POWER) {
            self.note(&format!("node {id} has voted, and lost its power"));
            self.killed += 1;
            return Ok(());
        }
        if status.code() == Some(code::RACE) {
            self.note(&format!("node {id} has ended by a race of openraft's: {}", last_words(&self.said_of(id))));
            return Ok(());
        }
        Err(format!("node {id} has ended by itself, with {status}: {}", last_words(&self.said_of(id))).into())
    }

    /// Looks whether all nodes that should run do.
    pub(super) fn look(&mut self) -> Outcome {
        for id in self.ids() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let Some(process) = &mut node.process else { continue };
            if let Some(status) = process.status()? {
                node.process = None;
                self.judge_end(id, status)?;
            }
        }
        Ok(())
    }

    /// All processes end in good order.
    pub(super) async fn shut_down(&mut self) -> Outcome {
        for id in self.ids() {
            self.order(id, Order::Stop).await?;
            let Some(mut process) = self.nodes.get_mut(&id).and_then(|node| node.process.take()) else { continue };
            let status = process.end(END).await?;
            if !status.success() {
                return Err(format!("node {id} was to stop, and has ended with {status}").into());
            }
        }
        Ok(())
    }
}
