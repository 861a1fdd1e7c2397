//! Two versions meet: each takes a checkpoint at one position of the log, so that they can be compared there. The protocol is in
//! [`crate::protocol::rendezvous`].

use std::time::{Duration, Instant};

use crate::checkpoint::rendezvous::{AnswerState, Files, Request};
use crate::error::Result;
use crate::protocol::failpoint;
use crate::protocol::position::{Position, described, normal};
use crate::protocol::rendezvous::{NoPlace, Party, meeting_place};
use crate::query::diff::side::Subject;
use crate::time::{instant, new_ordered_uuid, now_ms};

const TICK: Duration = Duration::from_millis(20);
/// So long one of them holds at the most, since the other does not say where it is. On its way to the place nobody holds.
const HOLD: Duration = Duration::from_secs(10);

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
    /// Somebody was past the place: positions are asked for again.
    Again,
    NotMet(String),
}

/// Has the versions of two tables meet, if at least one of them runs. `go_on` is asked now and then whether to.
///
/// # Errors
/// Those of the disk, and of `go_on`. That they do not meet is none.
pub fn meet(subjects: [&Subject; 2], limit: Duration, go_on: &dyn Fn() -> Result<()>) -> Result<Outcome> {
    let newest = |subject: &Subject| subject.kept().snapshots.first().map(|kept| normal(&kept.position));
    let [a, b] = subjects;
    let is_same_version = a.manifest.as_ref().zip(b.manifest.as_ref()).is_some_and(|(a, b)| a.version == b.version);
    if limit.is_zero() || !a.is_ours() || !b.is_ours() || is_same_version || newest(a) == newest(b) {
        return Ok(Outcome::NotNeeded);
    }
    let versions = [version(a), version(b)];
    if versions.iter().all(|version| version.files.is_none()) {
        return Ok(Outcome::NotNeeded);
    }
    let began = instant();
    loop {
        match round(&versions, began, limit, go_on)? {
            Ended::Met(place) => return Ok(Outcome::Met(place)),
            Ended::NotMet(why) => return Ok(Outcome::NotMet(why)),
            Ended::Again => {}
        }
    }
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

fn round(versions: &[Version<'_>; 2], began: Instant, limit: Duration, go_on: &dyn Fn() -> Result<()>) -> Result<Ended> {
    let held_until = limit.min(began.elapsed() + HOLD);
    let left = limit.saturating_sub(began.elapsed());
    // The versions give up by themselves, a little later than who asks.
    let mut request = Request::until(now_ms().saturating_add(left.as_millis() as i64 + 1_000));
    let round = Round { id: new_ordered_uuid().to_string(), versions };
    let ask = |request: &Request| {
        versions.iter().filter_map(|version| version.files.as_ref()).try_for_each(|files| files.ask(&round.id, request))
    };
    ask(&request)?;
    failpoint::hit("D2");
    let mut held = [None, None];
    while !done(versions, &mut held, |version| {
        let answer = version.files.as_ref()?.answered(&round.id).filter(|answer| answer.state == AnswerState::Held)?;
        Some(Party::Holds { position: answer.position, ends: answer.ends })
    }) {
        if let Some(why) = wait(versions, &held, began, held_until, go_on)? {
            return Ok(Ended::NotMet(why));
        }
    }
    let party = |side: usize| {
        held[side].clone().unwrap_or_else(|| {
            let kept = versions[side].subject.kept().snapshots;
            Party::Stands(kept.into_iter().map(|kept| kept.position).collect())
        })
    };
    let place = match meeting_place(&[party(0), party(1)]) {
        Ok(place) => place,
        Err(why) => return Ok(Ended::NotMet(in_words(why, versions))),
    };
    request.place = Some(place.clone());
    ask(&request)?;
    failpoint::hit("D3");
    let mut reached = [None, None];
    while !done(versions, &mut reached, |version| {
        let answer = version.files.as_ref()?.answered(&round.id);
        answer.map(|answer| answer.state).filter(|state| *state != AnswerState::Held)
    }) {
        if let Some(why) = wait(versions, &reached, began, limit, go_on)? {
            return Ok(Ended::NotMet(format!("{why}, on the way to {}", described(&place))));
        }
    }
    let is_past = reached.iter().flatten().any(|state| *state == AnswerState::Past);
    Ok(if is_past { Ended::Again } else { Ended::Met(place) })
}

/// Whether all that run have said what is waited for. What was said once is kept.
fn done<T>(versions: &[Version<'_>; 2], said: &mut [Option<T>; 2], hear: impl Fn(&Version<'_>) -> Option<T>) -> bool {
    for (version, said) in versions.iter().zip(said.iter_mut()) {
        if said.is_none() {
            *said = hear(version);
        }
    }
    versions.iter().zip(said.iter()).all(|(version, said)| version.files.is_none() || said.is_some())
}

/// Waits a little; why not to wait any longer.
fn wait<T>(
    versions: &[Version<'_>; 2],
    said: &[Option<T>; 2],
    began: Instant,
    limit: Duration,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Option<String>> {
    go_on()?;
    if began.elapsed() >= limit {
        let silent = versions.iter().zip(said).filter(|(version, said)| version.files.is_some() && said.is_none());
        let silent: Vec<String> = silent.map(|(version, _)| format!("{} ({})", version.table, version.runner)).collect();
        let seconds = (limit.as_secs_f64() * 10.0).round() / 10.0;
        return Ok(Some(format!("{} did not come to one within {seconds} s", silent.join(" and "))));
    }
    std::thread::sleep(TICK);
    Ok(None)
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
