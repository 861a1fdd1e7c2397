//! The sink of Kafka topics: rows are staged as records in the version's outbox, and sent from the manifest in one
//! transaction for each checkpoint and topic. A marker in the same transaction (`protocol::delivery`) says what is in: after
//! a crash it decides, and no transaction is ever resumed.

mod delivery;
mod markers;
mod staging;
#[cfg(test)]
mod staging_tests;

use std::time::Duration;

pub use delivery::{Staged, TopicDelivery};
pub use staging::{StagingTarget, TopicStaging};

use crate::broker::{ClientOptions, TopicClient, TransactionalProducer};
use crate::error::{Error, Result};
use crate::protocol::delivery::{Marker, TopicFacts, decide_delivery, recreated, topic_fact};
use crate::protocol::failpoint;
use crate::protocol::version::OutputFact;
use crate::time::{instant, jitter};
use markers::Markers;

/// What a topic takes if it does not tell.
const MESSAGE_BYTES: usize = 1_000_000;
/// How long a topic that was just made may be unknown to some broker.
const SETTLING: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
/// How often something is begun again with a new producer.
const ATTEMPTS: usize = 3;

/// A topic that an output goes to.
#[derive(Clone, Debug)]
pub struct Topic {
    options: ClientOptions,
    name: String,
}

/// A topic that belongs to the version.
#[derive(Clone, Debug)]
pub struct OwnTopic {
    options: ClientOptions,
    /// Its name.
    pub name: String,
    /// Its identity: one that is made again under its name is another.
    pub id: String,
    /// The greatest batch that it takes.
    pub max_message_bytes: usize,
}

