//! What is staged, read back from the file.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};

use super::{StagingTarget, TopicStaging};
use crate::log::stream::BatchStream;
use crate::message::{Epoch, RecordBlock};
use crate::plan::schema::{DataType, Field, Schema};
use crate::sink::{Change, StagedContent, StagedFile, StagingWriter};

type Pair = (Option<String>, Option<String>);

fn schema() -> Schema {
    Schema { fields: vec![Field::new("k", DataType::String), Field::new("n", DataType::Int64)] }
}

fn rows(rows: &[(&str, i64)]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|(key, _)| Some(*key)).collect();
    let numbers: Int64Array = rows.iter().map(|(_, number)| Some(*number)).collect();
    RecordBatch::try_new(schema().to_arrow(), vec![Arc::new(keys), Arc::new(numbers)]).unwrap()
}

fn staging(root: &std::path::Path, key: &[&str], max_message_bytes: usize) -> TopicStaging {
    let key = key.iter().map(|name| (*name).to_owned()).collect();
    let (root, output, topic) = (root.to_owned(), "output totals".to_owned(), "t".to_owned());
    TopicStaging::new(StagingTarget { output, topic, root, owner: 3, schema: schema(), key, max_message_bytes }).unwrap()
}

fn read(root: &std::path::Path, file: &StagedFile) -> Vec<Pair> {
    let bytes = std::fs::read(root.join(&file.path)).unwrap();
    assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (file.bytes, file.checksum));
    let (mut stream, mut block, mut found) = (BatchStream::new(&bytes[..]), RecordBlock::default(), Vec::new());
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    while stream.next(&mut block).unwrap() {
        found.extend((0..block.len()).map(|index| (text(block.key(index)), text(block.value(index)))));
    }
    assert_eq!(found.len() as u64, file.rows);
    found
}

fn pair(key: Option<&str>, value: Option<&str>) -> Pair {
    (key.map(str::to_owned), value.map(str::to_owned))
}

#[test]
fn rows_with_keys_and_tombstones_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = staging(dir.path(), &["k"], 1_000_000);
    assert_eq!(staging.prepare(Epoch(1)).unwrap(), []);
    staging.write(Change::Upsert(rows(&[("a", 1), ("b", 2)]))).unwrap();
    staging.write(Change::Delete(rows(&[("c", 0)]).project(&[0]).unwrap())).unwrap();
    let files = staging.prepare(Epoch(2)).unwrap();
    assert_eq!((files.len(), files[0].content), (1, StagedContent::Records));
    assert!(files[0].path.starts_with("outbox/3/"), "{}", files[0].path);
    let expected = [
        pair(Some("{\"k\":\"a\"}"), Some("{\"k\":\"a\",\"n\":1}")),
        pair(Some("{\"k\":\"b\"}"), Some("{\"k\":\"b\",\"n\":2}")),
        pair(Some("{\"k\":\"c\"}"), None),
    ];
    assert_eq!(read(dir.path(), &files[0]), expected);
    staging.write(Change::Upsert(rows(&[("d", 4)]))).unwrap();
    let next = staging.prepare(Epoch(3)).unwrap();
    assert_ne!(next[0].path, files[0].path);
    assert_eq!(read(dir.path(), &next[0]).len(), 1);
}

#[test]
fn many_rows_without_keys_are_many_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = staging(dir.path(), &[], 1_000_000);
    let texts: Vec<String> = (0..30_000).map(|i| format!("key {i}")).collect();
    let all: Vec<(&str, i64)> = texts.iter().enumerate().map(|(i, text)| (text.as_str(), i as i64)).collect();
    all.chunks(1_000).for_each(|chunk| staging.write(Change::Append(rows(chunk))).unwrap());
    let files = staging.prepare(Epoch(1)).unwrap();
    let found = read(dir.path(), &files[0]);
    let expected = |(text, i): &(&str, i64)| pair(None, Some(&format!("{{\"k\":\"{text}\",\"n\":{i}}}")));
    assert_eq!(found, all.iter().map(expected).collect::<Vec<_>>());
}

#[test]
fn a_record_that_the_topic_does_not_take_is_refused_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = staging(dir.path(), &["k"], 1_000);
    staging.write(Change::Upsert(rows(&[(&"x".repeat(300), 1)]))).unwrap();
    let error = staging.write(Change::Upsert(rows(&[(&"y".repeat(400), 1)]))).unwrap_err();
    assert_eq!(error.code(), "record_too_large");
    let text = error.to_string();
    assert!(text.contains("output totals") && text.contains("topic t") && text.contains("yyy"), "{text}");
}
