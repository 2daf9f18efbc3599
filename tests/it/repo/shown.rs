//! A rule for the documentation: every public type and function is shown in an example that is compiled and run.
//!
//! An example is one of the documentation or the README. It shows a type or a function that it names, or that it stands beside; and a
//! method that it calls, if it shows the method's type. What traits give, fields and variants are not looked for.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::source::{Source, repository};

/// An example of the documentation, with the type that it belongs to.
#[derive(Debug)]
struct Example {
    owner: Option<String>,
    code: String,
}

/// The public interface as the sources have it, and the examples beside it.
#[derive(Debug, Default)]
pub(super) struct Interface {
    /// Types and functions that have a public name.
    pub(super) names: BTreeSet<String>,
    /// The public functions and constants of each type, public or not.
    members: BTreeMap<String, BTreeSet<String>>,
    examples: Vec<Example>,
}

impl Interface {
    /// Of the library in `sources`, with the examples in `readme`.
    pub(super) fn of(sources: &[Source], readme: &str) -> Self {
        let mut interface = Self::default();
        for source in sources.iter().filter(|source| source.is_of_library()) {
            let stream: TokenStream = source.text.parse().unwrap_or_else(|error| panic!("{}: {error}", source.path));
            interface.walk(stream, None);
        }
        let root = sources.iter().find(|source| source.path == "src/lib.rs").expect("a root");
        let modules = root.text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let paths = modules.map(|module| format!("src/{module}/mod.rs")).chain(["src/lib.rs".to_owned()]);
        for path in paths {
            let module = sources.iter().find(|source| source.path == path).unwrap_or_else(|| panic!("no {path}"));
            let stream: TokenStream = module.text.parse().expect("parsed before");
            interface.name_all(stream);
        }
        interface.add_examples(readme, None);
        interface
    }

    /// What no example shows: a type or function that none names, or a member that is used by none about its type.
    fn not_shown(&self) -> Vec<String> {
        let names = self.names.iter().filter(|name| !self.examples.iter().any(|example| example.is_about(name)));
        let members =
            self.members.iter().filter(|(owner, _)| self.names.contains(*owner)).flat_map(|(owner, members)| {
                let about = |example: &&Example| example.is_about(owner);
                let shown =
                    move |member: &&String| self.examples.iter().filter(about).any(|example| example.uses(member));
                members.iter().filter(move |member| !shown(member)).map(move |member| format!("{owner}::{member}"))
            });
        names.cloned().chain(members).collect()
    }

    /// Collects the names that are public in a module, or made so by `pub use`, at the root and in modules that are written there.
    fn name_all(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match (word(&tokens, at).as_str(), word(&tokens, at + 1).as_str()) {
                ("pub", "use") => {
                    let len = tokens[at..].iter().position(|token| is(token, ';')).unwrap_or(0);
                    self.names.extend(last_names(&tokens[at + 2..at + len]));
                    at += len;
                }
                ("pub", "struct" | "enum" | "fn" | "type") => {
                    self.names.insert(word(&tokens, at + 2));
                    at += 2;
                }
                ("pub", "mod") if word(&tokens, at + 2) != "internals" => {
                    if let Some(TokenTree::Group(body)) = tokens.get(at + 3) {
                        self.name_all(body.stream());
                    }
                    at += 3;
                }
                _ => at += 1,
            }
        }
    }

    /// Collects members and examples of a file, or of the body of a module or an implementation of `owner`.
    fn walk(&mut self, stream: TokenStream, owner: Option<&str>) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let (mut docs, mut is_test, mut is_public) = (String::new(), false, false);
        let mut at = 0;
        while at < tokens.len() {
            let next = word(&tokens, at + 1);
            match word(&tokens, at).as_str() {
                "#" => match attribute(&tokens, at) {
                    Some(Attribute::Doc(line)) => docs.extend([line.as_str(), "\n"]),
                    Some(Attribute::Test) => is_test = true,
                    None => {}
                },
                "pub" => is_public = !matches!(tokens.get(at + 1), Some(TokenTree::Group(_))),
                "impl" => {
                    let len = body(&tokens[at..]);
                    let target = implemented(&tokens[at + 1..at + len]);
                    if let (Some(TokenTree::Group(group)), false) = (tokens.get(at + len), is_test) {
                        self.walk(group.stream(), target.as_deref());
                    }
                    at += len;
                }
                "mod" => {
                    if let (Some(TokenTree::Group(group)), false) = (tokens.get(at + 2), is_test) {
                        self.walk(group.stream(), None);
                    }
                }
                "struct" | "enum" => self.add_examples(&std::mem::take(&mut docs), Some(&next)),
                "fn" | "const" if next != "fn" && next != "unsafe" => {
                    self.add_examples(&std::mem::take(&mut docs), owner);
                    if let (Some(owner), true) = (owner, is_public) {
                        self.members.entry(owner.to_owned()).or_default().insert(next);
                    }
                }
                _ => {}
            }
            if tokens.get(at).is_none_or(|token| is(token, ';') || is_body(token)) {
                // Of a module, or of what is no type's.
                self.add_examples(&std::mem::take(&mut docs), None);
                (is_test, is_public) = (false, false);
            }
            at += 1;
        }
        self.add_examples(&docs, None);
    }

    fn add_examples(&mut self, docs: &str, owner: Option<&str>) {
        let blocks = docs.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        for (_, code) in blocks.filter(|(kind, _)| matches!(kind.trim(), "" | "rust")) {
            self.examples.push(Example { owner: owner.map(str::to_owned), code: code.to_owned() });
        }
    }
}

