//! The files of a rendezvous, and the running version's side of it. The protocol is in [`crate::protocol::rendezvous`].
//!
//! ```text
//! CHECKPOINTS/VERSION/rendezvous/ID.request     who asks, until when, and where to meet once that is known
//! CHECKPOINTS/VERSION/rendezvous/ID.answer      where the version holds; later: that it is past the place, or has reached it
//! ```
//!
//! They are written in one step each, and need not outlive a power cut: neither do those who wrote them. Nothing depends on them: a
//! file that makes no sense is none; one that cannot be read for a moment is as it was.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::manifest::{Holder, Manifest};
use super::store::{VersionDir, file_names};
use crate::error::{Error, Result};
use crate::message::{Epoch, Offset, Partition};
use crate::protocol::checkpoint::Command;
use crate::protocol::position::Position;
use crate::protocol::rendezvous::{Act, Asked, Meeting};
use crate::time::{instant, now_ms};

const FORMAT: u32 = 1;
/// How often a version looks for requests; and while it has one.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_BUSY: Duration = Duration::from_millis(25);
/// So long a version stands still at the most without a place. Who asks gives up a little earlier, and can be stopped.
const PATIENCE: Duration = Duration::from_secs(11);
/// What is half written for so long is nobody's.
const STAGED: Duration = Duration::from_secs(3600);

/// What is asked of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Of this document.
    pub format: u32,
    /// Who asks.
    pub holder: Holder,
    /// Until when, milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// Where to meet, once that is known.
    pub place: Option<Position>,
}

impl Request {
    /// Of this process.
    pub fn until(until_ms: i64) -> Self {
        Self { format: FORMAT, holder: Holder::this(now_ms()), until_ms, place: None }
    }

    fn holds(&self, now_ms: i64) -> bool {
        self.format == FORMAT && self.until_ms > now_ms && !self.holder.is_gone()
    }
}

/// What a version says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of this document.
    pub format: u32,
    /// How far it is.
    pub state: AnswerState,
    /// Where its last checkpoint is.
    pub position: Position,
    /// Where partitions end that do.
    pub ends: Position,
    /// The checkpoint.
    pub checkpoint: u64,
}

/// How far a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerState {
    /// It holds there.
    Held,
    /// It is past the place.
    Past,
    /// The tables have the checkpoint of the place.
    Reached,
}

/// The files of a version's rendezvous.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Of a version.
    pub fn of(dir: &VersionDir) -> Self {
        Self(dir.root().join("rendezvous"))
    }

    fn request(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.request"))
    }

    fn answer(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.answer"))
    }

    /// Asks, or says where to meet.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn ask(&self, id: &str, request: &Request) -> Result<()> {
        std::fs::create_dir_all(&self.0).map_err(|error| Error::io("create directory", &self.0, error))?;
        write(&self.request(id), request)
    }

    /// What the version has said so far.
    pub fn answered(&self, id: &str) -> Option<Answer> {
        read::<Answer>(&self.answer(id)).ok().flatten().filter(|answer| answer.format == FORMAT)
    }

    /// Takes a request back. The answer goes with it, or with the next look of the version.
    pub fn take_back(&self, id: &str) {
        let _ = std::fs::remove_file(self.request(id));
        let _ = std::fs::remove_file(self.answer(id));
    }

    /// The requests that hold, the oldest first; none: that cannot be seen now. What is over goes.
    fn look(&self, now_ms: i64, is_known: impl Fn(&str) -> bool) -> Option<Vec<Asked>> {
        let mut names = file_names(&self.0).ok()?;
        names.sort_unstable();
        let mut found = Vec::new();
        for name in &names {
            let Some((id, kind @ ("request" | "answer"))) = name.rsplit_once('.') else { continue };
            let place = match read::<Request>(&self.request(id)) {
                Ok(Some(request)) if request.holds(now_ms) => request.place,
                Ok(_) => {
                    let _ = std::fs::remove_file(self.0.join(name));
                    continue;
                }
                // One that is known goes on as before; another comes when it can be read.
                Err(_) if is_known(id) => None,
                Err(_) => continue,
            };
            if kind == "request" {
                found.push(Asked { id: id.to_owned(), place });
            }
        }
        Some(found)
    }

    /// Removes what somebody died over while it was written.
    fn sweep(&self, now_ms: i64) {
        let before = UNIX_EPOCH + Duration::from_millis(now_ms.max(0) as u64).saturating_sub(STAGED);
        for name in file_names(&self.0).unwrap_or_default().iter().filter(|name| name.ends_with(".tmp")) {
            let path = self.0.join(name);
            if path.metadata().and_then(|it| it.modified()).is_ok_and(|modified| modified < before) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// In one step: what is read is whole.
fn write(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(document).map_err(|error| Error::internal(format!("a rendezvous as JSON: {error}")))?;
    // One process may ask and answer: of each file its own.
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}.tmp", std::process::id()));
    let staged = PathBuf::from(staged);
    let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&staged);
        Error::io("write", path, error)
    })
}

/// None if there is none, or it makes no sense.
fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A running version's side.
pub struct Host {
    files: Files,
    meeting: Meeting,
    looked: Instant,
    /// Since when it stands still, if it does.
    held: Instant,
}

