//! What a node answers to the others, and to clients.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::VoteRequest;
use serde::Serialize;

use super::Node;
use crate::Flaw;
use crate::api::{Answer, Request, Status, Write, path};
use crate::types::Command;

fn body(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(answer)?)
}

impl Node {
    pub(super) async fn answer(self: Arc<Self>, path: &str, request: Bytes) -> io::Result<Vec<u8>> {
        match path {
            path::APPEND => body(&self.raft.append_entries(serde_json::from_slice(&request)?).await),
            path::VOTE => self.vote(serde_json::from_slice(&request)?).await,
            path::SNAPSHOT => body(&self.raft.install_snapshot(serde_json::from_slice(&request)?).await),
            path::CLIENT => body(&self.client(serde_json::from_slice(&request)?).await),
            path::ORDER => body(&self.obey(serde_json::from_slice(&request)?).await),
            path::STATUS => body(&self.status()),
            path::DIGEST => body(&self.machine.digest()),
            path::EFFECTS => body(&self.machine.effects()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    async fn vote(self: Arc<Self>, request: VoteRequest<u64>) -> io::Result<Vec<u8>> {
        let response = self.raft.vote(request).await;
        let is_granted = response.as_ref().is_ok_and(|response| response.vote_granted);
        if is_granted && self.loses_power_at_vote() {
            Arc::clone(&self).lose_power();
        }
        body(&response)
    }

    async fn client(&self, request: Request) -> Answer {
        let leader = self.raft.metrics().borrow().current_leader;
        if leader != Some(self.id) {
            return Answer::NotLeader(leader);
        }
        match request {
            Request::Get { key } => self.get(&key).await,
            Request::Write(write) => self.write(&write).await,
        }
    }

    async fn get(&self, key: &str) -> Answer {
        let is_fresh = self.flaw == Some(Flaw::StaleRead) || self.raft.ensure_linearizable().await.is_ok();
        if is_fresh { Answer::Value(self.machine.get(key)) } else { Answer::NotLeader(None) }
    }

    async fn write(&self, write: &Write) -> Answer {
        let Ok(command) = Command::new(write) else { return Answer::NotLeader(None) };
        match self.raft.client_write(command).await {
            Ok(written) => Answer::Done(written.data.done),
            // Another one is the leader by now. What this one has appended may be committed by it, or by a later one.
            Err(_) => Answer::Unknown,
        }
    }

    fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow().clone();
        Status {
            term: metrics.current_term,
            leader: metrics.current_leader,
            is_leader: metrics.current_leader == Some(self.id),
            applied: metrics.last_applied.map(|id| id.index),
            last: metrics.last_log_index,
        }
    }
}
