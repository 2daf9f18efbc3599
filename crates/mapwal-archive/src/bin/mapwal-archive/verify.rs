//! `mapwal-archive verify`: everything is read again.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use mapwal_archive::{Archive, EpochFault, VerifyProgress, VerifyReport};
use serde_json::{Value, json};

use crate::arguments::{Format, Verify};
use crate::failure::{
    Explain, Failure, Outcome, Result, counted, document, outcome_of, shown, tell_after_damage, tell_ways_out, worst,
};
use crate::list::damages;
use crate::progress;

pub(crate) async fn run(arguments: &Verify) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    arguments.changed_since.as_deref().map_or(Ok(()), |path| arguments.url.check_not_in(path, "the report"))?;
    let earlier = arguments.changed_since.as_deref().map(read).transpose()?.flatten();
    let bar = progress::of_bytes("verify", 0);
    let mut show = |progress: VerifyProgress| {
        bar.set_length(progress.bytes.1);
        bar.set_position(progress.bytes.0);
    };
    let verified = Archive::new(store, prefix).verify(earlier.as_ref(), &mut show).await;
    bar.finish_and_clear();
    let report = verified.about(&arguments.url)?;
    if report.epochs == 0 {
        return Err(Failure::new("no archive", "nothing is archived there", arguments.url.to_string()));
    }
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        Format::Text => print(&mut out, &report),
        Format::Json => writeln!(out, "{}", as_json(&report)),
    };
    let found = shown(printed.and_then(|()| out.flush()), outcome(&report));
    // What was found is told in any case.
    match arguments.changed_since.as_deref().map_or(Ok(()), |path| write(path, &report)) {
        Err(failure) if matches!(found, Ok(Outcome::Done)) => Err(failure),
        Err(failure) => {
            failure.tell();
            found
        }
        Ok(()) => found,
    }
}

fn outcome(report: &VerifyReport) -> Outcome {
    let damaged = report.damaged.iter().map(|_| Outcome::Damaged);
    let unread = report.unread.iter().map(|_| Outcome::Failed);
    worst(damaged.chain(unread).chain([outcome_of(&report.faults)]))
}

/// `None` if there is no such file, or nothing in it.
fn read(path: &Path) -> Result<Option<VerifyReport>> {
    let failed = |error: io::Error| Failure::of_io("cannot read", &error, path);
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed)?,
    };
    // A device may have no end, and would be replaced by a file.
    if !found.is_file() {
        return Err(Failure::new("cannot keep the report", "it is no regular file", path));
    }
    let bytes = fs::read(path).map_err(failed)?;
    // As a program makes it that gives files their names.
    if bytes.is_empty() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Failure::new("not a report of verify", error, path))
}

/// As a whole or not at all, also after a power cut.
fn write(path: &Path, report: &VerifyReport) -> Result<()> {
    let text = serde_json::to_vec(report).expect("text and numbers");
    // A link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = |mut file: fs::File| file.write_all(&text).and_then(|()| file.sync_all());
    let written = fs::File::create(&beside).and_then(write).and_then(|()| fs::rename(&beside, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        Failure::of_io("cannot write", &error, &path)
    })
}

fn print(out: &mut impl Write, report: &VerifyReport) -> io::Result<()> {
    for line in damaged(report) {
        writeln!(out, "{line}")?;
    }
    tell_after_damage(out, report.damaged.iter().map(|(_, damage)| damage).chain(damages(&report.faults)))?;
    for fault in &report.faults {
        writeln!(out, "{fault}")?;
    }
    for (key, why) in &report.unread {
        writeln!(out, "{key} cannot be read: {why}")?;
    }
    tell_ways_out(out, &report.faults)?;
    let colour = if report.is_sound() { AnsiColor::Green } else { AnsiColor::Red };
    let style = Style::new().fg_color(Some(colour.into()));
    let read = counted(report.read, "object", "objects");
    writeln!(out, "{style}{}{style:#}: {read} read, {} unchanged", verdict(report), report.unchanged)
}