impl Host {
    /// Of a version that so many workers run.
    pub fn new(dir: &VersionDir, workers: usize) -> Self {
        let files = Files::of(dir);
        files.sweep(now_ms());
        Self { files, meeting: Meeting::new(workers), looked: instant(), held: instant() }
    }

    /// Whether a barrier is wanted now.
    pub fn wants_barrier(&self) -> bool {
        self.meeting.wants_barrier()
    }

    /// Looks for requests, now and then. What the workers are to be told.
    pub fn look(&mut self, last: &Manifest) -> Vec<Command> {
        let pause = if self.meeting.is_busy() { LOOK_BUSY } else { LOOK };
        if self.looked.elapsed() < pause {
            return Vec::new();
        }
        self.looked = instant();
        let asked = self.files.look(now_ms(), |id| self.meeting.knows(id));
        let mut acts = asked.map(|asked| self.meeting.see(&asked)).unwrap_or_default();
        if acts.contains(&Act::Hold) {
            self.held = instant();
        } else if self.meeting.waits_for_place() && self.held.elapsed() >= PATIENCE {
            acts.extend(self.meeting.let_go());
        }
        acts.into_iter().flat_map(|act| self.perform(act, last)).collect()
    }

    /// All partitions of a worker are where they were to stop.
    pub fn at_place(&mut self, worker: usize) {
        self.meeting.at_place(worker);
    }

    /// A barrier was sent. What the workers are to be told behind it.
    pub fn barrier_begun(&mut self, epoch: Epoch, last: &Manifest) -> Vec<Command> {
        let act = self.meeting.barrier_begun(epoch);
        act.map(|act| self.perform(act, last)).unwrap_or_default()
    }

    /// A checkpoint is durable. What the workers are to be told.
    pub fn taken(&mut self, last: &Manifest) -> Vec<Command> {
        let act = self.meeting.taken(last.checkpoint, position_of(last));
        act.map(|act| self.perform(act, last)).unwrap_or_default()
    }

    /// The tables have a checkpoint.
    pub fn delivered(&mut self, checkpoint: Epoch, last: &Manifest) {
        if let Some(act) = self.meeting.delivered(checkpoint) {
            self.perform(act, last);
        }
    }

    fn perform(&mut self, act: Act, last: &Manifest) -> Vec<Command> {
        let said = match act {
            Act::Hold => return vec![Command::Pause(None)],
            Act::ReadTo(place) => return vec![Command::Pause(Some(Arc::new(offsets_of(&place, last))))],
            Act::Release => return vec![Command::Resume],
            Act::AnswerHeld => self.answer(AnswerState::Held, last.checkpoint, last),
            Act::AnswerPast => self.answer(AnswerState::Past, last.checkpoint, last),
            Act::AnswerReached(checkpoint) => self.answer(AnswerState::Reached, checkpoint, last),
        };
        // Who is not heard need not stand still for anybody; who gets no answer knows what to do.
        let acts = if said.is_err() { self.meeting.let_go() } else { Vec::new() };
        acts.into_iter().flat_map(|act| self.perform(act, last)).collect()
    }

    fn answer(&self, state: AnswerState, checkpoint: Epoch, last: &Manifest) -> Result<()> {
        let (position, ends) = (position_of(last), ends_of(last));
        let answer = Answer { format: FORMAT, state, position, ends, checkpoint: checkpoint.0 };
        write(&self.files.answer(self.meeting.id()), &answer)
    }
}

/// Where a version is.
fn position_of(manifest: &Manifest) -> Position {
    let offsets = |of: BTreeMap<i32, Offset>| of.into_iter().map(|(partition, offset)| (partition, offset.0)).collect();
    manifest.positions().into_iter().map(|(topic, of)| (topic.to_owned(), offsets(of))).collect()
}

/// Where its partitions end that do.
fn ends_of(manifest: &Manifest) -> Position {
    let ends = |source: &super::manifest::SourceState| {
        let end = |(partition, state): (&i32, &super::manifest::PartitionState)| Some((*partition, state.end?.0));
        (source.topic.clone(), source.partitions.iter().filter_map(end).collect())
    };
    manifest.sources.iter().map(ends).collect()
}

