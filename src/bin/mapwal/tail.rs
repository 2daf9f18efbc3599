//! `mapwal tail`: records as they come.

use std::path::Path;
use std::time::Duration;

use mapwal::inspect::Inspection;
use mapwal::{Error, Visibility};

use crate::arguments::{From, Tail};
use crate::failure::{Explain, Failure, Outcome, Result, Written};
use crate::open;
use crate::print::Printer;
use crate::stop::Stop;

/// How often it is asked whether to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn run(arguments: &Tail) -> Result<Outcome> {
    let directory = &*arguments.directory;
    let reader = open::reader(directory, arguments.archive)?;
    let visibility = if arguments.durable { Visibility::Durable } else { Visibility::Published };
    if arguments.durable && arguments.no_follow {
        check_is_told(directory)?;
    }
    let from = arguments.from.unwrap_or(if arguments.no_follow { From::Start } else { From::End });
    let follow = || match from {
        From::Start => open::again(|| reader.follow(reader.first_lsn()?, visibility)),
        From::End => open::again(|| reader.follow(reader.published_lsn()?.next(), visibility)),
        From::Record(lsn) => reader.follow(lsn, visibility),
    };
    let mut follower = follow().about(directory)?;
    let mut printer = Printer::new(arguments.format, false);
    let stop = if arguments.no_follow { None } else { Some(Stop::listen()?) };
    let mut is_idle = false;
    while !stop.as_ref().is_some_and(Stop::is_asked) {
        let next = if is_idle { follower.next_timeout(LOOK_INTERVAL) } else { follower.next() };
        is_idle = false;
        match next {
            Ok(Some(record)) => printer.print(&record).written()?,
            Ok(None) if arguments.no_follow => break,
            Ok(None) => {
                // What has come is shown before waiting for more.
                printer.flush().written()?;
                is_idle = true;
            }
            Err(Error::Rewound { to }) => {
                let why = format!("it goes back to record {to}");
                Failure::new("the log was truncated", why, directory).tell();
            }
            Err(error) => {
                printer.flush().written()?;
                return Err(Failure::of_log(&error, directory));
            }
        }
    }
    printer.flush().written()?;
    Ok(Outcome::Done)
}

/// An error if nothing says which records are durable: none would be printed, as if there were none.
fn check_is_told(directory: &Path) -> Result<()> {
    match Inspection::open(directory).about(directory)?.durable_lsn() {
        Some(_) => Ok(()),
        None => Err(Failure::new("cannot tell what is durable", "there is no control page", directory)),
    }
}
