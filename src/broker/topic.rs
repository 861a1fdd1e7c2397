//! A topic as it is now: its identity, its partitions, where they begin and end.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ANSWER, Client};
use super::ffi::{self, Failure};
use super::options::ClientOptions;
use crate::error::{Error, Result};
use crate::plan::names::nearest;

/// How long librdkafka may take for a request, its own retries included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After how long librdkafka gives up a connection on which a request got no answer: it goes on asking a broker that it is
/// connected to, also one that says nothing. Just longer than one broker is asked.
const SILENCE_MS: &str = "3500";
/// Topics that an error lists.
const SHOWN: usize = 20;
/// The name under which requests are made that need a group's; nothing is ever committed to it.
const NO_GROUP: &str = "kappa";

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that is still there.
    pub start: i64,
    /// The offset after the last record that can be read: of committed ones, unless `kafka.isolation.level` says otherwise.
    pub end: i64,
}

/// Asks about one topic.
pub struct TopicClient {
    client: Client,
    topic: String,
    group: String,
}

impl TopicClient {
    /// For a topic of a cluster. Nothing is asked yet.
    ///
    /// # Errors
    /// A `ConfigError` that names the option that librdkafka rejects.
    pub fn new(options: &ClientOptions, topic: &str) -> Result<Self> {
        Self::in_group(options, topic, NO_GROUP)
    }

    /// For a topic, as a consumer group.
    pub fn in_group(options: &ClientOptions, topic: &str, group: &str) -> Result<Self> {
        Self::with(options, topic, group, &[])
    }

