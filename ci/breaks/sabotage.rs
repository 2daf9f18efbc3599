//! Which break is made: the one that the variable `MAPWAL_BREAK` names, or none. Only the copy that `apply.py` makes has this module.

use std::sync::LazyLock;

/// The place of the break in `NAMES`, which `apply.py` adds.
static MADE: LazyLock<Option<usize>> = LazyLock::new(|| {
    let name = std::env::var("MAPWAL_BREAK").ok()?;
    let found = NAMES.iter().position(|known| *known == name);
    Some(found.unwrap_or_else(|| {
        eprintln!("there is no break {name}");
        std::process::exit(2);
    }))
});

/// Whether this is the break that is made.
#[inline]
pub(crate) fn is(wanted: usize) -> bool {
    *MADE == Some(wanted)
}
