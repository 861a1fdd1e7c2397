//! Two versions meet: each takes a checkpoint at one position of the log, so that they can be compared there. The protocol is in
//! [`crate::protocol::rendezvous`].

use std::time::{Duration, Instant};

use crate::checkpoint::rendezvous::{AnswerState, Files, Request};
use crate::error::Result;
use crate::protocol::failpoint;
use crate::protocol::position::{Position, described, normal};
use crate::protocol::rendezvous::{NoPlace, Party, meeting_place};
use crate::query::diff::side::Subject;
use crate::table::TableName;
use crate::time::{instant, new_ordered_uuid, now_ms};

const TICK: Duration = Duration::from_millis(20);
/// So long one of them holds at the most, since the other does not say where it is. On its way to the place nobody holds.
const HOLD: Duration = Duration::from_secs(10);
/// So long one that has ended may take to be there again.
const RESTART: Duration = Duration::from_secs(7);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to do: neither runs, or both have their newest snapshots at one position.
    NotNeeded,
    /// Both have a snapshot there.
    Met(Position),
    /// They have not met, for this reason.
    NotMet(String),
}

/// A version that is to meet another.
struct Version<'a> {
    table: String,
    files: Option<Files>,
    subject: &'a Subject,
    /// The process that runs it.
    runner: String,
}

impl Version<'_> {
    /// Whether no process runs it any more. What cannot be seen is taken for one that does.
    fn has_ended(&self) -> bool {
        self.subject.dir().is_some_and(|dir| matches!(dir.runner(), Ok(None)))
    }
}

/// What a version that runs says.
enum Heard<T> {
    /// What is waited for.
    Said(T),
    /// It is past the place.
    Past,
}

/// Takes what was asked back, whatever happens.
struct Round<'a> {
    id: String,
    versions: &'a [Version<'a>; 2],
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.versions.iter().filter_map(|version| version.files.as_ref()).for_each(|files| files.take_back(&self.id));
    }
}

/// How one round ended.
enum Ended {
    Met(Position),
    /// Somebody was past the place, or has ended elsewhere: positions are asked for again.
    Again,
    NotMet(String),
}

/// Loads a table as it is now.
pub type Load<'a> = &'a dyn Fn(&TableName) -> Result<Subject>;

/// Has the versions of two tables meet, if at least one of them runs. `go_on` is asked now and then whether to.
///
/// # Errors
/// Those of `load` and of `go_on`. That they do not meet is none.
pub fn meet([a, b]: [&Subject; 2], load: Load<'_>, limit: Duration, go_on: &dyn Fn() -> Result<()>) -> Result<Outcome> {
    let is_same_version = a.manifest.as_ref().zip(b.manifest.as_ref()).is_some_and(|(a, b)| a.version == b.version);
    if limit.is_zero() || !a.is_ours() || !b.is_ours() || is_same_version || newest(a) == newest(b) {
        return Ok(Outcome::NotNeeded);
    }
    let mut versions = [version(a), version(b)];
    if versions.iter().all(|version| version.files.is_none()) {
        return Ok(Outcome::NotNeeded);
    }
    let began = instant();
    let mut loaded;
    loop {
        match round(&versions, load, began, limit, go_on)? {
            Ended::Met(place) => return Ok(Outcome::Met(place)),
            Ended::NotMet(why) => return Ok(Outcome::NotMet(why)),
            Ended::Again => {}
        }
        loaded = [load(a.table.name())?, load(b.table.name())?];
        if let Some(place) = newest(&loaded[0]).filter(|place| newest(&loaded[1]).as_ref() == Some(place)) {
            return Ok(Outcome::Met(place));
        }
        versions = [version(&loaded[0]), version(&loaded[1])];
    }
}

fn newest(subject: &Subject) -> Option<Position> {
    subject.kept().snapshots.first().map(|kept| normal(&kept.position))
}

fn version(subject: &Subject) -> Version<'_> {
    let dir = subject.dir();
    // A process that took over from one that hangs has no lock as long as that one does: its name is in the manifest.
    let runner = dir.and_then(|dir| dir.runner().ok().flatten());
    Version {
        table: subject.table.name().to_string(),
        files: dir.filter(|_| runner.is_some()).map(Files::of),
        subject,
        runner: runner.unwrap_or_default(),
    }
}

