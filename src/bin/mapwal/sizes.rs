//! Numbers of bytes on the command line. Shared with `mapwal-archive`.

/// A number of bytes, with KiB, MiB or GiB after it or without.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("{unit:?} is none of KiB, MiB, GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{number:?} is not a number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("4 m"), Ok(4 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert!(parse_size("4MB").is_err(), "a million bytes are not meant by anyone");
        assert!(parse_size("99999999999GiB").is_err());
        assert!(parse_size("").is_err());
    }
}
