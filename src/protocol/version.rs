//! Whether a run creates a version, resumes one, or is refused: facts in, decision out.

use crate::error::{Error, Result};

/// What is known about one of the tables or topics that a run would write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputFact {
    /// There is none of that name.
    Absent,
    /// It was not made by kappa; a topic: it holds records of others.
    Foreign,
    /// It belongs to this version.
    Version(String),
}

/// What the newest manifest of the version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Whether it goes on until stopped.
    pub live: bool,
    /// Whether its frozen end was reached.
    pub finished: bool,
    /// Of its plan.
    pub fingerprint: String,
    /// `--from` as it was given.
    pub from: String,
    /// `--until` as it was given.
    pub until: String,
    /// Its tables, and topics as `kafka:TOPIC`, in the order of the plan's outputs.
    pub tables: Vec<String>,
}

/// What the run asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether the mode is live.
    pub live: bool,
    /// `--replace`.
    pub replace: bool,
    /// Of its plan.
    pub fingerprint: String,
    /// `--from`, if it was given.
    pub from: Option<String>,
    /// `--until`, if it was given.
    pub until: Option<String>,
    /// The tables, and topics as `kafka:TOPIC`, in the order of the plan's outputs.
    pub tables: Vec<String>,
}

/// What the names of topics begin with where they stand beside names of tables.
pub const TOPIC_SCHEME: &str = "kafka:";

/// What `until` begins with where a table names the end.
pub const ALIGN: &str = "align:";

