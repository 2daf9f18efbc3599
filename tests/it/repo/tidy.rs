//! Rules for the sources that no other tool checks. Each has a test that a bad sample breaks it.

use std::path::Path;

use super::circles::circles;
use super::source::{Found, Item, PROGRAM, Source, repository};

/// Every layer may tell it what has happened.
const EVENTS: &str = "events";
/// What the modules at the root of the crate may use of each other, besides themselves. `lib.rs` may use all.
const LAYERS: [(&str, &[&str]); 13] = [
    ("testing", &["wal", "log", "read", "segment", "format", "storage", "memory", "options", "error", "lsn"]),
    ("wal", &["log", "read", "segment", "format", "storage", "memory", "options", "error", "lsn"]),
    ("log", &["inspect", "read", "segment", "format", "storage", "memory", "options", "error", "lsn"]),
    ("inspect", &["read", "segment", "format", "storage", "memory", "error", "lsn"]),
    ("read", &["segment", "format", "storage", "memory", "error", "lsn"]),
    ("segment", &["format", "storage", "memory", "error", "lsn"]),
    ("format", &["error", "lsn"]),
    ("storage", &["memory", "error"]),
    ("memory", &[]),
    ("options", &["format", "error", "lsn"]),
    ("error", &["lsn"]),
    ("lsn", &[]),
    (EVENTS, &["memory", "storage"]),
];
/// The only home of `unsafe` in the library.
const UNSAFE_HOME: &str = "src/memory/";
/// What else may be unsafe: opening, since what is borrowed from a mapping depends on what others do to the files.
const UNSAFE_FUNCTIONS: [(&str, &str); 8] = [
    ("src/log/mod.rs", "open"),
    ("src/log/mod.rs", "open_log"),
    ("src/read/reader.rs", "open"),
    ("src/read/reader.rs", "open_archive"),
    ("src/read/reader.rs", "open_timeout"),
    ("src/read/testing.rs", "open_reader"),
    ("src/wal/mod.rs", "open"),
    ("src/wal/mod.rs", "open_and_recover"),
];
/// Where the contract of `Log::open` is passed on to the caller: a call, with the proof that this is done.
const CONTRACT_PASSED_ON: &str = "src/wal/mod.rs";
/// Of the program: what opens logs, and what looks at the standard streams before the standard library does.
const PROGRAM_UNSAFE: [&str; 2] = ["src/bin/mapwal/open.rs", "src/bin/mapwal/streams.rs"];
/// The only home of `tracing` in the library.
const EVENTS_HOME: &str = "src/events.rs";
/// Where the library starts threads; and where models of a checker do.
const THREADS_HOME: [&str; 2] = ["src/storage/thread.rs", "src/memory/model.rs"];
const LINES_BEFORE_TESTS_MAX: usize = 400;
/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 3] = [
    ("tests/it/support/faulty.rs", "one storage: what is planned, and each call that it may happen to"),
    ("tests/simulation/model.rs", "one oracle: what may be there after each action"),
    ("tests/simulation/engine.rs", "one engine: each thing that it does, as a step of a history"),
];
/// Put together here, so that this file does not contain them.
const FORBIDDEN_WORDS: [&str; 6] = [
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

fn layers(source: &Source) -> Vec<String> {
    let Some(layer) = source.modules().and_then(|modules| modules.first().copied()) else { return Vec::new() };
    if source.is_of_program() {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{}: layer {layer} has no rule", source.path)];
    };
    complaints(source, |found| match &found.item {
        Item::Path(path) => {
            let name = path.first()?.as_str();
            let may_be_used = name == layer || name == EVENTS || allowed.contains(&name);
            (!may_be_used).then(|| format!("{layer} may not use {name}"))
        }
        _ => None,
    })
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let in_library = source.is_of_library() && !source.path.starts_with(UNSAFE_HOME);
    let in_program = source.path.starts_with(PROGRAM) && !PROGRAM_UNSAFE.contains(&&*source.path);
    complaints(source, |found| match &found.item {
        Item::UnsafeFn(name) => {
            let allowed = !in_library || UNSAFE_FUNCTIONS.contains(&(source.path.as_str(), name.as_str()));
            (!allowed).then(|| format!("unsafe {name}"))
        }
        Item::UnsafeBlock | Item::UnsafeImpl if in_library && source.path != CONTRACT_PASSED_ON => {
            Some(format!("unsafe outside of {UNSAFE_HOME}"))
        }
        Item::UnsafeBlock | Item::UnsafeImpl if in_program => Some(format!("unsafe outside of {PROGRAM_UNSAFE:?}")),
        Item::UnsafeBlock | Item::UnsafeImpl => {
            let documented = has_safety_comment(&lines[..found.line - 1]);
            (!documented).then(|| "unsafe without a SAFETY comment above".to_owned())
        }
        _ => None,
    })
}

/// Whether the last lines are a comment with a proof, perhaps with attributes after.
fn has_safety_comment(lines: &[&str]) -> bool {
    let above = lines.iter().rev().map(|line| line.trim_start()).skip_while(|line| line.starts_with("#["));
    above.take_while(|line| line.starts_with("//")).any(|line| line.starts_with("// SAFETY: "))
}

/// Events that are sent where they happen: a subscriber may call the log, whose locks may be held there.
fn events(source: &Source) -> Vec<String> {
    if !source.is_of_library() || source.path == EVENTS_HOME {
        return Vec::new();
    }
    let lines = source.text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//"));
    let found = lines.filter(|(line, _)| line.contains("tracing::") || line.contains("use tracing"));
    found
        .map(|(_, number)| format!("{}:{number}: an event that is not reported by {EVENTS_HOME}", source.path))
        .collect()
}

/// Threads that are started without a look at how many mappings are left: one that cannot go on ends the process.
fn threads(source: &Source) -> Vec<String> {
    if !source.is_of_library() || THREADS_HOME.contains(&&*source.path) {
        return Vec::new();
    }
    let lines = source.text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//"));
    let found = lines.filter(|(line, _)| line.contains("thread::Builder") || line.contains("std::thread::spawn"));
    found
        .map(|(_, number)| format!("{}:{number}: a thread that is not started by {}", source.path, THREADS_HOME[0]))
        .collect()
}

fn purpose(source: &Source) -> Vec<String> {
    let stated = source.text.starts_with("//! ");
    if stated { Vec::new() } else { vec![format!("{}: does not begin with its purpose", source.path)] }
}

fn length(source: &Source) -> Vec<String> {
    let is_test = |line: &&str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
    // Examples do not count: a file is long by what it does.
    let mut in_example = false;
    let counts = |line: &&str| {
        let is_fence = line.trim_start().starts_with("/// ```");
        in_example ^= is_fence;
        !in_example && !is_fence && !matches!(line.trim_start(), "///" | "/// # Example")
    };
    let count = source.text.lines().take_while(|line| !is_test(line)).filter(counts).count();
    let excess = count > LINES_BEFORE_TESTS_MAX && !LONG_FILES.iter().any(|(path, _)| *path == source.path);
    if excess { vec![format!("{}: {count} lines before its tests", source.path)] } else { Vec::new() }
}

fn unfinished(source: &Source) -> Vec<String> {
    complaints(source, |found| match &found.item {
        Item::Macro(name) if matches!(name.as_str(), "todo" | "unimplemented" | "dbg") => Some(format!("{name}!")),
        Item::Method(name) if name == "unwrap" && !found.in_tests && !source.is_of_tests() => {
            Some("unwrap outside of tests".to_owned())
        }
        _ => None,
    })
}

fn words(source: &Source) -> Vec<String> {
    let lines = source.text.lines().zip(1..);
    let found = lines.flat_map(|(line, number)| {
        let words = FORBIDDEN_WORDS.iter().filter(move |word| line.contains(*word));
        words.map(move |word| format!("{}:{number}: {word}", source.path))
    });
    found.collect()
}

/// Links to files that are not there.
fn dead_links(source: &Source, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let directory = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    let targets = source.text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target).filter(|target| !target.contains("://"));
    let dead = files.filter(|target| !exists(&directory.join(target)));
    dead.map(|target| format!("{}: no file at {target}", source.path)).collect()
}

