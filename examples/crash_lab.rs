//! A laboratory for crashes: random histories of a log on a simulated disk, whose power is cut everywhere.
//!
//! ```text
//! cargo run --release --example crash_lab -- --cuts 100000 --seed 1
//! ```
//!
//! Each history follows from its seed alone. The last line counts what was looked at and which rules were broken; the exit
//! code is 0 if none was.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use parking_lot::Mutex;
use simulation::{History, Rule, Tally, Violation, run, run_transactions, shrink};

#[allow(dead_code, unreachable_pub, unused_imports, reason = "shared with the tests, which use other parts of it")]
#[path = "../tests/simulation/mod.rs"]
mod simulation;

/// In the place of a time: the thread runs no history just now.
const WAITING: u64 = u64::MAX - 1;
/// In the place of a time: the thread has come to its end.
const DONE: u64 = u64::MAX;

#[derive(Debug, Parser)]
#[command(about = "Cuts the power of a simulated disk under a log, and checks what is left")]
struct Arguments {
    /// How many crashes to look at.
    #[arg(long, default_value_t = 100_000)]
    cuts: u64,
    /// The seed of the first history; the ones after it have the numbers that follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// Instead of random histories, all sequences of up to three actions, with a crash at every operation.
    #[arg(long)]
    exhaustive: bool,
    /// Instead of what is done to a log, random histories of transactions over one.
    #[arg(long, conflicts_with = "exhaustive")]
    transactions: bool,
    /// How long to look for a shorter history that breaks the same rule, in seconds.
    #[arg(long, default_value_t = 20)]
    shrink: u64,
    /// How long a history may take, in seconds. It takes a fraction of one, and a few on a machine that is busy with other
    /// things; one that takes this long waits for something that never comes.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

/// A random or listed history of a log, or the seed of one of transactions.
enum Work {
    Log(History),
    Transactions(u64),
}

/// A history that broke a rule, and in which step if it has steps.
struct Broken {
    work: Work,
    step: usize,
    violation: Violation,
}

/// What all threads have found.
#[derive(Default)]
struct Findings {
    tally: Tally,
    broken: Option<Broken>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(arguments.seed), AtomicBool::new(false));
    let findings = Mutex::new(Findings::default());
    let cuts = if arguments.exhaustive { u64::MAX } else { arguments.cuts };
    let all: Vec<History> = (1..=3).filter(|_| arguments.exhaustive).flat_map(History::all).collect();
    let history = |number: u64| match all.get((number - arguments.seed) as usize) {
        _ if arguments.transactions => Some(Work::Transactions(number)),
        _ if !arguments.exhaustive => Some(Work::Log(History::random(number))),
        listed => listed.cloned().map(Work::Log),
    };
    let finish = || finish(&findings.lock(), &arguments, next.load(Ordering::Relaxed) - 1, began.elapsed());
    let running: Vec<Running> = (0..arguments.threads).map(|_| Running::default()).collect();
    let patience = Duration::from_secs(arguments.patience);
    std::thread::scope(|scope| {
        let (next, stop, findings, history) = (&next, &stop, &findings, &history);
        for running in &running {
            let mark = move |busy| {
                let since = if busy { began.elapsed().as_millis() as u64 } else { WAITING };
                running.since.store(since, Ordering::Relaxed);
            };
            let next = move || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                running.seed.store(number, Ordering::Relaxed);
                history(number)
            };
            scope.spawn(move || {
                work(next, stop, cuts, findings, mark);
                running.since.store(DONE, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            if let Some(seed) = await_hang(&running, began, patience) {
                println!("history {seed} hangs");
                finish();
                std::process::exit(3);
            }
        });
    });
    finish()
}

/// Says what was found.
fn finish(findings: &Findings, arguments: &Arguments, last: u64, time: Duration) -> ExitCode {
    let Findings { tally, broken } = findings;
    println!(
        "histories {}..={last}: {} logs damaged, {} failures injected, {} segments grown, {} ends given back",
        arguments.seed, tally.damaged, tally.faults, tally.grown, tally.given_back
    );
    println!("{} crashes a second", u128::from(tally.cuts) * 1000 / time.as_millis().max(1));
    if let Some(broken) = broken {
        report(broken, Duration::from_secs(arguments.shrink));
    }
    let count = |rule| u8::from(broken.as_ref().is_some_and(|broken| broken.violation.rule == rule));
    println!(
        "cuts={} acknowledged={} lost={} phantom={} gaps={} false_corruption={} missed_corruption={} recycled={}",
        tally.cuts,
        tally.acknowledged,
        count(Rule::Lost),
        count(Rule::Phantom),
        count(Rule::Gap),
        count(Rule::FalseCorruption),
        count(Rule::MissedCorruption),
        tally.recycled,
    );
    if broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a thread is at.
struct Running {
    /// The history.
    seed: AtomicU64,
    /// When it began, in milliseconds.
    since: AtomicU64,
}

impl Default for Running {
    fn default() -> Self {
        Self { seed: AtomicU64::new(0), since: AtomicU64::new(WAITING) }
    }
}

/// Returns the number of a history that takes so long that it must hang, or `None` once all threads have come to an end.
fn await_hang(running: &[Running], began: Instant, patience: Duration) -> Option<u64> {
    while running.iter().any(|running| running.since.load(Ordering::Relaxed) != DONE) {
        std::thread::sleep(Duration::from_millis(50));
        let now = began.elapsed().as_millis() as u64;
        let hangs = |running: &&Running| {
            let since = running.since.load(Ordering::Relaxed);
            since < WAITING && now.saturating_sub(since) > patience.as_millis() as u64
        };
        if let Some(hanging) = running.iter().find(hangs) {
            return Some(hanging.seed.load(Ordering::Relaxed));
        }
    }
    None
}

fn work(
    next: impl Fn() -> Option<Work>,
    stop: &AtomicBool,
    cuts: u64,
    findings: &Mutex<Findings>,
    mark: impl Fn(bool),
) {
    while !stop.load(Ordering::Relaxed) {
        let Some(work) = next() else {
            stop.store(true, Ordering::Relaxed);
            return;
        };
        let mut tally = Tally::default();
        mark(true);
        let outcome = match &work {
            Work::Log(history) => run(history, &mut tally),
            Work::Transactions(seed) => run_transactions(*seed, &mut tally).map_err(|violation| (0, violation)),
        };
        mark(false);
        let mut findings = findings.lock();
        findings.tally += tally;
        if let Err((step, violation)) = outcome {
            stop.store(true, Ordering::Relaxed);
            findings.broken.get_or_insert(Broken { work, step, violation });
        } else if findings.tally.cuts >= cuts {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

fn report(broken: &Broken, shrink_time: Duration) {
    let Broken { work, step, violation } = broken;
    let history = match work {
        Work::Log(history) => history,
        Work::Transactions(seed) => {
            println!("seed {seed} breaks a rule: {:?}: {}", violation.rule, violation.message);
            return;
        }
    };
    println!("seed {} breaks a rule at step {step}: {:?}: {}", history.seed, violation.rule, violation.message);
    let (shortest, violation) = shrink(history, (*step, violation.clone()), shrink_time);
    println!("shortest history found, with {:?}: {}", violation.rule, violation.message);
    for step in &shortest.steps {
        println!("  {step:?}");
    }
}
