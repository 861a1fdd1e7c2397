//! A log with one file changed: read, searched, opened for writing and written; and batches in a file of their own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kappa::log::batch::BatchHeader;
use kappa::log::encode::BatchBuilder;
use kappa::log::stream::BatchStream;
use kappa::log::{Compression, Flush, LogDir, NewRecord, OwnedRecord, Retention, Topic, WriterOptions, headers};
use kappa::message::{HeaderIter, Offset, Partition, RecordBlock};

use super::{copy, scratch};

const TOPIC: &str = "t";
/// The first byte of an input says which file is changed, and with this bit that its checksums are made right again.
const REPAIR: u8 = 0x80;
const RECORDS: i64 = 300;

struct Template {
    place: PathBuf,
    files: Vec<PathBuf>,
    records: Vec<OwnedRecord>,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let place = scratch("log-template");
        let topic = LogDir::open(&place).create_topic(TOPIC, 1, Retention::default()).unwrap();
        for (number, compression) in [Compression::None, Compression::Lz4, Compression::Zstd].into_iter().enumerate() {
            let options = WriterOptions {
                segment_bytes: 4_096,
                batch_bytes: 400,
                index_interval: 500,
                compression,
                flush: Flush::Explicit,
            };
            let mut writer = topic.writer(Partition(0), options).unwrap();
            for i in 0..RECORDS / 3 {
                let n = number as i64 * (RECORDS / 3) + i;
                let (key, value) =
                    (format!("key {}", n % 7), format!("{{\"number\":{n},\"padding\":\"{}\"}}", "x".repeat(n as usize % 30)));
                let header = [kappa::log::Header { name: "h", value: (n % 2 == 0).then_some(b"v".as_slice()) }];
                let headers = &header[..(n % 3 == 0).into()];
                let value = (n % 11 != 0).then_some(value.as_bytes());
                writer.push(&NewRecord { key: Some(key.as_bytes()), value, headers, timestamp: 1_000 + n }).unwrap();
            }
            writer.flush().unwrap();
        }
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(place.join("t/0")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.push(place.join("t/topic.json"));
        files.sort();
        // An empty lock has nothing to be changed.
        files.retain(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0));
        let files = files.iter().map(|file| file.strip_prefix(&place).unwrap().to_owned()).collect();
        Template { files, records: all(&topic, 1 << 16).unwrap(), place }
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let template = template();
    assert_eq!(template.records.len() as i64, RECORDS);
    let mut seeds = Vec::new();
    for (number, file) in template.files.iter().enumerate() {
        let content = std::fs::read(template.place.join(file)).unwrap();
        for flags in [0, REPAIR] {
            seeds.push([&[number as u8 | flags], content.as_slice()].concat());
        }
    }
    seeds
}

pub fn run(input: &[u8]) {
    let (Some(first), template) = (input.first(), template()) else { return };
    let file = &template.files[usize::from(first & !REPAIR) % template.files.len()];
    let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mut content = input[1..].to_vec();
    let repaired = first & REPAIR != 0;
    if repaired && extension == "log" {
        repair_batches(&mut content);
    } else if repaired && file.ends_with("extent") {
        repair_extent(&mut content);
    }
    let place = scratch("log");
    let _ = std::fs::remove_dir_all(&place);
    copy(&template.place, &place);
    std::fs::write(place.join(file), &content).unwrap();
    // With right checksums other records are other records; otherwise none may be.
    let same = !(repaired && extension == "log");
    let check = |found: &[OwnedRecord]| {
        for record in found.iter().filter(|_| same) {
            assert_eq!(template.records.get(record.offset.0 as usize), Some(record), "{}", file.display());
        }
    };
    look(&place, &check);
    write(&place, same);
}

fn look(place: &Path, check: &dyn Fn(&[OwnedRecord])) {
    let log = LogDir::open(place);
    let Ok(topic) = log.topic(TOPIC) else { return };
    for max_bytes in [0, 700, 1 << 20] {
        if let Ok(found) = all(&topic, max_bytes) {
            check(&found);
        }
    }
    for at in [0, 1, 99, 150, 299, 300, 1 << 40] {
        let mut block = RecordBlock::default();
        if let Ok(mut reader) = topic.reader(Partition(0), Offset(at))
            && reader.poll(&mut block, 1_000, Some(Offset(at + 3))).is_ok()
        {
            check(&records(&block));
            assert!(block.records.iter().all(|record| (at..at + 3).contains(&record.offset)));
        }
    }
    for timestamp in [i64::MIN, 0, 1_000, 1_150, 1_299, 1_300, i64::MAX] {
        let _ = topic.offset_at(Partition(0), timestamp);
    }
    if let Ok(found) = topic.tail(5) {
        check(&found);
    }
    let _ = (log.describe(None), topic.epoch_before(Partition(0), Offset(200)), log.topics());
}

/// Who can append to it can read what was appended.
fn write(place: &Path, same: bool) {
    let log = LogDir::open(place);
    let Ok(topic) = log.topic(TOPIC) else { return };
    let Ok(mut writer) = topic.writer(Partition(0), WriterOptions::default()) else { return };
    let value = Some(b"appended".as_slice());
    if writer.push(&NewRecord { value, timestamp: 5_000, ..NewRecord::default() }).is_err() || writer.flush().is_err() {
        return;
    }
    drop(writer);
    let end = topic.extent(Partition(0)).unwrap().end;
    let mut block = RecordBlock::default();
    // Damage before it may stand in the way.
    let polled = topic.reader(Partition(0), Offset(end.0 - 1)).and_then(|mut reader| reader.poll(&mut block, 1 << 16, None));
    if same && polled.is_ok() {
        assert_eq!(block.value(0), value);
    }
    let _ = log.enforce_retention(i64::MAX);
}

