//! How log ids, votes, memberships and entries are stored. `docs/design/raft.md` has the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use bytes::Bytes;
use mapwal::{Lsn, Record};

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::raft::{self, CommittedLeaderId, LogId, LogIdOf, Membership, RaftTypeConfig, Vote};

/// The format of all below.
pub(crate) const FORMAT: u8 = 1;
/// What the first metadata slot holds, but for the format that follows.
pub(crate) const FORMAT_NAME: &[u8] = b"openraft";

/// The metadata slots of a store.
pub(crate) mod slot {
    pub(crate) const FORMAT: usize = 0;
    pub(crate) const VOTE: usize = 1;
    pub(crate) const PURGED: usize = 2;
    pub(crate) const COMMITTED: usize = 3;
}

/// What an entry holds: the low byte of its record's tag. The high byte is the length of the leader's node id.
mod kind {
    pub(super) const BLANK: u16 = 1;
    pub(super) const DATA: u16 = 2;
    pub(super) const MEMBERSHIP: u16 = 3;
}

const TERM_LEN: usize = 8;
const ALIGN: usize = 8;
const COMMITTED: u8 = 1;
const HAS_NODE: u8 = 2;

/// The number of the record of entry `index`.
pub(crate) fn lsn_of(index: u64) -> Lsn {
    Lsn(index.saturating_add(1))
}

/// The entry of record `lsn`.
pub(crate) fn index_of(lsn: Lsn) -> u64 {
    lsn.0.saturating_sub(1)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Takes bytes from the front of what is left.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn take(&mut self, len: usize) -> io::Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| invalid("too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<usize> {
        let bytes = self.take(4)?.try_into().expect("4 bytes");
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes")))
    }

    /// What [`write_sized`] has written.
    fn sized(&mut self) -> io::Result<&'b [u8]> {
        let len = self.u32()?;
        self.take(len)
    }

    fn end(self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(invalid("too long")) }
    }
}

/// Adds what `write` writes to `out`, with its length before it.
fn write_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let len = u32::try_from(out.len() - at - 4).map_err(io::Error::other)?;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

