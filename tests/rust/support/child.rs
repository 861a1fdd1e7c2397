//! Runs of a job in a process of its own, which can die by SIGKILL: the test binary starts itself again, with the job in
//! the environment.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kappa::config::Settings;
use kappa::job::RunOptions;
use kappa::log::{LogDir, NewRecord, WriterOptions};
use kappa::plan::logical::JobPlan;
use serde::{Deserialize, Serialize};

use super::data::{Log, TOPIC};
use super::jobs::Job;
use super::world::{World, overrides};

const TASK: &str = "KAPPA_TEST_TASK";

/// What a child does.
#[derive(Serialize, Deserialize)]
enum Task {
    Run {
        plan: JobPlan,
        options: Box<RunOptions>,
        settings: BTreeMap<String, String>,
    },
    /// Appends payloads to partition 0, with a flush after each batch of them.
    Append {
        root: std::path::PathBuf,
        batches: Vec<Vec<(i64, Option<Vec<u8>>)>>,
    },
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    stderr: Option<std::thread::JoinHandle<String>>,
}

/// Starts a run of a job. `failpoint` as in `KAPPA_FAILPOINT`.
pub fn run(world: &World, job: &Job, options: &RunOptions, failpoint: Option<&str>) -> Process {
    let task = Task::Run { plan: job.plan(), options: Box::new(options.clone()), settings: overrides(world.dir.path()) };
    start(world.dir.path(), &task, failpoint)
}

/// Starts a process that appends the first partition of a log from an offset on, `batch` records at a time.
pub fn append(world: &World, log: &Log, from: i64, batch: usize, failpoint: Option<&str>) -> Process {
    let records: Vec<_> =
        log.partitions[0][from as usize..].iter().map(|record| (record.timestamp, record.payload.clone())).collect();
    let batches = records.chunks(batch).map(<[_]>::to_vec).collect();
    start(world.dir.path(), &Task::Append { root: world.dir.path().join("log"), batches }, failpoint)
}

fn start(dir: &Path, task: &Task, failpoint: Option<&str>) -> Process {
    let file = tempfile::Builder::new().prefix("task").tempfile_in(dir).unwrap().into_temp_path().keep().unwrap();
    std::fs::write(&file, serde_json::to_vec(task).unwrap()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "support::child::child", "--nocapture", "--test-threads=1"]);
    command.env(TASK, &file).env_remove("KAPPA_FAILPOINT");
    if let Some(failpoint) = failpoint {
        command.env("KAPPA_FAILPOINT", failpoint);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let read = move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    };
    Process { child, stderr: Some(std::thread::spawn(read)) }
}

impl Process {
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for the end: a minute, then it is an error.
    pub fn wait(mut self) -> Ended {
        super::world::wait_for("a child to end", || self.has_ended());
        let status = self.child.wait().unwrap();
        Ended { status, stderr: self.stderr.take().unwrap().join().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Dead by SIGKILL, and at that point: otherwise the test has shown nothing.
    pub fn assert_died_at(&self, point: &str) {
        assert_eq!(self.status.signal(), Some(9), "{point}: {} {}", self.status, self.stderr);
        let line = format!("failpoint {point}: killed");
        assert!(self.stderr.lines().any(|found| found.ends_with(&line)), "{point}: {}", self.stderr);
    }
}

/// Not a test: what a child does. Without a task it does nothing.
#[test]
fn child() {
    let Ok(file) = std::env::var(TASK) else { return };
    let task: Task = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let outcome = match task {
        Task::Run { plan, options, settings } => {
            let settings = Settings::resolve(&settings, None).unwrap();
            kappa::job::start(plan, *options, settings).and_then(|run| {
                while !run.is_finished() {
                    run.next_event(Duration::from_millis(20));
                }
                run.report().map(drop)
            })
        }
        Task::Append { root, batches } => append_all(&root, &batches),
    };
    if let Err(error) = outcome {
        eprintln!("error {}: {error}", error.code());
        std::process::exit(error.kind().exit_status());
    }
}

/// A record to append: its timestamp and its payload.
type Payload = (i64, Option<Vec<u8>>);

fn append_all(root: &Path, batches: &[Vec<Payload>]) -> kappa::error::Result<()> {
    let mut writer = LogDir::open(root).topic(TOPIC)?.topic_writer(None, WriterOptions::default())?;
    for batch in batches {
        for (timestamp, value) in batch {
            writer.push(&NewRecord { value: value.as_deref(), timestamp: *timestamp, ..NewRecord::default() })?;
        }
        writer.flush()?;
    }
    Ok(())
}