/// The first block of Rust code in `text`.
fn first_example(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```rust\n").or_else(|| text.split_once("```\n"))?;
    Some(rest.split_once("```")?.0)
}

/// The commands that `text` shows.
fn commands(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.flat_map(|(block, _)| block.lines()).collect()
}

fn complaints(source: &Source, judge: impl Fn(&Found) -> Option<String>) -> Vec<String> {
    let found = source.scan();
    let judged = found.iter().filter_map(|found| Some((found.line, judge(found)?)));
    judged.map(|(line, complaint)| format!("{}:{line}: {complaint}", source.path)).collect()
}

/// Fails with all complaints about Rust files.
fn check_rust(rule: impl Fn(&Source) -> Vec<String>) {
    let sources: Vec<Source> = repository().into_iter().filter(Source::is_rust).collect();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources are found");
    assert_none(&sources.iter().flat_map(rule).collect::<Vec<_>>());
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    let found = repository().into_iter().find(|source| source.path == path);
    found.unwrap_or_else(|| panic!("no {path}")).text
}

fn sample(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn layers_call_down_only() {
    check_rust(layers);
}

#[test]
fn a_call_up_is_noticed_however_it_is_written() {
    for text in [
        "use crate::log::Log;",
        "use crate::{error::Error, log::Log};",
        "fn f() { crate::log::open(); }",
        "fn f() { trace!(\"{}\", crate::log::NAME); }",
        "use super::super::log::Log;",
        "mod inner { use super::super::super::log::Log; }",
        "use crate::Log;",
        "#[cfg(test)] mod tests { use crate::log::Log; }",
    ] {
        assert_eq!(layers(&sample("src/format/frame.rs", text)).len(), 1, "{text}");
    }
    for text in ["use crate::error::Error;", "use super::position::Position;", "mod inner { use super::super::x; }"] {
        assert_none(&layers(&sample("src/format/frame.rs", text)));
    }
    assert_eq!(layers(&sample("src/format/mod.rs", "use super::log::Log;")).len(), 1);
    assert_eq!(layers(&sample("src/unheard.rs", "")).len(), 1, "a new module needs a rule");
    assert_none(&layers(&sample("src/lib.rs", "pub use crate::log::Log;")));
    assert_none(&layers(&sample("src/bin/mapwal/dump.rs", "use crate::print::Printer;")));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = repository();
    assert!(sources.iter().filter(|source| source.is_of_library()).count() > 100, "the sources are found");
    assert_none(&circles(&sources));
}

#[test]
fn a_circle_of_files_is_noticed_however_it_is_written() {
    let circles_of =
        |files: &[(&str, &str)]| circles(&files.iter().map(|(path, text)| sample(path, text)).collect::<Vec<_>>());
    let (lsn, folder) =
        (("src/lsn.rs", "use crate::log::Log;"), ("src/log/mod.rs", "mod a; mod b; use a::A; pub use b::Log;"));
    for back in [
        "use crate::lsn::Lsn;",
        "fn f() -> crate::lsn::Lsn {}",
        "use super::super::lsn::{self, Lsn};",
        "fn f() { g!(crate::lsn::Lsn) }",
        "use super::a;",
        "use super::A;",
        "use super::{c::C, a::{A, B}};",
    ] {
        let files = [lsn, folder, ("src/log/a.rs", "use crate::lsn::Lsn;"), ("src/log/b.rs", back)];
        assert_eq!(circles_of(&files).len(), 1, "{back}");
    }
    let renamed = [("src/a.rs", "use crate::b::X as Y;"), ("src/b.rs", "use crate::a::Z;")];
    assert_eq!(circles_of(&renamed), ["a -> b -> a"]);
    let program = [("src/bin/mapwal/a.rs", "use crate::b;"), ("src/bin/mapwal/b.rs", "use crate::a::f;")];
    assert_eq!(circles_of(&program).len(), 1);
    for back in
        ["", "use super::Options;", "#[cfg(test)] mod tests { use crate::lsn::Lsn; }", "mod inner { use super::x; }"]
    {
        let files = [lsn, folder, ("src/log/a.rs", "use super::b::B;"), ("src/log/b.rs", back)];
        assert_none(&circles_of(&files));
    }
    // The folder passes on what is written in one file, and uses another one itself.
    assert_none(&circles_of(&[lsn, folder, ("src/log/a.rs", "use crate::lsn::Lsn;"), ("src/log/b.rs", "")]));
}

#[test]
fn unsafe_code_is_at_home_and_has_a_proof() {
    check_rust(unsafe_code);
}

#[test]
fn unsafe_code_elsewhere_or_without_a_proof_is_noticed() {
    let block = "// SAFETY: fine.\nfn f() { unsafe { g() } }\n";
    assert_none(&unsafe_code(&sample("src/memory/region.rs", block)));
    assert_eq!(unsafe_code(&sample("src/log/mod.rs", block)).len(), 1);
    PROGRAM_UNSAFE.into_iter().for_each(|path| assert_none(&unsafe_code(&sample(path, block))));
    assert_eq!(unsafe_code(&sample("src/bin/mapwal/dump.rs", block)).len(), 1);
    for bare in
        ["fn f() {\n    unsafe { g() }\n}", "unsafe impl Send for X {}", "// SAFETY: far.\n\nunsafe impl A for B {}"]
    {
        assert_eq!(unsafe_code(&sample("src/memory/region.rs", bare)).len(), 1, "{bare}");
        assert_eq!(unsafe_code(&sample("tests/it/main.rs", bare)).len(), 1, "{bare}");
    }
    assert_none(&unsafe_code(&sample("src/log/mod.rs", "pub unsafe fn open() {}")));
    assert_eq!(unsafe_code(&sample("src/log/mod.rs", "pub unsafe fn close() {}")).len(), 1);
    assert_none(&unsafe_code(&sample("src/log/mod.rs", "// unsafe { }\nconst A: &str = \"unsafe { }\";")));
}

#[test]
fn no_event_is_sent_where_it_happens() {
    check_rust(events);
    for text in ["fn f() { tracing::info!(\"now\"); }", "use tracing::warn;"] {
        assert_eq!(events(&sample("src/log/rotate.rs", text)).len(), 1, "{text}");
    }
    assert_none(&events(&sample("src/log/rotate.rs", "/// By `tracing::info`.\nfn f() { report!(info, \"now\"); }")));
    assert_none(&events(&sample("src/bin/mapwal/main.rs", "tracing::info!(\"now\");")));
}

#[test]
fn no_thread_is_started_that_may_end_the_process() {
    check_rust(threads);
    for text in ["fn f() { std::thread::spawn(|| ()); }", "use std::thread::Builder;"] {
        assert_eq!(threads(&sample("src/log/trim.rs", text)).len(), 1, "{text}");
    }
    assert_none(&threads(&sample(
        "src/log/trim.rs",
        "// By `thread::spawn`.\nfn f() { storage::spawn(\"it\", run); }",
    )));
    assert_none(&threads(&sample("tests/it/retain/trim.rs", "std::thread::spawn(|| ());")));
}

#[test]
fn every_file_begins_with_its_purpose() {
    check_rust(purpose);
    assert_eq!(purpose(&sample("src/lsn.rs", "use std::fmt;")).len(), 1);
}

#[test]
fn no_file_is_long_before_its_tests() {
    check_rust(length);
    let long = "\n".repeat(LINES_BEFORE_TESTS_MAX + 1);
    assert_eq!(length(&sample("src/lsn.rs", &long)).len(), 1);
    assert_none(&length(&sample("src/lsn.rs", &format!("#[cfg(test)]\n{long}"))));
    assert_none(&length(&sample("src/lsn.rs", &format!("/// ```\n{}/// ```\n", "/// f();\n".repeat(500)))));
    assert_eq!(length(&sample("src/lsn.rs", &format!("/// ```\n/// f();\n/// ```\n{long}"))).len(), 1);
}

#[test]
fn nothing_is_left_unfinished() {
    check_rust(unfinished);
    for text in ["fn f() { todo!() }", "fn f() { g().unwrap() }", "#[test] fn f() { dbg!(1); }"] {
        assert_eq!(unfinished(&sample("src/lsn.rs", text)).len(), 1, "{text}");
    }
    assert_none(&unfinished(&sample("src/lsn.rs", "#[cfg(test)] mod tests { fn f() { g().unwrap() } }")));
    assert_eq!(unfinished(&sample("src/lsn.rs", "#[cfg(test)] mod tests {} fn f() { g().unwrap() }")).len(), 1);
}

#[test]
fn forbidden_words_are_nowhere() {
    assert_none(&repository().iter().flat_map(words).collect::<Vec<_>>());
    for word in FORBIDDEN_WORDS {
        assert_eq!(words(&sample("README.md", &format!("a\nb {word}c"))), [format!("README.md:2: {word}")]);
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents: Vec<Source> = repository().into_iter().filter(|source| !source.is_rust()).collect();
    let dead = documents.iter().flat_map(|document| dead_links(document, |path| root.join(path).exists()));
    assert_none(&dead.collect::<Vec<_>>());
    let linking = sample("docs/a.md", "[b](b.md), [c](../c.md), [web](https://example.org/d.md)");
    assert_eq!(dead_links(&linking, |_| false).len(), 2);
    assert_eq!(dead_links(&linking, |path| path == Path::new("docs/b.md")), ["docs/a.md: no file at ../c.md"]);
}

#[test]
fn the_readme_shows_the_example_that_is_tested_and_run() {
    let lib = read("src/lib.rs");
    let lines = lib.lines().map_while(|line| line.strip_prefix("//!"));
    let docs: String = lines.flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"]).collect();
    let tested = first_example(&docs).expect("an example in the crate's documentation");
    assert_eq!(first_example(&read("README.md")), Some(tested));
    let quickstart = read("examples/quickstart.rs");
    let (_purpose, program) = quickstart.split_once("\n\n").expect("a program after its purpose");
    assert_eq!(program, tested);
}

#[test]
fn the_commands_of_the_readme_are_run_by_the_checks() {
    let checks = read(".ci/run");
    let readme = read("README.md");
    let shown = commands(&readme);
    assert!(shown.len() >= 2, "{shown:?}");
    for command in shown {
        assert!(checks.lines().any(|line| line == format!("step {command}")), "{command}");
    }
}
