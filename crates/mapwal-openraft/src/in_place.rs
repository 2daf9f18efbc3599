//! A codec for data that is bytes already.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use crate::codec::Codec;
use crate::raft::{BasicNode, EmptyNode, Entry, EntryPayload, RaftTypeConfig};

/// For data that is bytes: entries that are read have [`Bytes`] that borrow from the mapping, and nothing is copied.
///
/// `D` is [`Bytes`], or a type around it that comes from it and shows it; ids and nodes are [`Plain`].
///
/// # Example
/// ```
/// use std::io::Cursor;
///
/// use bytes::Bytes;
/// use mapwal_openraft::{InPlace, LogStore};
///
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
/// struct Command(Bytes);
///
/// impl From<Bytes> for Command {
///     fn from(bytes: Bytes) -> Self {
///         Self(bytes)
///     }
/// }
///
/// impl AsRef<[u8]> for Command {
///     fn as_ref(&self) -> &[u8] {
///         &self.0
///     }
/// }
///
/// openraft::declare_raft_types!(Types: D = Command, R = ());
///
/// # let dir = tempfile::tempdir()?;
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new())? };
/// let store = LogStore::<Types, _>::open(log, InPlace)?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct InPlace;

/// A value with a plain form as bytes, as [`InPlace`] wants it of node ids and nodes.
pub trait Plain: Sized {
    /// Adds it to `out`.
    fn write(&self, out: &mut Vec<u8>);

    /// What [`Self::write`] has added.
    ///
    /// # Errors
    /// Bytes that are no such value.
    fn read(bytes: &[u8]) -> io::Result<Self>;
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Little-endian.
impl Plain for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> io::Result<Self> {
        bytes.try_into().map(Self::from_le_bytes).map_err(|_| invalid("not the 8 bytes of a number"))
    }
}

/// In UTF-8: of nodes, since the ids of openraft 0.9 are `Copy`.
impl Plain for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> io::Result<Self> {
        Self::from_utf8(bytes.to_vec()).map_err(|_| invalid("not UTF-8"))
    }
}

/// Its address.
impl Plain for BasicNode {
    fn write(&self, out: &mut Vec<u8>) {
        self.addr.write(out);
    }

    fn read(bytes: &[u8]) -> io::Result<Self> {
        String::read(bytes).map(|addr| Self { addr })
    }
}

/// Nothing.
impl Plain for EmptyNode {
    fn write(&self, _out: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> io::Result<Self> {
        if bytes.is_empty() { Ok(Self {}) } else { Err(invalid("more than an empty node")) }
    }
}

impl<C> Codec<C> for InPlace
where
    C: RaftTypeConfig<Entry = Entry<C>>,
    C::D: AsRef<[u8]> + From<Bytes>,
    C::NodeId: Plain,
    C::Node: Plain,
{
    fn encode_data<'e>(&self, entry: &'e Entry<C>) -> io::Result<Cow<'e, [u8]>> {
        match &entry.payload {
            EntryPayload::Normal(data) => Ok(Cow::Borrowed(data.as_ref())),
            EntryPayload::Blank | EntryPayload::Membership(_) => Err(invalid("an entry without data")),
        }
    }

    #[inline]
    fn decode_data(&self, data: Bytes) -> io::Result<C::D> {
        Ok(data.into())
    }

    fn encode_node_id(&self, id: &C::NodeId, out: &mut Vec<u8>) -> io::Result<()> {
        id.write(out);
        Ok(())
    }

    #[inline]
    fn decode_node_id(&self, bytes: &[u8]) -> io::Result<C::NodeId> {
        C::NodeId::read(bytes)
    }

    fn encode_node(&self, node: &C::Node, out: &mut Vec<u8>) -> io::Result<()> {
        node.write(out);
        Ok(())
    }

    fn decode_node(&self, bytes: &[u8]) -> io::Result<C::Node> {
        C::Node::read(bytes)
    }
}
