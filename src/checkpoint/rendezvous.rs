//! The files of a rendezvous, and the running version's side of it. The protocol is in [`crate::protocol::rendezvous`].
//!
//! ```text
//! CHECKPOINTS/VERSION/rendezvous/ID.request     who asks, until when, and where to meet once that is known
//! CHECKPOINTS/VERSION/rendezvous/ID.answer      where the version holds; later: that it is past the place, or has reached it
//! ```
//!
//! They are written in one step each, and need not outlive a power cut: neither do those who wrote them. Nothing depends on them: a
//! file that cannot be read is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        read::<Answer>(&self.answer(id)).filter(|answer| answer.format == FORMAT)
    }

    /// Takes a request back. The answer goes with it, or with the next look of the version.
    pub fn take_back(&self, id: &str) {
        let _ = std::fs::remove_file(self.request(id));
        let _ = std::fs::remove_file(self.answer(id));
    }

    /// The oldest request that holds. What is over goes.
    fn look(&self, now_ms: i64) -> Option<Asked> {
        let mut names = file_names(&self.0).unwrap_or_default();
        names.sort_unstable();
        let mut found = None;
        for name in &names {
            let Some((id, kind)) = name.rsplit_once('.') else { continue };
            match (kind, read::<Request>(&self.request(id)).filter(|request| request.holds(now_ms))) {
                ("request", Some(request)) if found.is_none() => {
                    found = Some(Asked { id: id.to_owned(), place: request.place });
                }
                ("request" | "answer", None) => {
                    let _ = std::fs::remove_file(self.0.join(name));
                }
                _ => {}
            }
        }
        found
    }
}

/// In one step: what is read is whole.
fn write(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(document).map_err(|error| Error::internal(format!("a rendezvous as JSON: {error}")))?;
    let staged = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&staged, text).map_err(|error| Error::io("write", &staged, error))?;
    std::fs::rename(&staged, path).map_err(|error| Error::io("rename", &staged, error))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A running version's side.
pub struct Host {
    files: Files,
    meeting: Meeting,
    asked: Option<Asked>,
    looked: Instant,
}

impl Host {
    /// Of a version that so many workers run.
    pub fn new(dir: &VersionDir, workers: usize) -> Self {
        Self { files: Files::of(dir), meeting: Meeting::new(workers), asked: None, looked: instant() }
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
        self.asked = self.files.look(now_ms());
        let acts = self.meeting.see(self.asked.as_ref());
        acts.into_iter().filter_map(|act| self.perform(act, last)).collect()
    }

    /// All partitions of a worker are where they were to stop.
    pub fn at_place(&mut self, worker: usize) {
        self.meeting.at_place(worker);
    }

    /// A barrier was sent. What the workers are to be told behind it.
    pub fn barrier_begun(&mut self, epoch: Epoch, last: &Manifest) -> Option<Command> {
        let act = self.meeting.barrier_begun(epoch)?;
        self.perform(act, last)
    }

    /// A checkpoint is durable.
    pub fn taken(&mut self, last: &Manifest) {
        if let Some(act) = self.meeting.taken(last.checkpoint, position_of(last)) {
            self.perform(act, last);
        }
    }

    /// The tables have a checkpoint.
    pub fn delivered(&mut self, checkpoint: Epoch, last: &Manifest) {
        if let Some(act) = self.meeting.delivered(checkpoint) {
            self.perform(act, last);
        }
    }

    fn perform(&self, act: Act, last: &Manifest) -> Option<Command> {
        let answer = |state, checkpoint| {
            let Some(asked) = &self.asked else { return };
            let (position, ends) = (position_of(last), ends_of(last));
            let answer = Answer { format: FORMAT, state, position, ends, checkpoint };
            // Who gets no answer knows what to do.
            let _ = write(&self.files.answer(&asked.id), &answer);
        };
        match act {
            Act::Hold => return Some(Command::Pause(None)),
            Act::ReadTo(place) => return Some(Command::Pause(Some(Arc::new(offsets_of(&place, last))))),
            Act::Release => return Some(Command::Resume),
            Act::AnswerHeld => answer(AnswerState::Held, last.checkpoint.0),
            Act::AnswerPast => answer(AnswerState::Past, last.checkpoint.0),
            Act::AnswerReached(checkpoint) => answer(AnswerState::Reached, checkpoint.0),
        }
        None
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

    #[test]
    fn the_oldest_request_that_holds_is_seen_and_what_is_over_goes() {
        let place = tempfile::tempdir().unwrap();
        let files = Files::of(&VersionDir::new(place.path(), "v"));
        assert_eq!(files.look(0), None);
        files.ask("2", &Request::until(1_000)).unwrap();
        files.ask("1", &Request::until(500)).unwrap();
        let gone = Holder { birth: Holder::this(0).birth.map(|birth| birth + "0"), ..Holder::this(0) };
        files.ask("0", &Request { holder: gone, ..Request::until(1_000) }).unwrap();
        std::fs::write(files.request("00"), "{").unwrap();
        assert_eq!(files.look(400).map(|asked| asked.id).as_deref(), Some("1"));
        let met = Position::from([("t".to_owned(), [(0, 5)].into())]);
        files.ask("2", &Request { place: Some(met.clone()), ..Request::until(1_000) }).unwrap();
        assert_eq!(files.look(500), Some(Asked { id: "2".into(), place: Some(met) }));
        assert_eq!(file_names(&files.0).unwrap(), ["2.request"]);
        std::fs::write(files.answer("2"), "{").unwrap();
        assert_eq!(files.answered("2"), None);
        files.take_back("2");
        assert_eq!(file_names(&files.0).unwrap(), Vec::<String>::new());
    }
}
