//! One lane: a disk, a file system on it, and sessions with a log whose disk loses power everywhere.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::process;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::child::{DiskProcess, End, Worker, WorkerSetup};
use crate::cut::Cutter;
use crate::event;
use crate::fault::Plan;
use crate::filesystem::Filesystem;
use crate::finding::{self, Found};
use crate::image::Image;
use crate::limits::Limits;
use crate::model::{FOREIGN_ID, Model};
use crate::places::Places;
use crate::recording::{Recording, Trace};
use crate::replay::History;
use crate::system::{self, LoopDevice};
use crate::tally::Tally;
use crate::worker::Job;

/// How many steps a session has: one from an empty log, and what follows a cut.
const STEPS: [std::ops::Range<usize>; 3] = [20..90, 2..16, 1..6];
/// How many cuts are looked at in a session: as above.
const CUTS: [usize; 3] = [48, 10, 6];
/// Among how many writes of a session one fails: as above.
const FAILING: [u64; 3] = [160, 60, 40];
/// In how many of 256 cuts what follows is recorded, to be cut as well.
const DEEPER: [u8; 3] = [16, 48, 0];
/// How many findings of a seed are told.
const TOLD_MAX: usize = 2;
/// Identities that a session may take.
const IDS_OF_SESSION: u64 = 1 << 20;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Task {
    pub filesystem: Filesystem,
    pub errors: bool,
    /// Whether to tell what happens.
    pub tell: bool,
    pub setup: WorkerSetup,
}

/// A lane that is set up.
pub struct Lane {
    task: Task,
    places: Places,
    content: File,
    recording: Recording,
    /// The disk as a block device, and what it holds as another one, without a recording.
    recorded: LoopDevice,
    plain: LoopDevice,
    /// Without and with the guard against `SIGBUS`.
    workers: [Worker; 2],
    /// The new file system, with an empty directory for the log.
    pristine: Image,
    next_id: u64,
    limits: Arc<Limits>,
    seed: u64,
    /// How many findings of this seed have been told.
    told: usize,
    /// The sessions whose cuts led to what is looked at, each with the place of its cut.
    led_here: Vec<(Rc<Session>, usize)>,
    pub tally: Tally,
    /// Takes everything down; the last to be dropped.
    _disk: DiskProcess,
}

/// What a session began with, and what it left.
struct Session {
    plan: Plan,
    trace: Trace,
    history: History,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}\n{}\n{}", self.plan, self.history, self.trace)
    }
}

