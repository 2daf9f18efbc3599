//! `mapwal stat --format prometheus`: the state of a log as `OpenMetrics` text, which collectors of text files read as well.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::path::Path;

use mapwal::inspect::Activity;

use super::size::{Part, Size};
use crate::failure::{Failure, Outcome, Result, describe, shown};
use crate::look::Look;
use crate::pins;

/// Prints what is known without reading all records. Of a damaged log too, so that an alert can be made of that.
pub(crate) fn run(directory: &Path, is_archive: bool) -> Result<Outcome> {
    let look = match Look::take(directory, is_archive, "stat") {
        Ok(look) => look,
        Err(failure) if failure.damage().is_some() => return without_a_look(directory, &failure),
        Err(failure) => return Err(failure),
    };
    let disk = rustix::fs::statvfs(directory)
        .map_err(|error| Failure::new("cannot look at the disk", describe(&error.into()), directory))?;
    look.tell_damage(directory);
    let mut page = Page::new(directory);
    page.add_state(&look);
    page.add_size(&Size::of(&look, directory), disk.f_bavail.saturating_mul(disk.f_frsize));
    page.add_pins(&look);
    if let Some(activity) = look.inspection.activity() {
        page.add_activity(&activity);
    }
    page.print(look.outcome())
}

/// Of a log that is too damaged to be looked at: nothing but that it is.
fn without_a_look(directory: &Path, failure: &Failure) -> Result<Outcome> {
    let mut page = Page::new(directory);
    page.add_damaged(true);
    page.print(failure.tell())
}

/// A family of metrics.
struct Family {
    /// Without the suffix of counters.
    name: &'static str,
    kind: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
}

/// One whose values go up and down.
const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", unit: None, help }
}

/// The same, in `unit`, with which its name ends.
const fn gauge_in(unit: &'static str, name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", unit: Some(unit), help }
}

/// One that counts from when the writer has opened the log.
const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", unit: None, help }
}

/// The text, as far as it is made.
struct Page {
    text: String,
    /// The label that every sample has.
    directory: String,
}

impl Page {
    fn new(directory: &Path) -> Self {
        Self { text: String::new(), directory: directory.display().to_string() }
    }

