//! Files of one crate that use each other in a circle: none of them can be read, or changed, without all of the others.
//!
//! What a file uses of the `mod.rs` of its own folder does not count: a folder and its files are one thing, told in parts. A
//! name that a `mod.rs` passes on from one of its files leads to that file. Tests may use what they like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Item, Source};

/// The modules that lead to a file.
type Module = Vec<String>;

/// The files of a crate, and the paths that each one contains.
struct Crate {
    paths: BTreeMap<Module, BTreeSet<Module>>,
}

/// The circles among `sources`, each as the files that it leads through.
pub(crate) fn circles(sources: &[Source]) -> Vec<String> {
    let (program, library): (Vec<&Source>, Vec<&Source>) =
        sources.iter().filter(|source| source.is_rust()).partition(|source| source.is_of_program());
    [library, program].into_iter().flat_map(|sources| Crate::of(&sources).circles()).collect()
}

impl Crate {
    fn of(sources: &[&Source]) -> Self {
        let of_crate = sources.iter().filter_map(|source| Some((to_module(&source.modules()?), paths_in(source))));
        Crate { paths: of_crate.collect() }
    }

    fn circles(&self) -> Vec<String> {
        let uses: BTreeMap<&Module, BTreeSet<&Module>> =
            self.paths.keys().map(|module| (module, self.uses(module))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for module in self.paths.keys() {
            let Some(circle) = shortest_circle(module, &uses) else { continue };
            if seen.insert(circle.iter().copied().collect::<BTreeSet<_>>()) {
                let names: Vec<String> = circle.iter().chain([&module]).map(|module| module.join("::")).collect();
                circles.push(names.join(" -> "));
            }
        }
        circles
    }

    /// The other files that `module` uses.
    fn uses(&self, module: &Module) -> BTreeSet<&Module> {
        let targets = self.paths[module].iter().filter_map(|path| self.home(path, &mut BTreeSet::new()));
        targets.filter(|target| !module.starts_with(target)).collect()
    }

    /// The file in which what `path` names is written.
    fn home(&self, path: &[String], tried: &mut BTreeSet<Module>) -> Option<&Module> {
        let (file, rest) = self.file(path)?;
        let Some(name) = rest.first() else { return Some(file) };
        if !tried.insert([file.as_slice(), std::slice::from_ref(name)].concat()) {
            return Some(file);
        }
        let imported =
            |path: &&Module| path.last() == Some(name) && !path.starts_with(file) || is_below(path, file, name);
        let passed_on = self.paths[file].iter().find(imported);
        passed_on.and_then(|path| self.home(path, tried)).or(Some(file))
    }

    /// The file that the first names of `path` lead to, and the names that are left.
    fn file<'a>(&self, path: &'a [String]) -> Option<(&Module, &'a [String])> {
        let lengths = (0..=path.len()).rev();
        let mut files = lengths.filter_map(|len| Some((self.paths.get_key_value(&path[..len])?.0, &path[len..])));
        files.next()
    }
}

/// Whether `path` leads to `name` in a module below `file`.
fn is_below(path: &[String], file: &[String], name: &String) -> bool {
    path.starts_with(file) && path.len() > file.len() + 1 && path.last() == Some(name)
}

/// The way back to `start`, beginning with it.
fn shortest_circle<'a>(
    start: &'a Module,
    uses: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
) -> Option<Vec<&'a Module>> {
    let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(module) = next.pop_front() {
        for &used in &uses[module] {
            if used == start {
                let mut way = vec![module];
                while let Some(&from) = came_from.get(way[way.len() - 1]) {
                    way.push(from);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(used) {
                came_from.insert(used, module);
                next.push_back(used);
            }
        }
    }
    None
}

fn paths_in(source: &Source) -> BTreeSet<Module> {
    let found = source.scan().into_iter().filter(|found| !found.in_tests);
    found.filter_map(|found| if let Item::Path(path) = found.item { Some(path) } else { None }).collect()
}

fn to_module(modules: &[&str]) -> Module {
    modules.iter().map(|&module| module.to_owned()).collect()
}
