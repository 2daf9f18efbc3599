//! Words that a reader takes in another sense than they are meant, or has to read twice: none is in the sources or the documents.
//!
//! In this field *behind* means lagging: what comes later in the log is *after*, *before* or *beyond* something.

use super::source::{Source, repository};

/// What people read.
const READ: [&str; 7] = ["src/", "tests/", "docs/", "examples/", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
/// Words in a row, and what to say instead.
const BANNED: [(&[&str], &str); 5] = [
    (&["behind"], "after, beyond"),
    (&["in", "front", "of"], "before"),
    (&["whoever"], "a noun"),
    (&["whomever"], "a noun"),
    (&["everybody"], "a noun"),
];
/// Before *behind*, they say that it means lagging.
const LAGGING: [&str; 8] = ["lag", "lags", "lagged", "lagging", "fall", "falls", "fell", "fallen"];
/// The rule itself.
const RULE: (&str, &str) = ("CONTRIBUTING.md", "*behind* only for what lags");
/// Has the words in its code.
const THIS: &str = "tests/it/repo/words.rs";

/// Each word with its line. A name in the code is several words.
fn words(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().zip(1..);
    let words =
        lines.flat_map(|(line, number)| line.split(|c: char| !c.is_alphanumeric()).map(move |word| (number, word)));
    words.filter(|(_, word)| !word.is_empty()).map(|(number, word)| (number, word.to_lowercase())).collect()
}

fn complaints(source: &Source) -> Vec<String> {
    let (path, rule) = RULE;
    let text = if source.path == path { source.text.replace(rule, "") } else { source.text.clone() };
    let words = words(&text);
    let mut found = Vec::new();
    for (at, (line, _)) in words.iter().enumerate() {
        let banned = BANNED.iter().find(|(phrase, _)| {
            let said = words[at..].iter().map(|(_, word)| word.as_str());
            said.take(phrase.len()).eq(phrase.iter().copied())
        });
        let is_lagging = at.checked_sub(1).is_some_and(|before| LAGGING.contains(&words[before].1.as_str()));
        if let Some((phrase, instead)) = banned.filter(|(phrase, _)| *phrase != ["behind"] || !is_lagging) {
            found.push(format!("{}:{line}: say {instead} for {:?}", source.path, phrase.join(" ")));
        }
    }
    found
}

#[test]
fn no_word_means_the_opposite_of_what_it_says() {
    let sources: Vec<Source> = repository()
        .into_iter()
        .filter(|s| s.path != THIS && READ.iter().any(|path| s.path.starts_with(path)))
        .collect();
    assert!(READ.iter().all(|path| sources.iter().any(|source| source.path.starts_with(path))), "all are found");
    let found: Vec<String> = sources.iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_banned_word_is_noticed_wherever_its_line_ends() {
    let said = |text: &str| complaints(&Source { path: "docs/a.md".to_owned(), text: text.to_owned() });
    assert_eq!(said("one\nRecords behind it."), ["docs/a.md:2: say after, beyond for \"behind\""]);
    assert_eq!(said("/// A frame in\n    /// front of it."), ["docs/a.md:1: say before for \"in front of\""]);
    assert_eq!(said("Whoever looks").len(), 1);
    assert_eq!(said("fn one_is_left_behind_by_everybody()").len(), 2);
    assert_eq!(said("fn damage_in_front_of_it()").len(), 1);
    for fine in ["a page lags behind the log", "one fell\nbehind", "fn it_falls_behind()", "in front", "who looks"] {
        assert_eq!(said(fine), [""; 0], "{fine}");
    }
}
