//! Which records are printed.

use std::str::FromStr;

use mapwal::Record;

use crate::record_type;

/// What a record has to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Its tag is one of these.
    Tags(Vec<u16>),
    /// Its payload has these bytes somewhere.
    Bytes(Vec<u8>),
}

impl Filter {
    pub(crate) fn passes(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Tags(tags) => tags.contains(&record.tag()),
            Self::Bytes(bytes) => record.payload().windows(bytes.len()).any(|part| part == bytes),
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let filter = match text.split_once('=') {
            Some(("tag", tags)) => Self::Tags(tags.split(',').map(tag_of).collect::<Result<_, _>>()?),
            Some(("text", text)) => Self::Bytes(text.as_bytes().to_vec()),
            Some(("hex", digits)) => Self::Bytes(bytes_of(digits).ok_or("not pairs of hexadecimal digits")?),
            _ => return Err("it begins with none of tag=, text=, hex=".to_owned()),
        };
        if filter == Self::Bytes(Vec::new()) { Err("nothing to look for".to_owned()) } else { Ok(filter) }
    }
}

/// A tag by its number, or by the name of a type of records of transactions.
fn tag_of(text: &str) -> Result<u16, String> {
    let named = record_type::code_of(text).ok_or(());
    named.or_else(|()| {
        text.parse().map_err(|_| format!("{text:?} is neither a number up to 65535 nor a type of record"))
    })
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_they_are_written() {
        let of = |text: &str| text.parse::<Filter>();
        assert_eq!(of("tag=7"), Ok(Filter::Tags(vec![7])));
        assert_eq!(of("tag=commit,abort,40000"), Ok(Filter::Tags(vec![2, 3, 40000])));
        assert_eq!(of("text=a=b"), Ok(Filter::Bytes(b"a=b".to_vec())));
        assert_eq!(of("hex=00fFa9"), Ok(Filter::Bytes(vec![0, 255, 0xa9])));
        for bad in ["", "7", "tag=", "tag=65536", "tag=1,", "text=", "hex=", "hex=0", "hex=0g", "size=1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
