//! `mapwal backup`: a copy of a log that may be in use.
//!
//! What is copied of each segment ends with a frame: where the next segment says that it ends, or, of the newest, where the frames
//! end that are there. Neither changes any more, so it makes no difference that a writer goes on meanwhile. A truncation takes
//! segments away, in spite of a pin: then what is still right of the copy stays, and the rest is looked for anew.
//!
//! **Unfinished copies.** From first to last a guard is in the directory, a file with which no log opens. Segments are made under
//! names that no log has. Once all are durable, a control page gets its name, which says from where to where the copy goes; then they
//! get theirs, the newest first; then the guard goes. A copy that loses segments later is a damaged log by its control page.
//!
//! **Shared files.** A segment that has a successor never changes, so its blocks may be shared: with the log's own file by a
//! reflink, with an earlier copy by a reflink or a second name. The newest is always copied, since appends to it go on in its
//! file: those of the log, and those of one that is made of the copy.

mod check;
mod copy;
mod earlier;
mod files;
mod pin;
mod report;

use std::io::{self, Write};

use crate::arguments::{Backup, ReportFormat};
use crate::failure::{Outcome, Result, shown};
use crate::stop::Stop;
use crate::{json, out};
use copy::Copy;
use earlier::Earlier;
use pin::HeldPin;

pub(crate) fn run(arguments: &Backup) -> Result<Outcome> {
    out::check_empty(&arguments.out)?;
    out::check_outside(&arguments.out, &arguments.directory)?;
    let earlier = arguments.against.as_deref().map(|path| Earlier::open(path, &arguments.directory)).transpose()?;
    let stop = Stop::by_signals()?;
    let pin = if arguments.no_pin { None } else { HeldPin::take(arguments)? };
    let copied = Copy::new(arguments, earlier.as_ref(), &stop).and_then(Copy::carry_out);
    let dropped = pin.map_or(Ok(()), HeldPin::drop_it);
    let done = copied?;
    dropped.map_err(|failure| failure.and("the copy is complete"))?;
    let mut out = io::stdout().lock();
    let printed = match arguments.format {
        ReportFormat::Text => writeln!(out, "{done}"),
        ReportFormat::Json => json::write(&mut out, "backup", &done.json(arguments)),
    };
    let outcome = if done.page_fault.is_some() { Outcome::Damaged } else { Outcome::Done };
    shown(printed, outcome).map_err(|failure| failure.and("the copy is complete"))
}
