//! What a topic says about its deliveries, and what follows from it: the marker record, and pure decisions.

use serde::{Deserialize, Serialize};

use super::version::OutputFact;
use crate::error::{Error, Result};

/// Of markers; a release reads the last two.
pub const FORMAT: u32 = 1;

/// The value of a marker record, JSON under the output topic's name as its key: all that version `version` has staged for
/// the topic up to checkpoint `checkpoint` is in it. Checkpoints that staged nothing for the topic leave no marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Of this document.
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// The version that writes the topic, and nobody else.
    pub version: String,
    /// Checkpoints are compared only within one timeline.
    pub timeline: String,
    /// The last checkpoint that is delivered; 0: the topic is claimed.
    pub checkpoint: u64,
    /// The hash of its manifest.
    pub manifest: String,
    /// The checkpoint of the marker before.
    pub previous: u64,
    /// Who published that.
    pub owner: u64,
    /// The identity of the topic: one that is made again under its name is another.
    pub topic_id: String,
}

impl Marker {
    /// The record's value.
    ///
    /// # Errors
    /// An internal error; it does not happen.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::internal(format!("write a marker: {error}")))
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// `Corruption` for what is no marker, `Refused` for one of a format that is not known.
    pub fn decode(topic: &str, value: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| {
            Error::corruption("marker", format!("the marker of topic {topic} is damaged: {error}"))
                .hint("nobody can tell what is delivered: write to a new topic")
        };
        let Format { format } = serde_json::from_slice(value).map_err(damaged)?;
        if format != FORMAT {
            let message = format!("the marker of topic {topic} has format {format}, this release reads {FORMAT}");
            return Err(Error::refused("marker_format", message).hint("use the release that wrote it, or a newer one"));
        }
        serde_json::from_slice(value).map_err(damaged)
    }
}

/// What to do with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is not in the topic: send it.
    Send,
    /// It is.
    Already,
}

/// Decides whether `ours` still has to be delivered to `topic`, whose newest marker is `found`. `newest` is the last
/// checkpoint that this process knows of.
///
/// # Errors
/// `Conflict` if the topic belongs to another version or is ahead of what this process knows, `Corruption` if its marker is
/// gone or names other content: guessing would lose or double records.
pub fn decide_delivery(topic: &str, found: Option<&Marker>, ours: &Marker, newest: u64) -> Result<Delivery> {
    let Some(found) = found else {
        return Err(Error::corruption("marker_lost", format!("the marker of topic {topic} is gone"))
            .with("checkpoint", ours.checkpoint)
            .hint("nobody can tell what is delivered: write to a new topic"));
    };
    if found.topic_id != ours.topic_id {
        return Err(recreated(topic, &found.topic_id, &ours.topic_id));
    }
    if found.version != ours.version || found.timeline != ours.timeline {
        return Err(Error::conflict("other_version", format!("topic {topic} was taken over by another version"))
            .with("version", &found.version)
            .with("ours", &ours.version)
            .hint("two jobs write one topic: stop one of them, and give it another topic"));
    }
    if found.checkpoint > newest {
        return Err(Error::conflict("topic_ahead", format!("topic {topic} is ahead of the checkpoints"))
            .with("delivered_checkpoint", found.checkpoint)
            .with("newest_checkpoint", newest)
            .hint("another process delivers too, or the checkpoints are an older copy: restore the newest ones"));
    }
    if found.checkpoint < ours.checkpoint {
        return Ok(Delivery::Send);
    }
    if found.checkpoint == ours.checkpoint && found.manifest != ours.manifest {
        return Err(Error::corruption("marker_differs", format!("topic {topic} holds this checkpoint with other content"))
            .with("checkpoint", ours.checkpoint)
            .with("delivered_manifest", &found.manifest)
            .with("our_manifest", &ours.manifest)
            .hint("two processes made the same checkpoint: compare their manifests before anything else is delivered"));
    }
    Ok(Delivery::Already)
}

/// What is known of a topic before anything is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts<'a> {
    /// Its identity; `None`: there is no such topic.
    pub id: Option<&'a str>,
    /// Whether there are records in it.
    pub holds_records: bool,
    /// Its newest marker.
    pub marker: Option<&'a Marker>,
    /// Whether records of others do not matter (`--force`).
    pub force: bool,
}