impl Lane {
    /// Makes the disk and the file system of lane `number`.
    pub fn new(task: Task, number: usize, limits: Arc<Limits>) -> Result<Self> {
        let places = Places::new(process::id(), number);
        for directory in [places.fuse(), places.mount(), places.memory.clone()] {
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let content = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(places.content())?;
        content.set_len(task.filesystem.len_bytes())?;
        task.filesystem.make(&places.content())?;
        let disk = DiskProcess::start(process::id(), number)?;
        let recorded = LoopDevice::attach(&places.fuse().join(Places::DISK))?;
        let plain = LoopDevice::attach(&places.content())?;
        let recording = Recording::open(&places.memory)?;
        let workers = [false, true].map(|guarded| Worker::new(task.setup.clone(), guarded));
        let mut lane = Self {
            pristine: Image::new(0),
            task,
            places,
            content,
            recording,
            recorded,
            plain,
            workers,
            next_id: FOREIGN_ID + 1,
            limits,
            seed: 0,
            told: 0,
            led_here: Vec::new(),
            tally: Tally::default(),
            _disk: disk,
        };
        lane.pristine = lane.prepare().context("cannot prepare the file system")?;
        Ok(lane)
    }

    fn prepare(&self) -> Result<Image> {
        self.mount(&self.plain)?;
        self.task.filesystem.prepare(&self.places.log())?;
        self.unmount(&self.plain)?;
        Image::read(&self.content)
    }

    fn mount(&self, device: &LoopDevice) -> Result<()> {
        let filesystem = self.task.filesystem;
        system::drop_cache(&device.path).context("cannot drop what is cached of a device")?;
        filesystem.repair(&device.path)?;
        Ok(system::mount(&device.path, &self.places.mount(), filesystem.kind(), filesystem.options())?)
    }

    fn unmount(&self, device: &LoopDevice) -> Result<()> {
        system::unmount(&self.places.mount())?;
        if self.task.filesystem.kind() == "btrfs" {
            system::forget_device(&device.path).context("btrfs does not forget a device")?;
        }
        Ok(())
    }

    /// Does what `seed` decides: a session from an empty log, with all cuts in it and after it.
    pub fn run(&mut self, seed: u64) -> Result<()> {
        (self.seed, self.told) = (seed, 0);
        let mut rng = Rng::with_seed(seed);
        let pristine = self.pristine.clone();
        self.session(&pristine, Model::new(), 0, &mut rng)
    }

    /// A session that begins with `start` on the disk, and the cuts in it.
    fn session(&mut self, start: &Image, model: Model, depth: usize, rng: &mut Rng) -> Result<()> {
        let Some(session) = self.record(start, model, depth, rng)? else { return Ok(()) };
        if !self.judge(&session.history, start, depth)? {
            return Ok(());
        }
        let mut places: Vec<usize> = (0..CUTS[depth]).map(|_| place(&session, rng)).collect();
        places.sort_unstable();
        let session = Rc::new(session);
        let mut cutter = Cutter::new(&session.trace, start, self.task.filesystem.superblock());
        for place in places {
            if self.limits.is_over() {
                break;
            }
            let left = cutter.cut(place, rng);
            let Some(model) = session.history.model_at(place as u64) else { continue };
            self.count(&session, &model, place, depth);
            self.led_here.push((Rc::clone(&session), place));
            if rng.u8(..) < DEEPER[depth] {
                self.session(&left, model, depth + 1, rng)?;
            } else {
                self.look(&left, model, depth + 1, rng)?;
            }
            self.led_here.pop();
        }
        Ok(())
    }

    fn count(&mut self, session: &Session, model: &Model, place: usize, depth: usize) {
        let with_errors = session.history.is_failing_at(place as u64);
        self.tally.cuts += 1;
        self.tally.deeper += u64::from(depth > 0);
        self.tally.with_errors += u64::from(with_errors);
        if with_errors || !self.task.errors {
            self.limits.looked_at_one();
        }
        self.tally.acknowledged += model.acknowledged_lsn().saturating_sub(model.first_lsn());
    }

    /// Every other seed has the guard.
    fn is_guarded(&self) -> bool {
        self.seed % 2 == 1
    }

    fn work(&mut self, job: &Job) -> Result<End> {
        let guarded = self.is_guarded();
        self.workers[usize::from(guarded)].run(job)
    }

    fn job(&mut self, steps: usize, rng: &mut Rng) -> Job {
        let first_id = self.next_id;
        self.next_id += IDS_OF_SESSION;
        Job {
            log: self.places.log(),
            recording: self.places.memory.clone(),
            events: self.places.events(),
            seed: rng.u64(..),
            steps,
            first_id,
            look_again: steps > 0 && rng.bool(),
            goes_down: false,
        }
    }

    /// Records a session. None if it could not be mounted, or is a finding by itself.
    fn record(&mut self, start: &Image, model: Model, depth: usize, rng: &mut Rng) -> Result<Option<Session>> {
        start.show(&self.content)?;
        let mut job = self.job(rng.usize(STEPS[depth].clone()), rng);
        let plan = if self.task.errors {
            job.goes_down = self.task.filesystem.goes_down() && rng.u8(..) < 48;
            if job.goes_down {
                Plan::without_errors(rng)
            } else {
                Plan::with_errors(FAILING[depth], self.task.filesystem.mark().is_some(), rng)
            }
        } else {
            Plan::without_errors(rng)
        };
        self.recording.begin()?;
        if let Err(error) = self.mount(&self.recorded) {
            self.recording.end()?;
            return self.unmountable(start, &error).map(|()| None);
        }
        // Not before: XFS tries for ever to write what a mount must write.
        plan.begin(&self.recording, self.task.filesystem.mark());
        let end = self.work(&job)?;
        let stopped = system::has_stopped(&self.places.mount());
        self.unmount(&self.recorded)?;
        let trace = self.recording.end()?;
        let events = event::told(&self.places.events())?;
        let history = History { start: model, events, first_failed: trace.first_failed, stopped };
        if self.task.tell {
            eprintln!("seed={} after {depth} cuts: {plan:?}, ends as {end:?}\n{history}", self.seed);
        }
        let session = Session { plan, trace, history };
        self.judge_end(end, &session.history, start, depth)?;
        Ok(Some(session))
    }

    /// Whether a process may have ended as it did.
    fn judge_end(&mut self, end: End, history: &History, start: &Image, depth: usize) -> Result<()> {
        match finding::of_end(end, history, self.is_guarded()) {
            finding::Ending::Fine => Ok(()),
            finding::Ending::BusError => {
                self.tally.bus_errors += 1;
                Ok(())
            }
            finding::Ending::Wrong(found) => self.report(&found.at(depth), start),
        }
    }

    /// Checks a history that began with `image`. Whether it can be gone on from.
    fn judge(&mut self, history: &History, image: &Image, depth: usize) -> Result<bool> {
        if let Err(violation) = history.check() {
            return self.report(&Found::broken(&violation, depth), image).map(|()| false);
        }
        let Some((_, error)) = history.gave_up() else { return Ok(true) };
        self.tally.unmountable += 1;
        self.tell(&format!("the file system gives up by itself: {error}"), image).map(|()| false)
    }

    /// Looks at what a cut has left.
    fn look(&mut self, left: &Image, model: Model, depth: usize, rng: &mut Rng) -> Result<()> {
        left.show(&self.content)?;
        let steps = if rng.u8(..) < 64 { rng.usize(1..6) } else { 0 };
        let job = self.job(steps, rng);
        if let Err(error) = self.mount(&self.plain) {
            return self.unmountable(left, &error);
        }
        let end = self.work(&job)?;
        let stopped = system::has_stopped(&self.places.mount());
        self.unmount(&self.plain)?;
        let history =
            History { start: model, events: event::told(&self.places.events())?, first_failed: None, stopped };
        self.judge_end(end, &history, left, depth)?;
        self.judge(&history, left, depth).map(drop)
    }

    fn unmountable(&mut self, image: &Image, error: &anyhow::Error) -> Result<()> {
        self.tally.unmountable += 1;
        self.tell(&format!("cannot mount: {error:#}"), image)
    }

    fn report(&mut self, found: &Found, image: &Image) -> Result<()> {
        self.tally.add(found.finding);
        self.limits.found();
        self.tell(&found.to_string(), image)
    }

    /// Tells of the first findings of a seed, which often have one cause, and keeps the disks that show them.
    fn tell(&mut self, text: &str, image: &Image) -> Result<()> {
        self.told += 1;
        if self.told > TOLD_MAX {
            return Ok(());
        }
        eprintln!("fs={} seed={} {text}", self.task.filesystem.name(), self.seed);
        let sessions = self.led_here.iter().map(|(session, place)| format!("{session}\ncut before {place}\n\n"));
        finding::keep(image, self.task.filesystem, self.seed, &(sessions.collect::<String>() + text))
    }
}

/// Where to cut. Half of all cuts are where something has just been told, since then most is at stake; and where the disk
/// has failed most are after that.
fn place(session: &Session, rng: &mut Rng) -> usize {
    let end = session.trace.operations.len();
    let start = match session.history.first_failure() {
        Some(failure) if rng.u8(..) < 224 => (failure as usize + 1).min(end),
        _ => 0,
    };
    let told = &session.history.events;
    let told = &told[told.partition_point(|told| (told.index as usize) < start)..];
    if rng.bool() && !told.is_empty() {
        return (told[rng.usize(0..told.len())].index as usize + rng.usize(0..2)).min(end);
    }
    rng.usize(start..=end)
}
