//! Delivers what manifests stage for a topic: for each checkpoint one transaction with its records and the marker.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::markers::Markers;
use super::{ATTEMPTS, OwnTopic, PAUSE};
use crate::broker::{TopicClient, TransactionalProducer};
use crate::error::{Error, Result};
use crate::log::stream::BatchStream;
use crate::message::RecordBlock;
use crate::protocol::checkpoint::{StagedContent, StagedFile};
use crate::protocol::delivery::{Delivery, Marker, decide_delivery};
use crate::protocol::failpoint;
use crate::table::files;
use crate::time::jitter;

/// What a checkpoint delivers to a topic.
#[derive(Clone, Debug)]
pub struct Staged<'a> {
    /// What the topic will say. Its identity and the checkpoint before are filled in here.
    pub marker: Marker,
    /// The staged files, in order.
    pub files: &'a [StagedFile],
    /// The newest checkpoint that the topic may have: beyond it lies another history.
    pub newest: u64,
    /// After a crash: checksums of large files are compared too.
    pub recovering: bool,
}

/// Delivers to one topic.
pub struct TopicDelivery {
    topic: OwnTopic,
    /// The version's directory.
    root: PathBuf,
    transactional_id: String,
    client: TopicClient,
    markers: Markers,
    /// None at the beginning, and after whatever did not end cleanly.
    session: Option<Session>,
}

/// A producer whose every transaction has ended cleanly, and the topic's marker as it has left it.
struct Session {
    producer: TransactionalProducer,
    marker: Option<Marker>,
}

impl TopicDelivery {
    /// For output `output` of a version whose directory is `root`. Nothing is asked or begun yet.
    pub fn new(topic: OwnTopic, root: &Path, version: &str, output: usize) -> Result<Self> {
        let client = TopicClient::new(&topic.options, &topic.name)?;
        let markers = Markers::new(&topic.options)?;
        let transactional_id = format!("kappa-{version}-{output}");
        Ok(Self { topic, root: root.to_owned(), transactional_id, client, markers, session: None })
    }

    /// Delivers a checkpoint, unless that was done before. What goes wrong on the way is tried again from the beginning, with
    /// a new producer and what the marker says then.
    ///
    /// # Errors
    /// `Conflict` if another process or version writes the topic, `Corruption` if a staged file is damaged or the marker
    /// gone, `Refused` if the topic is another one, `Unavailable` if the cluster does not answer.
    pub fn deliver(&mut self, staged: &Staged<'_>) -> Result<()> {
        if staged.files.is_empty() {
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            match self.attempt(staged) {
                // Whether another owner is there must be asked first: see the committer.
                Err(error) if error.is_retryable() && error.code() != "producer_fenced" && attempt < ATTEMPTS => {
                    attempt += 1;
                    std::thread::sleep(jitter(PAUSE * 4));
                }
                outcome => return outcome,
            }
        }
    }

    /// The newest checkpoint of a version's timeline that the topic is known to have, and who published that.
    pub fn delivered(&self, version: &str, timeline: &str) -> Result<Option<(u64, u64)>> {
        let marker = self.markers.newest_visible(&self.topic.name)?;
        let is_ours = |it: &Marker| it.version == version && it.timeline == timeline && it.topic_id == self.topic.id;
        Ok(marker.filter(is_ours).map(|marker| (marker.checkpoint, marker.owner)))
    }

    fn attempt(&mut self, staged: &Staged<'_>) -> Result<()> {
        self.topic.verify(&self.client)?;
        // Whatever fails from here on, the producer goes with it.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.begin_session()?,
        };
        let mut marker = Marker { topic_id: self.topic.id.clone(), ..staged.marker.clone() };
        match decide_delivery(&self.topic.name, session.marker.as_ref(), &marker, staged.newest)? {
            Delivery::Already => self.session = Some(session),
            Delivery::Send => {
                marker.previous = session.marker.as_ref().map_or(0, |marker| marker.checkpoint);
                if self.send(&session.producer, staged, &marker)? {
                    session.marker = Some(marker);
                    self.session = Some(session);
                }
            }
        }
        Ok(())
    }

    /// A new producer, which ends what an earlier one has begun, and then the marker.
    fn begin_session(&self) -> Result<Session> {
        let options = &self.topic.options;
        let producer = TransactionalProducer::new(options, &self.transactional_id, self.topic.max_message_bytes)?;
        let marker = self.markers.newest(&self.topic.name)?;
        Ok(Session { producer, marker })
    }

    /// Sends a checkpoint; whether the producer may be used again.
    fn send(&self, producer: &TransactionalProducer, staged: &Staged<'_>, marker: &Marker) -> Result<bool> {
        let before = producer.disturbances();
        producer.begin()?;
        if let Err(error) = self.send_records(producer, staged, marker) {
            producer.abort();
            return Err(error);
        }
        failpoint::hit("K12");
        if failpoint::is_armed("K13") {
            // Somewhere between the request and its answer.
            std::thread::spawn(|| {
                std::thread::sleep(jitter(Duration::from_millis(6)));
                failpoint::hit("K13");
            });
        }
        producer.commit()?;
        failpoint::hit("K14");
        Ok(producer.disturbances() == before)
    }

    fn send_records(&self, producer: &TransactionalProducer, staged: &Staged<'_>, marker: &Marker) -> Result<()> {
        let mut block = RecordBlock::default();
        for file in staged.files {
            let path = self.path_of(file)?;
            files::verify(&path.to_string_lossy(), file.bytes, file.checksum, staged.recovering)?;
            let damaged = |what: String| {
                Error::corruption("staged_file", format!("staged file {}: {what}", path.display()))
                    .hint("the checkpoint cannot be delivered: restore this file, or start a new version")
            };
            let input = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
            let mut batches = BatchStream::new(BufReader::new(input));
            let mut rows = 0;
            while batches.next(&mut block).map_err(damaged)? {
                rows += block.len() as u64;
                self.send_block(producer, &block)?;
            }
            if rows != file.rows {
                return Err(damaged(format!("it holds {rows} records, the manifest says {}", file.rows)));
            }
        }
        self.markers.send(producer, &self.topic.name, marker)?;
        producer.flush()
    }

    fn send_block(&self, producer: &TransactionalProducer, block: &RecordBlock) -> Result<()> {
        for (index, record) in block.records.iter().enumerate() {
            producer.send(&self.topic.name, None, (block.key(index), block.value(index)), record.timestamp)?;
            if index == block.len() / 2 && failpoint::is_armed("K11") {
                producer.flush()?;
                failpoint::hit("K11");
            }
        }
        Ok(())
    }

    fn path_of(&self, file: &StagedFile) -> Result<PathBuf> {
        let inside = file.path.starts_with("outbox/") && !file.path.split('/').any(|part| part == "..");
        if file.content != StagedContent::Records || !inside {
            return Err(Error::corruption("staged_file", format!("{} is no staged file of a topic", file.path)));
        }
        Ok(self.root.join(&file.path))
    }

    /// The files of a checkpoint, as absolute paths: they may be deleted once it is recorded as confirmed.
    pub fn released(&self, files: &[StagedFile]) -> Vec<String> {
        files.iter().filter_map(|file| self.path_of(file).ok()).map(|path| path.to_string_lossy().into_owned()).collect()
    }
}
