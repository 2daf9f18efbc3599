//! Which directories a backup syncs: names that it has made survive a crash of the system.

use std::fs;
use std::path::{Path, PathBuf};

use crate::logs::{closed, scratch};
use crate::program::{PROGRAM, plain};

/// What a run of the program syncs, in order; `None`, said on standard error, where there is no strace(1) that may trace.
fn synced(arguments: &[&Path], trace: &Path) -> Option<Vec<String>> {
    let mut strace = plain("strace");
    strace
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,unlink,unlinkat", "-o"])
        .arg(trace)
        .arg(PROGRAM)
        .args(arguments);
    match strace.output() {
        Ok(output) if output.status.success() => {}
        _ => {
            eprintln!("SKIPPED: strace is not there, or must not trace");
            return None;
        }
    }
    let calls = fs::read_to_string(trace).unwrap();
    Some(calls.lines().filter(|line| line.contains('(')).map(str::to_owned).collect())
}

#[test]
fn a_backup_syncs_each_directory_that_has_a_name_that_it_made() {
    let (log, place) = (closed(1200), scratch());
    let out = place.path().join("a/b/out");
    let arguments: Vec<PathBuf> = vec!["backup".into(), log.path().into(), out.clone()];
    let arguments: Vec<&Path> = arguments.iter().map(|argument| &**argument).collect();
    let Some(calls) = synced(&arguments, &place.path().join("trace")) else { return };
    let of = |path: &Path| {
        let descriptor = format!("<{}>", path.display());
        let is_it = |call: &&String| call.contains("sync(") && call.contains(&descriptor);
        calls.iter().enumerate().filter(|(_, call)| is_it(call)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    for above in [place.path(), &place.path().join("a"), &place.path().join("a/b"), &out] {
        assert!(!of(above).is_empty(), "{} is not synced: {calls:#?}", above.display());
    }
    // The names of the segments, before the guard that says that it is no log, and the removal of that.
    let removed =
        calls.iter().position(|call| call.contains("unlink") && call.contains("under-way")).expect("the guard");
    let own = of(&out);
    assert!(own.iter().any(|&at| at < removed) && own.iter().any(|&at| at > removed), "{calls:#?}");
    assert!(
        of(&place.path().join("a/b")).last() > own.last(),
        "the directory that has its name comes last: {calls:#?}"
    );
}