impl Example {
    /// Whether it stands in the documentation of `name`, or names it.
    fn is_about(&self, name: &str) -> bool {
        self.owner.as_deref() == Some(name) || words(&self.code).any(|word| word == name)
    }

    /// Whether it calls `member`, or names it in a path.
    fn uses(&self, member: &str) -> bool {
        let ends = self.code.match_indices(member).map(|(at, _)| (at, at + member.len()));
        ends.into_iter().any(|(start, end)| {
            let (before, after) = (&self.code[..start], &self.code[end..]);
            (before.ends_with('.') || before.ends_with("::")) && !after.starts_with(is_of_word)
        })
    }
}

enum Attribute {
    Doc(String),
    Test,
}

fn attribute(tokens: &[TokenTree], at: usize) -> Option<Attribute> {
    let group = tokens[at + 1..].iter().take(2).find_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream().to_string()),
        _ => None,
    })?;
    if group.replace(' ', "").starts_with("cfg(test)") {
        return Some(Attribute::Test);
    }
    let literal = group.strip_prefix("doc")?.trim_start().strip_prefix('=')?.trim().to_owned();
    let text = literal.trim_start_matches(['r', '#']).trim_end_matches('#').trim_matches('"').replace("\\\"", "\"");
    Some(Attribute::Doc(text.strip_prefix(' ').unwrap_or(&text).to_owned()))
}

fn word(tokens: &[TokenTree], at: usize) -> String {
    match tokens.get(at) {
        Some(TokenTree::Group(_)) | None => String::new(),
        Some(token) => token.to_string(),
    }
}

fn is(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punct)
}

fn is_body(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// Where the next body begins.
fn body(tokens: &[TokenTree]) -> usize {
    tokens.iter().position(is_body).unwrap_or(tokens.len() - 1)
}

/// The type that the head of an implementation names, unless it is one of a trait.
fn implemented(head: &[TokenTree]) -> Option<String> {
    if head.iter().any(|token| token.to_string() == "for") {
        return None;
    }
    let mut depth = 0;
    head.iter().find_map(|token| {
        depth += i32::from(is(token, '<')) - i32::from(is(token, '>'));
        (depth == 0).then(|| matches!(token, TokenTree::Ident(_)).then(|| token.to_string())).flatten()
    })
}

/// The names at the end of each path of a `use`.
fn last_names(path: &[TokenTree]) -> Vec<String> {
    match path.last() {
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            tokens.split(|token| is(token, ',')).flat_map(last_names).collect()
        }
        Some(TokenTree::Ident(name)) => vec![name.to_string()],
        _ => Vec::new(),
    }
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter| !is_of_word(letter))
}

#[test]
fn every_public_item_is_shown_in_an_example() {
    let sources = repository();
    let readme = sources.iter().find(|source| source.path == "README.md").expect("a README");
    let not_shown = Interface::of(&sources, &readme.text).not_shown();
    assert!(not_shown.is_empty(), "{} are shown in no example: {not_shown:#?}", not_shown.len());
}

#[test]
fn what_no_example_shows_is_noticed() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let types = "/// ```\n/// A::new().used();\n/// ```\npub struct A;\npub struct B;\n\
                 impl A { pub fn new() {} pub fn used() {} pub fn us() {} pub(crate) fn own() {} }\n\
                 impl Clone for A { fn clone() {} }\n\
                 /// ```ignore\n/// B\n/// ```\nfn f() {}\n\
                 #[cfg(test)] impl A { pub fn for_tests() {} }\n";
    let sources = [
        source("src/lib.rs", "pub mod m;\nmod types;\npub use types::{A, B};\npub mod n { pub use crate::types::f; }"),
        source("src/m/mod.rs", "mod inner;\npub use inner::C;\npub enum D {}\nimpl D { pub const LEN: usize = 1; }"),
        source("src/types.rs", types),
    ];
    assert_eq!(Interface::of(&sources, "```rust\nf(C)\n```").not_shown(), ["B", "D", "A::us", "D::LEN"]);
}
