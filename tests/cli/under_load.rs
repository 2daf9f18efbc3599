//! `backup` of a log under load, with the writer and the backup killed at random.
//!
//! A writer appends, syncs, rotates, trims and truncates, and notes what it does in a journal beside the log. It is killed and
//! started again. Each copy that opens must be sound, and the log as it was at some moment after the backup began: all that was
//! durable by then is in it, unless it was truncated later. A copy that was not finished must not open.
//!
//! `BACKUPS_UNDER_LOAD` is how many backups there are; `BACKUP_SEED` begins a run of its own.
//!
//! Planted, and noticed: a copy that does not look again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Log, Lsn, Options};

use crate::logs::scratch;
use crate::program::{Ran, start};

/// Where the writer finds log and journal.
const PLACE: &str = "MAPWAL_BACKUP_WRITER";
/// Records that the writer keeps.
const KEPT: u64 = 1000;

#[test]
fn each_backup_of_a_log_under_load_that_opens_is_whole_however_writer_and_backup_are_killed() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, seed) = (number("BACKUPS_UNDER_LOAD", 15), number("BACKUP_SEED", 0x6261_636b));
    let mut random = fastrand::Rng::with_seed(seed);
    let load = Load::new();
    let (mut finished, mut killed, mut kills, mut truncated, mut shared) = (0, 0, 0, 0, 0);
    let mut writer = load.writer();
    let mut earlier = None;
    for round in 0..rounds {
        let out = scratch();
        let copy = out.path().join("copy");
        let against =
            earlier.as_ref().filter(|_| random.bool()).map_or(String::new(), |earlier: &tempfile::TempDir| {
                format!("--against {}", earlier.path().join("copy").display())
            });
        std::thread::sleep(Duration::from_micros(random.u64(..20_000)));
        let before = load.journal();
        let mut backup = start(&load.log(), &format!("backup DIR {} {against}", copy.display())).spawn().unwrap();
        if random.u8(..3) == 0 {
            std::thread::sleep(Duration::from_micros(random.u64(..30_000)));
            kill(&mut writer);
            kills += 1;
            writer = load.writer();
        }
        // Most live as long as they take.
        let is_killed = random.u8(..3) == 0;
        if is_killed {
            std::thread::sleep(Duration::from_micros(random.u64(..40_000)));
            // It may have ended.
            let _ = backup.kill();
        }
        let output = backup.wait_with_output().unwrap();
        let after = load.journal();
        let is_finished = output.status.code().is_some();
        if is_finished {
            let ran = Ran::new(output).done();
            shared += u64::from(ran.text().contains(" shared with ") && !ran.text().contains(" 0 of them shared"));
        }
        truncated += u64::from(before.generations.len() < after.generations.len());
        let whole = records(&copy);
        assert!(whole.is_some() || !is_finished, "round {round} of seed {seed}: a finished backup does not open");
        if let Some(records) = &whole {
            let judged = judge(records, &before, &after);
            assert_eq!(judged, Ok(()), "round {round} of seed {seed}");
        }
        finished += u64::from(is_finished);
        killed += u64::from(!is_finished);
        earlier = whole.map(|_| out).or(earlier);
    }
    kill(&mut writer);
    eprintln!(
        "{rounds} backups: {finished} finished, {killed} killed; the writer was killed {kills} times; \
         {truncated} beside a truncation or a restart; {shared} shared segments"
    );
    assert!(finished > rounds / 3);
}

/// A copy that opens, and what is in it: numbers and generations. It must be sound.
fn records(copy: &Path) -> Option<Vec<(u64, u64)>> {
    let inspection = Inspection::open(copy).ok()?;
    let report = inspection.verify(VerifyOptions::new(), &mut |_| {}).unwrap();
    // SAFETY: the directory is one of this test.
    let log = unsafe { mapwal::LogReader::open(copy) };
    assert_eq!(log.is_ok(), report.damage.is_empty(), "{:?}: {:?}", log.err(), report.damage);
    let log = log.ok()?;
    assert_eq!(report.torn_bytes(), 0);
    let parse = |payload: &[u8]| {
        let (words, filler) = payload.as_chunks();
        let [lsn, generation] = [words[0], words[1]].map(u64::from_le_bytes);
        assert!(filler.is_empty());
        (lsn, generation)
    };
    let snapshot = log.snapshot().unwrap();
    let records: Vec<_> =
        snapshot.iter().map(|record| record.unwrap()).map(|r| (r.lsn(), parse(r.payload()))).collect();
    assert!(records.iter().all(|(lsn, (named, _))| lsn.0 == *named));
    assert_eq!(records.len() as u64, report.records());
    let numbers: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    assert!(numbers.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "a gap");
    Some(numbers)
}

/// Whether `records` are those of the log at one moment between the two.
fn judge(records: &[(u64, u64)], before: &Journal, after: &Journal) -> Result<(), String> {
    let first = records.first().map_or(1, |record| record.0);
    let last = records.last().map_or(0, |record| record.0);
    if first > after.trimmed.max(1) {
        return Err(format!("it begins with {first}, and nothing beyond {} was trimmed", after.trimmed));
    }
    let came_to_be = before.done_generations();
    let fits = |generations: usize| {
        let generations = &after.generations[..generations];
        let expected = |lsn| generations.iter().rfind(|it| it.start <= lsn).map(|it| it.number);
        let later = generations.iter().skip(came_to_be).map(|it| it.start - 1);
        let durable = later.fold(before.durable, u64::min);
        last >= durable && records.iter().all(|&(lsn, generation)| expected(lsn) == Some(generation))
    };
    if (came_to_be..=after.generations.len()).any(fits) {
        return Ok(());
    }
    let runs = records.chunk_by(|a, b| a.1 == b.1).map(|run| (run[0].0, run.last().unwrap().0, run[0].1));
    Err(format!("{:?} of {before:?}, then {after:?}", runs.collect::<Vec<_>>()))
}

