//! The breaks of the protocol in `ci/breaks/` fit the sources, and the documents name them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

const BREAKS: &str = "ci/breaks/breaks.toml";
const TABLE: &str = "docs/design/crash-testing.md";
const LABORATORIES: [&str; 3] = ["logs", "transactions", "none"];

/// A step left out, or done in the wrong order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Break {
    what: String,
    #[serde(default = "logs")]
    laboratory: String,
    edits: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    old: String,
    new: String,
}

fn logs() -> String {
    LABORATORIES[0].to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|_| panic!("no {path}"))
}

fn breaks() -> BTreeMap<String, Break> {
    toml::from_str(&read(BREAKS)).unwrap_or_else(|error| panic!("{BREAKS}: {error}"))
}

/// Why `edits` cannot all be made in a file with this text.
fn misfits<'e>(text: &str, edits: impl Iterator<Item = (&'e str, &'e Edit)>) -> Vec<String> {
    let mut misfits = Vec::new();
    let mut places = Vec::new();
    for (name, Edit { file, old, new }) in edits {
        match text.matches(old.as_str()).count() {
            1 => places.extend(text.find(old.as_str()).map(|start| (start, start + old.len(), name, file))),
            count => misfits.push(format!("{name}: {file} has {count} times, instead of once:\n{old}")),
        }
        if old == new {
            misfits.push(format!("{name}: changes nothing in {file}"));
        }
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let ((start, end, first, file), (next, next_end, second, _)) = (pair[0], pair[1]);
        if next < end && (start, end) != (next, next_end) {
            misfits.push(format!("{first} and {second} replace parts of the same text in {file}"));
        }
    }
    misfits
}

/// The first two columns of the rows of tables that begin with the name of a break: the name, and the break in words.
fn rows(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.filter_map(|(name, rest)| Some((name, rest.split_once(" | ")?.0))).collect()
}

/// The tables of the breaks that the laboratory of the simulation notices.
fn tables(text: &str) -> &str {
    let (_, from) = text.split_once("\n## The breaks\n").expect("a section about the breaks");
    from.split_once("\n## ").expect("another section after it").0
}

#[test]
fn every_break_fits_the_sources() {
    let breaks = breaks();
    let all = || breaks.iter().flat_map(|(name, planted)| planted.edits.iter().map(move |edit| (name.as_str(), edit)));
    let mut files: Vec<&str> = all().map(|(_, edit)| edit.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    let misfits: Vec<String> =
        files.iter().flat_map(|file| misfits(&read(file), all().filter(|(_, edit)| edit.file == *file))).collect();
    assert!(misfits.is_empty(), "{BREAKS} has to follow the sources:\n{}", misfits.join("\n"));
    for (name, planted) in &breaks {
        assert!(!planted.edits.is_empty(), "{name} edits something");
        assert!(LABORATORIES.contains(&planted.laboratory.as_str()), "{name} has no laboratory {}", planted.laboratory);
    }
}

#[test]
fn an_edit_that_fits_no_place_or_two_or_part_of_another_is_noticed() {
    let count = |edits: &[(&str, &str)]| {
        let edit = |(old, new): &(&str, &str)| Edit { file: String::new(), old: (*old).into(), new: (*new).into() };
        let edits: Vec<Edit> = edits.iter().map(edit).collect();
        misfits("sync()?; write()?; sync()?;", edits.iter().map(|edit| ("It", edit))).len()
    };
    for fits in [&[("write()?;", "")][..], &[("write()?;", ""), ("write()?;", "1")], &[("?; w", ""), ("rite", "")]] {
        assert_eq!(count(fits), 0, "{fits:?}");
    }
    for misfit in [&[("sync()?;", "")][..], &[("read()?;", "")], &[("write", "write")], &[("?; w", ""), ("write", "")]]
    {
        assert_eq!(count(misfit), 1, "{misfit:?}");
    }
}

#[test]
fn the_documents_name_each_break_in_the_same_words() {
    let breaks = breaks();
    let text = read(TABLE);
    let mut found = rows(tables(&text));
    found.sort_unstable();
    let named: Vec<(&str, &str)> =
        breaks.iter().map(|(name, planted)| (name.as_str(), planted.what.as_str())).collect();
    let missing: Vec<_> = named.iter().filter(|row| !found.contains(row)).collect();
    let unknown: Vec<_> = found.iter().filter(|row| !named.contains(row)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "{TABLE} lacks {missing:?}, and has {unknown:?}");
    assert_eq!(found.len(), named.len(), "{TABLE} names a break twice");
    assert_eq!(rows("| `A` | b c | `lost` | 1 |\n| break | in words |\n| x | y |"), [("A", "b c")]);
}
