//! Bytes as digits.

use std::io::{self, Write};

/// `bytes` in hexadecimal, without anything between.
pub(crate) fn write_hex(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}
