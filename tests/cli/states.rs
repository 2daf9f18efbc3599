//! A log in every state, and what is there in it.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::logs::{copy, frames, killed, line, live, rewrite_header, scratch, segments, synced, torn, write_at};
use crate::mounted::Mounted;
use crate::program::{PROGRAM, Running, plain, run, run_with_input, start};
use crate::{pages, tears};

/// Records of the logs that most states are made from, in four segments.
pub(crate) const RECORDS: u64 = 1200;
/// The length to which a segment is cut short.
const CUT: usize = 32 << 10;

/// A state of a log.
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) log: Log,
    /// The numbers of the records in the files that are sound.
    pub(crate) there: Vec<u64>,
    pub(crate) health: Health,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// No log that can be read.
    None,
    /// As its writer, or a crash, has left it.
    Well,
    /// Something that had been durable is damaged or missing.
    Damaged,
    /// So are whole segments, and nothing that is left says so.
    Unnoticed,
}

/// A log on which commands are tried.
pub(crate) enum Log {
    /// Each command has a copy of it.
    Copied(TempDir),
    /// All have the same one, which a process is writing.
    Live(TempDir, Running, Option<Running>),
    /// All have the same one, which cannot be written; what is mounted is that directory.
    Mounted(#[expect(dead_code, reason = "held, not looked at")] TempDir, Mounted),
    /// Each command has a copy of it, on a disk that is full.
    Full(TempDir),
    /// Each command has a copy of it, and is run by another user than its owner, to whom all of it is readable, or nothing.
    OfAnother(TempDir, bool),
    /// There is no directory.
    Missing,
    /// A file.
    File(TempDir),
}

const READ_ONLY: &str = "read-only file system";
const FULL_DISK: &str = "full disk";
const OF_ANOTHER: &str = "of another user, who lets it be read";
const OF_ANOTHER_ALONE: &str = "of another user";
/// Who is neither root nor the owner.
pub(crate) const OTHER_USER: u32 = 65534;

/// Of the states that need a file system of their own, or another user, those that are not there.
pub(crate) fn unmade(states: &[State]) -> Vec<&'static str> {
    [READ_ONLY, FULL_DISK, OF_ANOTHER, OF_ANOTHER_ALONE]
        .into_iter()
        .filter(|&name| states.iter().all(|state| state.name != name))
        .collect()
}

