//! The types of records of transactions, by name.

use mapwal::wal::RecordType;

pub(crate) fn name(record_type: RecordType) -> &'static str {
    match record_type {
        RecordType::Begin => "begin",
        RecordType::Commit => "commit",
        RecordType::Abort => "abort",
        RecordType::Insert => "insert",
        RecordType::Update => "update",
        RecordType::Delete => "delete",
        RecordType::Checkpoint => "checkpoint",
        RecordType::Compensation => "compensation",
        _ => "of a later version",
    }
}

/// The tag of the type of this name.
pub(crate) fn code_of(text: &str) -> Option<u16> {
    (1..).map_while(RecordType::from_code).find(|of| name(*of) == text).map(RecordType::code)
}