/// A table or topic by its kind: `table metric.t`, `topic payments`.
pub fn called(name: &str) -> String {
    name.strip_prefix(TOPIC_SCHEME).map_or_else(|| format!("table {name}"), |topic| format!("topic {topic}"))
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionDecision {
    /// A new version.
    Create,
    /// A new version in the place of what is there.
    Replace,
    /// The version goes on from its newest manifest.
    Resume,
}

/// The version that the tables and topics belong to, if they belong to one.
///
/// Errors: `Refused` for a table that is not kappa's, a topic with records of others, or outputs of several versions.
pub fn common_version(tables: &[(String, OutputFact)]) -> Result<Option<String>> {
    let mut common: Option<(&String, &String)> = None;
    for (table, fact) in tables {
        match fact {
            OutputFact::Absent => {}
            OutputFact::Foreign if table.starts_with(TOPIC_SCHEME) => {
                return Err(Error::refused("foreign_topic", format!("{} holds records already, of others", called(table)))
                    .hint("choose a new topic; --force writes behind those records"));
            }
            OutputFact::Foreign => {
                return Err(Error::refused("foreign_table", format!("table {table} exists and was not made by kappa"))
                    .hint("choose another name: kappa never writes to a table that it did not create"));
            }
            OutputFact::Version(version) => match common {
                Some((other, of)) if of != version => {
                    return Err(Error::refused(
                        "several_versions",
                        format!("{} and {} belong to different versions", called(other), called(table)),
                    )
                    .hint("name outputs of one version, or new ones"));
                }
                _ => common = Some((table, version)),
            },
        }
    }
    Ok(common.map(|(_, version)| version.clone()))
}

/// Decides what a run does.
///
/// Errors: `Refused`, each with the way forward.
pub fn decide_version(request: &Request, stored: Option<&StoredVersion>) -> Result<VersionDecision> {
    let Some(stored) = stored else { return Ok(VersionDecision::Create) };
    let topic = request.tables.iter().chain(&stored.tables).find(|name| name.starts_with(TOPIC_SCHEME));
    if let Some(topic) = topic.filter(|_| request.replace) {
        let message = format!("--replace cannot take back what {} holds", called(topic));
        return Err(Error::refused("replace_topic", message).hint("write to a new topic, and let its readers change over"));
    }
    if request.replace {
        return Ok(VersionDecision::Replace);
    }
    let table = called(request.tables.first().map_or("", String::as_str));
    let refuse = |code, message: String, hint: &str| Err(Error::refused(code, message).hint(hint));
    let start_over = if topic.is_some() {
        "choose new topics, and new tables beside them, for a new version: readers of a topic would get all of it again"
    } else {
        "choose a new table name for the new version, or --replace to give this one up and start again"
    };
    if request.tables != stored.tables {
        let others = stored.tables.iter().map(|name| called(name)).collect::<Vec<_>>().join(", ");
        return refuse("other_tables", format!("{table} belongs to a version that writes {others}"), start_over);
    }
    if request.fingerprint != stored.fingerprint {
        let message = format!(
            "{table} was built by another plan (fingerprint {}, this is {})",
            short(&stored.fingerprint),
            short(&request.fingerprint)
        );
        return refuse(
            "other_plan",
            message,
            if topic.is_some() {
                "reprocess the changed plan into a new topic, and let its readers change over"
            } else {
                "reprocess the changed plan into a new table, compare the two, then switch; or --replace to give this one up"
            },
        );
    }
    if !request.live && stored.live {
        let message = format!("{table} is written live");
        return refuse("reprocess_into_live", message, &format!("--mode live goes on from where it stopped; {start_over}"));
    }
    if !request.live && stored.finished {
        return refuse(
            "finished",
            format!("{table} is complete: its reprocess has finished"),
            &format!("--mode live goes on from where it stopped; {start_over}"),
        );
    }
    if request.live && !stored.live && !stored.finished {
        return refuse(
            "unfinished",
            format!("the reprocess of {table} has not finished"),
            "run it with --mode reprocess again: it resumes (with --follow it goes on live by itself)",
        );
    }
    for (option, given, before) in [("--from", &request.from, &stored.from), ("--until", &request.until, &stored.until)] {
        if let Some(given) = given.as_ref().filter(|given| *given != before) {
            let (before, given) = (as_option(option, before), as_option(option, given));
            let message = format!("{table} was started with {before}, not {given}");
            return refuse("other_domain", message, &format!("give what it was started with to go on; {start_over}"));
        }
    }
    Ok(VersionDecision::Resume)
}

/// An end that a table names has an option of its own.
fn as_option(option: &str, value: &str) -> String {
    value.strip_prefix(ALIGN).map_or_else(|| format!("{option} {value}"), |table| format!("--align {table}"))
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(live: bool) -> Request {
        Request { live, replace: false, fingerprint: "f".into(), from: None, until: None, tables: vec!["m.t".into()] }
    }

    fn stored(live: bool, finished: bool) -> StoredVersion {
        let (from, until) = ("earliest".into(), "head".into());
        StoredVersion { live, finished, fingerprint: "f".into(), from, until, tables: vec!["m.t".into()] }
    }

    fn refusal(request: &Request, stored: &StoredVersion) -> &'static str {
        decide_version(request, Some(stored)).unwrap_err().code()
    }

    #[test]
    fn the_ways_through() {
        assert_eq!(decide_version(&request(false), None).unwrap(), VersionDecision::Create);
        assert_eq!(decide_version(&request(false), Some(&stored(false, false))).unwrap(), VersionDecision::Resume);
        assert_eq!(decide_version(&request(true), Some(&stored(false, true))).unwrap(), VersionDecision::Resume);
        assert_eq!(decide_version(&request(true), Some(&stored(true, false))).unwrap(), VersionDecision::Resume);
        let replace = Request { replace: true, fingerprint: "g".into(), ..request(false) };
        assert_eq!(decide_version(&replace, Some(&stored(false, true))).unwrap(), VersionDecision::Replace);
    }

    #[test]
    fn the_refusals() {
        assert_eq!(refusal(&request(false), &stored(false, true)), "finished");
        assert_eq!(refusal(&request(false), &stored(true, false)), "reprocess_into_live");
        assert_eq!(refusal(&request(true), &stored(false, false)), "unfinished");
        assert_eq!(refusal(&Request { fingerprint: "g".into(), ..request(true) }, &stored(true, false)), "other_plan");
        assert_eq!(refusal(&Request { tables: vec!["m.u".into()], ..request(true) }, &stored(true, false)), "other_tables");
        assert_eq!(refusal(&Request { from: Some("24h".into()), ..request(false) }, &stored(false, false)), "other_domain");
        assert_eq!(
            refusal(&Request { until: Some("2026-01-01".into()), ..request(false) }, &stored(false, false)),
            "other_domain"
        );
        let same = Request { from: Some("earliest".into()), ..request(false) };
        assert_eq!(decide_version(&same, Some(&stored(false, false))).unwrap(), VersionDecision::Resume);
    }

    #[test]
    fn a_topic_is_never_taken_back() {
        let topics = |request: Request| Request { tables: vec!["kafka:t".into()], ..request };
        let stored = StoredVersion { tables: vec!["kafka:t".into()], ..stored(false, true) };
        let error = decide_version(&topics(request(false)), Some(&stored)).unwrap_err();
        assert_eq!(error.code(), "finished");
        assert!(error.to_string().starts_with("topic t is complete") && !error.to_string().contains("--replace"), "{error}");
        let replace = Request { replace: true, ..topics(request(false)) };
        assert_eq!(refusal(&replace, &stored), "replace_topic");
        assert_eq!(decide_version(&replace, None).unwrap(), VersionDecision::Create);
        assert_eq!(refusal(&Request { tables: vec!["m.t".into()], ..replace }, &stored), "replace_topic");
    }

    #[test]
    fn tables_belong_together() {
        let version = |v: &str| OutputFact::Version(v.into());
        let tables =
            |facts: Vec<OutputFact>| facts.into_iter().enumerate().map(|(i, f)| (format!("t{i}"), f)).collect::<Vec<_>>();
        assert_eq!(common_version(&tables(vec![OutputFact::Absent])).unwrap(), None);
        assert_eq!(common_version(&tables(vec![version("a"), OutputFact::Absent])).unwrap(), Some("a".into()));
        assert_eq!(common_version(&tables(vec![version("a"), version("b")])).unwrap_err().code(), "several_versions");
        assert_eq!(common_version(&tables(vec![OutputFact::Foreign])).unwrap_err().code(), "foreign_table");
        let topic = vec![("m.t".to_owned(), version("a")), ("kafka:t".to_owned(), OutputFact::Foreign)];
        assert_eq!(common_version(&topic).unwrap_err().code(), "foreign_topic");
    }
}
