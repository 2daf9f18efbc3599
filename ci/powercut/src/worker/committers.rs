//! Threads that append and wait for durability at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fastrand::Rng;
use mapwal::{Error, Log, Lsn};

use crate::event::{Event, Teller};
use crate::model::{Entry, payload, tag};

/// How long a callback may take once everything is durable.
const CALLBACK_WAIT: Duration = Duration::from_secs(10);

/// Numbers that nobody else has.
#[derive(Debug)]
pub struct Numbers {
    ids: AtomicU64,
    calls: AtomicU64,
}

impl Numbers {
    pub fn new(first_id: u64) -> Self {
        Self { ids: AtomicU64::new(first_id), calls: AtomicU64::new(0) }
    }

    pub fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub fn call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

/// Has two to four threads append and wait. Returns the first error.
pub fn run(log: &Arc<Log>, teller: &Arc<Teller>, numbers: &Numbers, rng: &mut Rng) -> Result<(), Error> {
    let (sender, called) = mpsc::channel();
    let (count, with_rotation) = (rng.usize(2..5), rng.bool());
    let seeds: Vec<u64> = (0..count).map(|_| rng.u64(..)).collect();
    teller.tell(Event::Together);
    let done: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let start = |seed| {
            let sender = sender.clone();
            scope.spawn(move || commit(log, teller, numbers, &mut Rng::with_seed(seed), &sender))
        };
        let threads: Vec<_> = seeds.into_iter().map(start).collect();
        let rotated = if with_rotation { log.rotate().map(drop) } else { Ok(()) };
        let joined = threads.into_iter().map(|thread| thread.join().expect("a committer does not panic"));
        joined.chain([rotated]).collect()
    });
    let synced = log.sync();
    drop(sender);
    while called.recv_timeout(CALLBACK_WAIT).is_ok() {}
    teller.tell(Event::Apart);
    done.into_iter().collect::<Result<(), Error>>()?;
    synced.map(|durable| teller.tell(Event::Synced(durable.0)))
}

fn commit(
    log: &Log,
    teller: &Arc<Teller>,
    numbers: &Numbers,
    rng: &mut Rng,
    called: &mpsc::Sender<()>,
) -> Result<(), Error> {
    for _ in 0..rng.usize(2..8) {
        let last = append(log, teller, numbers, rng)?;
        match rng.u8(0..4) {
            0 | 1 => {
                log.wait_durable(last)?;
                teller.tell(Event::Durable(last.0));
            }
            2 => {
                let (teller, called) = (Arc::clone(teller), called.clone());
                log.on_durable(last, move |durable| {
                    if durable.is_ok() {
                        teller.tell(Event::Durable(last.0));
                    }
                    // The thread that waits for the callback may have given up.
                    let _ = called.send(());
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Appends a record or a batch; returns the last number.
fn append(log: &Log, teller: &Teller, numbers: &Numbers, rng: &mut Rng) -> Result<Lsn, Error> {
    let count = if rng.u8(..) < 64 { rng.usize(2..5) } else { 1 };
    let records: Vec<(u64, usize)> = (0..count).map(|_| (numbers.id(), rng.usize(0..1500))).collect();
    let entries = batch_entries(&records);
    let call = numbers.call();
    teller.tell(Event::Submitted { call, entries });
    let payloads: Vec<(u16, Vec<u8>)> = records.iter().map(|&(id, len)| (tag(id), payload(id, len))).collect();
    let batch: Vec<(u16, &[u8])> = payloads.iter().map(|(tag, bytes)| (*tag, &bytes[..])).collect();
    let appended = match &batch[..] {
        [(tag, bytes)] => log.append(*tag, bytes),
        _ => log.append_batch(&batch).map(|range| range.start),
    };
    match appended {
        Ok(first) => {
            teller.tell(Event::Appended { call, lsn: Some(first.0) });
            Ok(Lsn(first.0 + count as u64 - 1))
        }
        Err(error) => {
            teller.tell(Event::Refused { call });
            Err(error)
        }
    }
}

/// The records of a batch, as the model knows them.
pub fn batch_entries(records: &[(u64, usize)]) -> Vec<Entry> {
    let last = records.len() - 1;
    let entry = |(index, &(id, len))| Entry::Record { id, len: len as u32, continues: index < last };
    records.iter().enumerate().map(entry).collect()
}
