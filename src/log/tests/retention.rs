//! What is forgotten, and what is not.

use super::*;

fn filled(root: &std::path::Path, retention: Retention) -> (LogDir, Topic) {
    let log = LogDir::open(root);
    let topic = log.create_topic("t", 1, retention).unwrap();
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &records(0..500)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    (log, topic)
}

#[test]
fn old_segments_go_and_the_active_one_stays() {
    let root = tempfile::tempdir().unwrap();
    let (log, topic) = filled(root.path(), Retention { ms: Some(100), bytes: None });
    let bases = dir(&topic).segments().unwrap();
    // Record n has the timestamp 1,000 + n: at 1,300 the segments that end before record 200 are due.
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    let mut slow = topic.reader(Partition(0), Offset(1)).unwrap();
    slow.poll(&mut RecordBlock::default(), 1, None).unwrap();
    let done = log.enforce_retention(1_300).unwrap();
    let start = *bases.iter().rfind(|base| **base <= 200).unwrap();
    assert_eq!((done[0].start, done[0].is_busy), (Offset(start), false));
    assert!(done[0].bytes > 0);
    assert_eq!(dir(&topic).segments().unwrap().first(), Some(&start));
    assert_eq!(read_from(&topic, start).unwrap(), records(start..500));
    let error = topic.reader(Partition(0), Offset(start - 1)).err().unwrap();
    assert_eq!(error.code(), "log.offset_out_of_range");
    assert!(error.to_string().contains(&format!("offset {} is before the start of the log, {start}", start - 1)), "{error}");
    assert_eq!(topic.offset_at(Partition(0), 0).unwrap(), Offset(start));
    // A reader that is behind is told, and skips nothing.
    let got = read(&mut reader, 1 << 20, None);
    assert_eq!(got.unwrap_err().code(), "log.offset_out_of_range");
    log.enforce_retention(i64::MAX).unwrap();
    assert_eq!(dir(&topic).segments().unwrap(), [*bases.last().unwrap()]);
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &records(500..510)).unwrap();
    writer.flush().unwrap();
    let described = topic.describe().unwrap().remove(0);
    assert_eq!(
        (described.start.0, described.end.0, described.records),
        (bases[bases.len() - 1], 510, 510 - bases[bases.len() - 1])
    );
    assert_eq!((described.first_timestamp, described.last_timestamp), (Some(1_000 + described.start.0), Some(1_509)));
}

#[test]
fn bytes_are_kept_up_to_the_limit() {
    let root = tempfile::tempdir().unwrap();
    let (log, topic) = filled(root.path(), Retention { ms: None, bytes: Some(9_000) });
    assert!(topic.extent(Partition(0)).unwrap().bytes > 20_000);
    log.enforce_retention(0).unwrap();
    let kept = topic.extent(Partition(0)).unwrap();
    assert!((9_000..14_000).contains(&kept.bytes), "{}", kept.bytes);
    assert_eq!(read_from(&topic, kept.start.0).unwrap(), records(kept.start.0..500));
}

#[test]
fn a_partition_that_is_written_is_left_to_its_writer() {
    let root = tempfile::tempdir().unwrap();
    let (log, topic) = filled(root.path(), Retention { ms: Some(0), bytes: None });
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    assert!(log.enforce_retention(i64::MAX).unwrap()[0].is_busy);
    assert_eq!(topic.extent(Partition(0)).unwrap().start, Offset(0));
    assert!(writer.enforce_retention(&topic.retention(), i64::MAX).unwrap() > 0);
    assert!(topic.extent(Partition(0)).unwrap().start > Offset(0));
    assert_eq!(writer.enforce_retention(&topic.retention(), i64::MAX).unwrap(), 0);
}

#[test]
fn without_a_time_index_nothing_young_is_deleted() {
    let root = tempfile::tempdir().unwrap();
    let (log, topic) = filled(root.path(), Retention { ms: Some(100), bytes: None });
    for base in dir(&topic).segments().unwrap() {
        let path = dir(&topic).file(base, "timeindex");
        let entries = std::fs::read(&path).unwrap();
        std::fs::write(&path, &entries[..12.min(entries.len())]).unwrap();
    }
    log.enforce_retention(1_300).unwrap();
    let start = topic.extent(Partition(0)).unwrap().start.0;
    assert!(start <= 200, "{start}");
}
