//! How a node reaches the others.

use std::io;
use std::time::Duration;

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::path;
use crate::http::Caller;
use crate::types::Types;

type Answer<T, E = RaftError<u64>> = Result<T, RPCError<u64, BasicNode, E>>;

/// The network as node `from` has it.
pub(super) struct Network {
    from: u64,
}

impl Network {
    pub(super) fn of(from: u64) -> Self {
        Self { from }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        Link { target, caller: Caller::through_proxy(node.addr.clone(), self.from) }
    }
}

/// A connection to one of the others.
pub(super) struct Link {
    target: u64,
    caller: Caller,
}

impl Link {
    async fn call<A, E>(&mut self, path: &str, request: &impl Serialize, option: &RPCOption) -> Answer<A, E>
    where
        A: DeserializeOwned,
        E: DeserializeOwned + std::error::Error,
    {
        let answer: Result<Result<A, E>, _> = self.caller.call(path, request, option.hard_ttl()).await;
        let answer = answer.map_err(|error| RPCError::Unreachable(Unreachable::new(&io::Error::from(error))))?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        self.call(path::APPEND, &request, &option).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        self.call(path::SNAPSHOT, &request, &option).await
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Answer<VoteResponse<u64>> {
        self.call(path::VOTE, &request, &option).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(50)))
    }
}
