//! The leader: appends, ships, and trims up to the slowest follower.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Visibility};

use crate::Role;
use crate::trace::Trace;
use crate::wire;

/// Records appended between two syncs.
const GROUP: u64 = 512;
/// How many records may be appended that are not acknowledged yet.
const WINDOW: u64 = 16 * GROUP;
/// The most bytes in a shipment, a long batch aside.
const SHIPMENT_BYTES: usize = 256 << 10;
/// How often a pin is moved and the log trimmed: each is a sync.
const PIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest wait before a thread looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The most disk space that a lost follower may hold back, in bytes.
const PIN_LIMIT_BYTES: u64 = 1 << 30;

/// How far the followers are.
struct Progress {
    /// The last record that each of them has made durable, in the order of [`Role::FOLLOWERS`].
    durable: [Lsn; 2],
    lag_max: [u64; 2],
    failed: Option<String>,
    done: bool,
}

struct Leader<'l> {
    log: &'l Log,
    last: Lsn,
    quorum: usize,
    began: Instant,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// Appends the trace up to record `last`, and returns when all followers have it.
pub(crate) fn run(log: &Log, directory: &Path, last: Lsn, quorum: usize) -> Result<(), Box<dyn Error>> {
    let durable = Role::FOLLOWERS.map(|role| {
        let pins = log.pins();
        pins.iter().find(|pin| pin.name == role.name()).map_or(Lsn::ZERO, |pin| Lsn(pin.lsn.0 - 1))
    });
    // A pin before the first record is trimmed, also for followers that have not called yet.
    for role in Role::FOLLOWERS {
        match log.create_pin(role.name(), "the example", log.first_lsn(), Some(PIN_LIMIT_BYTES)) {
            Err(mapwal::Error::Pin { fault: mapwal::error::PinFault::Exists, .. }) => {}
            other => other?,
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    wire::publish_address(directory, listener.local_addr()?)?;
    let progress = Mutex::new(Progress { durable, lag_max: [0; 2], failed: None, done: false });
    let leader = &Leader { log, last, quorum, began: Instant::now(), progress, changed: Condvar::new() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !leader.lock().done {
                match listener.accept() {
                    Ok((stream, _)) => drop(scope.spawn(move || leader.serve(&stream))),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        let outcome = leader.append_all();
        leader.lock().done = true;
        leader.changed.notify_all();
        outcome
    })?;
    Ok(())
}

impl Leader<'_> {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no thread panics while it holds the lock")
    }

    /// Appends the records that are missing, and waits for the followers.
    fn append_all(&self) -> Result<(), Box<dyn Error>> {
        let trace = Trace::bundled()?;
        let first = self.log.next_lsn();
        let mut latencies = Vec::new();
        let mut trimmed = Trimmed { count: 0, last: Instant::now() };
        let mut next = first;
        while next <= self.last {
            let group = next;
            while next <= self.last && next.0 < group.0 + GROUP {
                let record = trace.record(next.0 - 1);
                next = self.log.append_with(record.tag, record.len, |bytes| record.fill(bytes))?.next();
            }
            latencies.push((next.previous(), Instant::now(), None));
            self.log.sync()?;
            self.wait_acknowledged(Lsn(next.0.saturating_sub(WINDOW)), &mut latencies)?;
            trimmed.trim(self.log)?;
        }
        self.wait_acknowledged(self.last, &mut latencies)?;
        let took = self.began.elapsed();
        self.wait_for_all()?;
        trimmed.last = self.began;
        trimmed.trim(self.log)?;
        self.report(next.0 - first.0, took, &latencies, trimmed.count);
        Ok(())
    }

    /// Waits until `quorum` followers hold record `lsn`, and notes when each group was acknowledged.
    fn wait_acknowledged(
        &self,
        lsn: Lsn,
        groups: &mut [(Lsn, Instant, Option<Duration>)],
    ) -> Result<(), Box<dyn Error>> {
        loop {
            let progress = self.lock();
            let acknowledged = self.acknowledged(&progress);
            for (last, appended, latency) in groups.iter_mut().rev().take_while(|(.., latency)| latency.is_none()) {
                if *last <= acknowledged {
                    *latency = Some(appended.elapsed());
                }
            }
            if acknowledged >= lsn {
                return Ok(());
            }
            self.wait(progress, lsn)?;
        }
    }

    /// The last record that counts as acknowledged.
    fn acknowledged(&self, progress: &Progress) -> Lsn {
        let mut durable = progress.durable;
        durable.sort_unstable_by(|a, b| b.cmp(a));
        let own = self.log.durable_lsn();
        self.quorum.checked_sub(1).map_or(own, |at| durable[at].min(own))
    }

    fn wait_for_all(&self) -> Result<(), Box<dyn Error>> {
        loop {
            let progress = self.lock();
            if progress.durable.iter().all(|&durable| durable >= self.last) {
                return Ok(());
            }
            self.wait(progress, self.last)?;
        }
    }

    /// Waits for news of the followers.
    fn wait(&self, progress: MutexGuard<'_, Progress>, lsn: Lsn) -> Result<(), Box<dyn Error>> {
        if let Some(failed) = &progress.failed {
            return Err(failed.clone().into());
        }
        if self.began.elapsed() > wire::PATIENCE {
            return Err(format!("record {lsn} has not been acknowledged").into());
        }
        drop(self.changed.wait_timeout(progress, LOOK_INTERVAL).expect("no thread panics while it holds the lock"));
        Ok(())
    }

    /// Ships to one follower for as long as its connection lasts.
    fn serve(&self, stream: &TcpStream) {
        let Err(error) = self.ship(stream) else { return };
        // A connection may break at any time; whatever else goes wrong is for the demonstration to know.
        if !error.is::<io::Error>() {
            self.lock().failed = Some(error.to_string());
        }
    }

    fn ship(&self, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
        stream.set_nonblocking(false)?;
        wire::prepare(stream)?;
        let (role, next) = wire::receive_hello(stream)?;
        // No record is shipped that this log might lose in a crash.
        let mut follower = self.log.follow(next, Visibility::Durable)?;
        std::thread::scope(|scope| {
            let listener = scope.spawn(|| self.listen(role, stream).map_err(|error| error.to_string()));
            while !listener.is_finished() && !self.lock().done {
                if let Some(frames) = follower.next_batch_timeout(SHIPMENT_BYTES, LOOK_INTERVAL)? {
                    wire::send_frames(stream, &frames)?;
                }
            }
            // Ends the reading as well.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            listener.join().map_err(|_| "a thread has panicked")?.map_err(Into::into)
        })
    }

    /// Notes what the follower has made durable, and moves its pin after it.
    fn listen(&self, role: Role, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
        let at = Role::FOLLOWERS.iter().position(|&known| known == role).expect("only followers call");
        let mut moved = Instant::now();
        // Until the connection ends, or has nothing to tell for so long that the follower has given it up.
        while let Ok(durable) = wire::receive_durable(stream) {
            if durable >= self.last || moved.elapsed() >= PIN_INTERVAL {
                self.log.advance_pin(role.name(), durable.next())?;
                moved = Instant::now();
            }
            let mut progress = self.lock();
            progress.durable[at] = durable;
            let lag = self.log.durable_lsn().0.saturating_sub(durable.0);
            progress.lag_max[at] = progress.lag_max[at].max(lag);
            drop(progress);
            self.changed.notify_all();
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "figures for people")]
    fn report(&self, count: u64, took: Duration, groups: &[(Lsn, Instant, Option<Duration>)], trimmed: usize) {
        let mut latencies: Vec<f64> =
            groups.iter().filter_map(|(.., latency)| latency.map(|latency| latency.as_secs_f64() * 1e3)).collect();
        latencies.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| latencies.get((latencies.len() as f64 * q) as usize).copied().unwrap_or_default();
        let [ann, bob] = self.lock().lag_max;
        println!(
            "leader: {count} records acknowledged by {} of 2 in {:.2} s: {:.0} records/s, {:.1} ms p50, {:.1} ms p99",
            self.quorum,
            took.as_secs_f64(),
            count as f64 / took.as_secs_f64(),
            quantile(0.5),
            quantile(0.99),
        );
        println!("leader: largest lag {ann} and {bob} records; {trimmed} segments trimmed before the slowest pin");
    }
}

/// Trims every now and then.
struct Trimmed {
    count: usize,
    last: Instant,
}

impl Trimmed {
    fn trim(&mut self, log: &Log) -> Result<(), Box<dyn Error>> {
        if self.last.elapsed() >= PIN_INTERVAL {
            // As far as it goes: the pins say how far that is.
            self.count += log.trim_before(log.next_lsn())?;
            self.last = Instant::now();
        }
        Ok(())
    }
}
