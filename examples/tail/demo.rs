//! Following a live writer, and checking that every record comes, once, in order and unharmed.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mapwal::{Follower, LogReader, Lsn, Record, Visibility};

use crate::trace::Trace;
use crate::writer;

/// How long nothing may happen, neither the log appear nor a record come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the writer is looked at while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Records between two updates of the progress line.
const PROGRESS_INTERVAL: u64 = 4096;

/// Starts a writer, follows it, and prints one line of what came.
pub(crate) fn run(visibility: Visibility) -> Result<(), Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    // So that the temporary directory is removed also then.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let trace = Trace::bundled()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut watch = Watch { writer: Writer::start(&log)?, interrupted, last_news: Instant::now() };
    let reader = watch.open(&log)?;
    let mut follower = reader.follow(Lsn::FIRST, visibility)?;
    let mut tally = Tally::new(trace);
    while tally.received < tally.expected {
        match follower.next_timeout(LOOK_INTERVAL)? {
            Some(record) => {
                tally.check(record);
                watch.last_news = Instant::now();
            }
            None => watch.check(&follower)?,
        }
    }
    watch.writer.finish()?;
    if let Some(record) = follower.next()? {
        return Err(format!("record {} came after the last one", record.lsn()).into());
    }
    tally.report(count_segments(&log)?)
}

/// The process that writes. It does not outlive this value.
struct Writer(Child);

impl Writer {
    fn start(log: &Path) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Self(command.arg("--write").arg(log).stdin(Stdio::null()).spawn()?))
    }

    fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.0.try_wait()? {
            Some(status) if !status.success() => Err(format!("the writer failed: {status}").into()),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        self.0.wait()?;
        self.check()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It fails if the writer has come to its end, and then nothing is left to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Notices when nothing more is to be expected.
struct Watch {
    writer: Writer,
    interrupted: Arc<AtomicBool>,
    last_news: Instant,
}

impl Watch {
    /// Waits for the log to exist.
    fn open(&mut self, log: &Path) -> Result<LogReader, Box<dyn Error>> {
        loop {
            // SAFETY: only the writer, which is this program too, changes the files, and only by way of the library;
            // temporary directories are on a local file system.
            match unsafe { LogReader::open_timeout(log, LOOK_INTERVAL) } {
                Err(mapwal::Error::NoLog { .. }) => self.check_patience("no log has appeared")?,
                opened => return Ok(opened?),
            }
        }
    }

    fn check(&mut self, follower: &Follower) -> Result<(), Box<dyn Error>> {
        self.check_patience(&format!("record {} has not come", follower.next_lsn()))
    }

    fn check_patience(&mut self, missing: &str) -> Result<(), Box<dyn Error>> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        self.writer.check()?;
        if self.last_news.elapsed() > PATIENCE {
            return Err(format!("{missing} for {} s", PATIENCE.as_secs()).into());
        }
        Ok(())
    }
}

/// What has come, against what was appended.
struct Tally {
    trace: Trace,
    expected: u64,
    received: u64,
    next: Lsn,
    gaps: u64,
    damaged: u64,
    payload_bytes: u64,
    began: Instant,
    progress: ProgressBar,
}

impl Tally {
    fn new(trace: Trace) -> Self {
        let expected = writer::record_count(&trace);
        // Drawn on a terminal only.
        let progress = ProgressBar::new(expected);
        let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} records, {per_sec}");
        progress.set_style(style.expect("a valid template"));
        Self {
            trace,
            expected,
            received: 0,
            next: Lsn::FIRST,
            gaps: 0,
            damaged: 0,
            payload_bytes: 0,
            began: Instant::now(),
            progress,
        }
    }

    fn check(&mut self, record: Record<'_>) {
        let lsn = record.lsn();
        self.gaps += u64::from(lsn != self.next);
        self.next = lsn.next();
        let intact = self.trace.record(lsn.previous().0).matches(record.tag(), record.payload());
        self.damaged += u64::from(!intact);
        self.payload_bytes += record.payload().len() as u64;
        self.received += 1;
        if self.received.is_multiple_of(PROGRESS_INTERVAL) {
            self.progress.set_position(self.received);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn report(self, segments: usize) -> Result<(), Box<dyn Error>> {
        self.progress.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        let (received, gaps, damaged) = (self.received, self.gaps, self.damaged);
        let (rate, volume) = (received as f64 / seconds, self.payload_bytes as f64 / seconds / 1e6);
        println!(
            "{received} records over {segments} segments in {seconds:.2} s: {rate:.0} records/s, {volume:.1} MB/s, \
             {damaged} damaged, {gaps} gaps"
        );
        if gaps + damaged > 0 {
            return Err("the records that came are not those that were appended".into());
        }
        Ok(())
    }
}

fn count_segments(log: &Path) -> std::io::Result<usize> {
    let names = std::fs::read_dir(log)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<std::io::Result<_>>()?;
    Ok(names.iter().filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "seg")).count())
}