/// A place by source and partition.
fn offsets_of(place: &Position, manifest: &Manifest) -> BTreeMap<(usize, Partition), Offset> {
    let of = |(number, source): (usize, &super::manifest::SourceState)| {
        let partitions = place.get(&source.topic).into_iter().flatten();
        partitions.map(move |(partition, offset)| ((number, Partition(*partition)), Offset(*offset))).collect::<Vec<_>>()
    };
    manifest.sources.iter().enumerate().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(files: &Files, now_ms: i64) -> Vec<String> {
        files.look(now_ms, |_| false).unwrap().into_iter().map(|asked| asked.id).collect()
    }

    #[test]
    fn requests_that_hold_are_seen_and_what_is_over_goes() {
        let place = tempfile::tempdir().unwrap();
        let files = Files::of(&VersionDir::new(place.path(), "v"));
        assert_eq!(ids(&files, 0), Vec::<String>::new());
        files.ask("2", &Request::until(1_000)).unwrap();
        files.ask("1", &Request::until(500)).unwrap();
        let gone = Holder { birth: Holder::this(0).birth.map(|birth| birth + "0"), ..Holder::this(0) };
        files.ask("0", &Request { holder: gone, ..Request::until(1_000) }).unwrap();
        std::fs::write(files.request("00"), "{").unwrap();
        std::fs::write(files.answer("2"), "{").unwrap();
        assert_eq!(ids(&files, 400), ["1", "2"]);
        let met = Position::from([("t".to_owned(), [(0, 5)].into())]);
        files.ask("2", &Request { place: Some(met.clone()), ..Request::until(1_000) }).unwrap();
        assert_eq!(files.look(500, |_| false).unwrap(), [Asked { id: "2".into(), place: Some(met) }]);
        assert_eq!(file_names(&files.0).unwrap().len(), 2);
        assert_eq!(files.answered("2"), None);
        files.take_back("2");
        assert_eq!(file_names(&files.0).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_for_a_moment_is_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let files = Files::of(&VersionDir::new(place.path(), "v"));
        // Nothing else is unreadable for who may do everything.
        std::fs::create_dir_all(files.request("1")).unwrap();
        std::fs::write(files.answer("1"), "{}").unwrap();
        assert_eq!(ids(&files, 0), Vec::<String>::new());
        let known = files.look(0, |id| id == "1").unwrap();
        assert_eq!(known, [Asked { id: "1".into(), place: None }]);
        assert_eq!(file_names(&files.0).unwrap().len(), 2, "nothing is removed");
        std::fs::remove_dir_all(&files.0).unwrap();
        std::fs::write(&files.0, "").unwrap();
        assert_eq!(files.look(0, |_| false), None);
    }

    #[test]
    fn what_is_half_written_does_not_stay() {
        let place = tempfile::tempdir().unwrap();
        let dir = VersionDir::new(place.path(), "v");
        let files = Files::of(&dir);
        // It can be written, but not come to its name.
        std::fs::create_dir_all(files.request("1").join("full")).unwrap();
        files.ask("1", &Request::until(0)).unwrap_err();
        assert_eq!(file_names(&files.0).unwrap(), ["1.request"]);
        for (name, age) in [("2.request.7.tmp", 2 * STAGED), ("3.request.7.tmp", STAGED / 2), ("2.7.tmp", 2 * STAGED)] {
            let file = std::fs::File::create(files.0.join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_millis(now_ms() as u64) - age).unwrap();
        }
        Host::new(&dir, 1);
        let mut left = file_names(&files.0).unwrap();
        left.sort();
        assert_eq!(left, ["1.request", "3.request.7.tmp"]);
    }

    fn host(place: &Path) -> (Host, Files, Manifest) {
        let golden = include_bytes!("../../tests/golden/manifest-format-1.manifest");
        let dir = VersionDir::new(place, "v");
        (Host::new(&dir, 1), Files::of(&dir), Manifest::decode(golden).unwrap().manifest)
    }

    /// A look that is due.
    fn look(host: &mut Host, last: &Manifest) -> Vec<Command> {
        host.looked -= LOOK;
        host.look(last)
    }

    fn in_an_hour() -> Request {
        Request::until(now_ms() + 3_600_000)
    }

    #[test]
    fn who_is_told_no_place_stands_still_for_some_seconds_only() {
        let place = tempfile::tempdir().unwrap();
        let (mut host, files, last) = host(place.path());
        let state = |id: &str| files.answered(id).map(|answer| answer.state);
        files.ask("1", &in_an_hour()).unwrap();
        assert!(matches!(look(&mut host, &last)[..], [Command::Pause(None)]));
        host.barrier_begun(last.checkpoint, &last);
        assert!(host.taken(&last).is_empty());
        assert_eq!(state("1"), Some(AnswerState::Held));
        assert!(look(&mut host, &last).is_empty());
        host.held -= PATIENCE;
        assert!(matches!(look(&mut host, &last)[..], [Command::Resume]));
        assert_eq!(state("1"), Some(AnswerState::Past));
        // Its asker wakes.
        files.ask("1", &Request { place: Some(position_of(&last)), ..in_an_hour() }).unwrap();
        assert!(look(&mut host, &last).is_empty());
        assert_eq!(state("1"), Some(AnswerState::Past));
        files.ask("2", &in_an_hour()).unwrap();
        assert!(matches!(look(&mut host, &last)[..], [Command::Pause(None)]));
        assert!(look(&mut host, &last).is_empty(), "anew for so long");
    }

    #[test]
    fn who_cannot_say_that_it_stands_still_does_not() {
        let place = tempfile::tempdir().unwrap();
        let (mut host, files, last) = host(place.path());
        files.ask("1", &in_an_hour()).unwrap();
        look(&mut host, &last);
        host.barrier_begun(last.checkpoint, &last);
        std::fs::create_dir_all(files.answer("1").join("full")).unwrap();
        assert!(matches!(host.taken(&last)[..], [Command::Resume]));
        assert!(look(&mut host, &last).is_empty());
    }
}
