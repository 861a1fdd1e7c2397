//! Metadata files, written at a cost that does not grow with the history.
//!
//! A table with a commit a second keeps thousands of snapshots, megabytes of JSON, and none of them ever changes. So a file
//! is made of pieces: a run of snapshots, in the order of their sequence numbers, is serialized and packed once and kept for
//! the files to come. Deflate streams that end at a whole byte may stand behind each other; only the newest snapshots and
//! what is not history are made anew. The file is one ordinary gzip member, with the document that the crate would write.

mod read;

use std::collections::HashMap;
use std::time::Duration;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use iceberg::spec::{FormatVersion, MAIN_BRANCH, SnapshotLog, SnapshotRef, SnapshotReference, TableMetadata};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) use self::read::{read, read_view};
use super::files;
use crate::error::{Error, Result};

/// Sequence numbers of a piece.
const PIECE: i64 = 64;
/// How the name of a packed file ends.
const PACKED: &str = ".gz.metadata.json";
/// The header of a gzip member: deflate, no name, no time, an unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The branches and tags of a table, as JSON: the crate keeps them to itself. Where main is, the metadata says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Refs(#[serde(default)] Map<String, Value>);

impl Refs {
    /// The snapshots that they name, main apart.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = i64> {
        let others = self.0.iter().filter(|(name, _)| *name != MAIN_BRANCH);
        others.filter_map(|(_, reference)| reference.get("snapshot-id").and_then(Value::as_i64))
    }

    /// With a tag on a snapshot that ends after a while.
    pub(super) fn with_tag(&self, tag: &str, snapshot: i64, age: Duration) -> Self {
        let mut refs = self.0.clone();
        let tagged = json!({"snapshot-id": snapshot, "type": "tag", "max-ref-age-ms": age.as_millis() as u64});
        refs.insert(tag.to_owned(), tagged);
        Self(refs)
    }

    /// Without those tags of a prefix whose snapshots are older than they say. `made`: when a snapshot was made.
    pub(super) fn without_old(&self, prefix: &str, now: i64, made: impl Fn(i64) -> Option<i64>) -> Self {
        let stays = |(name, reference): &(&String, &Value)| !name.starts_with(prefix) || !is_old(reference, now, &made);
        Self(self.0.iter().filter(stays).map(|(name, it)| (name.clone(), it.clone())).collect())
    }

    /// The names of those whose snapshots are not older than they say, main apart.
    pub(super) fn standing(&self, now: i64, made: impl Fn(i64) -> Option<i64>) -> Vec<String> {
        let stands = |(name, reference): &(&String, &Value)| *name != MAIN_BRANCH && !is_old(reference, now, &made);
        self.0.iter().filter(stands).map(|(name, _)| name.clone()).collect()
    }

    /// Main at a snapshot; what it says of its retention stays.
    pub(super) fn main_at(&self, snapshot: i64) -> Result<SnapshotReference> {
        serde_json::from_value(self.main_json(snapshot)).map_err(unserializable)
    }

    fn main_json(&self, snapshot: i64) -> Value {
        let mut main = self.0.get(MAIN_BRANCH).cloned().unwrap_or_else(|| json!({"type": "branch"}));
        if let Some(main) = main.as_object_mut() {
            main.insert("snapshot-id".to_owned(), json!(snapshot));
        }
        main
    }

    fn with_main(&self, current: Option<i64>) -> Value {
        let mut refs = self.0.clone();
        refs.extend(current.map(|current| (MAIN_BRANCH.to_owned(), self.main_json(current))));
        Value::Object(refs)
    }
}

/// Whether the snapshot of a branch or tag is older than that says.
fn is_old(reference: &Value, now: i64, made: impl Fn(i64) -> Option<i64>) -> bool {
    let made = reference.get("snapshot-id").and_then(Value::as_i64).and_then(made);
    let age = reference.get("max-ref-age-ms").and_then(Value::as_i64);
    made.zip(age).is_some_and(|(made, age)| now.saturating_sub(made) > age)
}

/// What was packed for the file before.
#[derive(Debug, Default)]
pub(super) struct Pieces(Kept);

/// By part and group of sequence numbers.
type Kept = HashMap<(Part, i64), Piece>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Snapshots,
    Log,
}

#[derive(Debug)]
struct Piece {
    /// What it holds.
    ids: Vec<i64>,
    bytes: Vec<u8>,
    checksum: Crc,
}