impl Topic {
    /// A topic of a cluster. Nothing is asked yet.
    pub fn new(options: ClientOptions, name: &str) -> Self {
        Self { options, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// To whom it belongs, as far as can be seen. With `force`, records of others do not count.
    pub fn fact(&self, force: bool) -> Result<OutputFact> {
        self.fact_by(self.marker()?, force)
    }

    fn fact_by(&self, marker: Option<Marker>, force: bool) -> Result<OutputFact> {
        let found = self.look()?;
        let facts = TopicFacts {
            id: found.as_ref().map(|found| found.0.as_str()),
            holds_records: found.as_ref().is_some_and(|found| found.1),
            marker: marker.as_ref(),
            force,
        };
        Ok(topic_fact(&facts))
    }

    /// Its newest marker that can be seen.
    pub fn marker(&self) -> Result<Option<Marker>> {
        Markers::new(&self.options)?.newest_visible(&self.name)
    }

    /// Its identity, and whether there are records in it; `None` if there is no such topic.
    fn look(&self) -> Result<Option<(String, bool)>> {
        let client = TopicClient::of_uncommitted(&self.options, &self.name)?;
        let (id, partitions) = match client.describe() {
            Err(error) if error.code() == "unknown_topic" => return Ok(None),
            found => found?,
        };
        let extents = client.extents(&partitions)?;
        Ok(Some((id, extents.values().any(|extent| extent.end > extent.start))))
    }

    /// Makes the topic the version's, which `ours` (of checkpoint 0) names, and creates it if it is not there. What is the
    /// version's already stays so. With `begun`, records may have been delivered: then nothing is made or claimed again.
    ///
    /// Claims of one topic use one transactional id: of two jobs that want it at once, one finds the other's marker.
    pub fn claim(&self, ours: &Marker, begun: bool, force: bool) -> Result<OwnTopic> {
        let mut attempt = 1;
        loop {
            match self.try_to_claim(ours, begun, force) {
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                    attempt += 1;
                    std::thread::sleep(jitter(PAUSE * 10));
                }
                outcome => return outcome,
            }
        }
    }

    fn try_to_claim(&self, ours: &Marker, begun: bool, force: bool) -> Result<OwnTopic> {
        let markers = Markers::new(&self.options)?;
        let is_ours = |marker: &Marker, id: &str| marker.version == ours.version && marker.topic_id == id;
        let found = self.look()?;
        if let (Some((id, _)), Some(marker)) = (&found, markers.newest_visible(&self.name)?)
            && is_ours(&marker, id)
        {
            return Ok(self.owned(id));
        }
        if begun {
            return Err(self.not_ours_any_more(ours, found));
        }
        if found.is_none() {
            self.create()?;
        }
        markers.ensure()?;
        let producer = TransactionalProducer::new(&self.options, &format!("kappa-claim-{}", self.name), MESSAGE_BYTES)?;
        failpoint::hit("V3");
        // Now that no other claim is under way:
        let fact = self.fact_by(markers.newest(&self.name)?, force)?;
        let (id, _) = self.look()?.ok_or_else(|| gone(&self.name))?;
        match fact {
            OutputFact::Version(version) if version == ours.version => return Ok(self.owned(&id)),
            OutputFact::Absent => {}
            OutputFact::Version(_) | OutputFact::Foreign => {
                let message = format!("somebody else began to write topic {}", self.name);
                return Err(Error::conflict("topic_taken", message).hint("give each job a topic of its own"));
            }
        }
        let marker = Marker { topic_id: id.clone(), ..ours.clone() };
        producer.begin()?;
        markers.send(&producer, &self.name, &marker)?;
        producer.commit()?;
        Ok(self.owned(&id))
    }

    fn owned(&self, id: &str) -> OwnTopic {
        let configuration = TopicClient::new(&self.options, &self.name).and_then(|client| client.configuration());
        let given = configuration.ok().and_then(|all| all.get("max.message.bytes")?.parse().ok());
        let max_message_bytes = given.unwrap_or(MESSAGE_BYTES);
        OwnTopic { options: self.options.clone(), name: self.name.clone(), id: id.to_owned(), max_message_bytes }
    }

    fn not_ours_any_more(&self, ours: &Marker, found: Option<(String, bool)>) -> Error {
        let Some((id, _)) = found else { return gone(&self.name) };
        let ours = Marker { topic_id: id, ..ours.clone() };
        match self.marker().and_then(|marker| decide_delivery(&self.name, marker.as_ref(), &ours, u64::MAX)) {
            Err(error) => error,
            Ok(_) => Error::internal("a topic is and is not the version's"),
        }
    }

    /// Makes the topic as the cluster makes topics.
    fn create(&self) -> Result<()> {
        let client = TopicClient::new(&self.options, &self.name)?;
        client.create(-1, -1, &[]).map_err(|error| match error.code() {
            "not_authorized" => error.hint("make the topic by hand, or allow this user to"),
            _ => error,
        })?;
        wait_until_known(&self.options, &self.name)
    }
}

impl OwnTopic {
    /// Whether it is still the one that was opened.
    fn verify(&self, client: &TopicClient) -> Result<()> {
        match client.describe() {
            Ok((id, _)) if id == self.id => Ok(()),
            Ok((id, _)) => Err(recreated(&self.name, &self.id, &id)),
            Err(error) if error.code() == "unknown_topic" => Err(gone(&self.name)),
            Err(error) => Err(error),
        }
    }
}

fn gone(topic: &str) -> Error {
    Error::refused("topic_gone", format!("topic {topic} was deleted"))
        .hint("what was delivered to it is gone: reprocess into a new topic")
}

/// Waits until a topic that was just made has leaders.
fn wait_until_known(options: &ClientOptions, topic: &str) -> Result<()> {
    let started = instant();
    loop {
        let client = TopicClient::new(options, topic)?;
        match client.describe().and_then(|(_, partitions)| client.extents(&partitions)) {
            Ok(extents) if !extents.is_empty() => return Ok(()),
            Err(error) if started.elapsed() > SETTLING => return Err(error),
            Ok(_) if started.elapsed() > SETTLING => return Err(gone(topic)),
            _ => std::thread::sleep(PAUSE),
        }
    }
}
