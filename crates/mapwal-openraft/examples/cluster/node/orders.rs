//! What the driver has a node do.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::BasicNode;

use super::Node;
use super::disk::Disk;
use crate::api::{Done, Order};

fn said(error: impl Error) -> String {
    error.to_string()
}

impl Node {
    pub(super) async fn obey(self: Arc<Self>, order: Order) -> Done {
        match order {
            Order::Initialize(addresses) => {
                let nodes = addresses.into_iter().map(|(id, address)| (id, BasicNode::new(address)));
                let nodes: BTreeMap<u64, BasicNode> = nodes.collect();
                self.raft.initialize(nodes).await.map_err(said)
            }
            Order::AddLearner(id, address) => {
                self.raft.add_learner(id, BasicNode::new(address), true).await.map(drop).map_err(said)
            }
            Order::SetMembers(voters) => self.raft.change_membership(voters, false).await.map(drop).map_err(said),
            Order::Elect => self.raft.trigger().elect().await.map_err(said),
            Order::Snapshot => self.raft.trigger().snapshot().await.map_err(said),
            Order::CutPowerAtVote(cuts) => {
                self.cuts_at_vote.store(cuts, Ordering::Relaxed);
                Ok(())
            }
            Order::CutPower => {
                self.lose_power();
                Ok(())
            }
            Order::FillDisk(after) => self.disk.fill(after).map_err(said),
            Order::FailDisk(after) => self.disk.fail(after).map_err(said),
            Order::FreeDisk => Disk::free().map_err(said),
            Order::Stop => self.stop().await,
        }
    }

    async fn stop(self: Arc<Self>) -> Done {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.raft.shutdown().await.map_err(said)?;
        let node = Arc::clone(&self);
        let closed = tokio::task::spawn_blocking(move || {
            node.log.close().map_err(said)?;
            node.disk.leave().map_err(said)
        });
        closed.await.map_err(said)??;
        tokio::spawn(async {
            // The answer goes first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            exit(0);
        });
        Ok(())
    }
}