/// The end of the names of metadata files by the table's properties.
pub(super) fn suffix(metadata: &TableMetadata) -> &'static str {
    let codec = metadata.properties().get("write.metadata.compression-codec");
    if codec.is_some_and(|codec| codec.eq_ignore_ascii_case("gzip")) { PACKED } else { ".metadata.json" }
}

/// Writes a metadata file and makes its content durable.
pub(super) fn write(metadata: &TableMetadata, refs: &Refs, location: &str, pieces: &mut Pieces) -> Result<()> {
    let bytes = encode(metadata, refs, location.ends_with(PACKED), pieces)?;
    files::write_durable(&files::path_of(location)?, &bytes)
}

/// The bytes of a metadata file.
fn encode(metadata: &TableMetadata, refs: &Refs, packed: bool, pieces: &mut Pieces) -> Result<Vec<u8>> {
    let mut output = Output::new(packed, std::mem::take(&mut pieces.0));
    let mut head = serialized(&head(metadata, refs)?)?;
    head.truncate(head.len().saturating_sub(1));
    output.text(head + ",\"snapshots\":[");
    let mut snapshots: Vec<&SnapshotRef> = metadata.snapshots().collect();
    snapshots.sort_unstable_by_key(|snapshot| (snapshot.sequence_number(), snapshot.snapshot_id()));
    let group = |snapshot: &&SnapshotRef| snapshot.sequence_number().div_euclid(PIECE);
    output.array(Part::Snapshots, &snapshots, group, |snapshot| [snapshot.snapshot_id(), 0], |it| snapshot_json(it))?;
    output.text("],\"snapshot-log\":[".to_owned());
    let made = |entry: &SnapshotLog| metadata.snapshot_by_id(entry.snapshot_id).map_or(0, |it| it.sequence_number());
    let ids = |entry: &SnapshotLog| [entry.snapshot_id, entry.timestamp_ms];
    let log_json = |entry: &SnapshotLog| json!({"timestamp-ms": entry.timestamp_ms, "snapshot-id": entry.snapshot_id});
    output.array(Part::Log, metadata.history(), |entry| made(entry).div_euclid(PIECE), ids, log_json)?;
    output.text("]}".to_owned());
    let (bytes, used) = output.finish()?;
    pieces.0 = used;
    Ok(bytes)
}

/// All but the snapshots and their log.
fn head(metadata: &TableMetadata, refs: &Refs) -> Result<Value> {
    if metadata.format_version() != FormatVersion::V2 {
        return Err(Error::internal("metadata of another format than v2 is to be written"));
    }
    let mut head = json!({
        "format-version": 2,
        "table-uuid": metadata.uuid(),
        "location": metadata.location(),
        "last-sequence-number": metadata.last_sequence_number(),
        "last-updated-ms": metadata.last_updated_ms(),
        "last-column-id": metadata.last_column_id(),
        "schemas": all(metadata.schemas_iter())?,
        "current-schema-id": metadata.current_schema_id(),
        "partition-specs": all(metadata.partition_specs_iter())?,
        "default-spec-id": metadata.default_partition_spec_id(),
        "last-partition-id": metadata.last_partition_id(),
        "sort-orders": all(metadata.sort_orders_iter())?,
        "default-sort-order-id": metadata.default_sort_order_id(),
        "properties": sorted(metadata.properties()),
        "refs": refs.with_main(metadata.current_snapshot_id()),
        "metadata-log": all(metadata.metadata_log().iter())?,
        "statistics": all(metadata.statistics_iter())?,
        "partition-statistics": all(metadata.partition_statistics_iter())?,
    });
    if let (Some(head), Some(current)) = (head.as_object_mut(), metadata.current_snapshot_id()) {
        head.insert("current-snapshot-id".to_owned(), json!(current));
    }
    Ok(head)
}

fn snapshot_json(snapshot: &SnapshotRef) -> Value {
    // In order, so that what one says is where the one before says it: it packs better.
    let mut summary = sorted(&snapshot.summary().additional_properties);
    summary.insert("operation".to_owned(), json!(snapshot.summary().operation.as_str()));
    let mut document = json!({
        "snapshot-id": snapshot.snapshot_id(),
        "sequence-number": snapshot.sequence_number(),
        "timestamp-ms": snapshot.timestamp_ms(),
        "manifest-list": snapshot.manifest_list(),
        "summary": summary,
    });
    if let Some(document) = document.as_object_mut() {
        document.extend(snapshot.parent_snapshot_id().map(|parent| ("parent-snapshot-id".to_owned(), json!(parent))));
        document.extend(snapshot.schema_id().map(|schema| ("schema-id".to_owned(), json!(schema))));
    }
    document
}

