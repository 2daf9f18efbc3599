//! Rules for the examples: each is run by the checks and listed where people look for one, and most are small.

use super::source::{Source, repository};

/// What may be longer than a page.
const APPLICATIONS: [&str; 4] = ["crash_lab", "engine", "replicate", "tail"];
const LINES_MAX: usize = 60;

/// The name of an example, from the path of the file with its `main`.
fn name_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("examples/")?.strip_suffix(".rs")?;
    match name.split_once('/') {
        None => Some(name),
        Some((name, "main")) => Some(name),
        Some(_) => None,
    }
}

/// What is wrong with an example of so many lines.
fn complaints(name: &str, lines: usize, text_of: impl Fn(&str) -> String) -> Vec<String> {
    let mut complaints = Vec::new();
    // The tests have built it, without the optimization of a release.
    let commands = [format!("step cargo run --release --example {name}"), format!("step \"$examples/{name}\"")];
    let is_run = |line: &str| {
        let rest = commands.iter().find_map(|command| line.strip_prefix(command));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    if !text_of(".ci/run").lines().any(is_run) {
        complaints.push(format!("the example {name} is not run by .ci/run"));
    }
    for document in ["README.md", "CONTRIBUTING.md"] {
        let is_listed = |line: &str| line.starts_with('|') && line.contains(&format!("`{name}`"));
        if !text_of(document).lines().any(is_listed) {
            complaints.push(format!("the example {name} is in no table of {document}"));
        }
    }
    if lines > LINES_MAX && !APPLICATIONS.contains(&name) {
        complaints.push(format!("the example {name} has {lines} lines"));
    }
    complaints
}

#[test]
fn every_example_is_run_and_listed() {
    let sources = repository();
    let text_of = |path: &str| -> String {
        let found = sources.iter().find(|source| source.path == path);
        found.unwrap_or_else(|| panic!("no {path}")).text.clone()
    };
    let examples: Vec<(&str, &Source)> =
        sources.iter().filter_map(|source| Some((name_of(&source.path)?, source))).collect();
    assert!(APPLICATIONS.iter().all(|name| examples.iter().any(|(example, _)| example == name)), "{APPLICATIONS:?}");
    let complaints = examples.iter().flat_map(|(name, source)| complaints(name, source.text.lines().count(), text_of));
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn an_example_that_is_not_run_not_listed_or_long_is_noticed() {
    assert_eq!(name_of("examples/a.rs"), Some("a"));
    assert_eq!(name_of("examples/b/main.rs"), Some("b"));
    assert_eq!(name_of("examples/b/c.rs"), None);
    let text_of = |path: &str| match path {
        ".ci/run" => {
            "step cargo run --release --example ab\nstep cargo run --release --example a -- --kills 10\nstep \"$examples/c\"\n"
        }
        _ => "`b`\n| `a` | this |\n| `c` | that |\n",
    };
    assert_eq!(complaints("a", 60, |path| text_of(path).to_owned()), [""; 0]);
    assert_eq!(complaints("c", 60, |path| text_of(path).to_owned()), [""; 0]);
    assert_eq!(complaints("a", 61, |path| text_of(path).to_owned()).len(), 1);
    assert_eq!(complaints("b", 1, |path| text_of(path).to_owned()).len(), 3);
}
