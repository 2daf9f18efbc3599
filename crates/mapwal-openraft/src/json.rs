//! A codec for types that serde knows.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use crate::codec::Codec;
use crate::raft::{Entry, EntryPayload, RaftTypeConfig};

/// For types that serde knows: all is stored as JSON, and data is copied when it is read.
///
/// # Example
/// ```
/// use std::io::Cursor;
///
/// use mapwal_openraft::{Json, LogStore};
///
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
/// enum Command {
///     Put { key: String, value: String },
///     Delete { key: String },
/// }
///
/// openraft::declare_raft_types!(Types: D = Command, R = Option<String>);
///
/// # let dir = tempfile::tempdir()?;
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new())? };
/// let store = LogStore::<Types, _>::open(log, Json)?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<C: RaftTypeConfig<Entry = Entry<C>>> Codec<C> for Json {
    fn encode_data<'e>(&self, entry: &'e Entry<C>) -> io::Result<Cow<'e, [u8]>> {
        match &entry.payload {
            EntryPayload::Normal(data) => Ok(Cow::Owned(serde_json::to_vec(data)?)),
            EntryPayload::Blank | EntryPayload::Membership(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn decode_data(&self, data: Bytes) -> io::Result<C::D> {
        Ok(serde_json::from_slice(&data)?)
    }

    fn encode_node_id(&self, id: &C::NodeId, out: &mut Vec<u8>) -> io::Result<()> {
        Ok(serde_json::to_writer(out, id)?)
    }

    fn decode_node_id(&self, bytes: &[u8]) -> io::Result<C::NodeId> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn encode_node(&self, node: &C::Node, out: &mut Vec<u8>) -> io::Result<()> {
        Ok(serde_json::to_writer(out, node)?)
    }

    fn decode_node(&self, bytes: &[u8]) -> io::Result<C::Node> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
