//! When a name may be turned to another version: facts in, decision out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::error::{Error, Result};

/// How far a version may be behind the one whose place it takes: two that run side by side do not commit at one moment.
const BEHIND_MS: i64 = 60_000;

/// A version that is shown, or is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// What it is bound to in proofs.
    pub side: Side,
    /// Whether it is a preview: a part of a version, which the next one replaces.
    pub is_preview: bool,
    /// Whether it is a reprocess that has not reached its end.
    pub is_unfinished: bool,
    /// From which event time on its groups are whole; none: from the first on.
    pub complete_from_ms: Option<i64>,
    /// Whether it begins at a place of the log that is neither its beginning nor a time: which of its groups are whole is not known.
    pub begins_within: bool,
    /// Whether its checkpoints are elsewhere: how it was built is not known.
    pub is_unknown: bool,
    /// Where it is in the log and was before, with the times of the commits; the newest first.
    pub positions: Vec<(i64, Position)>,
}

/// A version's table at a checkpoint, as a proof is bound to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The table.
    pub table: String,
    /// What tells it from another of that name.
    pub uuid: String,
    /// The version.
    pub version: String,
    /// Of its plan.
    pub fingerprint: String,
    /// Of its checkpoints.
    pub timeline: String,
    /// A hash of what it reads, from where on.
    pub domain: String,
    /// The checkpoint.
    pub checkpoint: u64,
}

impl Side {
    /// Whether this is the same table later: the rows of then are those of now but for what came since.
    fn descends_from(&self, then: &Self) -> bool {
        let same = Self { checkpoint: then.checkpoint, ..self.clone() };
        same == *then && self.checkpoint >= then.checkpoint && !self.fingerprint.is_empty()
    }
}

/// Two versions were compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Of this document.
    pub format: u32,
    /// Its identifier.
    pub id: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub made_ms: i64,
    /// One of them.
    pub a: Side,
    /// The other.
    pub b: Side,
    /// Whether they differ.
    pub differs: bool,
}

impl Proof {
    fn is_of(&self, one: &Side, other: &Side) -> bool {
        let holds = |a: &Side, b: &Side| one.descends_from(a) && other.descends_from(b);
        holds(&self.a, &self.b) || holds(&self.b, &self.a)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The proof; none: the newest that holds.
    pub proof: Option<String>,
    /// Why it is done without one.
    pub unverified: Option<String>,
    /// How old a proof may be.
    pub max_age_ms: i64,
    /// What is accepted by name.
    pub accept: Vec<Accept>,
    /// Whether the process of what was shown before goes on.
    pub keep_warm: bool,
    /// Whether the names are to have views.
    pub view: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self { proof: None, unverified: None, max_age_ms: 3_600_000, accept: Vec::new(), keep_warm: true, view: false }
    }
}

/// What may be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// That the new version is further back in the log.
    Lag,
    /// That it begins later.
    History,
}

impl Accept {
    fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::History => "history",
        }
    }
}

/// Why it may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The proof that holds.
    pub proof: Option<String>,
    /// Why there is none.
    pub unverified: Option<String>,
    /// What had to be accepted.
    pub accepted: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// Decides whether `name` may be turned from `now` to `next`.
///
/// # Errors
/// `Refused`, with what is missing and what lifts it.
pub fn decide(
    name: &str,
    now: Option<&Version>,
    next: &Version,
    proofs: &[Proof],
    request: &Request,
    now_ms: i64,
) -> Result<Granted> {
    let table = &next.side.table;
    if next.is_preview {
        return Err(Error::refused(
            "is_a_preview",
            format!("table {table} is a preview: it lacks what came before its window"),
        )
        .hint("build the whole: python JOB.py --mode reprocess --output-table TABLE; then compare and promote that"));
    }
    if next.is_unfinished {
        return Err(Error::refused("catching_up", format!("the reprocess of {table} has not reached its end"))
            .hint("let it finish: run the same command again if nothing runs it"));
    }
    let mut granted = Granted::default();
    if next.is_unknown {
        granted.notes.push(format!("the checkpoints of {table} are elsewhere: whether it is finished and whole is not known"));
    }
    let Some(now) = now else {
        granted.unverified.clone_from(&request.unverified);
        granted.notes.push(format!("{name} is new: there was nothing to compare {table} with"));
        return Ok(granted);
    };
    check_lag(now, next, request, &mut granted)?;
    check_history(now, next, request, &mut granted)?;
    match proven(name, now, next, proofs, request, now_ms) {
        Ok(proof) => granted.proof = Some(proof.id.clone()),
        Err(_) if request.unverified.is_some() => granted.unverified.clone_from(&request.unverified),
        Err(error) => return Err(error),
    }
    Ok(granted)
}

