//! The network between the nodes: a proxy before each node, which knows where a connection comes from, and holds or drops what must not
//! pass. Each direction is a link of its own, also within a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of what is sent over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It arrives once the link is whole again, however late that is.
    Hold,
    /// It is lost, and the connection with it.
    Drop,
}

#[derive(Debug, Default)]
struct Links {
    cuts: BTreeMap<(u64, u64), Cut>,
    addresses: BTreeMap<u64, SocketAddr>,
}

/// A handle of it.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<watch::Sender<Links>>);

impl Network {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Links::default())))
    }

    /// A proxy for node `to`: the address that the others have of it for good.
    pub(super) async fn add(&self, to: u64) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let network = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let network = network.clone();
                tokio::spawn(async move { network.carry(stream, to).await });
            }
        });
        Ok(address)
    }

    /// Node `id` is at this address from now on.
    pub(super) fn lead_to(&self, id: u64, address: SocketAddr) {
        self.0.send_modify(|links| links.addresses.extend([(id, address)]));
    }

    /// Cuts the link from one node to another, in this direction.
    pub(super) fn cut(&self, from: u64, to: u64, cut: Cut) {
        self.0.send_modify(|links| links.cuts.extend([((from, to), cut)]));
    }

    pub(super) fn mend(&self, from: u64, to: u64) {
        self.0.send_modify(|links| links.cuts.retain(|link, _| *link != (from, to)));
    }

    pub(super) fn mend_all(&self) {
        self.0.send_modify(|links| links.cuts.clear());
    }

    /// Waits until something may pass.
    async fn pass(&self, from: u64, to: u64) -> io::Result<()> {
        let mut links = self.0.subscribe();
        let links = links.wait_for(|links| links.cuts.get(&(from, to)) != Some(&Cut::Hold)).await;
        let is_dropped = links.map_err(io::Error::other)?.cuts.contains_key(&(from, to));
        if is_dropped { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    async fn dropped(&self, from: u64, to: u64) {
        let mut links = self.0.subscribe();
        let _ = links.wait_for(|links| links.cuts.get(&(from, to)) == Some(&Cut::Drop)).await;
    }

    async fn carry(&self, mut near: TcpStream, to: u64) -> io::Result<()> {
        near.set_nodelay(true)?;
        let from = near.read_u64_le().await?;
        self.pass(from, to).await?;
        self.pass(to, from).await?;
        let address = self.0.borrow().addresses.get(&to).copied().ok_or(io::ErrorKind::NotFound)?;
        let mut far = TcpStream::connect(address).await?;
        far.set_nodelay(true)?;
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        // What one side has sent before it ended was delivered.
        tokio::select! {
            ended = self.pump(near_read, far_write, from, to) => ended,
            ended = self.pump(far_read, near_write, to, from) => ended,
        }
    }

    async fn pump(
        &self,
        mut read: impl AsyncRead + Unpin,
        mut write: impl AsyncWrite + Unpin,
        from: u64,
        to: u64,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let len = tokio::select! {
                len = read.read(&mut buffer) => len?,
                () = self.dropped(from, to) => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            if len == 0 {
                return write.shutdown().await;
            }
            self.pass(from, to).await?;
            write.write_all(&buffer[..len]).await?;
        }
    }
}
