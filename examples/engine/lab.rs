//! Kills the engine again and again, and looks what is left.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::arguments::Arguments;
use crate::model::{Findings, Model};
use crate::page::Page;
use crate::power_loss;
use crate::process::{Process, Received};
use crate::report::{Message, Restarted};

/// How long the load goes on between a restart and a kill.
const LOAD_MS: std::ops::Range<u64> = 20..500;
/// Changes undone before a kill in the undo.
const UNDONE_MAX: u64 = 8;
/// How long an engine may take for its restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the experiment, and prints a line for each restart and one for the result. An error if anything was lost, or
/// came back.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let mut lab = Lab {
        arguments,
        directory: directory.path(),
        random: fastrand::Rng::with_seed(arguments.seed),
        model: Model::default(),
        restart_time: Duration::ZERO,
    };
    let (mut lost, mut resurrected, mut unseen) = (0, 0, 0);
    // One start more than kills that count: the last shows what the last kill has left.
    for number in 0..=arguments.kills {
        match lab.start_and_kill(number)? {
            None => unseen += 1,
            Some(findings) => {
                lost += findings.lost;
                resurrected += findings.resurrected;
            }
        }
        if lost + resurrected > 0 {
            break;
        }
    }
    let (kills, seed, commits) = (arguments.kills, arguments.seed, lab.model.acknowledged());
    println!("{kills} kills from seed {seed}, {unseen} of them in a restart; {commits} commits were acknowledged");
    println!("lost {lost}, resurrected {resurrected}");
    if lost + resurrected > 0 {
        return Err("the pages are not what was acknowledged".into());
    }
    Ok(())
}

/// When to kill an engine.
enum Moment {
    /// So long after it has begun to restart.
    Restart(Duration),
    /// In its undo, after this many changes; or after its restart, if there are fewer.
    Undo(u64),
    /// So long after it has begun with its load.
    Load(Duration),
}

struct Lab<'a> {
    arguments: &'a Arguments,
    directory: &'a Path,
    random: fastrand::Rng,
    model: Model,
    /// How long the last complete restart took.
    restart_time: Duration,
}

/// What an engine has told from its start to its end.
#[derive(Default)]
struct Told {
    is_restarting: bool,
    /// The changes that it had undone when it began to wait for its kill.
    held_at: Option<u64>,
    restarted: Option<Restarted>,
    pages: Vec<Box<Page>>,
    /// There when all pages have been shown.
    findings: Option<Findings>,
}

impl Lab<'_> {
    /// Starts the engine, compares its pages, and kills it as planned. `None` if it was killed before it could show its
    /// pages.
    fn start_and_kill(&mut self, number: u32) -> Result<Option<Findings>, Failure> {
        let moment = self.moment(number);
        let hold_at = if let Moment::Undo(undone) = moment { Some(undone) } else { None };
        let process = Process::start(self.arguments, self.directory, self.random.usize(..), hold_at)?;
        let mut told = Told::default();
        self.listen(&process, &mut told, PATIENCE, |told| told.is_restarting)?;
        match moment {
            Moment::Restart(after) => self.listen(&process, &mut told, after, |_| false)?,
            Moment::Undo(_) => {
                self.listen(&process, &mut told, PATIENCE, |told| told.held_at.is_some() || told.findings.is_some())?;
            }
            Moment::Load(after) => {
                self.listen(&process, &mut told, PATIENCE, |told| told.findings.is_some())?;
                let is_bad = told.findings.as_ref().is_some_and(Findings::is_bad);
                self.listen(&process, &mut told, if is_bad { Duration::ZERO } else { after }, |_| false)?;
            }
        }
        for message in process.kill()? {
            self.take(&mut told, message);
        }
        if self.arguments.loses_power() {
            power_loss::strike(&self.directory.join("log"))?;
        }
        told.print(number);
        Ok(told.findings)
    }

    /// How start `number` shall end. The first has nothing to recover, and the last shows what the last kill has left.
    fn moment(&mut self, number: u32) -> Moment {
        let load = Moment::Load(Duration::from_millis(self.random.u64(LOAD_MS)));
        match self.random.u32(..6) {
            _ if number == self.arguments.kills => Moment::Load(Duration::ZERO),
            _ if number == 0 => load,
            0 => Moment::Restart(self.restart_time.mul_f64(self.random.f64())),
            1 => Moment::Undo(self.random.u64(1..UNDONE_MAX)),
            _ => load,
        }
    }

    /// Takes messages until `enough` has been told, or for so long.
    fn listen(
        &mut self,
        process: &Process,
        told: &mut Told,
        time: Duration,
        enough: impl Fn(&Told) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + time;
        while !enough(told) {
            match process.receive(deadline)? {
                Received::Message(message) => self.take(told, message),
                Received::Nothing if time == PATIENCE => return Err("the engine does not come to life".into()),
                Received::Nothing => return Ok(()),
                Received::End => return Err("the engine has stopped by itself".into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, told: &mut Told, message: Message) {
        match message {
            Message::Restarting => told.is_restarting = true,
            Message::Holding(undone) => told.held_at = Some(undone),
            Message::Restarted(restarted) => {
                self.restart_time = Duration::from_micros(restarted.microseconds.get());
                told.restarted = Some(restarted);
            }
            Message::Page(page) => told.pages.push(page),
            Message::Ready => told.findings = Some(self.model.compare(&told.pages)),
            Message::Committing(transaction, images) => self.model.committing(transaction, images),
            Message::Committed(transaction) => self.model.committed(transaction),
        }
    }
}

impl Told {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn print(&self, number: u32) {
        let (Some(restarted), Some(findings)) = (&self.restarted, &self.findings) else {
            match self.held_at {
                Some(undone) => println!("start {number}: killed in its undo, after change {undone}"),
                None => println!("start {number}: killed in its restart"),
            }
            return;
        };
        let Restarted { records, redone, stolen, undone, losers, microseconds } = restarted;
        let Findings { lost, resurrected, in_doubt_kept, in_doubt_gone, first } = findings;
        println!(
            "start {number}: {records} records, {redone} redone, {undone} undone of {losers} transactions ({stolen} \
             stolen), {:.1} ms; commits in doubt: {in_doubt_kept} kept, {in_doubt_gone} gone; lost {lost}, \
             resurrected {resurrected}",
            microseconds.get() as f64 / 1e3
        );
        if let Some(first) = first {
            println!("  {first}");
        }
    }
}