/// The proof that holds.
fn proven<'a>(
    name: &str,
    now: &Version,
    next: &Version,
    proofs: &'a [Proof],
    request: &Request,
    now_ms: i64,
) -> Result<&'a Proof> {
    let (old, new) = (&now.side, &next.side);
    let asked: Vec<&Proof> = proofs.iter().filter(|proof| request.proof.as_ref().is_none_or(|id| *id == proof.id)).collect();
    let way =
        format!("kappa diff {} {}, then promote; or --unverified \"WHY\", which is kept with the name", old.table, new.table);
    if let (Some(id), true) = (&request.proof, asked.is_empty()) {
        return Err(Error::refused("no_proof", format!("there is no proof {id}")).hint(way));
    }
    let mut of_them: Vec<&Proof> = asked.into_iter().filter(|proof| proof.is_of(old, new)).collect();
    of_them.sort_unstable_by_key(|proof| proof.made_ms);
    let Some(newest) = of_them.last() else {
        let message = match &request.proof {
            Some(id) => format!("proof {id} is not of {} as it is and {}, which {name} shows", new.table, old.table),
            None => format!("{} was not compared with {}, which {name} shows", new.table, old.table),
        };
        return Err(Error::refused("no_proof", message).hint(way));
    };
    let age_ms = now_ms.saturating_sub(newest.made_ms);
    if age_ms > request.max_age_ms {
        let minutes = |ms: i64| ms / 60_000;
        let message =
            format!("proof {} is {} minutes old, and may be {}", newest.id, minutes(age_ms), minutes(request.max_age_ms));
        return Err(Error::refused("old_proof", message).hint(way));
    }
    Ok(newest)
}

fn accepted(accept: Accept, request: &Request, granted: &mut Granted, error: Error) -> Result<()> {
    if !request.accept.contains(&accept) {
        return Err(error);
    }
    granted.accepted.push(accept.name().to_owned());
    granted.notes.push(error.message().to_owned());
    Ok(())
}

fn check_history(now: &Version, next: &Version, request: &Request, granted: &mut Granted) -> Result<()> {
    if next.begins_within && !now.begins_within {
        let message = format!("{} begins within the log: which of its groups are whole is not known", next.side.table);
        let hint = "readers would lose what lies before: reprocess from earliest or from a time; or --accept history";
        return accepted(Accept::History, request, granted, Error::refused("shorter_history", message).hint(hint));
    }
    let is_later = |from: &i64| !now.begins_within && now.complete_from_ms.is_none_or(|now| *from > now);
    let Some(from) = next.complete_from_ms.filter(is_later) else { return Ok(()) };
    let since = now.complete_from_ms.map_or("the log's beginning".to_owned(), crate::time::format_utc);
    let message =
        format!("{} is whole from {} on, and {} from {since}", next.side.table, crate::time::format_utc(from), now.side.table);
    let hint = "readers would lose what lies before: reprocess with an earlier --from; or --accept history";
    accepted(Accept::History, request, granted, Error::refused("shorter_history", message).hint(hint))
}

fn check_lag(now: &Version, next: &Version, request: &Request, granted: &mut Granted) -> Result<()> {
    let (Some((_, old)), Some((_, new))) = (now.positions.first(), next.positions.first()) else { return Ok(()) };
    let unread: Vec<&str> = old.keys().filter(|topic| !new.contains_key(*topic)).map(String::as_str).collect();
    if !unread.is_empty() {
        granted.notes.push(format!("{} does not read {}, as {} does", next.side.table, unread.join(", "), now.side.table));
    }
    match behind(&now.positions, new) {
        Some(ms) if ms <= BEHIND_MS => Ok(()),
        by => {
            let records = missing(old, new);
            let time = by.map_or("more than is kept".to_owned(), |ms| format!("{} s", ms / 1000));
            let message = format!("{} is {records} records ({time}) behind {}", next.side.table, now.side.table);
            let hint = "it is still catching up, or nothing runs it: python JOB.py --mode live --output-table TABLE, and wait; or --accept lag";
            accepted(Accept::Lag, request, granted, Error::refused("catching_up", message).hint(hint))
        }
    }
}

