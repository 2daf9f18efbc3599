//! `mapwal meta`: the metadata slots of a log.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::arguments::{Meta, ReportFormat};
use crate::failure::{Failure, Outcome, Result, shown};
use crate::hex::write_hex;
use crate::json;
use crate::look::Look;
use crate::tip::Slot;

/// Bytes of a value that are shown where it is not asked for alone.
const SHOWN_MAX: usize = 32;

pub(crate) fn run(arguments: &Meta) -> Result<Outcome> {
    let directory = &*arguments.directory;
    let mut look = Look::take(directory, arguments.archive, "meta")?;
    if let Some(tip) = &mut look.tip {
        tip.slots.retain(|slot, _| arguments.slot.is_none_or(|wanted| *slot == usize::from(wanted)));
    }
    let is_empty = look.tip.as_ref().is_none_or(|tip| tip.slots.is_empty());
    if let Some(slot) = arguments.slot.filter(|_| is_empty && look.damage.is_empty()) {
        return Err(Failure::new("nothing to show", format!("metadata slot {slot} was never set"), directory));
    }
    let mut out = io::stdout().lock();
    let printed = match arguments.format {
        _ if arguments.raw => slots_of(&look).try_for_each(|(_, slot)| out.write_all(&slot.value)),
        ReportFormat::Text => print(&mut out, &look, arguments.slot.is_some()),
        ReportFormat::Json => json::write(&mut out, "meta", &json_of(&look, directory)),
    };
    if arguments.raw {
        look.tell_damage(directory);
    }
    shown(printed.and_then(|()| out.flush()), look.outcome())
}

fn slots_of(look: &Look) -> impl Iterator<Item = (usize, &Slot)> {
    look.tip.iter().flat_map(|tip| tip.slots.iter().map(|(number, slot)| (*number, slot)))
}

fn print(out: &mut impl Write, look: &Look, is_whole: bool) -> io::Result<()> {
    if let Some(tip) = look.tip.as_ref().filter(|tip| !tip.slots.is_empty()) {
        writeln!(
            out,
            "{:>4}  {:>8}  {:>8}  {:>10}  {:>20}  VALUE",
            "SLOT", "LENGTH", "SEGMENT", "OFFSET", "BEFORE LSN"
        )?;
        for (number, slot) in &tip.slots {
            let (len, segment, offset, before) = (slot.value.len(), tip.number, slot.offset, slot.before.0);
            write!(out, "{number:>4}  {len:>8}  {segment:>8}  {offset:>10}  {before:>20}  ")?;
            print_value(out, &slot.value, if is_whole { len } else { SHOWN_MAX })?;
            writeln!(out)?;
        }
    }
    look.print_damage(out)
}

/// Prints up to `max` bytes, as text between quotes, or in hexadecimal if they are none.
fn print_value(out: &mut impl Write, value: &[u8], max: usize) -> io::Result<()> {
    let part = &value[..max.min(value.len())];
    match text_of(value) {
        Some(text) => {
            let end = (0..=part.len()).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            write!(out, "\"{}\"", text[..end].escape_debug())?;
        }
        None => write_hex(out, part)?,
    }
    if part.len() < value.len() { write!(out, "...") } else { Ok(()) }
}

/// The text that a value is, if all of it can be shown.
fn text_of(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t').then_some(text)
}

fn json_of(look: &Look, directory: &std::path::Path) -> Value {
    let segment = look.tip.as_ref().map(|tip| tip.number);
    let slot = |(number, slot): (usize, &Slot)| {
        let mut hex = Vec::new();
        write_hex(&mut hex, &slot.value).expect("a vector takes all");
        json!({
            "slot": number,
            "length": slot.value.len(),
            "segment": segment,
            "offset": slot.offset,
            "before_lsn": slot.before.0,
            "carried": slot.is_carried,
            "hex": String::from_utf8_lossy(&hex),
            "text": text_of(&slot.value),
        })
    };
    json!({
        "directory": directory.display().to_string(),
        "log_id": format!("{:032x}", look.inspection.log_id()),
        "slots": slots_of(look).map(slot).collect::<Vec<_>>(),
        "damage": look.damage.iter().map(json::of_damage).collect::<Vec<_>>(),
    })
}
