//! Records of transactions, decoded.

use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mapwal::Record;
use mapwal::wal::{Checkpoint, RecordFault, WalError, WalRecord};
use serde_json::{Map, Value, json};

use crate::arguments::Format;
use crate::hex::write_hex;
use crate::record_type::name;

/// Prints `record` as a line: number, type, what its header says, and its data.
pub(crate) fn print(out: &mut impl Write, record: &Record<'_>, format: Format) -> io::Result<()> {
    let parsed = WalRecord::parse(record);
    if format == Format::Json {
        let object = match &parsed {
            Ok(parsed) => json_of(parsed),
            Err(error) => json_of_other(record, error),
        };
        serde_json::to_writer(&mut *out, &object)?;
        return writeln!(out);
    }
    let data = match &parsed {
        Ok(parsed) => {
            write!(out, "{}\t{}\t{}\t", parsed.lsn(), name(parsed.record_type()), header(parsed))?;
            if parsed.checkpoint().is_some() { &[][..] } else { parsed.data() }
        }
        Err(error) => {
            write!(out, "{}\t{}\tlen={}\t", record.lsn(), other(record, error), record.payload().len())?;
            record.payload()
        }
    };
    match format {
        Format::Hex => write_hex(out, data)?,
        Format::Text | Format::Json | Format::Raw => write!(out, "{}", data.escape_ascii())?,
    }
    writeln!(out)
}

/// What a record is called that is no transaction's.
fn other(record: &Record<'_>, error: &WalError) -> String {
    match error {
        WalError::Record { fault: RecordFault::UnknownType { .. }, .. } => format!("tag={}", record.tag()),
        invalid => format!("invalid: {invalid}"),
    }
}

fn header(record: &WalRecord<'_>) -> String {
    if let Some(checkpoint) = record.checkpoint() {
        return header_of_checkpoint(&checkpoint);
    }
    let fields = [
        ("tx", Some(record.transaction().0)),
        ("prev", record.prev_lsn().map(u64::from)),
        ("page", record.page().map(|page| page.0)),
        ("undo_next", record.undo_next().map(u64::from)),
        ("len", Some(record.data().len() as u64)),
    ];
    let present = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    present.collect::<Vec<_>>().join(" ")
}

fn header_of_checkpoint(checkpoint: &Checkpoint<'_>) -> String {
    let lsn = |lsn: Option<mapwal::Lsn>| lsn.map_or("-".to_owned(), |lsn| lsn.to_string());
    let active: Vec<String> = checkpoint
        .active_transactions()
        .iter()
        .map(|tx| format!("{}:{}..{}", tx.transaction(), lsn(tx.first_lsn()), lsn(tx.last_lsn())))
        .collect();
    let dirty: Vec<String> =
        checkpoint.dirty_pages().iter().map(|page| format!("{}:{}", page.page(), lsn(page.recovery_lsn()))).collect();
    format!("redo={} active=[{}] dirty=[{}]", checkpoint.redo_lsn(), active.join(" "), dirty.join(" "))
}

fn json_of(record: &WalRecord<'_>) -> Value {
    let mut object = Map::new();
    object.insert("lsn".to_owned(), record.lsn().0.into());
    object.insert("type".to_owned(), name(record.record_type()).into());
    if let Some(checkpoint) = record.checkpoint() {
        let lsn = |lsn: Option<mapwal::Lsn>| lsn.map(u64::from);
        object.insert("redo".to_owned(), checkpoint.redo_lsn().0.into());
        object.insert(
            "active".to_owned(),
            checkpoint
                .active_transactions()
                .iter()
                .map(|tx| json!({ "tx": tx.transaction().0, "first": lsn(tx.first_lsn()), "last": lsn(tx.last_lsn()) }))
                .collect(),
        );
        object.insert(
            "dirty".to_owned(),
            checkpoint
                .dirty_pages()
                .iter()
                .map(|page| json!({ "page": page.page().0, "recovery": lsn(page.recovery_lsn()) }))
                .collect(),
        );
        return object.into();
    }
    object.insert("tx".to_owned(), record.transaction().0.into());
    let fields = [
        ("prev", record.prev_lsn().map(u64::from)),
        ("page", record.page().map(|page| page.0)),
        ("undo_next", record.undo_next().map(u64::from)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            object.insert(name.to_owned(), value.into());
        }
    }
    insert_bytes(&mut object, "data", record.data());
    object.into()
}

fn json_of_other(record: &Record<'_>, error: &WalError) -> Value {
    let mut object = Map::new();
    object.insert("lsn".to_owned(), record.lsn().0.into());
    object.insert("tag".to_owned(), record.tag().into());
    if !matches!(error, WalError::Record { fault: RecordFault::UnknownType { .. }, .. }) {
        object.insert("invalid".to_owned(), error.to_string().into());
    }
    insert_bytes(&mut object, "payload", record.payload());
    object.into()
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    object.insert("len".to_owned(), bytes.len().into());
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), BASE64_STANDARD.encode(bytes).into()),
    };
}
