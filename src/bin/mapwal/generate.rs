//! Shell completions and manual pages, made from the command line's own description. Shared with `mapwal-archive`.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::told::{Failure, Outcome, Result, Written};

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), env!("CARGO_BIN_NAME"), &mut script);
    io::stdout().write_all(&script).written()?;
    Ok(Outcome::Done)
}

pub(crate) fn manual(directory: Option<&Path>) -> Result<Outcome> {
    let command = Arguments::command();
    if let Some(directory) = directory {
        let failed = |error: io::Error| Failure::of_io("cannot write", &error, directory);
        std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory))
            .map_err(failed)?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).written()?;
        io::stdout().write_all(&page).written()?;
    }
    Ok(Outcome::Done)
}
