//! The drill: two processes, kills, a disaster, and the way back.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mapwal::{LogReader, Lsn};
use mapwal_archive::{Archive, RestoreOptions, RestoreTo};

use crate::s3::Server;
use crate::trace::Trace;
use crate::{Arguments, Role, archiver, count};

/// How often the processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// A drill that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let (log, restored) = (scratch.path().join("log"), scratch.path().join("restored"));
    let server = Server::start(&scratch.path().join("objects"))?;
    let mut drill = Drill { arguments, server: &server, log: log.clone(), began: Instant::now(), kills: 0 };
    drill.write_and_archive()?;

    let records = count::records(&log)?;
    println!("{:6.2} s  the log's directory is destroyed", drill.began.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&log)?;

    let archive = Archive::new(Arc::new(server.store()), archiver::PREFIX);
    let runtime = tokio::runtime::Runtime::new()?;
    let options = RestoreOptions::new();
    runtime.block_on(archive.restore(&restored, RestoreTo::Latest, &options, &mut |_| {}))?;
    println!("{:6.2} s  restored", drill.began.elapsed().as_secs_f64());

    let archived = runtime.block_on(count::archived(&archive, &server.store()))?;
    let found = count::restored(&restored, records, &Trace::bundled()?)?;
    let overwritten = count::overwritten(&server);
    println!(
        "records={records} archived={} restored={} lost={} overwritten={overwritten} gaps={} kills={}",
        archived.records, found.records, found.lost, archived.gaps, drill.kills
    );
    let is_right = records >= arguments.records && archived.records == records && found.records == records;
    if !is_right || found.lost + overwritten + archived.gaps > 0 {
        return Err("the restored log is not the one that was lost".into());
    }
    Ok(())
}

struct Drill<'a> {
    arguments: &'a Arguments,
    server: &'a Server,
    log: PathBuf,
    began: Instant,
    kills: u64,
}

impl Drill<'_> {
    /// Until all records are written and archived; both processes are gone then.
    fn write_and_archive(&mut self) -> Result<(), Box<dyn Error>> {
        let mut random = fastrand::Rng::with_seed(self.arguments.seed);
        let mut writer = self.start(Role::Writer)?;
        let mut archiver = self.start(Role::Archiver)?;
        for kill in 0..self.arguments.kills {
            // Each kill comes at a place of its own, by what has been written and archived.
            let share = self.arguments.records / self.arguments.kills;
            let at = kill * share + random.u64(0..share);
            self.wait_for(&mut writer, &mut archiver, |drill| Ok(drill.published()? >= at))?;
            if self.kill(Role::Writer, &mut writer)? {
                writer = self.start(Role::Writer)?;
            }
            let objects = self.objects() + random.u64(1..6);
            self.wait_for(&mut writer, &mut archiver, |drill| Ok(drill.objects() >= objects || drill.is_complete()?))?;
            if self.kill(Role::Archiver, &mut archiver)? {
                archiver = self.start(Role::Archiver)?;
            }
        }
        self.wait_for(&mut writer, &mut archiver, Self::is_complete)?;
        let written = writer.0.wait()?;
        if !written.success() {
            return Err(format!("the writer failed: {written}").into());
        }
        println!(
            "{:6.2} s  {} records are written and archived",
            self.began.elapsed().as_secs_f64(),
            self.published()?
        );
        self.kill(Role::Archiver, &mut archiver)?;
        Ok(())
    }

    fn start(&self, role: Role) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", if role == Role::Writer { "writer" } else { "archiver" }]);
        command.arg("--directory").arg(&self.log).arg(format!("--records={}", self.arguments.records));
        command.envs(self.server.environment()).stdin(Stdio::null());
        Ok(Process(command.spawn()?))
    }

    /// Kills a process as a crash would, unless it has done its work already.
    fn kill(&mut self, role: Role, process: &mut Process) -> Result<bool, Box<dyn Error>> {
        if let Some(ended) = process.0.try_wait()? {
            return if ended.success() { Ok(false) } else { Err(format!("{role:?} failed: {ended}").into()) };
        }
        process.0.kill()?;
        process.0.wait()?;
        self.kills += 1;
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:6.2} s  {role:?} killed: {} records, {} objects", self.published()?, self.objects());
        Ok(true)
    }

    fn wait_for(
        &self,
        writer: &mut Process,
        archiver: &mut Process,
        is_reached: impl Fn(&Self) -> Result<bool, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        while !is_reached(self)? {
            for (role, process) in [(Role::Writer, &mut *writer), (Role::Archiver, &mut *archiver)] {
                if let Some(ended) = process.0.try_wait()?.filter(|ended| !ended.success()) {
                    return Err(format!("{role:?} failed: {ended}").into());
                }
            }
            if self.began.elapsed() > PATIENCE {
                return Err(format!("not finished after {} s", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// The last record that is written; 0 if there is no log yet.
    fn published(&self) -> Result<u64, Box<dyn Error>> {
        Ok(reader(&self.log)?.map_or(Ok(Lsn(0)), |reader| reader.published_lsn())?.0)
    }

    /// Segments and parts that the server has stored.
    fn objects(&self) -> u64 {
        self.server.seen().stored.keys().filter(|key| count::holds_records(key)).count() as u64
    }

    /// Whether all records are written and in the store.
    fn is_complete(&self) -> Result<bool, Box<dyn Error>> {
        let written = self.published()? >= self.arguments.records;
        Ok(written && count::stored_up_to(&self.server.seen()) > self.arguments.records)
    }
}

fn reader(log: &Path) -> Result<Option<LogReader>, Box<dyn Error>> {
    // SAFETY: the drill's processes change the files by the library only; the directory is on a local file system.
    match unsafe { LogReader::open(log) } {
        Ok(reader) => Ok(Some(reader)),
        Err(mapwal::Error::NoLog { .. }) => Ok(None),
        Err(mapwal::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A process that is killed when this value is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
