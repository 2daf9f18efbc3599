//! What a directory as a store confirms survives a power cut.
//!
//! The system calls of a process that uses one are watched by strace, and carried out on a model of a disk that keeps only what was
//! synced: a file's bytes by a sync of the file, a name by a sync of its directory. Whenever the process says that the store has
//! confirmed something, the model must have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use mapwal_archive::DirectoryStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::child;
use crate::tools::wait_for;

pub(crate) const CALLS: &str = "trace=open,openat,creat,write,writev,pwrite64,fsync,fdatasync,link,linkat,rename,renameat,renameat2,\
                     unlink,unlinkat,mkdir,mkdirat";

/// Tells the test, by the trace, what the store has confirmed.
fn say(what: &str, key: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("said {what} {key}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "another test runs it as a process of its own, and watches it"]
fn uses_a_directory_as_a_store() {
    let Some(directory) = child::directory() else { return };
    let root = directory.join("above/store");
    let store = DirectoryStore::open(&root).unwrap();
    let put = |key: &str, mode: PutMode| {
        let bytes = PutPayload::from(key.as_bytes().to_vec());
        let put = wait_for(store.put_opts(&Key::from(key), bytes, mode.into()));
        assert!(matches!(put, Ok(_) | Err(object_store::Error::AlreadyExists { .. })), "{put:?}");
        say("stored", key);
    };
    put("a/1", PutMode::Create);
    put("a/2", PutMode::Create);
    // Of a process that was killed before it had synced anything.
    fs::write(root.join("a/3"), "a/3").unwrap();
    put("a/3", PutMode::Create);
    fs::create_dir(root.join("b")).unwrap();
    put("b/1", PutMode::Create);
    put("a/note", PutMode::Overwrite);
    put("a/note", PutMode::Overwrite);
    for key in ["a/1", "b/1"] {
        wait_for(store.delete(&Key::from(key))).unwrap();
        say("deleted", key);
    }
}

#[test]
fn what_a_directory_confirms_survives_a_power_cut() {
    if !can_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().canonicalize().unwrap();
    let trace = directory.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "256", "-e", CALLS, "-o"]).arg(&trace).arg(std::env::current_exe().unwrap());
    command.args(["synced::uses_a_directory_as_a_store", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let ran = child::for_directory(&mut command, &directory).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut disk = Disk::new(&directory);
    let mut said = 0;
    for call in calls(&fs::read_to_string(&trace).unwrap()) {
        said += u64::from(disk.carry_out(&call));
    }
    assert_eq!(said, 8);
}

/// Whether system calls can be watched here.
pub(crate) fn can_trace() -> bool {
    let can = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|ran| ran.status.success());
    if !can {
        eprintln!("skipped: there is no strace, or nothing may be traced here");
    }
    can
}

/// The calls of a trace as they ended, each in one line without the process's number.
pub(crate) fn calls(trace: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(process, start.to_owned());
        } else if let Some((_, end)) = call.strip_prefix("<... ").and_then(|end| end.split_once(" resumed>")) {
            calls.push(begun.remove(process).unwrap_or_default() + end);
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

/// What would be there after a power cut, of what is in a directory.
pub(crate) struct Disk {
    directory: PathBuf,
    /// Files with bytes that are not synced.
    dirty: BTreeSet<PathBuf>,
    /// Names that were made or removed, and whether that one would last.
    names: BTreeMap<PathBuf, Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    is_there: bool,
    is_durable: bool,
}

impl Disk {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), dirty: BTreeSet::new(), names: BTreeMap::new() }
    }

    /// Whether the process has said that something is confirmed. Fails if it would not be after a power cut.
    pub(crate) fn carry_out(&mut self, call: &str) -> bool {
        let Some((name, rest)) = call.split_once('(') else { return false };
        if rest.contains(" = -1 ") {
            return false;
        }
        if let Some((_, said)) = rest.split_once("\"said ").filter(|_| name == "write") {
            let said = said.split("\\n").next().unwrap();
            let (what, key) = said.split_once(' ').unwrap();
            self.check(what, key);
            return true;
        }
        let paths = quoted(rest);
        match name {
            "open" | "openat" | "creat" if rest.contains("O_CREAT") || name == "creat" => self.make(&paths[0]),
            "mkdir" | "mkdirat" => self.make(&paths[0]),
            "link" | "linkat" => {
                if self.dirty.contains(Path::new(&paths[0])) {
                    self.dirty.insert(PathBuf::from(&paths[1]));
                }
                self.name(&paths[1], true);
            }
            "rename" | "renameat" | "renameat2" => {
                if self.dirty.remove(Path::new(&paths[0])) {
                    self.dirty.insert(PathBuf::from(&paths[1]));
                }
                self.name(&paths[0], false);
                self.name(&paths[1], true);
            }
            "unlink" | "unlinkat" => self.name(&paths[0], false),
            "write" | "writev" | "pwrite64" => drop(self.dirty.insert(opened(rest))),
            "fsync" | "fdatasync" => self.sync(&opened(rest)),
            _ => {}
        }
        false
    }

    /// A name that need not have been new.
    fn make(&mut self, path: &str) {
        if self.names.get(Path::new(path)).is_none_or(|name| !name.is_there) {
            self.name(path, true);
        }
    }

    fn name(&mut self, path: &str, is_there: bool) {
        self.names.insert(path.into(), Name { is_there, is_durable: false });
    }

    fn sync(&mut self, path: &Path) {
        self.dirty.remove(path);
        for (_, name) in self.names.iter_mut().filter(|(name, _)| name.parent() == Some(path)) {
            name.is_durable = true;
        }
    }

    /// Whether a file is there with all of its bytes, after a power cut as well.
    pub(crate) fn lasts(&self, path: &Path) -> bool {
        self.has_name(path) && !self.dirty.contains(path)
    }

    /// Whether it is there after a power cut, with whatever bytes.
    pub(crate) fn has_name(&self, path: &Path) -> bool {
        self.names.get(path) == Some(&Name { is_there: true, is_durable: true })
    }

    fn check(&self, what: &str, key: &str) {
        let path = self.directory.join("above/store").join(key);
        let is_there = what == "stored";
        let lasts = Name { is_there, is_durable: true };
        assert_eq!(self.names.get(&path), Some(&lasts), "{what} {key}");
        assert!(!self.dirty.contains(&path), "{key} has bytes that are not synced");
        for above in path.ancestors().skip(1).take_while(|above| *above != self.directory) {
            let lasts = Name { is_there: true, is_durable: true };
            assert_eq!(self.names.get(above), Some(&lasts), "{what} {key}: {}", above.display());
        }
    }
}

/// What is between quotation marks.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The path of the file that a call was given by its number.
fn opened(rest: &str) -> PathBuf {
    let path = rest.split_once('<').and_then(|(_, path)| path.split_once('>'));
    path.map_or_else(PathBuf::new, |(path, _)| path.into())
}