fn write_count(out: &mut Vec<u8>, count: usize) -> io::Result<()> {
    let count = u32::try_from(count).map_err(io::Error::other)?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

/// A node that may be missing: a byte of flags, and its id up to the end.
fn write_node<C: RaftTypeConfig>(
    codec: &impl Codec<C>,
    flags: u8,
    node: Option<C::NodeId>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    match node {
        None => out.push(flags),
        Some(id) => {
            out.push(flags | HAS_NODE);
            codec.encode_node_id(&id, out)?;
        }
    }
    Ok(())
}

fn read_node<C: RaftTypeConfig>(codec: &impl Codec<C>, flags: u8, input: Input<'_>) -> io::Result<Option<C::NodeId>> {
    match flags & HAS_NODE {
        0 => input.end().map(|()| None),
        _ => codec.decode_node_id(input.0).map(Some),
    }
}

/// A log id, or none, as it is in a metadata slot.
pub(crate) fn encode_log_id<C: RaftTypeConfig>(codec: &impl Codec<C>, log_id: Option<&LogIdOf<C>>) -> Result<Vec<u8>> {
    let Some(LogId { leader_id, index }) = log_id else { return Ok(Vec::new()) };
    let (term, node) = raft::leader_parts::<C>(leader_id);
    let mut out = [index.to_le_bytes(), term.to_le_bytes()].concat();
    write_node(codec, 0, node, &mut out).map_err(Error::encode("a log id"))?;
    Ok(out)
}

pub(crate) fn decode_log_id<C: RaftTypeConfig>(codec: &impl Codec<C>, bytes: &[u8]) -> Result<Option<LogIdOf<C>>> {
    let decode = || {
        let mut input = Input(bytes);
        let (index, term, flags) = (input.u64()?, input.u64()?, input.u8()?);
        let node = read_node(codec, flags, input)?;
        Ok(LogId::new(raft::leader::<C>(term, node)?, index))
    };
    if bytes.is_empty() { Ok(None) } else { decode().map(Some).map_err(Error::decode("a log id")) }
}

/// Where the entries of a log begin, as it is in a metadata slot: the last one that was purged, or the index of the first one in a log of which
/// none was.
pub(crate) struct Begin<C: RaftTypeConfig> {
    pub(crate) purged: Option<LogIdOf<C>>,
    pub(crate) first: u64,
}

impl<C: RaftTypeConfig> Begin<C> {
    pub(crate) fn encode_first(index: u64) -> [u8; 8] {
        index.to_le_bytes()
    }

    pub(crate) fn decode(codec: &impl Codec<C>, bytes: &[u8]) -> Result<Self> {
        if let Ok(first) = bytes.try_into() {
            return Ok(Self { purged: None, first: u64::from_le_bytes(first) });
        }
        let purged = decode_log_id(codec, bytes)?;
        let first = purged.as_ref().map_or(0, |purged| purged.index.saturating_add(1));
        Ok(Self { purged, first })
    }
}

pub(crate) fn encode_vote<C: RaftTypeConfig>(codec: &impl Codec<C>, vote: &Vote<C>) -> Result<Vec<u8>> {
    let (term, node, is_committed) = raft::vote_parts::<C>(vote);
    let mut out = term.to_le_bytes().to_vec();
    let flags = if is_committed { COMMITTED } else { 0 };
    write_node(codec, flags, node, &mut out).map_err(Error::encode("a vote"))?;
    Ok(out)
}

pub(crate) fn decode_vote<C: RaftTypeConfig>(codec: &impl Codec<C>, bytes: &[u8]) -> Result<Vote<C>> {
    let decode = || {
        let mut input = Input(bytes);
        let (term, flags) = (input.u64()?, input.u8()?);
        raft::vote::<C>(term, read_node(codec, flags, input)?, flags & COMMITTED != 0)
    };
    decode().map_err(Error::decode("a vote"))
}

fn encode_membership<C: RaftTypeConfig>(codec: &impl Codec<C>, membership: &Membership<C>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    write_count(&mut out, membership.get_joint_config().len())?;
    for voters in membership.get_joint_config() {
        write_count(&mut out, voters.len())?;
        for id in voters {
            write_sized(&mut out, |out| codec.encode_node_id(id, out))?;
        }
    }
    write_count(&mut out, membership.nodes().count())?;
    for (id, node) in membership.nodes() {
        write_sized(&mut out, |out| codec.encode_node_id(id, out))?;
        write_sized(&mut out, |out| codec.encode_node(node, out))?;
    }
    Ok(out)
}

fn decode_membership<C: RaftTypeConfig>(codec: &impl Codec<C>, bytes: &[u8]) -> io::Result<Membership<C>> {
    let mut input = Input(bytes);
    let mut configs = Vec::new();
    for _ in 0..input.u32()? {
        let count = input.u32()?;
        let voters = (0..count).map(|_| codec.decode_node_id(input.sized()?));
        configs.push(voters.collect::<io::Result<BTreeSet<_>>>()?);
    }
    let count = input.u32()?;
    let nodes = (0..count).map(|_| Ok((codec.decode_node_id(input.sized()?)?, codec.decode_node(input.sized()?)?)));
    let nodes = nodes.collect::<io::Result<BTreeMap<_, _>>>()?;
    input.end()?;
    raft::membership::<C>(configs, nodes)
}

/// A record to be appended, without its data.
pub(crate) struct Head {
    pub(crate) tag: u16,
    /// Where its bytes are among all heads.
    pub(crate) bytes: Range<usize>,
}

/// What a record holds after its head.
pub(crate) enum Body<'e> {
    Empty,
    Data(std::borrow::Cow<'e, [u8]>),
}

impl Body<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Data(data) => data,
        }
    }
}

