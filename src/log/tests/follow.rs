//! Readers follow a writer, and see only what is durable.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

#[test]
fn a_reader_follows_and_never_sees_what_is_not_flushed() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let flushed = AtomicI64::new(0);
    const COUNT: i64 = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = topic.writer(Partition(0), WriterOptions { segment_bytes: 60_000, ..small() }).unwrap();
            for number in 0..COUNT {
                append(&mut writer, &[record(number)]).unwrap();
                if number % 97 == 0 || number + 1 == COUNT {
                    // Announced before it is so: the reader may see it from now on, not earlier.
                    flushed.store(number + 1, Ordering::SeqCst);
                    writer.flush().unwrap();
                }
            }
        });
        let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
        let mut block = RecordBlock::default();
        let mut next = 0;
        while next < COUNT {
            reader.poll(&mut block, 3_000, None).unwrap();
            for index in 0..block.len() {
                assert_eq!(OwnedRecord::of(&block, index), Some(record(next)));
                next += 1;
            }
            // A segment's end is published when the next is started, without a flush from outside.
            assert_eq!(block.next_offset, Offset(next));
        }
        assert!(next <= flushed.load(Ordering::SeqCst));
    });
}

#[test]
fn nothing_is_visible_before_the_flush() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let options = WriterOptions { flush: Flush::EveryBytes(2_000), segment_bytes: 1 << 20, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    append(&mut writer, &records(0..20)).unwrap();
    assert!(read(&mut reader, 1 << 20, None).unwrap().is_empty());
    append(&mut writer, &records(20..100)).unwrap();
    let durable = writer.durable_end().0;
    assert!((1..100).contains(&durable), "the policy flushed in between");
    assert_eq!(read(&mut reader, 1 << 20, None).unwrap(), records(0..durable));
    writer.flush().unwrap();
    assert_eq!(read(&mut reader, 1 << 20, None).unwrap(), records(durable..100));
    let mut writer_error = topic.writer(Partition(0), options).err().unwrap();
    assert_eq!(writer_error.code(), "log.locked");
    drop(writer);
    let each = WriterOptions { flush: Flush::EachAppend, ..options };
    let mut writer = topic.writer(Partition(0), each).unwrap();
    writer.append(&[NewRecord { value: Some(b"x"), ..NewRecord::default() }]).unwrap();
    assert_eq!(writer.durable_end(), Offset(101));
    writer_error = topic.reader(Partition(0), Offset(102)).err().unwrap();
    assert_eq!(writer_error.code(), "log.offset_out_of_range");
}

#[test]
fn a_topic_that_was_recreated_is_another_one() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    LogDir::open(root.path()).delete_topic("t").unwrap();
    let mut block = RecordBlock::default();
    assert_eq!(reader.poll(&mut block, 1 << 20, None).unwrap_err().code(), "log.partition_gone");
    let other = one_partition(root.path());
    assert_ne!(topic.id(), other.id());
    assert_eq!(reader.poll(&mut block, 1 << 20, None).unwrap_err().code(), "log.topic_recreated");
    assert_eq!(topic.reader(Partition(0), Offset(0)).err().unwrap().code(), "log.topic_recreated");
}
