//! Following a log that exists, one line a record.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use mapwal::{LogReader, Record, Visibility};

use crate::From;

/// How long one call waits for a record before the next call does.
const WAIT: Duration = Duration::from_secs(1);

/// Prints number, tag and payload length of each record, and waits for more if it is to `follow`.
pub(crate) fn run(directory: &Path, from: From, visibility: Visibility, follow: bool) -> Result<(), Box<dyn Error>> {
    // SAFETY: the contract is passed on to the user of the program, by its help.
    let reader = unsafe { LogReader::open(directory)? };
    match print_all(&reader, from, visibility, follow) {
        // The reader of the output has seen enough of it.
        Err(error) if is_broken_pipe(&*error) => Ok(()),
        other => other,
    }
}

fn print_all(reader: &LogReader, from: From, visibility: Visibility, follow: bool) -> Result<(), Box<dyn Error>> {
    let from = match from {
        From::Start => reader.first_lsn()?,
        From::End => reader.published_lsn()?.next(),
        From::Record(lsn) => lsn,
    };
    let mut follower = reader.follow(from, visibility)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut caught_up = false;
    loop {
        let next = if caught_up { follower.next_timeout(WAIT) } else { follower.next() };
        match next {
            Ok(Some(record)) => {
                print(&mut out, record)?;
                caught_up = false;
            }
            Ok(None) => {
                out.flush()?;
                if !follow {
                    return Ok(());
                }
                caught_up = true;
            }
            Err(mapwal::Error::Rewound { to }) => eprintln!("truncated: goes on with record {to}"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn print(out: &mut impl Write, record: Record<'_>) -> io::Result<()> {
    writeln!(out, "{} {} {}", record.lsn(), record.tag(), record.payload().len())
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
