//! Names of tests in documents and scripts, and paths in documents and comments: each is that of something which is there.

use std::path::Path;

use super::source::{Source, repository};

/// So many words make a sentence, and only tests have one for their name.
const WORDS_OF_A_SENTENCE: usize = 5;
/// What names of metrics begin with.
const METRIC: &str = "mapwal_";
/// Where paths of unit tests begin.
const LIBRARY: &str = "::src::";
/// Folders at the root of the repository.
const ROOTS: [&str; 10] = ["src", "tests", "examples", "benches", "docs", "ci", ".ci", "contrib", "crates", "fuzz"];

/// The paths of all tests: `::`, the modules that lead to each, from its crate, and its name.
fn tests(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust());
    rust.flat_map(|source| {
        let modules = modules_of(&source.path);
        names_of_tests(&source.text).map(move |name| format!("{modules}::{name}"))
    })
    .collect()
}

/// `tests/it/read/waking/mod.rs` is `::it::read::waking`, `src/storage/disk.rs` is `::src::storage::disk`.
fn modules_of(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").or_else(|| path.strip_suffix("/main")).unwrap_or(path);
    format!("::{}", path.strip_prefix("tests/").unwrap_or(path).replace('/', "::"))
}

fn names_of_tests(text: &str) -> impl Iterator<Item = &str> {
    let is_test = |attribute: &&str| attribute.starts_with("test]") || attribute.starts_with("tokio::test");
    let after = text.split("#[").filter(is_test);
    after.filter_map(|rest| rest.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name)
}

/// What stands between backticks, and in which line.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().zip(1..).flat_map(|(line, number)| line.split('`').skip(1).step_by(2).map(move |name| (number, name)))
}

/// What a document says of tests: names that are sentences, names in a module of tests, and such modules, as `module::`.
fn names_in(text: &str, tests: &[String]) -> Vec<(usize, String)> {
    let is_path = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c));
    let names = quoted(text).filter(|(_, name)| is_path(name) && !name.is_empty());
    names.filter(|(_, name)| says_a_test(name, tests)).map(|(number, name)| (number, name.to_owned())).collect()
}

fn says_a_test(name: &str, tests: &[String]) -> bool {
    let module = name.rsplit_once("::").map(|(modules, _)| format!("::{modules}::"));
    let is_of_behaviour = |test: &&String| !test.starts_with(LIBRARY);
    let is_in_module =
        module.is_some_and(|module| tests.iter().filter(is_of_behaviour).any(|test| test.contains(&module)));
    let is_sentence = name.split('_').count() >= WORDS_OF_A_SENTENCE && !name.starts_with(METRIC);
    is_in_module || name.ends_with("::") || is_sentence
}

/// Whether `name`, from whichever of its modules on, is a test's path, or the beginning of one if it ends with `::`.
fn is_there(name: &str, tests: &[String]) -> bool {
    let within = format!("::{name}");
    tests.iter().any(|test| if name.ends_with("::") { test.contains(&within) } else { test.ends_with(&within) })
}

/// The filters that a script hands to the test harness.
fn filters(script: &str) -> impl Iterator<Item = &str> {
    let words = script.split_whitespace();
    words.filter(|word| word.contains("::") && word.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c)))
}

/// Paths that lead nowhere from the root of the repository, nor from a directory above the file, such as that of its package.
fn dead_paths(source: &Source, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let begins_at_root =
        |path: &str| ROOTS.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')));
    let is_path = |path: &str| path.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
    let paths = quoted(&source.text).filter(|(_, path)| begins_at_root(path) && is_path(path));
    let is_dead = |path: &str| !Path::new(&source.path).ancestors().any(|directory| exists(&directory.join(path)));
    let dead = paths.filter(|(_, path)| is_dead(path));
    dead.map(|(number, path)| format!("{}:{number}: nothing at {path}", source.path)).collect()
}

fn unknown(document: &Source, tests: &[String]) -> Vec<String> {
    let names = names_in(&document.text, tests).into_iter().filter(|(_, name)| !is_there(name, tests));
    let named = names.map(|(number, name)| format!("{}:{number}: no test {name}", document.path));
    let filters = if document.is_script() { Some(filters(&document.text)) } else { None };
    let idle = filters.into_iter().flatten().filter(|filter| !tests.iter().any(|test| test.contains(filter)));
    named.chain(idle.map(|filter| format!("{}: no test for {filter}", document.path))).collect()
}

#[test]
fn tests_that_documents_and_scripts_name_are_there() {
    let sources = repository();
    let tests = tests(&sources);
    assert!(tests.iter().any(|test| test == "::it::repo::names::tests_that_documents_and_scripts_name_are_there"));
    let documents = sources.iter().filter(|source| !source.is_rust());
    let unknown: Vec<String> = documents.flat_map(|document| unknown(document, &tests)).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn paths_in_documents_and_comments_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dead = repository().into_iter().flat_map(|source| dead_paths(&source, |path| root.join(path).exists()));
    let dead: Vec<String> = dead.collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
    let text = "`src/lib.rs`, `other/lib.rs`, `src/*.rs`,\n`tests/it/`";
    let source = Source { path: "a.md".to_owned(), text: text.to_owned() };
    assert_eq!(dead_paths(&source, |_| false), ["a.md:1: nothing at src/lib.rs", "a.md:2: nothing at tests/it/"]);
    assert_eq!(dead_paths(&source, |path| !path.starts_with("a.md")), [""; 0]);
    let source = Source { path: "fuzz/a/b.md".to_owned(), text: "`src/lib.rs`".to_owned() };
    assert_eq!(dead_paths(&source, |path| path == "fuzz/src/lib.rs"), [""; 0]);
}

#[test]
fn a_name_of_no_test_is_noticed() {
    let tests = ["::it::read::waking::a_follower_that_waits_is_woken", "::src::storage::disk::a_disk_is_opened"];
    let tests = tests.map(str::to_owned);
    let complaints = |path: &str, text: &str| unknown(&Source { path: path.to_owned(), text: text.to_owned() }, &tests);
    for name in
        ["a_follower_that_waits_is_woken", "waking::a_follower_that_waits_is_woken", "waking::", "read::waking::"]
    {
        assert_eq!(complaints("a.md", &format!("as `{name}` shows")), [""; 0]);
    }
    for name in [
        "a_follower_that_waits_is_told",
        "king::a_follower_that_waits_is_woken",
        "sleeping::",
        "king::",
        "waking::other",
    ] {
        assert_eq!(complaints("a.md", &format!("a\n`Log`, `{name}`")), [format!("a.md:2: no test {name}")]);
    }
    assert_eq!(
        complaints("a.md", "`wait_durable`, `storage::survive` and `a lot of other_things_that_are_code`"),
        [""; 0]
    );
    assert_eq!(complaints("ci/a.sh", "cargo test -- waking:: \\\n  asleep::"), ["ci/a.sh: no test for asleep::"]);
}