/// A copy of a log on a disk without room.
pub(crate) fn on_full_disk(log: &Path) -> Mounted {
    let disk = Mounted::of_size(1 << 20).unwrap();
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), disk.path().join(entry.file_name())).unwrap();
    }
    let ballast = fs::write(disk.path().join("ballast"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(ballast.kind(), std::io::ErrorKind::StorageFull);
    disk
}

/// A copy of a log that others than its owner may read, or not.
pub(crate) fn of_another(log: &Path, is_readable: bool) -> TempDir {
    let log = copy(log);
    if is_readable {
        let_read(log.path());
    }
    log
}

/// Has every user be able to read a log.
pub(crate) fn let_read(log: &Path) {
    let entries = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.chain([log.to_owned()]) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Whether this process may be another user, to whom the program is there.
pub(crate) fn has_other_user() -> bool {
    let mut program = plain(PROGRAM);
    program.arg("--version").uid(OTHER_USER).gid(OTHER_USER);
    let is_run = program.output().is_ok_and(|ran| ran.status.success());
    if !is_run {
        eprintln!("SKIPPED: no other user can run the program");
    }
    is_run
}

/// All states, those that are well first.
pub(crate) fn all() -> Vec<State> {
    let sound = synced(RECORDS);
    let mut states = well(sound.path());
    states.extend(torn_by_kind());
    states.extend(no_logs());
    states.extend(unfinished(sound.path()));
    for has_control in [true, false] {
        states.extend(spoiled(sound.path(), has_control));
    }
    states.push(mixed());
    states.extend(pages::spoiled_last());
    states.extend(pages::spoiled(sound.path()));
    states
}

/// A log with a full segment of a copy that has gone a different way, in which all frames are as long.
fn mixed() -> State {
    let lines = |name: &str| (500..RECORDS).map(|number| format!("{name} {}\n", line(number))).collect::<String>();
    let one = synced(500);
    let other = copy(one.path());
    for (log, name) in [(&one, "one"), (&other, "two")] {
        run_with_input(log.path(), "append DIR --sync each", lines(name).as_bytes()).done();
    }
    fs::copy(&segments(other.path())[2], &segments(one.path())[2]).unwrap();
    State {
        name: "a full segment of another history".to_owned(),
        log: Log::Copied(one),
        there: (1..=RECORDS).collect(),
        health: Health::Damaged,
    }
}

/// Those that a crash has torn, by the kind of the frame.
fn torn_by_kind() -> Vec<State> {
    let state = |(kind, log, count): (&str, TempDir, u64)| State {
        name: format!("torn {kind}"),
        log: Log::Copied(log),
        there: (1..=count).collect(),
        health: Health::Well,
    };
    tears::all().into_iter().map(state).collect()
}

/// What a command leaves that was killed.
fn unfinished(sound: &Path) -> Vec<State> {
    let state = |name: &str, log: TempDir| State {
        name: name.to_owned(),
        log: Log::Copied(log),
        there: Vec::new(),
        health: Health::None,
    };
    let backup = scratch();
    fs::write(backup.path().join("backup-under-way.seg"), "").unwrap();
    fs::write(backup.path().join("00000000000000000001.tmp"), vec![0; 64 << 10]).unwrap();
    let salvage = scratch();
    run(sound, &format!("salvage DIR {}", salvage.path().join("salvage.part").display())).done();
    let repair = copy(sound);
    flip(&segments(repair.path())[1], 5000);
    let wait = start(repair.path(), "repair DIR --apply").env("MAPWAL_END_AT_STEP", "6").status();
    assert_eq!(wait.unwrap().code(), None, "it was killed");
    vec![
        state("a backup that was killed", backup),
        state("a salvage that was killed", salvage),
        state("a repair that was killed", repair),
    ]
}

/// A sound log with one thing spoiled in it, with its control page or without.
fn spoiled(sound: &Path, has_control: bool) -> Vec<State> {
    let mut states = Vec::new();
    let mut add = |name: String, lost: Range<u64>, health, spoil: &dyn Fn(&[PathBuf])| {
        let log = copy(sound);
        spoil(&segments(log.path()));
        if !has_control {
            fs::remove_file(log.path().join("control")).unwrap();
        }
        let name = if has_control { name } else { format!("{name}, no control page") };
        let there = (1..=RECORDS).filter(|number| !lost.contains(number)).collect();
        states.push(State { name, log: Log::Copied(log), there, health });
    };
    let flip_payload = |path: &Path, frame: usize| flip(path, frame + 24);
    for (place, at) in [("first", 0), ("middle", 1), ("last", 3)] {
        let held = records(&segments(sound)[at]);
        let missing = if has_control || place != "first" { Health::Damaged } else { Health::Unnoticed };
        let tenth = held.start + 9;
        add(format!("record damaged in the {place} segment"), tenth..tenth + 1, Health::Damaged, &|files| {
            flip_payload(&files[at], frames(&files[at])[10]);
        });
        add(format!("{place} header damaged"), held.clone(), Health::Damaged, &|files| flip(&files[at], 20));
        add(format!("{place} link damaged"), 0..0, Health::Damaged, &|files| flip_payload(&files[at], 4096));
        add(format!("{place} segment missing"), held, missing, &|files| fs::remove_file(&files[at]).unwrap());
    }
    let from = records(&segments(sound)[2]).start;
    add("the last two segments missing".into(), from..RECORDS + 1, Health::Damaged, &|files| {
        files[2..4].iter().for_each(|path| fs::remove_file(path).unwrap());
    });
    let all = 1..RECORDS + 1;
    let remove_all = |files: &[PathBuf]| files.iter().for_each(|path| fs::remove_file(path).unwrap());
    let missing = if has_control { Health::Damaged } else { Health::Unnoticed };
    add("all segments missing".into(), all.clone(), missing, &remove_all);
    add("all segments missing but a pin".into(), all, Health::Damaged, &|files| {
        run(files[0].parent().unwrap(), "pins DIR add q 1000").done();
        remove_all(files);
    });
    add("pin damaged".into(), 0..0, Health::Damaged, &|files| {
        let pins = files[0].parent().unwrap().join("pins");
        fs::create_dir_all(&pins).unwrap();
        fs::write(pins.join("q"), "no pin").unwrap();
    });
    let flip_last = |path: &Path| flip_payload(path, *frames(path).last().unwrap());
    add("seal damaged".into(), 0..0, Health::Damaged, &|files| flip_last(&files[1]));
    let close = if has_control { Health::Damaged } else { Health::Well };
    add("close damaged".into(), 0..0, close, &|files| flip_last(&files[3]));
    let last = &segments(sound)[3];
    // All that begin before the cut but the link, and the record that the cut goes through.
    let kept = frames(last).into_iter().filter(|&at| at < CUT).count() as u64 - 2;
    let lost = records(last).start + kept..RECORDS + 1;
    add("last segment cut short".into(), lost, Health::Damaged, &|files| {
        fs::File::options().write(true).open(&files[3]).unwrap().set_len(CUT as u64).unwrap();
    });
    states
}

/// Those without a fault, and those that a crash leaves.
fn well(sound: &Path) -> Vec<State> {
    let mut states = Vec::new();
    let mut add = |name: &str, log, there| {
        states.push(State { name: name.to_owned(), log, there: (1..=there).collect(), health: Health::Well });
    };
    let with = |change: &dyn Fn(&Path)| {
        let log = copy(sound);
        change(log.path());
        Log::Copied(log)
    };
    add("empty", Log::Copied(synced(0)), 0);
    add("closed", Log::Copied(copy(sound)), RECORDS);
    let directory = scratch();
    let writer = live(directory.path(), RECORDS);
    add("live", Log::Live(directory, writer, None), RECORDS);
    let directory = scratch();
    let writer = live(directory.path(), RECORDS);
    let follower = Running::start(directory.path(), "tail DIR --from start");
    add("live, with a follower", Log::Live(directory, writer, Some(follower)), RECORDS);
    let log = copy(sound);
    if let Some(mounted) = Mounted::read_only(log.path()) {
        add(READ_ONLY, Log::Mounted(log, mounted), RECORDS);
        add(FULL_DISK, Log::Full(copy(sound)), RECORDS);
    }
    if has_other_user() {
        add(OF_ANOTHER, Log::OfAnother(copy(sound), true), RECORDS);
    }
    add("killed", Log::Copied(killed(RECORDS)), RECORDS);
    add("killed, no control page", Log::Copied(without_control(killed(RECORDS))), RECORDS);
    add("torn end", Log::Copied(torn(100)), 99);
    add("torn end, no control page", Log::Copied(without_control(torn(100))), 99);
    add("killed before its first link", Log::Copied(unlinked(1)), 0);
    add("a spare and nothing else", Log::Copied(unlinked(5)), 0);
    add("no control page", Log::Copied(without_control(copy(sound))), RECORDS);
    add(
        "bytes after the close",
        with(&|log| {
            let last = segments(log).pop().unwrap();
            flip(&last, frames(&last).pop().unwrap() + 200);
        }),
        RECORDS,
    );
    add("lock file missing", with(&|log| fs::remove_file(log.join("LOCK")).unwrap()), RECORDS);
    add("files of others beside", with(&|log| fs::write(log.join("notes.txt"), "mine").unwrap()), RECORDS);
    let log = Log::Copied(golden("v2"));
    let there = (1..=40).filter(|&number| number != 3).collect();
    states.push(State { name: "written in format 2".to_owned(), log, there, health: Health::Well });
    states
}

/// The log that an earlier version has written.
fn golden(version: &str) -> TempDir {
    let (log, packed) = (scratch(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version));
    for entry in fs::read_dir(packed).unwrap() {
        let path = entry.unwrap().path();
        let mut unpacked = fs::File::create(log.path().join(path.file_stem().unwrap())).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()), &mut unpacked).unwrap();
    }
    log
}

