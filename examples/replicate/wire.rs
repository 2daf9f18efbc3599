//! What goes over the connection between a follower and the leader.
//!
//! The follower says once which it is and which record it needs, and then, again and again, up to which record it is
//! durable. The leader sends shipments: a header that tells the length, and frames.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use mapwal::{Frames, Lsn};

use crate::Role;

/// How long a process waits for the others, together: more than the whole demonstration takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait for the network before a process looks whether it is still wanted.
pub(crate) const NETWORK_TIMEOUT: Duration = Duration::from_secs(2);
/// Where the leader leaves its address.
const ADDRESS_FILE: &str = "address";

/// Lets the followers find the leader. They see the old address or the new one, and never half of one.
pub(crate) fn publish_address(directory: &Path, address: SocketAddr) -> io::Result<()> {
    let temporary = directory.join("address.new");
    std::fs::write(&temporary, address.to_string())?;
    std::fs::rename(temporary, directory.join(ADDRESS_FILE))
}

/// A connection to the leader, if there is one.
pub(crate) fn connect(directory: &Path) -> io::Result<TcpStream> {
    let address = std::fs::read_to_string(directory.join(ADDRESS_FILE))?;
    let address: SocketAddr = address.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let stream = TcpStream::connect_timeout(&address, NETWORK_TIMEOUT)?;
    prepare(&stream)?;
    Ok(stream)
}

/// Sets a connection up, on either side.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(NETWORK_TIMEOUT))?;
    stream.set_write_timeout(Some(NETWORK_TIMEOUT))
}

/// Says which follower calls, and what it needs next.
pub(crate) fn send_hello(mut stream: &TcpStream, role: Role, next: Lsn) -> io::Result<()> {
    let mut hello = [0; 9];
    hello[0] = role as u8;
    hello[1..].copy_from_slice(&next.0.to_le_bytes());
    stream.write_all(&hello)
}

pub(crate) fn receive_hello(mut stream: &TcpStream) -> io::Result<(Role, Lsn)> {
    let mut hello = [0; 9];
    stream.read_exact(&mut hello)?;
    let [role, next @ ..] = hello;
    let role = Role::FOLLOWERS.into_iter().find(|&known| known as u8 == role);
    Ok((role.ok_or(io::ErrorKind::InvalidData)?, Lsn(u64::from_le_bytes(next))))
}

/// Says up to which record the follower is durable.
pub(crate) fn send_durable(mut stream: &TcpStream, durable: Lsn) -> io::Result<()> {
    stream.write_all(&durable.0.to_le_bytes())
}

pub(crate) fn receive_durable(mut stream: &TcpStream) -> io::Result<Lsn> {
    let mut durable = [0; 8];
    stream.read_exact(&mut durable)?;
    Ok(Lsn(u64::from_le_bytes(durable)))
}

/// Sends frames from where they are in the mapping.
pub(crate) fn send_frames(mut stream: &TcpStream, frames: &Frames<'_>) -> io::Result<()> {
    let header = frames.header();
    let mut slices = [IoSlice::new(&header), IoSlice::new(frames.bytes())];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives a shipment of at most `len_max` bytes of frames, header and all, into `shipment`.
pub(crate) fn receive_frames(mut stream: &TcpStream, shipment: &mut Vec<u8>, len_max: u64) -> io::Result<()> {
    let mut header = [0; Frames::HEADER_LEN];
    stream.read_exact(&mut header)?;
    let len = Frames::len_after(&header).filter(|&len| len <= len_max).ok_or(io::ErrorKind::InvalidData)?;
    shipment.clear();
    shipment.extend_from_slice(&header);
    let received = stream.take(len).read_to_end(shipment)?;
    if received as u64 == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