fn all(topic: &Topic, max_bytes: usize) -> kappa::error::Result<Vec<OwnedRecord>> {
    let mut reader = topic.reader(Partition(0), topic.extent(Partition(0))?.start)?;
    let (mut block, mut found) = (RecordBlock::default(), Vec::new());
    loop {
        reader.poll(&mut block, max_bytes, None)?;
        if block.is_empty() {
            return Ok(found);
        }
        found.extend(records(&block));
    }
}

fn records(block: &RecordBlock) -> Vec<OwnedRecord> {
    (0..block.len()).filter_map(|index| OwnedRecord::of(block, index)).collect()
}

/// Gives each batch the length and the checksum that it should have, as far as batches can be told.
fn repair_batches(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 61 <= bytes.len() {
        let declared = BatchHeader::parse(&bytes[at..]).map_or(0, |header| header.size);
        let size = if (61..=bytes.len() - at).contains(&declared) { declared } else { bytes.len() - at };
        bytes[at + 8..at + 12].copy_from_slice(&(size as i32 - 12).to_be_bytes());
        bytes[at + 16] = 2;
        let checksum = crc32c::crc32c(&bytes[at + 21..at + size]);
        bytes[at + 17..at + 21].copy_from_slice(&checksum.to_be_bytes());
        at += size;
    }
}

fn repair_extent(bytes: &mut [u8]) {
    for slot in bytes.chunks_mut(512).filter(|slot| slot.len() >= 88) {
        slot[..4].copy_from_slice(b"KXT1");
        let checksum = crc32c::crc32c(&slot[..84]);
        slot[84..88].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Batches one after the other, each packed in another way.
pub fn batch_seeds() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    let mut seeds = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        for i in 0..20_u8 {
            let value = [i; 40];
            builder.push(&NewRecord {
                key: Some(&[i]),
                value: (i != 3).then_some(&value[..]),
                timestamp: 7,
                ..NewRecord::default()
            });
        }
        builder.finish(file.len() as i64, 0).unwrap();
        file.extend_from_slice(builder.bytes());
        seeds.push(builder.bytes().to_vec());
    }
    seeds.push(file);
    seeds
}

pub fn run_batches(input: &[u8]) {
    let mut repaired = input.to_vec();
    repair_batches(&mut repaired);
    for bytes in [input, &repaired] {
        let (mut stream, mut block) = (BatchStream::new(bytes), RecordBlock::default());
        let mut batches = 0;
        while matches!(stream.next(&mut block), Ok(true)) {
            batches += 1;
            assert!(batches <= bytes.len() / 61, "batches without end");
            for index in 0..block.len() {
                let wire = block.headers(index).unwrap_or_default();
                let _ = (block.key(index), block.value(index), headers(wire), HeaderIter::new(wire).count());
            }
        }
    }
}

/// What a bomb must come to.
const REFUSED: u8 = 0;
const READ: u8 = 1;

/// Batches that are a thousand times as large once they are unpacked: a record of 60 MiB, which is read, and frames one after
/// the other that come to gigabytes, which are not.
pub fn bombs() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        builder.push(&NewRecord { value: Some(&vec![0; 60 << 20]), timestamp: 7, ..NewRecord::default() });
        builder.finish(0, 0).unwrap();
        let batch = builder.bytes();
        seeds.push([&[READ], batch].concat());
        let mut bombs = vec![[&[REFUSED], &batch[..61], batch[61..].repeat(40).as_slice()].concat()];
        if compression == Compression::Lz4 {
            // One frame: its head, its blocks, and the mark of its end.
            let (head, blocks) = (&batch[..61 + 7], &batch[61 + 7..batch.len() - 4]);
            bombs.push([&[REFUSED], head, blocks.repeat(40).as_slice(), &[0; 4]].concat());
        }
        for bomb in &mut bombs {
            let length = (bomb.len() - 1 - 12) as i32;
            bomb[9..13].copy_from_slice(&length.to_be_bytes());
            repair_batches(&mut bomb[1..]);
        }
        seeds.extend(bombs);
    }
    seeds
}

/// In a file of batches, and in a log.
pub fn run_bomb(input: &[u8]) {
    let (expected, batch) = (input[0], &input[1..]);
    let mut block = RecordBlock::default();
    let outcome = BatchStream::new(batch).next(&mut block);
    assert_eq!(outcome.is_ok(), expected == READ, "{outcome:?}");
    drop(block);
    let place = scratch("bomb");
    let _ = std::fs::remove_dir_all(&place);
    let topic = LogDir::open(&place).create_topic(TOPIC, 1, Retention::default()).unwrap();
    std::fs::write(place.join("t/0/00000000000000000000.log"), batch).unwrap();
    // A writer finds the end again: the batch is whole.
    std::fs::remove_file(place.join("t/0/extent")).unwrap();
    drop(topic.writer(Partition(0), WriterOptions::default()).unwrap());
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    let mut block = RecordBlock::default();
    for _ in 0..3 {
        let polled = reader.poll(&mut block, 1 << 20, None);
        assert_eq!(polled.is_ok(), expected == READ, "{polled:?}");
    }
    // What the one batch took is given back, and an error leaves no more than the limit and a step.
    let most = if expected == READ { 32 << 20 } else { 320 << 20 };
    assert!(block.data.capacity() < most, "{} bytes are kept", block.data.capacity());
}
