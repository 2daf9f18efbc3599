//! A follower: appends what the leader ships, and says what is durable.

use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn};

use crate::Role;
use crate::wire;

/// How long it waits before it looks for the leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What one run received.
#[derive(Default)]
struct Received {
    connections: u64,
    shipments: u64,
    bytes: u64,
}

/// Follows the leader, whichever process that is at the moment, up to record `last`.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn run(log: &Log, role: Role, directory: &Path, last: Lsn) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut received = Received::default();
    let first = log.next_lsn();
    while log.durable_lsn() < last {
        if began.elapsed() > wire::PATIENCE {
            return Err(format!("record {} has not come", log.next_lsn()).into());
        }
        match wire::connect(directory) {
            Ok(stream) => {
                received.connections += 1;
                follow(log, role, &stream, last, &mut received)?;
            }
            // There is no leader just now.
            Err(_) => std::thread::sleep(RETRY_INTERVAL),
        }
    }
    let Received { connections, shipments, bytes } = received;
    println!(
        "{}: received records {first} to {last}, {:.1} MB in {shipments} shipments over {connections} connections",
        role.name(),
        bytes as f64 / 1e6
    );
    Ok(())
}

/// Takes shipments until record `last` has come, or the connection ends.
fn follow(log: &Log, role: Role, stream: &TcpStream, last: Lsn, received: &mut Received) -> Result<(), Box<dyn Error>> {
    let mut shipment = Vec::new();
    let mut talk = || -> Result<(), Box<dyn Error>> {
        wire::send_hello(stream, role, log.next_lsn())?;
        while log.durable_lsn() < last {
            // One batch may be as long as a segment.
            wire::receive_frames(stream, &mut shipment, 2 * log.payload_len_max())?;
            log.append_frames(&shipment)?;
            wire::send_durable(stream, log.sync()?)?;
            received.shipments += 1;
            received.bytes += shipment.len() as u64;
        }
        Ok(())
    };
    match talk() {
        // The leader is gone: the next one is told where to go on.
        Err(error) if error.is::<io::Error>() => Ok(()),
        other => other,
    }
}
