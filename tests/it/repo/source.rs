//! Source files as tokens: what they use and what they contain, each with its line.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const LIBRARY: &str = "src/";
/// The program for operators, a crate of its own.
pub(crate) const PROGRAM: &str = "src/bin/mapwal/";

/// A file of the repository.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Something found in a source file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) line: usize,
    /// Whether it is compiled for unit tests only.
    pub(crate) in_tests: bool,
    pub(crate) item: Item,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A path, from the root of the crate: of what is imported, or begins with a name that is in scope.
    Path(Vec<String>),
    UnsafeBlock,
    UnsafeImpl,
    UnsafeFn(String),
    /// A call of a macro.
    Macro(String),
    /// A call of a method.
    Method(String),
}

/// All files of the repository whose text is checked.
pub(crate) fn repository() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, root, &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let built = path.is_dir() && path.ends_with("target");
        let skipped = (relative.starts_with('.') && !relative.starts_with(".ci")) || built;
        if path.is_dir() && !skipped {
            collect(root, &path, sources);
        } else if !skipped && is_text(&relative) {
            sources.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

fn is_text(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "md" | "toml" | "sh")) || path.starts_with(".ci/")
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether it is a file of commands for a shell.
    pub(crate) fn is_script(&self) -> bool {
        self.path.starts_with(".ci/") || Path::new(&self.path).extension().is_some_and(|extension| extension == "sh")
    }

    /// Whether it is a file of tests, of the log or of a package in `crates/`.
    pub(crate) fn is_of_tests(&self) -> bool {
        let in_package = self.path.strip_prefix("crates/").and_then(|path| path.split_once('/'));
        in_package.map_or(&*self.path, |(_, path)| path).starts_with("tests/")
    }

    /// Whether it is a file of the library. Programs are crates of their own, and have nothing but its public interface.
    pub(crate) fn is_of_library(&self) -> bool {
        self.path.starts_with(LIBRARY) && !self.is_of_program()
    }

    /// Whether it is a file of the program.
    pub(crate) fn is_of_program(&self) -> bool {
        self.path.starts_with(PROGRAM)
    }

    /// The modules that lead to the file from the root of its crate, if it is a file of the library or of the program.
    pub(crate) fn modules(&self) -> Option<Vec<&str>> {
        let root = if self.is_of_library() { LIBRARY } else { PROGRAM };
        let mut modules: Vec<&str> = self.path.strip_prefix(root)?.strip_suffix(".rs")?.split('/').collect();
        modules.pop_if(|last| matches!(*last, "mod" | "lib" | "main"));
        Some(modules)
    }

    /// What it contains. Comments, doc comments and strings are not looked into.
    pub(crate) fn scan(&self) -> Vec<Found> {
        let stream: TokenStream = self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let modules = self.modules().unwrap_or_default().into_iter().map(str::to_owned).collect();
        let mut scan = Scan { modules, in_tests: false, found: Vec::new() };
        scan.walk(stream);
        scan.found
    }
}

struct Scan {
    modules: Vec<String>,
    in_tests: bool,
    found: Vec<Found>,
}

impl Scan {
    fn walk(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut test_item = false;
        for at in 0..tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) => self.word(&ident.to_string(), &tokens, at),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let module = name_of_module(&tokens, at);
                    let was_in_tests = self.in_tests;
                    self.in_tests |= test_item;
                    self.modules.extend(module.clone());
                    self.walk(group.stream());
                    self.modules.truncate(self.modules.len() - usize::from(module.is_some()));
                    self.in_tests = was_in_tests;
                    test_item = false;
                }
                TokenTree::Group(group) => {
                    test_item |= is_punct(&tokens, at.wrapping_sub(1), '#') && is_test_attribute(&group.stream());
                    self.walk(group.stream());
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => test_item = false,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn word(&mut self, word: &str, tokens: &[TokenTree], at: usize) {
        let follows = |text: &str| tokens.get(at + 1).is_some_and(|next| next.to_string() == text);
        let starts_path = !is_punct(tokens, at.wrapping_sub(1), ':') && !is_punct(tokens, at.wrapping_sub(1), '$');
        let line = tokens[at].span().start().line;
        let items = match word {
            "unsafe" => unsafe_item(tokens, at).into_iter().collect(),
            "crate" if starts_path => absolute(&[], paths_after(tokens, at + 1)),
            "super" if starts_path => self.paths_upwards(tokens, at),
            _ if follows("!") => vec![Item::Macro(word.to_owned())],
            _ if is_punct(tokens, at.wrapping_sub(1), '.') => vec![Item::Method(word.to_owned())],
            _ if starts_path && follows(":") => absolute(&self.modules, paths_at(tokens, at)),
            _ => Vec::new(),
        };
        let in_tests = self.in_tests;
        self.found.extend(items.into_iter().map(|item| Found { line, in_tests, item }));
    }

    /// Where a path that begins with `super` leads.
    fn paths_upwards(&self, tokens: &[TokenTree], mut at: usize) -> Vec<Item> {
        let mut up = 1;
        while tokens.get(at + 3).is_some_and(|token| token.to_string() == "super") {
            up += 1;
            at += 3;
        }
        absolute(&self.modules[..self.modules.len().saturating_sub(up)], paths_after(tokens, at + 1))
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// The path that begins with the name at `at`: one, or each of those in its braces.
fn paths_at(tokens: &[TokenTree], at: usize) -> Vec<Vec<String>> {
    let name = tokens[at].to_string();
    let further = paths_after(tokens, at + 1);
    if further.is_empty() {
        return vec![vec![name]];
    }
    further.into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
}

/// What follows the `::` at `at`: one path, or each of those in braces.
fn paths_after(tokens: &[TokenTree], at: usize) -> Vec<Vec<String>> {
    if !is_punct(tokens, at, ':') || !is_punct(tokens, at + 1, ':') {
        return Vec::new();
    }
    match tokens.get(at + 2) {
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<_> = group.stream().into_iter().collect();
            let paths = tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','));
            paths.filter(|path| !path.is_empty()).flat_map(|path| paths_at(path, 0)).collect()
        }
        Some(TokenTree::Ident(_)) => paths_at(tokens, at + 2),
        _ => Vec::new(),
    }
}

/// `paths` as seen from the root of the crate, if they are relative to `modules`.
fn absolute(modules: &[String], paths: Vec<Vec<String>>) -> Vec<Item> {
    let paths = paths.into_iter().map(|path| [modules, &path].concat());
    paths.map(|path| Item::Path(path.into_iter().filter(|name| name != "self").collect())).collect()
}

fn unsafe_item(tokens: &[TokenTree], at: usize) -> Option<Item> {
    match tokens.get(at + 1)? {
        TokenTree::Group(_) => Some(Item::UnsafeBlock),
        TokenTree::Ident(next) if *next == "impl" => Some(Item::UnsafeImpl),
        // Function types have no name.
        TokenTree::Ident(next) if *next == "fn" => match tokens.get(at + 2)? {
            TokenTree::Ident(name) => Some(Item::UnsafeFn(name.to_string())),
            _ => None,
        },
        other => Some(Item::UnsafeFn(other.to_string())),
    }
}

/// The name of the module whose body stands at `at`.
fn name_of_module(tokens: &[TokenTree], at: usize) -> Option<String> {
    let [.., TokenTree::Ident(keyword), TokenTree::Ident(name)] = tokens.get(..at)? else { return None };
    (*keyword == "mod").then(|| name.to_string())
}

fn is_test_attribute(attribute: &TokenStream) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,")
}
