//! `promote`: a name shows another version from now on. One compare-and-swap over the name and both versions, on the states on which
//! it was decided; where one of them has moved meanwhile, the facts are looked at again.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{keep_warm, proofs};
use crate::checkpoint::manifest::{Manifest, Mode};
use crate::error::{Error, Result};
use crate::process;
use crate::protocol::cutover::{self, Granted, Proof, Request, Version};
use crate::query::diff::side::Subject;
use crate::table::marker::VERSION;
use crate::table::retire::Retired;
use crate::table::serving::{Action, Move, Trouble, Turn, Turned, Turns, view_of};
use crate::table::{Catalog, Table, TableName};
use crate::time::{instant, jitter, new_ordered_uuid, now_ms};

/// How long it is tried. Versions commit about once a second, and each commit makes one attempt lose.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What has become of names.
#[derive(Clone, Debug, Serialize)]
pub struct Promotion {
    /// Of the turn; none if nothing had to be done.
    pub turn: Option<String>,
    /// Each of them.
    pub names: Vec<Shown>,
    /// How long it took.
    pub seconds: f64,
}

/// What a name shows.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The name.
    pub name: String,
    /// The table of the version.
    pub table: String,
    /// The version.
    pub version: String,
    /// What it showed before.
    pub before: Option<String>,
    /// The view that turns with it.
    pub view: Option<String>,
    /// The name's snapshot.
    pub snapshot_id: Option<i64>,
    /// Rows that it shows.
    pub rows: u64,
    /// The proof that spoke for it.
    pub proof: Option<String>,
    /// Why there is none.
    pub unverified: Option<String>,
    /// What was accepted by name.
    pub accepted: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// Turns names to tables of versions, all or none. `views` is the pattern by which those are to have views that have none.
///
/// # Errors
/// `Refused` where a proof is missing or a version is not fit to be shown; `Conflict` where a name was turned by somebody else all the
/// time; those of the catalog.
pub fn promote(
    catalog: &Catalog,
    checkpoints: &Path,
    wanted: &[(TableName, TableName)],
    request: &Request,
    views: Option<&str>,
) -> Result<Promotion> {
    check_wanted(wanted)?;
    let proofs = proofs::all(checkpoints)?;
    let seen = wanted.iter().map(|(name, _)| current(catalog, name)).collect::<Result<Vec<_>>>()?;
    let facts = |id: &str| {
        let names = wanted.iter().zip(&seen).map(|((name, table), seen)| {
            let base = unturned(catalog, name, seen.as_ref(), id)?;
            let next = Subject::of(catalog.require(table)?, checkpoints)?;
            let now = shown(catalog, checkpoints, seen.as_ref())?;
            let gone = seen.as_ref().filter(|_| now.is_none());
            if let Some(gone) = gone.filter(|_| request.unverified.is_none()) {
                let message =
                    format!("table {}, which {name} shows, is gone: there is nothing to compare {table} with", gone.table);
                return Err(Error::refused("no_proof", message)
                    .hint("promote it with --unverified \"WHY\", which is kept with the name"));
            }
            let mut granted = grant(checkpoints, name, now.as_ref(), &next, &proofs, request)?;
            let retire = match &now {
                Some(now) if now.table.uuid() != next.table.uuid() && !request.keep_warm => {
                    let (retired, note) = keep_warm::retired(catalog, checkpoints, now, (name, table), wanted)?;
                    granted.notes.push(note);
                    retired
                }
                Some(_) if !request.keep_warm => {
                    let note = format!("{name} was not turned from another table: no process is asked to stop");
                    granted.notes.push(note);
                    None
                }
                _ => None,
            };
            let how = (Action::Promote, id);
            let view = views.map(|pattern| view_of(name, pattern)).transpose()?;
            let prepared = prepared(name, base, next.table, now.map(|now| now.table), granted, how)?;
            Ok(prepared.retiring(retire).viewed(view))
        });
        names.collect()
    };
    until_turned(facts, catalog)
}

/// The last turn of a name, if it is there.
fn current(catalog: &Catalog, name: &TableName) -> Result<Option<Turn>> {
    let turns = catalog.load(name)?.as_ref().map(turns_of).transpose()?;
    Ok(turns.and_then(|turns| turns.current().cloned()))
}

/// The name as it is, if nobody has turned it since its last turn was `seen`, but for the turn `id`. What was decided then is not to
/// undo what somebody else has done since.
pub(super) fn unturned(catalog: &Catalog, name: &TableName, seen: Option<&Turn>, id: &str) -> Result<Option<Table>> {
    let base = catalog.load(name)?;
    let turns = base.as_ref().map(turns_of).transpose()?.unwrap_or_default();
    match turns.current() {
        now if now == seen => Ok(base),
        Some(now) if now.id == id => Ok(base),
        now => {
            let (what, by) =
                now.map_or(("dropped".to_owned(), "another tool"), |now| (format!("turned to {}", now.table), &now.by));
            Err(Error::conflict("turned_meanwhile", format!("{name} was {what} by {by} meanwhile"))
                .hint(format!("look at it, and try again if this is still wanted: kappa serving history {name}")))
        }
    }
}

