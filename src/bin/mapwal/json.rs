//! Documents for machines: one JSON object on a line, with its kind and its version. `docs/mapwal.schema.json` says what is in each.
//!
//! Numbers are written in full: those of records may be beyond 2^53, which programs that read numbers as floating point do not
//! tell apart.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Finding;

/// Of all documents. It changes when one loses a member or gives it another meaning, and not when one gets more.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    kind: &'a str,
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// Writes the document of a command.
pub(crate) fn write(out: &mut impl Write, kind: &str, body: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Document { kind, version: VERSION, body })?;
    writeln!(out)
}

/// Writes the document of a command that has come no further than to this damage.
pub(crate) fn write_damaged(command: &str, directory: &Path, damage: Finding) -> io::Result<()> {
    let body = json!({
        "command": command,
        "directory": directory.display().to_string(),
        "damage": [of_damage(damage)],
    });
    write(&mut io::stdout().lock(), "damaged", &body)
}

/// What is wrong, and where.
pub(crate) fn of_damage(damage: impl Into<Finding>) -> Value {
    let Finding { path, offset, lsn, damage } = damage.into();
    json!({
        "path": path.display().to_string(),
        "offset": offset,
        "lsn": lsn.map(|lsn| lsn.0),
        "damage": damage,
    })
}