/// Adds the head of `entry`'s record to `heads`: the term, the leader's node, and zeros up to a boundary of 8 bytes.
pub(crate) fn encode_entry<'e, C: RaftTypeConfig>(
    codec: &impl Codec<C>,
    entry: &'e C::Entry,
    heads: &mut Vec<u8>,
) -> Result<(Head, Body<'e>)> {
    let (kind, body) = match raft::membership_in::<C>(entry) {
        Some(membership) => {
            let bytes = encode_membership(codec, &membership).map_err(Error::encode("a membership"))?;
            (kind::MEMBERSHIP, Body::Data(bytes.into()))
        }
        None if raft::is_blank::<C>(entry) => (kind::BLANK, Body::Empty),
        None => (kind::DATA, Body::Data(codec.encode_data(entry).map_err(Error::encode("an entry's data"))?)),
    };
    let start = heads.len();
    let (term, node) = raft::leader_parts::<C>(&raft::log_id::<C>(entry).leader_id);
    heads.extend_from_slice(&term.to_le_bytes());
    if let Some(node) = node {
        codec.encode_node_id(&node, heads).map_err(Error::encode("a node's id"))?;
    }
    let node_len = heads.len() - start - TERM_LEN;
    let node_len = u8::try_from(node_len).map_err(|error| Error::encode("a node's id")(io::Error::other(error)))?;
    heads.resize(heads.len().next_multiple_of(ALIGN), 0);
    Ok((Head { tag: u16::from(node_len) << 8 | kind, bytes: start..heads.len() }, body))
}

/// Bytes before the data of the entry in `record`.
///
/// # Errors
/// [`Error::NotAnEntry`].
#[inline]
fn head_len(record: &Record<'_>) -> Result<usize> {
    let (len, node_len) = (record.payload().len(), usize::from(record.tag() >> 8));
    let head_len = (TERM_LEN + node_len).next_multiple_of(ALIGN);
    let is_entry = match record.tag() & 0xff {
        kind::BLANK => len == head_len,
        kind::DATA | kind::MEMBERSHIP => len >= head_len,
        _ => false,
    };
    if is_entry { Ok(head_len) } else { Err(Error::NotAnEntry { lsn: record.lsn() }) }
}

/// The leader that proposed the entry in `record`.
fn decode_leader<C: RaftTypeConfig>(codec: &impl Codec<C>, record: &Record<'_>) -> io::Result<CommittedLeaderId<C>> {
    let mut input = Input(record.payload());
    let term = input.u64()?;
    let node = match usize::from(record.tag() >> 8) {
        0 => None,
        len => Some(codec.decode_node_id(input.take(len)?)?),
    };
    raft::leader::<C>(term, node)
}

/// The log id of the entry in `record`. Its data is not looked at.
pub(crate) fn decode_id<C: RaftTypeConfig>(codec: &impl Codec<C>, record: &Record<'_>) -> Result<LogIdOf<C>> {
    head_len(record)?;
    let leader_id = decode_leader(codec, record).map_err(Error::decode("an entry's head"))?;
    Ok(LogId::new(leader_id, index_of(record.lsn())))
}

/// The entry in `record`, whose payload is `payload`.
#[inline]
pub(crate) fn decode_entry<C: RaftTypeConfig>(
    codec: &impl Codec<C>,
    record: &Record<'_>,
    payload: Bytes,
) -> Result<C::Entry> {
    let head_len = head_len(record)?;
    let decode = || {
        let log_id = LogId::new(decode_leader(codec, record)?, index_of(record.lsn()));
        match record.tag() & 0xff {
            kind::BLANK => Ok(raft::blank::<C>(log_id)),
            kind::MEMBERSHIP => Ok(raft::with_membership::<C>(log_id, decode_membership(codec, &payload[head_len..])?)),
            _ => {
                let mut data = payload;
                bytes::Buf::advance(&mut data, head_len);
                Ok(raft::with_data::<C>(&log_id, codec.decode_data(data)?))
            }
        }
    };
    decode().map_err(Error::decode("an entry"))
}
