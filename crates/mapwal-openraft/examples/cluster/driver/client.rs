//! The clients: each does one operation after the other, at whatever node it takes for the leader.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::history::{History, Kind, Operation};
use crate::api::{Answer, Condition, Request, Write, path};
use crate::http::{CallError, Caller};

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_millis(1500);
/// How long it looks for a leader.
const LEADER: Duration = Duration::from_secs(3);

/// What clients and driver share.
pub(super) struct Shared {
    pub(super) history: History,
    /// The nodes that are up, as far as the driver knows.
    pub(super) addresses: Mutex<BTreeMap<u64, SocketAddr>>,
    /// The one that a client has last taken for the leader.
    leader: AtomicU64,
    pub(super) is_over: AtomicBool,
    pub(super) operations: AtomicU64,
    pub(super) acknowledged: AtomicU64,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            history: History::new(),
            addresses: Mutex::default(),
            leader: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        })
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// The name of a key.
pub(super) fn name(key: u64) -> String {
    format!("key-{key}")
}

/// The value that write `number` writes: the number, in zeros, so that values are of many lengths.
fn text(number: u64) -> String {
    let width = (number.wrapping_mul(7919) % 400) as usize;
    format!("{number:0width$}")
}

/// The write that a value comes from; 0 for none.
fn number(value: Option<&String>) -> u64 {
    // What no write has written is no number either, and found to be wrong.
    value.map_or(0, |value| value.parse().unwrap_or(u64::MAX))
}

pub(super) struct Client {
    id: u64,
    rng: Rng,
    shared: Arc<Shared>,
    callers: BTreeMap<SocketAddr, Caller>,
    /// The value that it has last seen of a key.
    seen: BTreeMap<u64, u64>,
}

impl Client {
    pub(super) fn new(id: u64, seed: u64, shared: &Arc<Shared>) -> Self {
        let rng = Rng::with_seed(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { id, rng, shared: Arc::clone(shared), callers: BTreeMap::new(), seen: BTreeMap::new() }
    }

    /// Operations until the run is over.
    pub(super) async fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let shared = Arc::clone(&self.shared);
            let key = shared.history.begin(&mut self.rng);
            let operation = self.operate(key).await;
            shared.history.end(key, operation);
            sleep(Duration::from_millis(self.rng.u64(..8))).await;
        }
    }

    async fn operate(&mut self, key: u64) -> Option<Operation> {
        let seen = self.seen.get(&key).copied().unwrap_or(0);
        let kind = match self.rng.u8(..10) {
            0..4 => Kind::Get(0),
            4..7 => Kind::Put(self.shared.history.number()),
            _ => Kind::Swap { expected: seen, new: self.shared.history.number(), done: None },
        };
        self.carry_out(key, kind, LEADER).await
    }

    /// Reads a key, for up to `limit`.
    pub(super) async fn read(&mut self, key: u64, limit: Duration) -> Option<Operation> {
        self.carry_out(key, Kind::Get(0), limit).await
    }

    async fn carry_out(&mut self, key: u64, kind: Kind, limit: Duration) -> Option<Operation> {
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        let begin = self.shared.history.now();
        let answer = self.ask(&request(key, kind), limit).await;
        let end = self.shared.history.now();
        let operation = |kind, end| Some(Operation { client: self.id, begin, end, kind });
        let operation = match (kind, answer?) {
            (Kind::Get(_), Answer::Value(value)) => operation(Kind::Get(number(value.as_ref())), Some(end)),
            (Kind::Put(_), Answer::Done(true)) => operation(kind, Some(end)),
            (Kind::Swap { expected, new, .. }, Answer::Done(done)) => {
                operation(Kind::Swap { expected, new, done: Some(done) }, Some(end))
            }
            (Kind::Get(_), _) => None,
            _ => return operation(kind, None),
        }?;
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        if let Kind::Get(seen) | Kind::Put(seen) | Kind::Swap { new: seen, done: Some(true), .. } = operation.kind {
            self.seen.insert(key, seen);
        }
        Some(operation)
    }

    /// Asks one node after the other until one has an answer. `None` if nothing was done.
    async fn ask(&mut self, request: &Request, limit: Duration) -> Option<Answer> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let Some((node, address)) = self.choose() else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let caller = self.callers.entry(address).or_insert_with(|| Caller::new(address.to_string()));
            match caller.call(path::CLIENT, request, ANSWER).await {
                Ok(Answer::NotLeader(leader)) => {
                    self.shared.leader.store(leader.unwrap_or(0), Ordering::Relaxed);
                    sleep(Duration::from_millis(self.rng.u64(1..20))).await;
                }
                Ok(answer) => {
                    self.shared.leader.store(node, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(CallError::NotSent(_)) => {
                    self.forget(node, address);
                    sleep(Duration::from_millis(self.rng.u64(1..20))).await;
                }
                Err(CallError::Lost(_)) => {
                    self.forget(node, address);
                    return Some(Answer::Unknown);
                }
            }
        }
        None
    }

    fn forget(&mut self, node: u64, address: SocketAddr) {
        self.callers.remove(&address);
        let _ = self.shared.leader.compare_exchange(node, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Mostly the node that is taken for the leader.
    fn choose(&mut self) -> Option<(u64, SocketAddr)> {
        let addresses = self.shared.addresses.lock();
        let leader = self.shared.leader.load(Ordering::Relaxed);
        let known = addresses.get_key_value(&leader).filter(|_| self.rng.u8(..10) < 8);
        let chosen = known.or_else(|| addresses.iter().nth(self.rng.usize(..addresses.len().max(1))));
        chosen.map(|(node, address)| (*node, *address))
    }
}

fn request(key: u64, kind: Kind) -> Request {
    let write = |number, condition| Request::Write(Write { number, key: name(key), condition, value: text(number) });
    match kind {
        Kind::Get(_) => Request::Get { key: name(key) },
        Kind::Put(number) => write(number, Condition::Always),
        Kind::Swap { expected: 0, new, .. } => write(new, Condition::IsMissing),
        Kind::Swap { expected, new, .. } => write(new, Condition::Is(text(expected))),
    }
}
