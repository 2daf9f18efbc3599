//! The demonstration: starts the three processes, kills two of them on the way, and compares the logs.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mapwal::{LogReader, Lsn, Snapshot};

use crate::trace::Trace;
use crate::{Arguments, Role, wire};

/// How often the processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long a follower stays away.
const ABSENCE: Duration = Duration::from_millis(300);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    // So that the processes are stopped and the temporary directory is removed also then.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let directory = tempfile::tempdir()?;
    let demo = Demo { directory: directory.path(), arguments, interrupted, began: Instant::now() };
    let [mut leader, mut ann, mut bob] = [demo.start(Role::Leader)?, demo.start(Role::Ann)?, demo.start(Role::Bob)?];
    // SAFETY: only this program's processes change the files, by way of the library; temporary directories are on a
    // local file system.
    let reader = unsafe { LogReader::open_timeout(demo.log(Role::Leader), wire::PATIENCE) }?;
    demo.wait_for(&reader, arguments.records / 4, &mut [&mut leader, &mut ann, &mut bob])?;
    demo.kill(Role::Bob, &mut bob, &reader)?;
    demo.wait(ABSENCE, &mut [&mut leader, &mut ann])?;
    bob = demo.start(Role::Bob)?;
    demo.wait_for(&reader, arguments.records / 2, &mut [&mut leader, &mut ann, &mut bob])?;
    demo.kill(Role::Leader, &mut leader, &reader)?;
    leader = demo.start(Role::Leader)?;
    let mut processes = [leader, ann, bob];
    while processes.iter_mut().any(|process| !process.finished) {
        demo.pause(&mut processes.each_mut())?;
    }
    demo.compare()
}

struct Demo<'a> {
    directory: &'a Path,
    arguments: &'a Arguments,
    interrupted: Arc<AtomicBool>,
    began: Instant,
}

impl Demo<'_> {
    fn log(&self, role: Role) -> std::path::PathBuf {
        self.directory.join(role.name())
    }

    fn start(&self, role: Role) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role.name(), "--directory"]).arg(self.directory);
        command.arg(format!("--records={}", self.arguments.records));
        command.arg(format!("--quorum={}", self.arguments.quorum));
        Ok(Process { child: command.stdin(Stdio::null()).spawn()?, finished: false })
    }

    /// Kills a process as a crash would.
    fn kill(&self, role: Role, process: &mut Process, reader: &LogReader) -> Result<(), Box<dyn Error>> {
        process.look()?;
        if process.finished {
            return Err(format!("{} had finished before it could be killed", role.name()).into());
        }
        process.stop();
        let (name, at) = (role.name(), reader.published_lsn()?);
        println!("{name} killed at record {at}, after {:.2} s", self.began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Waits until the leader has appended record `lsn`.
    fn wait_for(&self, reader: &LogReader, lsn: u64, processes: &mut [&mut Process]) -> Result<(), Box<dyn Error>> {
        while reader.published_lsn()? < Lsn(lsn) {
            self.pause(processes)?;
        }
        Ok(())
    }

    fn wait(&self, time: Duration, processes: &mut [&mut Process]) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.pause(processes)?;
        }
        Ok(())
    }

    /// A moment; an error if it is one too many, or a process has failed.
    fn pause(&self, processes: &mut [&mut Process]) -> Result<(), Box<dyn Error>> {
        for process in processes {
            process.look()?;
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if self.began.elapsed() > wire::PATIENCE {
            return Err(format!("not finished after {} s", wire::PATIENCE.as_secs()).into());
        }
        std::thread::sleep(LOOK_INTERVAL);
        Ok(())
    }

    /// Compares what the three logs hold, with each other and with what was appended.
    fn compare(&self) -> Result<(), Box<dyn Error>> {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut snapshots = Vec::new();
        for role in Role::ALL {
            // SAFETY: as above; the processes have ended.
            snapshots.push((role, unsafe { LogReader::open(self.log(role)) }?.snapshot()?));
        }
        let last = Lsn(self.arguments.records);
        let trace = Trace::bundled()?;
        for (role, snapshot) in &snapshots {
            check(role.name(), snapshot, last, &trace)?;
        }
        // What the leader has trimmed, the followers still have.
        let mut bounds: Vec<Lsn> = snapshots.iter().map(|(_, snapshot)| snapshot.first_lsn()).collect();
        bounds.push(last.next());
        bounds.sort_unstable();
        bounds.dedup();
        for range in bounds.windows(2) {
            compare_range(&snapshots, range[0]..range[1])?;
        }
        println!("the three logs hold the same {last} records, {seconds:.2} s after the start");
        Ok(())
    }
}

/// Prints the checksum of the range for each log that holds it; an error if they differ.
fn compare_range(snapshots: &[(Role, Snapshot)], range: Range<Lsn>) -> Result<(), Box<dyn Error>> {
    let mut checksums = Vec::new();
    for (role, snapshot) in snapshots.iter().filter(|(_, snapshot)| snapshot.first_lsn() <= range.start) {
        let checksum = checksum(snapshot, range.clone())?;
        let (name, first, last) = (role.name(), range.start, range.end.previous());
        println!("{name:>6}: records {first} to {last}: checksum {checksum:016x}");
        checksums.push(checksum);
    }
    if checksums.iter().any(|&checksum| checksum != checksums[0]) {
        return Err("the logs differ".into());
    }
    Ok(())
}

/// An error if a log does not hold exactly the records of the trace, from its first on.
fn check(name: &str, snapshot: &Snapshot, last: Lsn, trace: &Trace) -> Result<(), Box<dyn Error>> {
    let mut next = snapshot.first_lsn();
    for record in snapshot {
        let record = record?;
        if record.lsn() != next || !trace.record(next.0 - 1).matches(record.tag(), record.payload()) {
            return Err(format!("{name}: record {next} is not the one that was appended").into());
        }
        next = next.next();
    }
    if next == last.next() { Ok(()) } else { Err(format!("{name}: the log ends before record {next}").into()) }
}

/// Of numbers, tags and payloads: FNV-1a over 64-bit words.
fn checksum(snapshot: &Snapshot, range: Range<Lsn>) -> Result<u64, mapwal::Error> {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| state = (state ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    for record in snapshot.range(range) {
        let record = record?;
        add(record.lsn().0);
        add(u64::from(record.tag()) << 32 | u64::from(crc32fast::hash(record.payload())));
    }
    Ok(state)
}

/// A process that does not outlive this value.
struct Process {
    child: Child,
    finished: bool,
}

impl Process {
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) if status.success() => {
                self.finished = true;
                Ok(())
            }
            Some(status) => Err(format!("a process failed: {status}").into()),
        }
    }

    fn stop(&mut self) {
        // It fails if the process has come to its end, and then nothing is left to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