    /// For a topic, as one who sees committed records only, whatever the options say.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn of_committed(options: &ClientOptions, topic: &str) -> Result<Self> {
        Self::with(options, topic, NO_GROUP, &[("isolation.level", "read_committed")])
    }

    /// For a topic, as one who sees records whose transactions are open: ends are those of the log.
    ///
    /// # Errors
    /// A `ConfigError` that names the option that librdkafka rejects.
    pub fn of_uncommitted(options: &ClientOptions, topic: &str) -> Result<Self> {
        Self::with(options, topic, NO_GROUP, &[("isolation.level", "read_uncommitted")])
    }

    fn with(options: &ClientOptions, topic: &str, group: &str, more: &[(&str, &str)]) -> Result<Self> {
        let mut decided = vec![("group.id", group), ("enable.auto.commit", "false"), ("auto.offset.reset", "error")];
        decided.extend_from_slice(more);
        let defaults = [("isolation.level", "read_committed"), ("socket.timeout.ms", SILENCE_MS)];
        let client = Client::new(options, &options.client(&defaults, &decided))?;
        Ok(Self { client, topic: topic.to_owned(), group: group.to_owned() })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The consumer group it was made for.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Commits offsets to the group, without waiting and without saying whether it worked.
    pub fn commit(&self, offsets: impl Iterator<Item = (i32, i64)>) {
        let mut list = TopicPartitionList::new();
        offsets.for_each(|(partition, offset)| {
            drop(list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)));
        });
        if list.count() > 0 {
            let _ = self.client.consumer().commit(&list, CommitMode::Async);
        }
    }

    /// Has the cluster forget the group, if it knows it and nobody is in it.
    ///
    /// # Errors
    /// `Unavailable` if the cluster does not answer; `Config` if it does not allow that.
    pub fn forget_group(&self) -> Result<()> {
        let doing = format!("delete the consumer group {}", self.group);
        self.client.request(&doing, |client| match ffi::delete_group(client.native(), &self.group, TIMEOUT) {
            Err(failure) if failure.code == RDKafkaErrorCode::GroupIdNotFound => Ok(()),
            // Somebody reads under this name: it is theirs.
            Err(failure) if failure.code == RDKafkaErrorCode::NonEmptyGroup => Ok(()),
            outcome => outcome,
        })
    }

    /// The identity of the topic, and its partitions.
    pub fn describe(&self) -> Result<(String, Vec<i32>)> {
        let doing = format!("describe topic {}", self.topic);
        match self.client.request(&doing, |client| ffi::describe_topic(client.native(), &self.topic, ANSWER)) {
            Ok(found) => Ok((found.id, found.partitions)),
            Err(error) if error.code() == "unknown_topic" => Err(self.with_near_names(error)),
            Err(error) => Err(error),
        }
    }

    /// Makes the topic, if there is none of its name. −1 for either number leaves it to the cluster.
    pub fn create(&self, partitions: i32, replicas: i32, configs: &[(&str, &str)]) -> Result<()> {
        let doing = format!("make topic {}", self.topic);
        self.client.request(&doing, |client| {
            match ffi::create_topic(client.native(), &self.topic, (partitions, replicas), configs, TIMEOUT) {
                Err(failure) if failure.code == RDKafkaErrorCode::TopicAlreadyExists => Ok(()),
                outcome => outcome,
            }
        })
    }

    /// How many brokers the cluster has.
    pub fn brokers(&self) -> Result<usize> {
        self.client.request("look at the cluster", |client| {
            let found = client.consumer().fetch_metadata(None, TIMEOUT);
            found.map(|found| found.brokers().len()).map_err(|error| Failure::from(&error))
        })
    }

    /// The topic's configuration, as the cluster has it.
    pub fn configuration(&self) -> Result<BTreeMap<String, String>> {
        let doing = format!("read the configuration of topic {}", self.topic);
        self.client.request(&doing, |client| ffi::topic_configs(client.native(), &self.topic, TIMEOUT))
    }

    /// Where these partitions begin and end.
    pub fn extents(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Extent>> {
        let starts = self.offsets(partitions.iter().map(|partition| (*partition, Offset::Beginning)))?;
        let ends = self.offsets(partitions.iter().map(|partition| (*partition, Offset::End)))?;
        let number = |list: &TopicPartitionList| -> Result<BTreeMap<i32, i64>> {
            list.elements()
                .iter()
                .map(|element| Ok((element.partition(), self.known(element.offset(), element.partition())?)))
                .collect()
        };
        let (starts, ends) = (number(&starts)?, number(&ends)?);
        let extent = |(partition, start): (i32, i64)| {
            let end = ends.get(&partition).copied().unwrap_or(start).max(start);
            (partition, Extent { start, end })
        };
        Ok(starts.into_iter().map(extent).collect())
    }

    /// For each partition the first offset whose record has this timestamp (milliseconds since 1970 UTC) or a later one, if
    /// there is such a record.
    pub fn offsets_at(&self, partitions: &[i32], timestamp: i64) -> Result<BTreeMap<i32, i64>> {
        // Negative numbers mean other things to the protocol.
        let timestamp = Offset::Offset(timestamp.max(0));
        Ok(numbered(&self.offsets(partitions.iter().map(|partition| (*partition, timestamp)))?))
    }

    /// What a consumer group has committed, for the partitions for which it has.
    pub fn committed(&self, group: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        let asked = Self::in_group(self.client.options(), &self.topic, group)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let doing = format!("read the offsets of group {group} for topic {}", self.topic);
        let found = asked.client.request(&doing, |client| {
            let found = client.consumer().committed_offsets(list.clone(), TIMEOUT).map_err(|error| Failure::from(&error))?;
            check(&found)?;
            Ok(found)
        })?;
        Ok(numbered(&found))
    }

    fn offsets(&self, wanted: impl Iterator<Item = (i32, Offset)>) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in wanted {
            list.add_partition_offset(&self.topic, partition, offset)
                .map_err(|error| Error::internal(format!("ask for offset {offset:?}: {error}")))?;
        }
        if list.count() == 0 {
            return Ok(list);
        }
        let doing = format!("read the offsets of topic {}", self.topic);
        self.client.request(&doing, |client| {
            let found = client.consumer().offsets_for_times(list.clone(), ANSWER).map_err(|error| Failure::from(&error))?;
            check(&found)?;
            Ok(found)
        })
    }

    fn known(&self, offset: Offset, partition: i32) -> Result<i64> {
        match offset {
            Offset::Offset(offset) => Ok(offset),
            other => Err(Error::internal(format!("the cluster gave {other:?} as an offset of topic {}", self.topic))
                .with("partition", partition)),
        }
    }

    /// The topics of the cluster, but for its own.
    pub fn topics(&self) -> Result<Vec<String>> {
        let doing = "list the topics".to_owned();
        let metadata = self
            .client
            .request(&doing, |client| client.consumer().fetch_metadata(None, TIMEOUT).map_err(|error| Failure::from(&error)))?;
        let mut names: Vec<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        names.retain(|name| !name.starts_with("__"));
        names.sort_unstable();
        Ok(names)
    }

    fn with_near_names(&self, error: Error) -> Error {
        let Ok(names) = self.topics() else { return error };
        let near = nearest(&self.topic, names.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
        let more = names.len().saturating_sub(SHOWN);
        let list = match names.get(..SHOWN.min(names.len())).unwrap_or_default() {
            [] => "none".to_owned(),
            first if more > 0 => format!("{} and {more} more", first.join(", ")),
            all => all.join(", "),
        };
        Error::config("unknown_topic", format!("there is no topic {:?}", self.topic))
            .with("bootstrap", self.client.options().bootstrap())
            .hint(format!("{near}topics there: {list}"))
    }
}

/// The offsets of a list that are numbers.
fn numbered(list: &TopicPartitionList) -> BTreeMap<i32, i64> {
    let number = |(partition, offset)| if let Offset::Offset(offset) = offset { Some((partition, offset)) } else { None };
    list.elements().iter().map(|element| (element.partition(), element.offset())).filter_map(number).collect()
}

/// The first error of a single partition.
fn check(list: &TopicPartitionList) -> Result<(), Failure> {
    let error = list.elements().iter().find_map(|element| element.error().err());
    error.map_or(Ok(()), |error: KafkaError| {
        let mut failure = Failure::from(&error);
        if failure.code == RDKafkaErrorCode::UnknownPartition {
            failure.code = RDKafkaErrorCode::UnknownTopicOrPartition;
        }
        Err(failure)
    })
}