/// To whom a topic belongs. The marker of a topic that was deleted says nothing about one that was made again.
pub fn topic_fact(facts: &TopicFacts<'_>) -> OutputFact {
    match (facts.id, facts.marker) {
        (Some(id), Some(marker)) if marker.topic_id == id => OutputFact::Version(marker.version.clone()),
        (Some(_), _) if facts.holds_records && !facts.force => OutputFact::Foreign,
        _ => OutputFact::Absent,
    }
}

/// The error for a topic that is another one than the version wrote.
pub fn recreated(topic: &str, before: &str, now: &str) -> Error {
    Error::refused("topic_recreated", format!("topic {topic} was deleted and made again"))
        .with("before", before)
        .with("now", now)
        .hint("what was delivered to it is gone: reprocess into a new topic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(checkpoint: u64, manifest: &str) -> Marker {
        Marker {
            format: FORMAT,
            job: "j".into(),
            version: "v".into(),
            timeline: "t".into(),
            checkpoint,
            manifest: manifest.into(),
            previous: 0,
            owner: 1,
            topic_id: "id".into(),
        }
    }

    #[test]
    fn the_marker_decides() {
        let ours = marker(5, "h");
        let decide = |found: Marker| decide_delivery("out", Some(&found), &ours, 6);
        assert_eq!(decide(marker(4, "x")).unwrap(), Delivery::Send);
        assert_eq!(decide(marker(0, "")).unwrap(), Delivery::Send);
        assert_eq!(decide(marker(5, "h")).unwrap(), Delivery::Already);
        assert_eq!(decide(marker(6, "x")).unwrap(), Delivery::Already);
        assert_eq!(decide(marker(7, "x")).unwrap_err().code(), "topic_ahead");
    }

    #[test]
    fn nothing_is_guessed() {
        let ours = marker(5, "h");
        let code = |found: Option<Marker>| decide_delivery("out", found.as_ref(), &ours, 9).unwrap_err().code();
        assert_eq!(code(None), "marker_lost");
        assert_eq!(code(Some(marker(5, "x"))), "marker_differs");
        assert_eq!(code(Some(Marker { version: "w".into(), ..marker(4, "h") })), "other_version");
        assert_eq!(code(Some(Marker { timeline: "u".into(), ..marker(9, "h") })), "other_version");
        assert_eq!(code(Some(Marker { topic_id: "other".into(), ..marker(4, "h") })), "topic_recreated");
    }

    #[test]
    fn a_topic_belongs_to_the_version_of_its_marker() {
        let marker = marker(3, "h");
        let facts = TopicFacts { id: Some("id"), holds_records: true, marker: Some(&marker), force: false };
        assert_eq!(topic_fact(&facts), OutputFact::Version("v".into()));
        assert_eq!(topic_fact(&TopicFacts { force: true, ..facts.clone() }), OutputFact::Version("v".into()));
        assert_eq!(topic_fact(&TopicFacts { id: None, holds_records: false, ..facts.clone() }), OutputFact::Absent);
        let again = TopicFacts { id: Some("again"), ..facts };
        assert_eq!(topic_fact(&again), OutputFact::Foreign);
        assert_eq!(topic_fact(&TopicFacts { holds_records: false, ..again.clone() }), OutputFact::Absent);
        assert_eq!(topic_fact(&TopicFacts { force: true, ..again.clone() }), OutputFact::Absent);
        assert_eq!(topic_fact(&TopicFacts { marker: None, ..again }), OutputFact::Foreign);
    }

    #[test]
    fn a_marker_is_json_and_what_is_none_is_refused() {
        let text = r#"{"format":1,"job":"j","version":"v","timeline":"t","checkpoint":7,"manifest":"h","previous":0,"owner":1,"topic_id":"id"}"#;
        assert_eq!(String::from_utf8(marker(7, "h").encode().unwrap()).unwrap(), text);
        assert_eq!(Marker::decode("out", text.as_bytes()).unwrap(), marker(7, "h"));
        assert_eq!(Marker::decode("out", b"{\"format\":2}").unwrap_err().code(), "marker_format");
        assert_eq!(Marker::decode("out", &text.as_bytes()[..40]).unwrap_err().code(), "marker");
    }
}