/// All that was found, in a few words.
fn verdict(report: &VerifyReport) -> String {
    let of =
        |wanted: Outcome| report.faults.iter().filter(move |fault| outcome_of(std::slice::from_ref(fault)) == wanted);
    let is_less = |fault: &&EpochFault| matches!(fault, EpochFault::Less { .. });
    let (less, missing) =
        (of(Outcome::Gaps).filter(is_less).count(), of(Outcome::Gaps).filter(|it| !is_less(it)).count());
    let is_copy = |fault: &&EpochFault| matches!(fault, EpochFault::Copy { .. });
    let copies = of(Outcome::Damaged).filter(is_copy).count();
    let damaged = report.damaged.len() + of(Outcome::Damaged).count() - copies;
    let unread = report.unread.len() + of(Outcome::Failed).count();
    let places = |what: &str, places: usize| {
        (places > 0).then(|| format!("{what} in {}", counted(places as u64, "place", "places")))
    };
    let found = [
        places("damaged", damaged),
        (unread > 0).then(|| format!("{} not be read", counted(unread as u64, "object could", "objects could"))),
        places("records are missing", missing),
        (copies > 0).then(|| format!("{} that nothing needs", counted(copies as u64, "copy", "copies"))),
        (less > 0).then(|| "the newest epoch has less than an older one".to_owned()),
    ];
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.is_empty() { "sound".to_owned() } else { found.join(", ") }
}

/// A line for each damaged object.
fn damaged(report: &VerifyReport) -> impl Iterator<Item = String> {
    report.damaged.iter().map(|(key, damage)| format!("{key} is damaged: {damage}"))
}

fn as_json(report: &VerifyReport) -> Value {
    let faults = damaged(report).chain(report.faults.iter().map(ToString::to_string));
    let unread = report.unread.iter().map(|(key, why)| json!({ "key": key, "why": why }));
    let damaged = report.damaged.iter().map(|(key, damage)| json!({ "key": key, "damage": damage.to_string() }));
    let members = json!({
        "sound": report.is_sound(),
        "epochs": report.epochs,
        "read": report.read,
        "unchanged": report.unchanged,
        "damaged": damaged.collect::<Vec<_>>(),
        "unread": unread.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
    });
    document("verify", members)
}

#[cfg(test)]
mod tests {
    use mapwal_archive::ObjectDamage;

    use super::*;

    type Change<'a> = &'a dyn Fn(&mut VerifyReport);

    #[test]
    fn the_verdict_has_all_that_was_found_and_calls_nothing_damaged_that_is_not() {
        let damaged = |report: &mut VerifyReport| report.damaged.push(("a".to_owned(), ObjectDamage::Missing));
        let unread = |report: &mut VerifyReport| report.unread.push(("b".to_owned(), "denied".to_owned()));
        let gap = |report: &mut VerifyReport| report.faults.push(EpochFault::Gap { epoch: 1, missing: (2, 3) });
        let less = |report: &mut VerifyReport| report.faults.push(EpochFault::Less { epoch: 2, longer: 1 });
        let cases: [(&[Change<'_>], Outcome, &str); 6] = [
            (&[], Outcome::Done, "sound"),
            (&[&gap], Outcome::Gaps, "records are missing in 1 place"),
            (&[&unread, &gap], Outcome::Failed, "1 object could not be read, records are missing in 1 place"),
            (&[&unread, &unread], Outcome::Failed, "2 objects could not be read"),
            (
                &[&gap, &unread, &damaged],
                Outcome::Damaged,
                "damaged in 1 place, 1 object could not be read, records are missing in 1 place",
            ),
            (&[&less], Outcome::Gaps, "the newest epoch has less than an older one"),
        ];
        for (changes, expected, told) in cases {
            let mut report = VerifyReport::default();
            for change in changes {
                change(&mut report);
            }
            assert_eq!((outcome(&report), &*verdict(&report)), (expected, told));
        }
    }
}