fn check_wanted(wanted: &[(TableName, TableName)]) -> Result<()> {
    for (at, (name, table)) in wanted.iter().enumerate() {
        if wanted.iter().take(at).any(|(other, _)| other == name) {
            return Err(Error::config("usage", format!("{name} is given twice")));
        }
        if name == table {
            return Err(Error::config("usage", format!("{name} cannot show itself")).hint("kappa promote NAME TABLE"));
        }
    }
    if wanted.is_empty() { Err(Error::config("usage", "no name to promote").hint("kappa promote NAME TABLE")) } else { Ok(()) }
}

/// A name and what it is to be turned to, on the facts as they are.
pub(super) struct Prepared {
    moved: Move,
    /// Of the table that it shows.
    before: Option<TableName>,
    granted: Granted,
    /// Whether there is nothing to do.
    is_shown: bool,
}

/// The move of a name to a table, if there is one to make.
pub(super) fn prepared(
    name: &TableName,
    base: Option<Table>,
    to: Table,
    from: Option<Table>,
    granted: Granted,
    how: (Action, &str),
) -> Result<Prepared> {
    let turns = base.as_ref().map(turns_of).transpose()?.unwrap_or_default();
    let before = turns.current().filter(|turn| turn.id != how.1).or_else(|| turns.before()).map(|turn| turn.table.clone());
    let is_shown = turns.current().is_some_and(|turn| turn.uuid == to.uuid()) && to.serves().contains(name);
    let version = to.property(VERSION).unwrap_or_default().to_owned();
    let turn = Turn {
        id: how.1.to_owned(),
        at_ms: now_ms(),
        action: how.0,
        table: to.name().clone(),
        uuid: to.uuid(),
        version,
        job: to.property("kappa.job").map(str::to_owned),
        proof: granted.proof.clone(),
        unverified: granted.unverified.clone(),
        accepted: granted.accepted.clone(),
        by: process::describe(),
    };
    let moved = Move {
        view: base.as_ref().and_then(Table::view),
        base,
        from: from.filter(|from| from.uuid() != to.uuid()),
        retire: None,
        to,
        name: name.clone(),
        turn,
    };
    Ok(Prepared { moved, before, granted, is_shown })
}

impl Prepared {
    /// The version that it leaves is not kept for a rollback.
    fn retiring(mut self, retire: Option<Retired>) -> Self {
        self.moved.retire = retire;
        self
    }

    /// It has a view from now on. One that it has already stays.
    fn viewed(mut self, view: Option<TableName>) -> Self {
        if let Some(view) = view.filter(|_| self.moved.view.is_none()) {
            self.moved.view = Some(view);
            self.is_shown = false;
        }
        self
    }
}

/// Whether a name may be turned to a version.
fn grant(
    checkpoints: &Path,
    name: &TableName,
    now: Option<&Subject>,
    next: &Subject,
    proofs: &[Proof],
    request: &Request,
) -> Result<Granted> {
    let table = next.table.name();
    if next.table.turns()?.is_some() {
        return Err(Error::refused("not_a_version", format!("{table} is a name, not the table of a version"))
            .hint(format!("promote the table that it shows: kappa serving show {table}")));
    }
    if !next.is_ours() {
        return Err(Error::refused("not_a_version", format!("table {table} is not of a job of kappa's"))
            .hint("a name shows tables that kappa's jobs write"));
    }
    next.table.check_not_condemned()?;
    if now.is_some_and(|now| now.table.uuid() == next.table.uuid()) {
        return Ok(Granted::default());
    }
    let current = now.map(version).transpose()?;
    let mut granted = cutover::decide(&name.to_string(), current.as_ref(), &version(next)?, proofs, request, now_ms())?;
    if next.manifest.as_ref().is_some_and(|manifest| keep_warm::runner(checkpoints, manifest).is_none()) {
        granted.notes.push(format!("no process runs {table}: {name} stays as it is until one does"));
    }
    Ok(granted)
}

/// The turns of a name that is there.
pub(super) fn turns_of(base: &Table) -> Result<Turns> {
    base.turns()?.ok_or_else(|| {
        Error::refused("not_a_name", format!("{} is a table of its own, and no name that kappa turns", base.name()))
            .hint("the name comes first, and is none of a table: kappa promote NAME TABLE")
    })
}