    /// Adds a family with its samples: suffix, labels and value of each. Without samples it is left out.
    fn add<V: Display>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (&'static str, Vec<(&'static str, String)>, V)>,
    ) {
        let Family { name, kind, unit, help } = family;
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
        for (suffix, labels, value) in samples {
            let _ = write!(self.text, "{name}{suffix}{{directory=\"{}\"", escaped(&self.directory));
            for (label, of) in labels {
                let _ = write!(self.text, ",{label}=\"{}\"", escaped(&of));
            }
            let _ = writeln!(self.text, "}} {value}");
        }
    }

    fn add_one(&mut self, family: &Family, value: Option<impl Display>) {
        self.add(family, value.map(|value| ("", Vec::new(), value)));
    }

    fn add_damaged(&mut self, is_damaged: bool) {
        let damaged = "Whether a header, a link or the newest segment is damaged; mapwal verify looks at all.";
        self.add_one(&gauge("mapwal_damaged", damaged), Some(u8::from(is_damaged)));
    }

    fn add_state(&mut self, look: &Look) {
        let flag = u8::from;
        self.add_damaged(!look.damage.is_empty());
        let alive = "Whether a process has the log open for writing.";
        self.add_one(&gauge("mapwal_writer_alive", alive), Some(flag(look.writer.is_alive())));
        let poisoned = "Whether a sync of the last writer has failed: it refuses all writes.";
        self.add_one(&gauge("mapwal_poisoned", poisoned), Some(flag(look.inspection.is_poisoned())));
        self.add_one(&gauge("mapwal_first_lsn", "The oldest record."), look.first);
        self.add_one(&gauge("mapwal_next_lsn", "The number of the next record."), look.next);
        let durable = look.inspection.durable_lsn();
        self.add_one(&gauge("mapwal_durable_lsn", "The last record that is durable, says the last writer."), durable);
    }

    fn add_size(&mut self, size: &Size, free: u64) {
        let labels = |part: &Part| {
            let pin = part.reason.pin().map(|pin| ("pin", pin.to_owned()));
            [Some(("reason", part.reason.kind().to_owned())), pin].into_iter().flatten().collect::<Vec<_>>()
        };
        let bytes =
            gauge_in("bytes", "mapwal_disk_bytes", "The length of the log's files, by what they are there for.");
        self.add(&bytes, size.parts.iter().map(|part| ("", labels(part), part.bytes)));
        let files = gauge("mapwal_disk_files", "How many files the log has, by what they are there for.");
        self.add(&files, size.parts.iter().map(|part| ("", labels(part), part.files)));
        let allocated = "What the file system has given to the log's files.";
        self.add_one(&gauge_in("bytes", "mapwal_allocated_bytes", allocated), Some(size.allocated_bytes));
        let unused = "What is not used at the ends of segments.";
        self.add_one(&gauge_in("bytes", "mapwal_unused_bytes", unused), Some(size.unused_bytes));
        let unlinked = "What dropped segments take that the writer's process still sees.";
        self.add_one(&gauge_in("bytes", "mapwal_unlinked_bytes", unlinked), Some(size.unlinked_bytes));
        let left = "What the file system has left.";
        self.add_one(&gauge_in("bytes", "mapwal_filesystem_free_bytes", left), Some(free));
    }

    fn add_pins(&mut self, look: &Look) {
        let of = |name: &str| vec![("pin", name.to_owned())];
        let state = gauge("mapwal_pin_state", "1, with what the pin is worth: reserved, extended, lost or damaged.");
        let states = look.pins.iter().map(|pin| {
            let state = ("state", pins::state_name(pin.state).to_owned());
            ("", of(&pin.name).into_iter().chain([state]).collect(), 1)
        });
        self.add(&state, states);
        let lag = gauge_in("records", "mapwal_pin_lag_records", "Numbers from the pin's on: not each has a record.");
        let lags = look.next.into_iter().flat_map(|next| look.pins.iter().map(move |pin| (pin, pins::lag(pin, next))));
        self.add(&lag, lags.map(|(pin, lag)| ("", of(&pin.name), lag)));
        let retained =
            gauge_in("bytes", "mapwal_pin_retained_bytes", "What the segments from the pin's record on take.");
        self.add(&retained, look.pins.iter().map(|pin| ("", of(&pin.name), pin.retained_bytes)));
        let limit = gauge_in("bytes", "mapwal_pin_limit_bytes", "The most that the pin may hold back.");
        let limits = look.pins.iter().filter_map(|pin| Some(("", of(&pin.name), pin.limit_bytes?)));
        self.add(&limit, limits);
    }

    fn add_activity(&mut self, activity: &Activity) {
        let time = "How long syncs took, since the log was opened.";
        let time = Family { name: "mapwal_sync_seconds", kind: "summary", unit: Some("seconds"), help: time };
        let quantiles = [("0.5", activity.sync_time_p50), ("0.99", activity.sync_time_p99)];
        let quantile = |of: &str| vec![("quantile", of.to_owned())];
        let quantiles = quantiles.map(|(of, time)| ("", quantile(of), time.as_secs_f64().to_string()));
        self.add(&time, quantiles.into_iter().chain([("_count", Vec::new(), activity.syncs.to_string())]));
        let zeros = "Zeros written ahead of records.";
        let zeros = Family { unit: Some("bytes"), ..counter("mapwal_zeros_written_bytes", zeros) };
        for (family, value) in [
            (counter("mapwal_syncs", "Syncs that had something to sync."), activity.syncs),
            (counter("mapwal_stalls", "How often an append had to wait for room."), activity.stalls),
            (zeros, activity.zeros_written_bytes),
            (
                counter("mapwal_recycled_segments", "Segments begun in a dropped one's file."),
                activity.recycled_segments,
            ),
            (counter("mapwal_removed_segments", "Files of dropped segments removed."), activity.removed_segments),
        ] {
            self.add(&family, [("_total", Vec::new(), value)]);
        }
    }

    fn print(mut self, outcome: Outcome) -> Result<Outcome> {
        self.text.push_str("# EOF\n");
        let mut out = std::io::stdout().lock();
        shown(out.write_all(self.text.as_bytes()).and_then(|()| out.flush()), outcome)
    }
}

/// The value of a label, as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
