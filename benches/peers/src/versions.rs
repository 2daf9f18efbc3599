//! The versions of the peers that this program was built with.

/// Written by cargo before it compiles anything.
const LOCK_FILE: &str = include_str!("../Cargo.lock");

/// The version of `package`, if it is among the dependencies.
pub(crate) fn version_of(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK_FILE.lines().skip_while(|line| *line != name);
    let version = lines.find_map(|line| line.strip_prefix("version = \""))?;
    version.strip_suffix('"')
}
