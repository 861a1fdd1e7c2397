//! What was appended is what is read.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..most)]
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let headers = vec((".{0,5}", of(bytes(50))), 0..3);
    let timestamp = prop_oneof![4 => 0..2_000_000i64, 1 => any::<i64>()];
    (of(bytes(300)), of(bytes(3_000)), headers, timestamp).prop_map(|(key, value, headers, timestamp)| OwnedRecord {
        partition: Partition(0),
        offset: Offset(0),
        timestamp,
        key,
        value,
        headers,
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_records_come_back_from_any_offset(
        appends in vec((vec(any_record(), 0..60), compression(), any::<bool>()), 1..5),
        batch_bytes in 1..4_000usize,
        segment_bytes in 1_024..20_000u64,
        index_interval in 0..2_000u64,
        max_bytes in prop_oneof![Just(0usize), 0..20_000usize],
        split in 0.0..1.0f64,
    ) {
        let root = tempfile::tempdir().unwrap();
        let topic = one_partition(root.path());
        let mut expected: Vec<OwnedRecord> = Vec::new();
        for (mut records, compression, flush_often) in appends {
            let options = WriterOptions { segment_bytes, batch_bytes, index_interval, compression, flush: Flush::Explicit };
            let mut writer = topic.writer(Partition(0), options).unwrap();
            prop_assert_eq!(writer.truncation(), None);
            for record in &mut records {
                record.offset = writer.end();
                append(&mut writer, std::slice::from_ref(record)).unwrap();
                if flush_often && record.offset.0 % 8 == 0 {
                    writer.flush().unwrap();
                }
            }
            writer.flush().unwrap();
            expected.extend(records);
        }
        let end = expected.len() as i64;
        let at = (split * end as f64) as usize;
        let mut reader = topic.reader(Partition(0), Offset(at as i64)).unwrap();
        prop_assert_eq!(read(&mut reader, max_bytes, None).unwrap(), &expected[at..]);
        prop_assert_eq!(reader.position(), Offset(end));
        // In two parts, where the first stops at an offset within a batch.
        let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
        prop_assert_eq!(read(&mut reader, max_bytes, Some(at as i64)).unwrap(), &expected[..at]);
        prop_assert_eq!(reader.position(), Offset(at as i64));
        prop_assert_eq!(read(&mut reader, max_bytes, None).unwrap(), &expected[at..]);
    }

    #[test]
    fn the_offset_of_a_timestamp_is_the_first_that_has_it_or_a_later_one(
        timestamps in vec(0..60i64, 0..300),
        compression in compression(),
        lost in any::<bool>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let topic = one_partition(root.path());
        let mut writer = topic.writer(Partition(0), WriterOptions { compression, batch_bytes: 200, ..small() }).unwrap();
        for (offset, timestamp) in timestamps.iter().enumerate() {
            append(&mut writer, &[OwnedRecord { timestamp: *timestamp, ..record(offset as i64) }]).unwrap();
        }
        writer.flush().unwrap();
        if lost {
            for base in dir(&topic).segments().unwrap() {
                std::fs::remove_file(dir(&topic).file(base, "timeindex")).unwrap();
            }
        }
        for wanted in -1..61 {
            let first = timestamps.iter().position(|timestamp| *timestamp >= wanted).unwrap_or(timestamps.len());
            prop_assert_eq!(topic.offset_at(Partition(0), wanted).unwrap(), Offset(first as i64), "timestamp {}", wanted);
        }
    }
}

#[test]
fn a_batch_greater_than_the_readers_limit_is_read() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut writer = topic.writer(Partition(0), WriterOptions { compression, ..small() }).unwrap();
        let value: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let first = writer.append(&[NewRecord { value: Some(&value), ..NewRecord::default() }; 2]).unwrap();
        writer.flush().unwrap();
        let got = read(&mut topic.reader(Partition(0), first).unwrap(), 100, None).unwrap();
        assert_eq!(got.len(), 2);
        assert!(got.iter().all(|record| record.value.as_deref() == Some(&value[..])));
    }
    let huge = vec![0; 65 << 20];
    let error =
        topic.writer(Partition(0), small()).unwrap().append(&[NewRecord { value: Some(&huge), ..NewRecord::default() }]);
    assert_eq!(error.unwrap_err().code(), "log.record_too_large");
}

#[test]
fn blocks_stay_near_their_limit() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    for compression in [Compression::None, Compression::Zstd] {
        let mut writer = topic.writer(Partition(0), WriterOptions { compression, segment_bytes: 1 << 20, ..small() }).unwrap();
        let value = [b'a'; 1000];
        writer.append(&[NewRecord { value: Some(&value), ..NewRecord::default() }; 500]).unwrap();
        writer.flush().unwrap();
        let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
        let mut block = RecordBlock::default();
        loop {
            reader.poll(&mut block, 10_000, None).unwrap();
            if block.is_empty() {
                break;
            }
            assert!(block.len() <= 16, "{} records of 1,000 bytes", block.len());
        }
    }
}

#[test]
fn bytes_that_kafka_wrote_are_read() {
    // One batch from Kafka's own MemoryRecordsBuilder layout, by hand: two records, the second without key, one header.
    let records: &[u8] = &[
        18, 0, 0, 0, 2, b'k', 4, b'v', b'1', 0, // key k, value v1
        24, 0, 10, 2, 1, 4, b'v', b'2', 2, 2, b'h', 2, b'x', // time +5, offset +1, no key, header h=x
    ];
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    batch.extend((49 + records.len() as i32).to_be_bytes());
    batch.extend(0i32.to_be_bytes());
    batch.push(2);
    batch.extend([0; 4]);
    batch.extend(0i16.to_be_bytes());
    batch.extend(1i32.to_be_bytes());
    batch.extend(100i64.to_be_bytes());
    batch.extend(105i64.to_be_bytes());
    batch.extend([0xff; 14]);
    batch.extend(2i32.to_be_bytes());
    batch.extend(records);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());

    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    std::fs::write(dir(&topic).file(0, "log"), &batch).unwrap();
    topic.writer(Partition(0), small()).unwrap();
    let got = read_from(&topic, 0).unwrap();
    assert_eq!((got[0].key.as_deref(), got[0].value.as_deref(), got[0].timestamp), (Some(&b"k"[..]), Some(&b"v1"[..]), 100));
    assert_eq!((got[1].key.as_deref(), got[1].value.as_deref(), got[1].timestamp), (None, Some(&b"v2"[..]), 105));
    assert_eq!(got[1].headers, [("h".to_owned(), Some(b"x".to_vec()))]);
    // And the writer makes the same bytes.
    let other = tempfile::tempdir().unwrap();
    let topic = one_partition(other.path());
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &got).unwrap();
    writer.flush().unwrap();
    assert_eq!(std::fs::read(dir(&topic).file(0, "log")).unwrap(), batch);
}
