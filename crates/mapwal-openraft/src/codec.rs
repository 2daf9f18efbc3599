//! How the application's types become bytes, and bytes become them again.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use crate::raft::RaftTypeConfig;

/// How the types of a raft are stored. [`InPlace`](crate::InPlace) and, with the feature `serde`, `Json` are ready
/// to be used; another one is six functions.
///
/// What is stored of an entry is its log id, what kind it is, and then the application's data. The store sees to all but the data,
/// and puts it at a boundary of 8 bytes.
///
/// # Example
/// ```
/// use std::borrow::Cow;
/// use std::io::{self, Cursor};
///
/// use bytes::Bytes;
/// use mapwal_openraft::{Codec, Plain};
/// use openraft::{Entry, EntryPayload};
///
/// /// A value for a key, of which the value stays where it is.
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// struct Put {
///     key: u64,
///     value: Vec<u8>,
/// }
///
/// openraft::declare_raft_types!(Types: D = Put, R = ());
///
/// struct PutCodec;
///
/// impl Codec<Types> for PutCodec {
///     fn encode_data<'e>(&self, entry: &'e Entry<Types>) -> io::Result<Cow<'e, [u8]>> {
///         let EntryPayload::Normal(put) = &entry.payload else { return Ok(Cow::Borrowed(&[])) };
///         Ok(Cow::Owned([&put.key.to_le_bytes(), put.value.as_slice()].concat()))
///     }
///
///     fn decode_data(&self, data: Bytes) -> io::Result<Put> {
///         let (key, value) = data.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
///         Ok(Put { key: u64::from_le_bytes(*key), value: value.to_vec() })
///     }
///
///     fn encode_node_id(&self, id: &u64, out: &mut Vec<u8>) -> io::Result<()> {
///         id.write(out);
///         Ok(())
///     }
///
///     fn decode_node_id(&self, bytes: &[u8]) -> io::Result<u64> {
///         Plain::read(bytes)
///     }
///
///     fn encode_node(&self, node: &openraft::BasicNode, out: &mut Vec<u8>) -> io::Result<()> {
///         node.write(out);
///         Ok(())
///     }
///
///     fn decode_node(&self, bytes: &[u8]) -> io::Result<openraft::BasicNode> {
///         Plain::read(bytes)
///     }
/// }
/// # let put = || Put { key: 7, value: vec![1, 2] };
/// # let entry = Entry::<Types> { log_id: Default::default(), payload: EntryPayload::Normal(put()) };
/// # let data = PutCodec.encode_data(&entry)?;
/// # let again = PutCodec.decode_data(Bytes::from(data.into_owned()))?;
/// # assert_eq!((again.key, again.value), (7, vec![1, 2]));
/// # Ok::<(), io::Error>(())
/// ```
pub trait Codec<C: RaftTypeConfig>: Send + Sync + 'static {
    /// The application's data in `entry`, which is neither blank nor a membership. It is copied once more, into the mapping.
    ///
    /// # Errors
    /// Data that cannot be stored. Nothing is appended then.
    fn encode_data<'e>(&self, entry: &'e C::Entry) -> io::Result<Cow<'e, [u8]>>;

    /// What [`Self::encode_data`] has made bytes of. `data` borrows from the mapping: as long as it, or a part of it, is kept, the
    /// segment's disk space is held.
    ///
    /// # Errors
    /// Bytes that are none of this codec's.
    fn decode_data(&self, data: Bytes) -> io::Result<C::D>;

    /// Adds a node's id to `out`: at most 255 bytes.
    ///
    /// # Errors
    /// An id that cannot be stored.
    fn encode_node_id(&self, id: &C::NodeId, out: &mut Vec<u8>) -> io::Result<()>;

    /// What [`Self::encode_node_id`] has added.
    ///
    /// # Errors
    /// Bytes that are none of this codec's.
    fn decode_node_id(&self, bytes: &[u8]) -> io::Result<C::NodeId>;

    /// Adds what is known of a node to `out`.
    ///
    /// # Errors
    /// A node that cannot be stored.
    fn encode_node(&self, node: &C::Node, out: &mut Vec<u8>) -> io::Result<()>;

    /// What [`Self::encode_node`] has added.
    ///
    /// # Errors
    /// Bytes that are none of this codec's.
    fn decode_node(&self, bytes: &[u8]) -> io::Result<C::Node>;
}