/// What the writer has noted.
#[derive(Debug, Default)]
struct Journal {
    generations: Vec<Generation>,
    durable: u64,
    /// All that may have been trimmed is before this record.
    trimmed: u64,
}

/// Records from `start` on that were appended after a start of the writer or a truncation, and before the next.
#[derive(Debug, Clone, Copy)]
struct Generation {
    number: u64,
    start: u64,
    is_done: bool,
}

impl Journal {
    fn parse(text: &str) -> Self {
        let mut journal = Self::default();
        // What was written last may be half a line.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [number, start] = [words[1], words[2]].map(|word| word.parse().unwrap());
            match words[0] {
                "durable" => journal.durable = start,
                "trim" => journal.trimmed = journal.trimmed.max(start),
                "truncated" => journal.generations.last_mut().unwrap().is_done = true,
                "truncate" => {
                    journal.generations.push(Generation { number, start, is_done: false });
                    journal.durable = journal.durable.min(start - 1);
                }
                "start" => {
                    // A truncation that the writer was killed in has happened if this goes on where it led.
                    let never = journal.generations.last().is_some_and(|last| !last.is_done && last.start != start);
                    if never {
                        journal.generations.pop();
                    }
                    journal.generations.push(Generation { number, start, is_done: true });
                }
                _ => panic!("{line}"),
            }
        }
        journal
    }

    /// No reader knows of a truncation that is under way.
    fn done_generations(&self) -> usize {
        self.generations.len() - usize::from(self.generations.last().is_some_and(|last| !last.is_done))
    }
}

/// A log that is written until the writer is killed.
struct Load(tempfile::TempDir);

impl Load {
    fn new() -> Self {
        let directory = scratch();
        fs::create_dir(directory.path().join("log")).unwrap();
        fs::write(directory.path().join("journal"), "").unwrap();
        Self(directory)
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn journal(&self) -> Journal {
        Journal::parse(&fs::read_to_string(self.0.path().join("journal")).unwrap())
    }

    /// Starts it, and waits until it writes.
    fn writer(&self) -> Child {
        let lines = || fs::metadata(self.0.path().join("journal")).unwrap().len();
        let before = lines();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["under_load::writes_until_it_is_killed", "--exact", "--ignored", "--test-threads=1"]);
        command.env(PLACE, self.0.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        let writer = command.spawn().unwrap();
        let began = Instant::now();
        while lines() == before {
            assert!(began.elapsed() < Duration::from_secs(60), "the writer does not write");
            std::thread::sleep(Duration::from_millis(1));
        }
        writer
    }
}

fn kill(writer: &mut Child) {
    writer.kill().unwrap();
    writer.wait().unwrap();
}

#[test]
#[ignore = "the writer, which other tests start"]
fn writes_until_it_is_killed() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    // It ends with the test that has started it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let journal = place.join("journal");
    let mut generation =
        fs::read_to_string(&journal).unwrap().lines().filter(|line| !line.starts_with('d')).count() as u64;
    let mut file = OpenOptions::new().append(true).open(&journal).unwrap();
    let note = |file: &mut File, what: &str, generation: u64, lsn: u64| {
        file.write_all(format!("{what} {generation} {lsn}\n").as_bytes()).unwrap();
    };
    let options = Options::new().segment_size_bytes(64 << 10);
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(place.join("log"), &options) }.unwrap();
    note(&mut file, "start", generation, log.next_lsn().0);
    let mut random = fastrand::Rng::new();
    loop {
        let lsn = log.next_lsn().0;
        let mut payload = |lsn: u64| -> Vec<u8> {
            let words = 2 + random.u64(..150);
            [lsn, generation].into_iter().chain(2..words).flat_map(u64::to_le_bytes).collect()
        };
        if lsn.is_multiple_of(7) {
            let batch = [lsn, lsn + 1, lsn + 2, lsn + 3].map(&mut payload);
            let batch: Vec<(u16, &[u8])> = batch.iter().map(|payload| (1, &payload[..])).collect();
            assert_eq!(log.append_batch(&batch).unwrap().start, Lsn(lsn));
        } else {
            assert_eq!(log.append(1, &payload(lsn)).unwrap(), Lsn(lsn));
        }
        match random.u16(..1000) {
            0..150 => {
                log.sync().unwrap();
                note(&mut file, "durable", generation, log.durable_lsn().0);
                std::thread::sleep(Duration::from_micros(50));
            }
            150..152 => log.rotate().map(|_| ()).unwrap(),
            152..158 => {
                let before = lsn.saturating_sub(KEPT).max(1);
                note(&mut file, "trim", generation, before);
                log.trim_before(Lsn(before)).unwrap();
            }
            158..164 => {
                let to = lsn.saturating_sub(random.u64(..300)).max(log.first_lsn().0);
                generation += 1;
                note(&mut file, "truncate", generation, to + 1);
                log.truncate_after(Lsn(to)).unwrap();
                note(&mut file, "truncated", generation, to + 1);
            }
            _ => {}
        }
    }
}
