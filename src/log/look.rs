//! Looking into a topic: what there is, its newest records, and all of them in turn.

use super::reader::LogReader;
use super::topic::{LogDir, Topic};
use crate::error::Result;
use crate::message::varint::Cursor;
use crate::message::{Offset, Partition, RecordBlock, RecordRef};

const CHUNK: usize = 1 << 20;

/// One partition of a topic, as `kappa log describe` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The topic.
    pub topic: String,
    /// Its identity.
    pub topic_id: uuid::Uuid,
    /// The partition.
    pub partition: Partition,
    /// The first offset that is still there.
    pub start: Offset,
    /// The offset after the last durable record.
    pub end: Offset,
    /// How many records there are: this log has no holes.
    pub records: i64,
    /// Bytes of segments on disk.
    pub bytes: u64,
    /// The timestamp of the first record, milliseconds since 1970 UTC.
    pub first_timestamp: Option<i64>,
    /// The timestamp of the last record.
    pub last_timestamp: Option<i64>,
    /// The leader epoch of the newest writer.
    pub leader_epoch: i32,
}

/// A record on its own, for looking at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<Vec<u8>>,
    /// The payload, or null.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// A copy of record `index` of a block; `None` past its end.
    pub fn of(block: &RecordBlock, index: usize) -> Option<Self> {
        let RecordRef { offset, timestamp, .. } = *block.records.get(index)?;
        Some(Self {
            partition: block.partition,
            offset: Offset(offset),
            timestamp,
            key: block.key(index).map(<[u8]>::to_vec),
            value: block.value(index).map(<[u8]>::to_vec),
            headers: headers(block.headers(index).unwrap_or_default()),
        })
    }
}

/// Reads headers from Kafka's wire form. What does not parse is left out.
pub fn headers(bytes: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut cursor = Cursor::new(bytes, 0);
    let count = cursor.varint().unwrap_or(0);
    let mut field = || -> Option<Option<Vec<u8>>> {
        let Some(length) = cursor.length()? else { return Some(None) };
        let at = cursor.at();
        cursor.skip(length)?;
        Some(bytes.get(at..at + length).map(<[u8]>::to_vec))
    };
    let mut one = || Some((String::from_utf8_lossy(&field()??).into_owned(), field()?));
    (0..count).map_while(|_| one()).collect()
}

impl LogDir {
    /// All partitions of all topics, or of one.
    pub fn describe(&self, topic: Option<&str>) -> Result<Vec<PartitionDescription>> {
        let names = match topic {
            Some(name) => vec![name.to_owned()],
            None => self.topics()?,
        };
        let mut all = Vec::new();
        for name in names {
            all.extend(self.topic(&name)?.describe()?);
        }
        Ok(all)
    }
}

impl Topic {
    /// Its partitions.
    pub fn describe(&self) -> Result<Vec<PartitionDescription>> {
        self.partitions().map(|partition| self.describe_partition(partition)).collect()
    }

    fn describe_partition(&self, partition: Partition) -> Result<PartitionDescription> {
        let extent = self.extent(partition)?;
        let is_empty = extent.start == extent.end;
        let timestamp = |at: Offset| -> Result<Option<i64>> {
            let mut block = RecordBlock::default();
            self.reader(partition, at)?.poll(&mut block, 0, Some(Offset(at.0 + 1)))?;
            Ok(block.records.first().map(|record| record.timestamp))
        };
        Ok(PartitionDescription {
            topic: self.name().to_owned(),
            topic_id: self.id(),
            partition,
            start: extent.start,
            end: extent.end,
            records: extent.end.0 - extent.start.0,
            bytes: extent.bytes,
            first_timestamp: if is_empty { None } else { timestamp(extent.start)? },
            last_timestamp: if is_empty { None } else { timestamp(Offset(extent.end.0 - 1))? },
            leader_epoch: extent.leader_epoch,
        })
    }

    /// The last `count` records over all partitions, by timestamp, partition and offset.
    pub fn tail(&self, count: usize) -> Result<Vec<OwnedRecord>> {
        let mut records = Vec::new();
        for partition in self.partitions() {
            let extent = self.extent(partition)?;
            let from = extent.end.0.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(extent.start.0);
            let mut reader = self.reader(partition, Offset(from))?;
            let mut block = RecordBlock::default();
            loop {
                reader.poll(&mut block, CHUNK, Some(extent.end))?;
                if block.is_empty() {
                    break;
                }
                records.extend((0..block.len()).filter_map(|index| OwnedRecord::of(&block, index)));
            }
        }
        records.sort_by_key(|record| (record.timestamp, record.partition, record.offset));
        let surplus = records.len().saturating_sub(count);
        Ok(records.split_off(surplus))
    }

    /// Reads from one offset per partition to another, partition after partition.
    pub fn scan(&self, ranges: Vec<(Partition, Offset, Offset)>) -> Scan {
        Scan { topic: self.clone(), ranges: ranges.into_iter(), current: None }
    }

    /// Reads everything that is there now.
    pub fn scan_all(&self) -> Result<Scan> {
        let range = |partition| self.extent(partition).map(|extent| (partition, extent.start, extent.end));
        Ok(self.scan(self.partitions().map(range).collect::<Result<_>>()?))
    }
}

/// A walk over a topic: see [`Topic::scan`].
pub struct Scan {
    topic: Topic,
    ranges: std::vec::IntoIter<(Partition, Offset, Offset)>,
    current: Option<(LogReader, Offset)>,
}

impl Scan {
    /// Replaces the content of `block` by the next records, all of one partition. False at the end.
    pub fn next_block(&mut self, block: &mut RecordBlock) -> Result<bool> {
        loop {
            if let Some((reader, until)) = &mut self.current {
                reader.poll(block, CHUNK, Some(*until))?;
                if !block.is_empty() {
                    return Ok(true);
                }
            }
            let Some((partition, from, until)) = self.ranges.next() else { return Ok(false) };
            self.current = Some((self.topic.reader(partition, from)?, until));
        }
    }
}
