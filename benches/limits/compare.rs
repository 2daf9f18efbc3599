//! This run beside an earlier one of the same machine: `--against`.

use std::io;
use std::path::Path;

use crate::report::{Report, figure};

/// Prints how many times each of the values of `now` is that of the run whose file is at `earlier`. An error if that was made on another machine.
pub(crate) fn print(earlier: &Path, now: &Report<'_>) -> io::Result<()> {
    let text = std::fs::read_to_string(earlier)?;
    let before: Report<'_> = serde_json::from_str(&text)?;
    if !before.machine.is_like(&now.machine) {
        let (before, now) = (&before.machine, &now.machine);
        let why = format!("{}: made on another machine, {before}; this one is {now}", earlier.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    println!("\nbeside {}: before, now, how many times; ratios to limits before, now", earlier.display());
    for entry in &now.rows {
        let Some(was) = before.rows.iter().find(|was| was.name == entry.name && was.unit == entry.unit) else {
            continue;
        };
        let times = if was.value == 0.0 { String::from("–") } else { format!("{:.2}", entry.value / was.value) };
        let ratio = |ratio: Option<f64>| ratio.map_or(String::from("–"), |ratio| format!("{ratio:.2}"));
        let (then, now) = (figure(was.value), figure(entry.value));
        println!("{}: {then}, {now} {}, {times}; {}, {}", entry.name, entry.unit, ratio(was.ratio), ratio(entry.ratio));
    }
    Ok(())
}