/// What is no log, or none that this program reads.
fn no_logs() -> Vec<State> {
    let mut states = Vec::new();
    let mut add = |name: &str, log| {
        states.push(State { name: name.to_owned(), log, there: Vec::new(), health: Health::None });
    };
    add("empty directory", Log::Copied(scratch()));
    add("no directory", Log::Missing);
    let file = scratch();
    fs::write(file.path().join("log"), "not a log".repeat(1000)).unwrap();
    add("a file", Log::File(file));
    let others = scratch();
    fs::write(others.path().join("notes.txt"), "not a log").unwrap();
    add("files of others only", Log::Copied(others));
    let unknown = synced(10);
    rewrite_header(&segments(unknown.path())[0], |header| header[8] = 9);
    add("unknown version", Log::Copied(unknown));
    add("written in format 1", Log::Copied(golden("v1")));
    if has_other_user() {
        add(OF_ANOTHER_ALONE, Log::OfAnother(synced(10), false));
    }
    let two = synced(10);
    let second = two.path().join("00000000000000000002.seg");
    fs::copy(&segments(synced(10).path())[0], &second).unwrap();
    rewrite_header(&second, |header| header[24] = 2);
    add("segment of another log", Log::Copied(two));
    states
}

/// The numbers of the records in a segment.
pub(crate) fn records(path: &Path) -> Range<u64> {
    let bytes = fs::read(path).unwrap();
    let data: Vec<usize> = frames(path).into_iter().filter(|at| bytes[at + 20] == 1).collect();
    let first = u64::from_le_bytes(bytes[data[0] + 8..data[0] + 16].try_into().unwrap());
    first..first + data.len() as u64
}

pub(crate) fn without_control(log: TempDir) -> TempDir {
    fs::remove_file(log.path().join("control")).unwrap();
    log
}

/// A log that has come to nothing but a segment with a header, as when its writer dies before the first link.
fn unlinked(number: u64) -> TempDir {
    let log = scratch();
    let made = synced(0);
    let path = log.path().join(format!("{number:020}.seg"));
    fs::copy(&segments(made.path())[0], &path).unwrap();
    write_at(&path, 4096, &vec![0; (64 << 10) - 4096]);
    rewrite_header(&path, |header| header[24..32].copy_from_slice(&number.to_le_bytes()));
    log
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut byte = [0];
    fs::File::open(path).unwrap().read_exact_at(&mut byte, at as u64).unwrap();
    write_at(path, at, &[byte[0] ^ 1]);
}
