//! Topics: made, found, looked at, deleted.

use super::*;

#[test]
fn topics_are_made_and_found_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let log = LogDir::open(root.path().join("not/yet/there"));
    assert!(log.topics().unwrap().is_empty());
    let error = log.topic("payments").unwrap_err();
    assert!(error.to_string().contains("there are no topics at all: create it with `kappa log create payments`"), "{error}");
    let topic = log.create_topic("payments.captured.v1", 4, Retention { ms: Some(5), bytes: None }).unwrap();
    assert_eq!(log.create_topic("payments.captured.v1", 4, Retention::default()).unwrap_err().code(), "log.topic_exists");
    assert_eq!(log.create_topic("../x", 4, Retention::default()).unwrap_err().code(), "log.topic_name");
    assert_eq!(log.create_topic("x", 0, Retention::default()).unwrap_err().code(), "log.partitions");
    let found = log.topic("payments.captured.v1").unwrap();
    assert_eq!((found.id(), found.partitions().len(), found.retention().ms), (topic.id(), 4, Some(5)));
    let error = log.topic("payment.captured.v1").unwrap_err();
    assert!(error.to_string().contains("did you mean payments.captured.v1?"), "{error}");
    assert_eq!(topic.reader(Partition(4), Offset(0)).err().unwrap().code(), "log.unknown_partition");
    assert_eq!(log.describe(None).unwrap().len(), 4);
    let writer = topic.writer(Partition(2), small()).unwrap();
    assert_eq!(log.delete_topic("payments.captured.v1").unwrap_err().code(), "log.locked");
    drop(writer);
    log.delete_topic("payments.captured.v1").unwrap();
    assert!(log.topics().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(log.root()).unwrap().count(), 0);
}

#[test]
fn the_tail_is_the_newest_over_all_partitions() {
    let root = tempfile::tempdir().unwrap();
    let topic = LogDir::open(root.path()).create_topic("t", 3, Retention::default()).unwrap();
    let mut writer = topic.topic_writer(None, small()).unwrap();
    for number in 0..100 {
        let value = number.to_string();
        writer.push(&NewRecord { value: Some(value.as_bytes()), timestamp: number, ..NewRecord::default() }).unwrap();
    }
    writer.flush().unwrap();
    let tail: Vec<i64> = topic.tail(5).unwrap().iter().map(|record| record.timestamp).collect();
    assert_eq!(tail, [95, 96, 97, 98, 99]);
    assert_eq!(topic.tail(1_000).unwrap().len(), 100);
    let mut scan = topic.scan_all().unwrap();
    let mut block = RecordBlock::default();
    let mut seen = Vec::new();
    while scan.next_block(&mut block).unwrap() {
        seen.extend(block.records.iter().map(|record| (block.partition, record.offset)));
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted());
}
