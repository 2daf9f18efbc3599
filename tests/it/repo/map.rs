//! The map of the code names files, functions and types: each of them is there.

use super::source::{Source, repository};

const MAP: &str = "docs/design/architecture.md";

/// Whether `name`, which stands between backticks, is that of something in the code that is not there.
fn is_missing(name: &str, sources: &[Source]) -> bool {
    let is_code = |c: char| c.is_alphanumeric() || "_:/.".contains(c);
    if !name.chars().all(is_code) {
        return false;
    }
    if name.ends_with(".rs") || name.ends_with('/') {
        let within =
            format!("/{}", name.strip_suffix('/').map_or_else(|| name.to_owned(), |folder| format!("{folder}/")));
        return !sources.iter().any(|source| format!("/{}", source.path).contains(&within));
    }
    // A module of tests ends with colons, and is looked for with the names of tests.
    let is_path = |(home, function): &(&str, &str)| !home.is_empty() && !function.is_empty();
    let Some((home, function)) = name.split_once("::").filter(is_path) else { return is_type_missing(name, sources) };
    let is_type = home.starts_with(char::is_uppercase);
    let is_home = |source: &&Source| match is_type {
        true => source.text.contains(home),
        false => [format!("/{home}.rs"), format!("/{home}/mod.rs")].iter().any(|file| source.path.ends_with(file)),
    };
    let of_library = sources.iter().filter(|source| source.is_of_library());
    let definition = [format!("fn {function}("), format!("fn {function}<")];
    !of_library.filter(is_home).any(|source| definition.iter().any(|start| source.text.contains(start)))
}

/// Whether `name` is written like that of a type, and the library has no type and no variant of that name.
fn is_type_missing(name: &str, sources: &[Source]) -> bool {
    let is_type = name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
    if !is_type || !name.chars().all(char::is_alphanumeric) {
        return false;
    }
    let defines = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let is_kind = |word: &str| ["struct", "enum", "trait", "type"].contains(&word);
        let is_type = words.clone().zip(words.clone().skip(1)).any(|(kind, defined)| is_kind(kind) && defined == name);
        let is_variant = line.starts_with("    ") && line.ends_with(['{', ',']) && words.next() == Some(name);
        !line.trim_start().starts_with("//") && (is_type || is_variant)
    };
    !sources.iter().filter(|source| source.is_of_library()).any(|source| source.text.lines().any(defines))
}

fn missing(map: &str, sources: &[Source]) -> Vec<String> {
    let names = map.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    names.filter(|name| is_missing(name, sources)).map(str::to_owned).collect()
}

#[test]
fn what_the_map_of_the_code_names_is_there() {
    let sources = repository();
    let map = sources.iter().find(|source| source.path == MAP).expect("there is a map");
    assert_eq!(missing(&map.text, &sources), [""; 0]);
}

#[test]
fn a_name_on_the_map_that_leads_nowhere_is_noticed() {
    let text = "enum Error {\n    Trimmed {\nstruct AppendCursor;\nimpl AppendCursor {\n    pub(crate) fn reserve(&self) {}\n}\n";
    let sources = [Source { path: "src/memory/append_cursor/mod.rs".to_owned(), text: text.to_owned() }];
    for there in [
        "`AppendCursor::reserve` in `memory/append_cursor/`",
        "`append_cursor::reserve`",
        "`mod.rs`",
        "`published` < `a b::c`",
        "`AppendCursor`, `Trimmed`, `Error`, `LOCK`",
    ] {
        assert_eq!(missing(there, &sources), [""; 0], "{there}");
    }
    for (map, name) in [
        ("`AppendCursor::take`", "AppendCursor::take"),
        ("`memory/rung/`", "memory/rung/"),
        ("a `gone.rs`", "gone.rs"),
        ("`Ties` in `append_cursor/`", "Ties"),
    ] {
        assert_eq!(missing(map, &sources), [name]);
    }
}