fn round(
    versions: &[Version<'_>; 2],
    load: Load<'_>,
    began: Instant,
    limit: Duration,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Ended> {
    let held_until = limit.min(began.elapsed() + HOLD);
    let left = limit.saturating_sub(began.elapsed());
    // The versions give up by themselves, a little later than who asks.
    let mut request = Request::until(now_ms().saturating_add(left.as_millis() as i64 + 1_000));
    let round = Round { id: new_ordered_uuid().to_string(), versions };
    let ask = |request: &Request| {
        let asked =
            versions.iter().filter_map(|version| version.files.as_ref()).try_for_each(|files| files.ask(&round.id, request));
        asked.err().map(|error| Ended::NotMet(format!("they could not be asked: {error}")))
    };
    if let Some(ended) = ask(&request) {
        return Ok(ended);
    }
    failpoint::hit("D2");
    let holds = |files: &Files| {
        files.answered(&round.id).map(|answer| match answer.state {
            AnswerState::Held => Heard::Said(Party::Holds { position: answer.position, ends: answer.ends }),
            _ => Heard::Past,
        })
    };
    let held = match hear_all(versions, began, held_until, go_on, &holds, &|_| Ok(None))? {
        Ok(held) => held,
        Err(ended) => return Ok(ended),
    };
    let stands = |version: &Version<'_>| {
        let kept = version.subject.kept().snapshots;
        Party::Stands(kept.into_iter().map(|kept| kept.position).collect())
    };
    let [a, b] = held;
    let place = match meeting_place(&[a.unwrap_or_else(|| stands(&versions[0])), b.unwrap_or_else(|| stands(&versions[1]))]) {
        Ok(place) => place,
        Err(why) => return Ok(Ended::NotMet(in_words(why, versions))),
    };
    request.place = Some(place.clone());
    if let Some(ended) = ask(&request) {
        return Ok(ended);
    }
    failpoint::hit("D3");
    let reached = |files: &Files| match files.answered(&round.id)?.state {
        AnswerState::Held => None,
        AnswerState::Past => Some(Heard::Past),
        AnswerState::Reached => Some(Heard::Said(())),
    };
    let stands_there = |version: &Version<'_>| {
        let is_there = newest(&load(version.subject.table.name())?) == Some(normal(&place));
        Ok(is_there.then_some(()))
    };
    Ok(match hear_all(versions, began, limit, go_on, &reached, &stands_there)? {
        Ok(_) => Ended::Met(place),
        Err(Ended::NotMet(why)) => Ended::NotMet(format!("{why}, on the way to {}", described(&place))),
        Err(ended) => ended,
    })
}

/// What all that run say, or how the round ended before. What was said once is kept. Of one that has ended `stands` may know it.
fn hear_all<T>(
    versions: &[Version<'_>; 2],
    began: Instant,
    limit: Duration,
    go_on: &dyn Fn() -> Result<()>,
    hear: &dyn Fn(&Files) -> Option<Heard<T>>,
    stands: &dyn Fn(&Version<'_>) -> Result<Option<T>>,
) -> Result<Result<[Option<T>; 2], Ended>> {
    let (mut said, mut ended) = ([None, None], [None, None]);
    loop {
        let mut silent = Vec::new();
        for ((version, said), ended) in versions.iter().zip(said.iter_mut()).zip(ended.iter_mut()) {
            let Some(files) = version.files.as_ref().filter(|_| said.is_none()) else { continue };
            // In this order: what it said last is heard.
            let has_ended = version.has_ended();
            match hear(files) {
                Some(Heard::Said(heard)) => *said = Some(heard),
                Some(Heard::Past) => return Ok(Err(Ended::Again)),
                None if !has_ended => *ended = None,
                None if ended.is_none() => (*said, *ended) = (stands(version)?, Some(instant())),
                None => {}
            }
            if said.is_none() {
                silent.push(format!("{} ({})", version.table, version.runner));
            }
        }
        if silent.is_empty() {
            return Ok(Ok(said));
        }
        go_on()?;
        let is_gone = |ended: &Option<Instant>| ended.is_some_and(|ended| ended.elapsed() >= RESTART);
        if ended.iter().zip(&said).any(|(ended, said)| said.is_none() && is_gone(ended)) {
            return Ok(Err(Ended::Again));
        }
        if began.elapsed() >= limit {
            let seconds = (limit.as_secs_f64() * 10.0).round() / 10.0;
            let why = format!("{} did not come to one within {seconds} s", silent.join(" and "));
            return Ok(Err(Ended::NotMet(why)));
        }
        std::thread::sleep(TICK);
    }
}

fn in_words(why: NoPlace, versions: &[Version<'_>; 2]) -> String {
    let stands = versions.iter().find(|version| version.files.is_none()).map_or("", |version| version.table.as_str());
    match why {
        NoPlace::NobodyRuns => "neither of them runs".to_owned(),
        NoPlace::Past => format!("{stands} does not run, and the other is past all of its snapshots"),
        NoPlace::BehindEnd => {
            "one of them is bounded, and ends before where the other is, or reads other partitions".to_owned()
        }
    }
}
