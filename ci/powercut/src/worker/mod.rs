//! The process that uses the log, and nothing but its published interface. It may die, or hang, without harm to others.
//!
//! It takes jobs from its standard input, one after the other, and says on its standard output when one is done.

mod committers;
mod session;
mod watch;

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::event::Teller;
use crate::recording::Recording;

/// One session with a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The directory of the log.
    pub log: PathBuf,
    /// The directory of the recording.
    pub recording: PathBuf,
    /// Where to tell what happens.
    pub events: PathBuf,
    pub seed: u64,
    pub steps: usize,
    /// The first identity that records may have.
    pub first_id: u64,
    /// Whether to look at the log again after the steps.
    pub look_again: bool,
    /// Whether the file system may be told to stop.
    pub goes_down: bool,
}

/// What is said when a job is done.
pub const DONE: &str = "done";

/// A job as it is handed over: its length in four bytes, then the job.
pub fn encode(job: &Job) -> Result<Vec<u8>> {
    let bytes = postcard::to_stdvec(job)?;
    let len = u32::try_from(bytes.len())?;
    Ok([&len.to_le_bytes()[..], &bytes].concat())
}

/// Has lost pages be errors in this process.
pub fn guard() -> Result<()> {
    // SAFETY: records are compared as bytes, and no other handler comes after this one.
    unsafe { mapwal::guard_against_sigbus() }.context("no guard")
}

/// Does jobs until there are no more.
pub fn work() -> Result<()> {
    let mut input = std::io::stdin().lock();
    loop {
        let mut len = [0; 4];
        if input.read_exact(&mut len).is_err() {
            return Ok(());
        }
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        input.read_exact(&mut bytes).context("half a job")?;
        let job: Job = postcard::from_bytes(&bytes).context("no job")?;
        ensure!(job.log.is_absolute(), "a log somewhere else");
        let teller = Teller::new(&job.events, Recording::open(&job.recording)?)?;
        session::run(&job, teller);
        println!("{DONE}");
    }
}