/// How long before its newest commit a version was nowhere further than a position, where both read a topic. None: all that is kept
/// of it is further.
fn behind(positions: &[(i64, Position)], at: &Position) -> Option<i64> {
    let (newest, _) = positions.first()?;
    let (then, _) = positions.iter().find(|(_, position)| missing(position, at) == 0)?;
    Some(newest.saturating_sub(*then))
}

/// Records that are in one position and not in another, of topics that both read.
pub fn missing(position: &Position, at: &Position) -> u64 {
    let of_partition = |of: &BTreeMap<i32, i64>, partition: &i32| of.get(partition).copied().unwrap_or(0);
    let both = position.iter().filter_map(|(topic, partitions)| Some((partitions, at.get(topic)?)));
    both.flat_map(|(partitions, of)| {
        partitions.iter().map(move |(partition, offset)| (offset - of_partition(of, partition)).max(0).unsigned_abs())
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[i64]) -> Position {
        [("t".to_owned(), (0..).zip(offsets.iter().copied()).collect())].into()
    }

    fn version(table: &str, checkpoint: u64, positions: &[(i64, &[i64])]) -> Version {
        let word = |kind: &str| format!("{kind} of {table}");
        let side = Side {
            table: table.to_owned(),
            uuid: word("uuid"),
            version: word("version"),
            fingerprint: word("fingerprint"),
            timeline: word("timeline"),
            domain: word("domain"),
            checkpoint,
        };
        let positions = positions.iter().map(|(time, offsets)| (*time, at(offsets))).collect();
        Version { side, positions, ..Version::default() }
    }

    fn proof(id: &str, made_ms: i64, a: &Version, b: &Version) -> Proof {
        Proof { format: 1, id: id.into(), made_ms, a: a.side.clone(), b: b.side.clone(), differs: true }
    }

    fn code(now: &Version, next: &Version, proofs: &[Proof], request: &Request) -> &'static str {
        decide("n", Some(now), next, proofs, request, 10_000).map_or_else(|error| error.code(), |_| "granted")
    }

    #[test]
    fn a_proof_holds_for_what_became_of_the_compared_tables() {
        let (v3, v4) = (version("v3", 7, &[(1, &[5])]), version("v4", 2, &[(1, &[5])]));
        let (now, next) = (version("v3", 9, &[(1, &[6])]), version("v4", 3, &[(1, &[6])]));
        let request = Request::default();
        for proofs in [[proof("p", 9_000, &v3, &v4)], [proof("p", 9_000, &v4, &v3)]] {
            let granted = decide("n", Some(&now), &next, &proofs, &request, 10_000).unwrap();
            assert_eq!(granted.proof.as_deref(), Some("p"));
        }
        let good = proof("p", 9_000, &v3, &v4);
        let other = |change: fn(&mut Side)| {
            let mut proof = good.clone();
            change(&mut proof.b);
            code(&now, &next, &[proof], &request)
        };
        assert_eq!(other(|_| {}), "granted");
        assert_eq!(other(|side| side.checkpoint = 4), "no_proof");
        assert_eq!(other(|side| side.uuid = "x".into()), "no_proof");
        assert_eq!(other(|side| side.version = "x".into()), "no_proof");
        assert_eq!(other(|side| side.fingerprint = "x".into()), "no_proof");
        assert_eq!(other(|side| side.timeline = "x".into()), "no_proof");
        assert_eq!(other(|side| side.domain = "x".into()), "no_proof");
        assert_eq!(code(&now, &next, &[proof("p", 9_000, &v4, &v4)], &request), "no_proof");
        let unknown = |version: &Version| Version {
            side: Side { fingerprint: String::new(), ..version.side.clone() },
            ..version.clone()
        };
        let proofs = [proof("p", 9_000, &unknown(&v3), &unknown(&v4))];
        assert_eq!(code(&unknown(&now), &unknown(&next), &proofs, &request), "no_proof", "nothing binds it to a plan");
    }

    #[test]
    fn the_newest_proof_or_the_one_asked_for_decides_and_not_when_it_is_old() {
        let (v3, v4) = (version("v3", 7, &[]), version("v4", 2, &[]));
        let proofs = [proof("new", 9_000, &v3, &v4), proof("old", 1_000, &v3, &v4)];
        let ask =
            |proof: Option<&str>, max_age_ms| Request { proof: proof.map(str::to_owned), max_age_ms, ..Request::default() };
        assert_eq!(code(&v3, &v4, &proofs, &ask(None, 1_000)), "granted");
        assert_eq!(code(&v3, &v4, &proofs, &ask(None, 999)), "old_proof");
        assert_eq!(code(&v3, &v4, &proofs, &ask(Some("old"), 5_000)), "old_proof");
        assert_eq!(code(&v3, &v4, &proofs, &ask(Some("old"), 9_000)), "granted");
        assert_eq!(code(&v3, &v4, &proofs, &ask(Some("none"), 9_000)), "no_proof");
        let why = Request { unverified: Some("because".into()), max_age_ms: 0, ..Request::default() };
        let granted = decide("n", Some(&v3), &v4, &proofs, &why, 10_000).unwrap();
        assert_eq!((granted.proof, granted.unverified.as_deref()), (None, Some("because")));
    }

    #[test]
    fn a_version_that_is_behind_is_refused_unless_that_is_accepted() {
        let now = version("v3", 9, &[(100_000, &[9, 9]), (70_000, &[7, 7]), (30_000, &[5, 5])]);
        let why = |accept: &[Accept]| Request { unverified: Some("x".into()), accept: accept.to_vec(), ..Request::default() };
        let at = |offsets: &[i64]| code(&now, &version("v4", 2, &[(1, offsets)]), &[], &why(&[]));
        assert_eq!(at(&[9, 9]), "granted");
        assert_eq!(at(&[20, 8]), "granted", "half a minute behind in one partition");
        assert_eq!(at(&[20, 6]), "catching_up");
        assert_eq!(at(&[20]), "catching_up", "a partition of which nothing was read");
        let next = version("v4", 2, &[(1, &[4, 20])]);
        let granted = decide("n", Some(&now), &next, &[], &why(&[Accept::Lag]), 0).unwrap();
        assert_eq!(granted.accepted, ["lag"]);
        assert_eq!(granted.notes, ["v4 is 5 records (more than is kept) behind v3"]);
        let unfinished = Version { is_unfinished: true, ..version("v4", 2, &[(1, &[9, 9])]) };
        assert_eq!(code(&now, &unfinished, &[], &why(&[Accept::Lag])), "catching_up");
    }

    #[test]
    fn versions_of_other_topics_are_not_behind_each_other() {
        let now = version("v3", 9, &[(100_000, &[9, 9])]);
        let mut next = version("v4", 2, &[(1, &[9, 9])]);
        next.positions[0].1 = [("u".to_owned(), [(0, 1)].into())].into();
        let request = Request { unverified: Some("x".into()), ..Request::default() };
        let granted = decide("n", Some(&now), &next, &[], &request, 0).unwrap();
        assert_eq!(granted.notes, ["v4 does not read t, as v3 does"]);
    }

    #[test]
    fn history_is_not_lost_in_silence() {
        let of = |from| Version { complete_from_ms: from, ..version("v", 1, &[]) };
        let request = |accept| Request { unverified: Some("x".into()), accept, ..Request::default() };
        assert_eq!(code(&of(None), &of(Some(5)), &[], &request(vec![])), "shorter_history");
        assert_eq!(code(&of(Some(4)), &of(Some(5)), &[], &request(vec![])), "shorter_history");
        assert_eq!(code(&of(Some(5)), &of(Some(5)), &[], &request(vec![])), "granted");
        assert_eq!(code(&of(Some(5)), &of(None), &[], &request(vec![])), "granted");
        assert_eq!(code(&of(None), &of(Some(5)), &[], &request(vec![Accept::History])), "granted");
        let within = Version { begins_within: true, ..of(None) };
        assert_eq!(code(&of(None), &within, &[], &request(vec![])), "shorter_history");
        assert_eq!(code(&of(None), &within, &[], &request(vec![Accept::History])), "granted");
        assert_eq!(code(&within, &of(Some(5)), &[], &request(vec![])), "granted", "from a time is more than nobody knows");
        assert_eq!(code(&within, &within, &[], &request(vec![])), "granted");
    }

    #[test]
    fn a_new_name_needs_no_proof() {
        let granted = decide("n", None, &version("v1", 1, &[]), &[], &Request::default(), 0).unwrap();
        assert_eq!(granted.notes, ["n is new: there was nothing to compare v1 with"]);
        let preview = Version { is_preview: true, ..version("v1", 1, &[]) };
        assert_eq!(decide("n", None, &preview, &[], &Request::default(), 0).unwrap_err().code(), "is_a_preview");
        let unfinished = Version { is_unfinished: true, ..version("v1", 1, &[]) };
        assert_eq!(decide("n", None, &unfinished, &[], &Request::default(), 0).unwrap_err().code(), "catching_up");
    }
}