fn sorted(map: &HashMap<String, String>) -> Map<String, Value> {
    let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
    sorted.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

fn all<T: serde::Serialize>(items: impl Iterator<Item = T>) -> Result<Vec<Value>> {
    items.map(|item| serde_json::to_value(item).map_err(unserializable)).collect()
}

fn serialized(value: &Value) -> Result<String> {
    serde_json::to_string(value).map_err(unserializable)
}

fn unserializable(error: serde_json::Error) -> Error {
    Error::internal(format!("table metadata: {error}")).source(error)
}

/// A metadata file that is being made.
struct Output {
    packed: bool,
    bytes: Vec<u8>,
    checksum: Crc,
    /// Text that is not in `bytes` yet.
    open: String,
    kept: Kept,
    used: Kept,
}

impl Output {
    fn new(packed: bool, kept: Kept) -> Self {
        let bytes = if packed { GZIP_HEADER.to_vec() } else { Vec::new() };
        Self { packed, bytes, checksum: Crc::new(), open: String::new(), kept, used: HashMap::new() }
    }

    fn text(&mut self, text: String) {
        self.open.push_str(&text);
    }

    /// The items of an array: the last group as text, those before it as pieces.
    fn array<T>(
        &mut self,
        part: Part,
        items: &[T],
        group: impl Fn(&T) -> i64,
        ids: impl Fn(&T) -> [i64; 2],
        json: impl Fn(&T) -> Value,
    ) -> Result<()> {
        let groups: Vec<&[T]> = items.chunk_by(|a, b| group(a) == group(b)).collect();
        for (index, items) in groups.iter().enumerate() {
            let last = index + 1 == groups.len();
            let text = || {
                let texts = items.iter().map(|item| serialized(&json(item))).collect::<Result<Vec<_>>>()?;
                Ok(texts.join(",") + if last { "" } else { "," })
            };
            match items.first() {
                Some(first) if !last => self.piece((part, group(first)), items.iter().flat_map(&ids).collect(), text)?,
                _ => self.text(text()?),
            }
        }
        Ok(())
    }

    /// What was packed before, if it holds the same.
    fn piece(&mut self, key: (Part, i64), ids: Vec<i64>, text: impl Fn() -> Result<String>) -> Result<()> {
        self.close(FlushCompress::Sync)?;
        let piece = match self.kept.remove(&key).filter(|piece| piece.ids == ids) {
            Some(piece) => piece,
            None => {
                let text = text()?;
                let (mut bytes, mut checksum) = (Vec::new(), Crc::new());
                checksum.update(text.as_bytes());
                if self.packed {
                    pack(&text, FlushCompress::Sync, &mut bytes)?
                } else {
                    bytes = text.into_bytes()
                }
                Piece { ids, bytes, checksum }
            }
        };
        self.bytes.extend_from_slice(&piece.bytes);
        self.checksum.combine(&piece.checksum);
        self.used.insert(key, piece);
        Ok(())
    }

    fn close(&mut self, end: FlushCompress) -> Result<()> {
        let text = std::mem::take(&mut self.open);
        let mut checksum = Crc::new();
        checksum.update(text.as_bytes());
        self.checksum.combine(&checksum);
        if self.packed {
            return pack(&text, end, &mut self.bytes);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<u8>, Kept)> {
        self.close(FlushCompress::Finish)?;
        if self.packed {
            self.bytes.extend_from_slice(&self.checksum.sum().to_le_bytes());
            self.bytes.extend_from_slice(&self.checksum.amount().to_le_bytes());
        }
        Ok((self.bytes, self.used))
    }
}

/// Appends a deflate stream that refers to nothing before it and ends at a whole byte.
fn pack(text: &str, end: FlushCompress, to: &mut Vec<u8>) -> Result<()> {
    let mut packer = Compress::new(Compression::default(), false);
    let mut rest = text.as_bytes();
    loop {
        to.reserve(rest.len() / 2 + 256);
        let before = packer.total_in();
        let status = packer.compress_vec(rest, to, end);
        let status = status.map_err(|error| Error::internal(format!("pack table metadata: {error}")).source(error))?;
        rest = rest.get((packer.total_in() - before) as usize..).unwrap_or_default();
        // Room that is left says that nothing is held back.
        let flushed = rest.is_empty() && to.len() < to.capacity();
        if status == Status::StreamEnd || (end != FlushCompress::Finish && flushed) {
            return Ok(());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use super::*;
    use crate::time;
    use iceberg::spec::{Operation, Snapshot, SnapshotRetention, StatisticsFile, Summary, TableMetadataBuilder};

    pub(crate) const FIRST: &str = r#"{"format-version":2,"table-uuid":"0198f2a4-1d2c-7c4e-9f51-3a6d1a2b3c4d","location":"file:///t",
        "last-sequence-number":0,"last-updated-ms":1,"last-column-id":1,"current-schema-id":0,"schemas":[{"type":"struct",
        "schema-id":0,"fields":[{"id":1,"name":"a","required":false,"type":"long"}]}],"default-spec-id":0,"last-partition-id":999,
        "partition-specs":[{"spec-id":0,"fields":[]}],"default-sort-order-id":0,"sort-orders":[{"order-id":0,"fields":[]}],
        "properties":{"a":"ü\"\n"}}"#;

    /// What is in a summary beside the counts, and as long as it is in a job that reads a topic of eight partitions.
    pub(crate) fn said_by_a_job(checkpoint: u64) -> Vec<(String, String)> {
        let offset = |p: u64| (p * 7_919_000 + checkpoint * (9_973 + p * 131)) % 10_000_000_000;
        let offsets: std::collections::BTreeMap<String, u64> = (0..8).map(|p| (p.to_string(), offset(p))).collect();
        let read = checkpoint * 80_000;
        let account = json!({
            "read": read, "bad": 3, "below_floor": 0, "late_dropped": 0, "filtered": read / 3, "used": read - read / 3 - 3,
            "late_kept": read / 97, "jumped": 0,
        });
        // As random as the hash of a manifest is.
        let hash = [time::new_uuid(), time::new_uuid()].map(|id| id.simple().to_string()).concat();
        let said = [
            ("kappa.timeline", "0198f2a4-1d2c-7c4e-9f51-3a6d1a2b3c4e".to_owned()),
            ("kappa.manifest", hash),
            ("kappa.job", "distinct-merchants".to_owned()),
            ("kappa.owner", "1".to_owned()),
            ("kappa.offsets", json!({ "payments": offsets }).to_string()),
            ("kappa.closed", time::format_utc(1_772_323_200_000 + checkpoint as i64 * 1000)),
            ("kappa.account", account.to_string()),
        ];
        said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    const START_MS: i64 = 2_000_000_000_000;

    fn snapshot(number: i64) -> Snapshot {
        let additional_properties = [("kappa.checkpoint".to_owned(), number.to_string())].into();
        let summary = Summary { operation: Operation::Append, additional_properties };
        let built = Snapshot::builder().with_snapshot_id(number * 7_919).with_sequence_number(number);
        let built = built.with_parent_snapshot_id((number > 1).then_some((number - 1) * 7_919));
        let built = built
            .with_timestamp_ms(START_MS + number * 1000)
            .with_manifest_list(format!("file:///t/metadata/snap-{number}.avro"));
        built.with_summary(summary).with_schema_id(0).build()
    }

    /// A table with a snapshot more.
    pub(crate) fn grown(metadata: TableMetadata, number: i64) -> TableMetadataBuilder {
        let builder = metadata.into_builder(Some(format!("file:///t/metadata/{number}.json")));
        builder.set_branch_snapshot(snapshot(number), MAIN_BRANCH).unwrap()
    }

    /// A snapshot as a job makes it.
    fn whole_snapshot(number: i64, parent: Option<i64>) -> Snapshot {
        let id = time::random_positive_i64();
        let counts =
            ["added-data-files", "added-records", "added-files-size", "total-data-files", "total-delete-files", "kappa.rows"];
        let counts =
            counts.into_iter().chain(["total-equality-deletes", "total-files-size", "total-position-deletes", "total-records"]);
        let counts = counts.map(|key| (key.to_owned(), (number * key.len() as i64).to_string()));
        let marker =
            [("kappa.version", "0198f2a4-1d2c-7c4e-9f51-3a6d1a2b3c4d".to_owned()), ("kappa.checkpoint", number.to_string())];
        let marker = marker.map(|(key, value)| (key.to_owned(), value));
        let additional_properties = counts.chain(said_by_a_job(number as u64)).chain(marker).collect();
        let list =
            format!("file:///data/warehouse/metric/daily-0198f2a4/metadata/snap-{id}-1-{}.avro", time::new_ordered_uuid());
        let summary = Summary { operation: Operation::Append, additional_properties };
        let built = Snapshot::builder().with_snapshot_id(id).with_sequence_number(number).with_parent_snapshot_id(parent);
        let built = built.with_timestamp_ms(START_MS + number * 1000).with_manifest_list(list);
        built.with_summary(summary).with_schema_id(0).build()
    }

    /// With a commit a second by the default retention: an hour of commits and of the merges that they are worth, the last of
    /// each hour of a week, and those that are forgotten together.
    #[test]
    fn the_most_that_a_table_keeps_is_below_a_megabyte() {
        const MOST: i64 = 3600 + 3600 / 7 + 7 * 24 + 16;
        let mut metadata: TableMetadata = serde_json::from_str(FIRST).unwrap();
        for number in 1..=MOST {
            let parent = metadata.current_snapshot_id();
            let builder = metadata.into_builder(Some(format!("file:///t/metadata/{number}-{}.json", time::new_ordered_uuid())));
            metadata =
                builder.set_branch_snapshot(whole_snapshot(number, parent), MAIN_BRANCH).unwrap().build().unwrap().metadata;
        }
        let mut pieces = Pieces::default();
        let bytes = encode(&metadata, &Refs::default(), true, &mut pieces).unwrap();
        assert!(bytes.len() < 950_000, "{} bytes", bytes.len());
        let before = time::instant();
        let again = encode(&metadata, &Refs::default(), true, &mut pieces).unwrap();
        println!("{} bytes, packed again in {:?}", bytes.len(), before.elapsed());
        assert_eq!(again, bytes);
        assert_eq!(serde_json::from_slice::<TableMetadata>(&unpacked(&bytes)).unwrap(), metadata);
    }

    /// Reads with the least of decoders: one member, to its end.
    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let (mut text, mut decoder) = (Vec::new(), flate2::bufread::GzDecoder::new(bytes));
        decoder.read_to_end(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty());
        text
    }

    #[test]
    fn a_file_of_pieces_is_the_document_that_the_crate_reads() {
        let mut metadata: TableMetadata = serde_json::from_str(FIRST).unwrap();
        let (mut packed, mut plain, mut refs) = (Pieces::default(), Pieces::default(), Refs::default());
        for number in 1..=400 {
            let mut builder = grown(metadata, number);
            if number == 150 {
                let tag = SnapshotReference::new(140 * 7_919, SnapshotRetention::Tag { max_ref_age_ms: Some(5) });
                let statistics = StatisticsFile {
                    snapshot_id: 140 * 7_919,
                    statistics_path: "file:///t/s.puffin".into(),
                    file_size_in_bytes: 1,
                    file_footer_size_in_bytes: 1,
                    key_metadata: None,
                    blob_metadata: vec![],
                };
                builder = builder.set_ref("kept", tag).unwrap().set_statistics(statistics);
            }
            if number % 16 == 0 {
                let gone: Vec<i64> = (number - 115..number - 99).filter(|old| *old != 140).map(|old| old * 7_919).collect();
                builder = builder.remove_snapshots(&gone);
            }
            metadata = builder.build().unwrap().metadata;
            if number == 150 {
                refs = serde_json::from_value(serde_json::to_value(&metadata).unwrap()["refs"].clone()).unwrap();
                assert_eq!(refs.snapshots().collect::<Vec<_>>(), [140 * 7_919]);
            }
            let text = unpacked(&encode(&metadata, &refs, true, &mut packed).unwrap());
            assert_eq!(text, encode(&metadata, &refs, false, &mut plain).unwrap());
            assert_eq!(serde_json::from_slice::<TableMetadata>(&text).unwrap(), metadata, "{number}");
        }
        assert!(packed.0.len() >= 3 && metadata.snapshots().len() < 140, "{} pieces", packed.0.len());
    }

    #[test]
    fn what_was_packed_is_used_again() {
        let (mut metadata, refs) = (serde_json::from_str(FIRST).unwrap(), Refs::default());
        let mut pieces = Pieces::default();
        for number in 1..=200 {
            metadata = grown(metadata, number).build().unwrap().metadata;
        }
        encode(&metadata, &refs, true, &mut pieces).unwrap();
        let marked = pieces.0.get_mut(&(Part::Snapshots, 1)).unwrap();
        marked.bytes.push(0xff);
        let bytes = encode(&grown(metadata, 201).build().unwrap().metadata, &refs, true, &mut pieces).unwrap();
        assert!(flate2::bufread::GzDecoder::new(bytes.as_slice()).read_to_end(&mut Vec::new()).is_err(), "it was made anew");
    }
}