/// What a name showed when it was looked at; none if nothing, or what is not there any more.
fn shown(catalog: &Catalog, checkpoints: &Path, seen: Option<&Turn>) -> Result<Option<Subject>> {
    let Some(current) = seen else { return Ok(None) };
    let table = catalog.load_same(&current.table, current.uuid)?;
    table.map(|table| Subject::of(table, checkpoints)).transpose()
}

/// The facts of a version.
fn version(subject: &Subject) -> Result<Version> {
    let table = &subject.table;
    let marked = table.marker().map(|(_, snapshot)| snapshot);
    let side = subject.side(marked)?;
    let manifest = subject.manifest.as_ref();
    let bound = proofs::side_of(&side).unwrap_or_else(|| cutover::Side { table: side.table.clone(), ..Default::default() });
    let made = |snapshot: i64| table.metadata().snapshot_by_id(snapshot).map_or(0, |it| it.timestamp_ms());
    Ok(Version {
        side: bound,
        is_preview: table.is_preview(),
        is_unfinished: manifest.is_some_and(|manifest: &Manifest| manifest.mode == Mode::Reprocess && !manifest.finished),
        complete_from_ms: side.complete_from_ms,
        begins_within: subject.begins_within(),
        is_unknown: manifest.is_none(),
        positions: subject.kept().snapshots.into_iter().map(|kept| (made(kept.snapshot), kept.position)).collect(),
    })
}

/// Turns what `facts` gives for the identifier of the turn, and looks again where it is not so any more.
pub(super) fn until_turned(facts: impl Fn(&str) -> Result<Vec<Prepared>>, catalog: &Catalog) -> Result<Promotion> {
    let (began, id) = (instant(), new_ordered_uuid().to_string());
    let mut unknown = None;
    loop {
        let prepared = facts(&id)?;
        let moves: Vec<Move> = prepared.iter().filter(|it| !it.is_shown).map(|it| it.moved.clone()).collect();
        let is_done =
            |table: &Table| table.turns().is_ok_and(|turns| turns.unwrap_or_default().all().iter().any(|turn| turn.id == id));
        if moves.is_empty() {
            // Nothing had to be done, or the reply to it was lost.
            let turned = prepared.iter().filter_map(|it| it.moved.base.as_ref()).any(is_done);
            // A view that does not turn with its name may have been left behind.
            let behind = catalog.bring_views(prepared.iter().map(|it| &it.moved.name));
            return match behind.first() {
                Some(view) if !turned => Err(view.error.clone()),
                _ => Ok(promotion(prepared, &[], &behind, turned.then_some(id), began)),
            };
        }
        match catalog.turn_names(&moves)? {
            Turned::Done(states, troubles) => return Ok(promotion(prepared, &states, &troubles, Some(id), began)),
            Turned::Lost(_) if began.elapsed() < PATIENCE => {}
            Turned::Unknown(error) if error.is_retryable() && began.elapsed() < PATIENCE => unknown = Some(error),
            Turned::Unknown(error) => return Err(error),
            Turned::Lost(name) => return Err(unknown.unwrap_or_else(|| lost(&name))),
        }
        std::thread::sleep(jitter(PAUSE));
    }
}

fn lost(name: &TableName) -> Error {
    let message = format!("{name} was changed by somebody else each time, for {} s", PATIENCE.as_secs());
    Error::conflict("turn_lost", message).hint("look who does it: kappa serving history; then try again").retryable(true)
}

fn promotion(prepared: Vec<Prepared>, states: &[Table], views: &[Trouble], turn: Option<String>, began: Instant) -> Promotion {
    let shown = |mut it: Prepared| {
        let Move { name, base, to, .. } = it.moved;
        let behind = views.iter().filter(|view| view.name == name);
        let behind = behind.map(|view| {
            let hint = view.error.hint_text().map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("its view is behind, kappa promote {name} {} brings it up: {}{hint}", to.name(), view.error)
        });
        it.granted.notes.extend(behind);
        let state = states.iter().find(|state| *state.name() == name).or(base.as_ref());
        Shown {
            name: name.to_string(),
            table: to.name().to_string(),
            version: to.property(VERSION).unwrap_or_default().to_owned(),
            before: it.before.map(|before| before.to_string()),
            view: state.and_then(Table::view).map(|view| view.to_string()),
            snapshot_id: state.and_then(Table::current_snapshot_id),
            rows: state.map_or(0, Table::row_count),
            proof: it.granted.proof,
            unverified: it.granted.unverified,
            accepted: it.granted.accepted,
            notes: it.granted.notes,
        }
    };
    Promotion { turn, names: prepared.into_iter().map(shown).collect(), seconds: began.elapsed().as_secs_f64() }
}
