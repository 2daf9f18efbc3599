//! What the driver asks the nodes.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cluster::Cluster;
use crate::Outcome;
use crate::api::{Done, Order, Status, path};
use crate::http::Caller;

impl Cluster {
    /// Asks a node something.
    pub(super) async fn ask<A: DeserializeOwned>(&self, id: u64, path: &str, request: &impl Serialize) -> Outcome<A> {
        self.ask_for(id, path, request, Duration::from_secs(5)).await
    }

    async fn ask_for<A: DeserializeOwned>(
        &self,
        id: u64,
        path: &str,
        request: &impl Serialize,
        limit: Duration,
    ) -> Outcome<A> {
        let process = self.nodes.get(&id).and_then(|node| node.process.as_ref()).ok_or("the node is down")?;
        let answer = Caller::new(process.address.to_string()).call(path, request, limit).await;
        Ok(answer.map_err(io::Error::from)?)
    }

    /// Has a node do something. An error may mean that it could not, or that it is gone.
    pub(super) async fn order(&self, id: u64, order: Order) -> Outcome {
        Ok(self.ask::<Done>(id, path::ORDER, &order).await??)
    }

    /// The leader of the newest term, as it says itself.
    pub(super) async fn leader(&self) -> Option<u64> {
        let mut found = None;
        for id in self.up(None) {
            let status = self.ask_for::<Status>(id, path::STATUS, &(), Duration::from_millis(500)).await;
            if let Ok(status) = status
                && status.is_leader
            {
                found = found.max(Some((status.term, id)));
            }
        }
        found.map(|(_, id)| id)
    }

    /// Up to where a node has applied, if it answers.
    pub(super) async fn applied(&self, id: Option<u64>) -> Option<u64> {
        let status = self.ask_for::<Status>(id?, path::STATUS, &(), Duration::from_millis(500)).await;
        status.ok()?.applied
    }
}
