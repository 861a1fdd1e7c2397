//! A crash takes back nothing that was acknowledged, and leaves nothing half.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A log with `acknowledged` records, and the bytes of one more batch of three records behind them.
fn with_waiting_batch(root: &Path, acknowledged: i64, compression: Compression) -> (Topic, PathBuf, usize, Vec<u8>) {
    let topic = one_partition(root);
    let options = WriterOptions { compression, segment_bytes: 1 << 20, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    append(&mut writer, &records(0..acknowledged)).unwrap();
    writer.flush().unwrap();
    let path = dir(&topic).file(0, "log");
    let durable = fs::read(&path).unwrap().len();
    let extent = fs::read(dir(&topic).path.join("extent")).unwrap();
    append(&mut writer, &records(acknowledged..acknowledged + 3)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    // The crash came before the end was published.
    fs::write(dir(&topic).path.join("extent"), extent).unwrap();
    let whole = fs::read(&path).unwrap();
    (topic, path, durable, whole)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    for compression in [Compression::None, Compression::Zstd] {
        let root = tempfile::tempdir().unwrap();
        let (topic, path, durable, whole) = with_waiting_batch(root.path(), 20, compression);
        let mut epoch = 0;
        for size in durable..=whole.len() {
            fs::write(&path, &whole[..size]).unwrap();
            assert_eq!(read_from(&topic, 0).unwrap(), records(0..20), "a reader sees what was acknowledged");
            if size == whole.len() {
                continue;
            }
            let mut writer = topic.writer(Partition(0), small()).unwrap();
            assert_eq!(writer.end(), Offset(20));
            match writer.truncation() {
                None => assert_eq!(size, durable),
                Some(truncation) => {
                    epoch += 1;
                    assert_eq!((truncation.offset, truncation.bytes), (20, (size - durable) as u64));
                    assert_eq!(truncation.leader_epoch, epoch);
                }
            }
            writer.flush().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), durable as u64);
            assert_eq!(topic.extent(Partition(0)).unwrap().leader_epoch, epoch);
        }
        let text = fs::read_to_string(dir(&topic).path.join("leader-epoch-checkpoint")).unwrap();
        assert_eq!(text, format!("0\n2\n0 0\n{epoch} 20\n"));
    }
}

#[test]
fn a_tail_with_garbage_at_any_byte_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let (topic, path, durable, whole) = with_waiting_batch(root.path(), 20, Compression::None);
    for at in durable..whole.len() {
        // The epoch is not covered by the checksum, and says nothing about the records.
        if (durable + 12..durable + 16).contains(&at) {
            continue;
        }
        let mut garbled = whole.clone();
        garbled[at] ^= 0x40;
        fs::write(&path, &garbled).unwrap();
        assert_eq!(read_from(&topic, 0).unwrap(), records(0..20));
        let writer = topic.writer(Partition(0), small()).unwrap();
        assert_eq!((writer.end(), writer.truncation().map(|t| t.offset)), (Offset(20), Some(20)), "byte {at}");
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), &whole[..durable]);
    }
}

#[test]
fn whole_batches_behind_the_published_end_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let (topic, path, _, whole) = with_waiting_batch(root.path(), 20, Compression::None);
    fs::write(&path, [&whole[..], &[0; 300]].concat()).unwrap();
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    assert_eq!(writer.truncation().map(|truncation| (truncation.offset, truncation.bytes)), Some((23, 300)));
    append(&mut writer, &records(23..30)).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_from(&topic, 0).unwrap(), records(0..30));
}

#[test]
fn acknowledged_records_are_never_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let (topic, path, durable, whole) = with_waiting_batch(root.path(), 20, Compression::None);
    for size in [0, 1, 60, durable - 1] {
        fs::write(&path, &whole[..size]).unwrap();
        let error = topic.writer(Partition(0), small()).unwrap_err();
        assert_eq!(error.code(), "log.lost_tail", "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), size as u64, "nothing was touched");
        assert_eq!(read_from(&topic, 0).unwrap_err().kind(), crate::error::ErrorKind::Corruption);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(topic.writer(Partition(0), small()).unwrap_err().code(), "log.lost_tail");
}

#[test]
fn an_extent_that_was_lost_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &records(0..500)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let before = topic.extent(Partition(0)).unwrap();
    assert!(dir(&topic).segments().unwrap().len() > 3);
    fs::remove_file(dir(&topic).path.join("extent")).unwrap();
    let error = topic.reader(Partition(0), Offset(0)).err().unwrap();
    assert_eq!(error.code(), "log.extent");
    let writer = topic.writer(Partition(0), small()).unwrap();
    assert_eq!((writer.end(), writer.truncation()), (Offset(500), None));
    drop(writer);
    assert_eq!(topic.extent(Partition(0)).unwrap(), before);
    assert_eq!(read_from(&topic, 0).unwrap(), records(0..500));
}

#[test]
fn without_an_extent_damage_in_the_middle_is_no_torn_tail() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let options = WriterOptions { segment_bytes: 1 << 20, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    append(&mut writer, &records(0..100)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let path = dir(&topic).file(0, "log");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len() / 2).step_by(7) {
        fs::remove_file(dir(&topic).path.join("extent")).unwrap();
        let mut garbled = whole.clone();
        garbled[at] ^= 1;
        fs::write(&path, &garbled).unwrap();
        let result = topic.writer(Partition(0), options);
        fs::write(&path, &whole).unwrap();
        match result {
            Err(error) => assert_eq!(error.code(), "log.damaged", "byte {at}: {error}"),
            Ok(writer) => assert_eq!(writer.end(), Offset(100), "byte {at}: only the epoch of a batch may differ"),
        }
        topic.writer(Partition(0), options).unwrap();
    }
}

#[test]
fn a_crash_between_two_segments_is_survived() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &records(0..50)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    // The next segment was created, nothing was written to it yet.
    for extension in ["log", "index"] {
        fs::write(dir(&topic).file(50, extension), b"").unwrap();
    }
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    assert_eq!((writer.end(), writer.truncation()), (Offset(50), None));
    append(&mut writer, &records(50..200)).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_from(&topic, 0).unwrap(), records(0..200));
    assert_eq!(topic.offset_at(Partition(0), 1_049).unwrap(), Offset(49));
}

#[test]
fn indexes_that_a_crash_left_behind_are_mended() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let options = WriterOptions { segment_bytes: 1 << 20, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    append(&mut writer, &records(0..200)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let index = dir(&topic).file(0, "index");
    let entries = fs::read(&index).unwrap();
    for damaged in [vec![], entries[..11].to_vec(), [&entries[..8], &[0; 64]].concat(), [&entries[..], &[0xff; 16]].concat()] {
        fs::write(&index, damaged).unwrap();
        for at in [0, 57, 199, 200] {
            assert_eq!(read_from(&topic, at).unwrap(), records(at..200));
        }
        topic.writer(Partition(0), options).unwrap();
        let mended = fs::read(&index).unwrap();
        assert!(entries.starts_with(&mended), "only entries that are right are left");
    }
}

#[test]
fn a_reader_that_was_further_than_the_extent_finds_the_end_again() {
    let root = tempfile::tempdir().unwrap();
    let (topic, _, _, _) = with_waiting_batch(root.path(), 20, Compression::None);
    assert_eq!(topic.extent(Partition(0)).unwrap().end, Offset(20));
    // While somebody writes, the end is the writer's to publish.
    let path = dir(&topic).path.join("extent");
    let extent = fs::read(&path).unwrap();
    let writer = topic.writer(Partition(0), small()).unwrap();
    fs::write(&path, extent).unwrap();
    assert_eq!(topic.reader(Partition(0), Offset(22)).err().unwrap().code(), "log.offset_out_of_range");
    drop(writer);
    assert_eq!(read_from(&topic, 22).unwrap(), records(22..23));
    assert_eq!(topic.reader(Partition(0), Offset(24)).err().unwrap().code(), "log.offset_out_of_range");
}

/// Without a published end whole batches behind the damage are looked for. Payloads may be full of what looks like the headers
/// of large ones, and reading each would take hours: then nothing is cut off, and it is said.
#[test]
fn what_looks_like_many_large_batches_is_not_read_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let (topic, path, durable, whole) = with_waiting_batch(root.path(), 20, Compression::None);
    fs::remove_file(dir(&topic).path.join("extent")).unwrap();
    let mut header = whole[durable..durable + batch::HEADER].to_vec();
    header[..8].copy_from_slice(&1_000_i64.to_be_bytes());
    header[8..12].copy_from_slice(&(1_i32 << 19).to_be_bytes());
    let mut damaged = [&whole[..durable], b"damage"].concat();
    (0..20_000).for_each(|_| damaged.extend_from_slice(&header));
    fs::write(&path, &damaged).unwrap();
    let error = topic.writer(Partition(0), small()).map(drop).unwrap_err();
    assert_eq!(error.code(), "log.damaged", "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    // A few of them are no reason: the tail is torn, and is cut off.
    damaged.truncate(durable + 6 + 10 * batch::HEADER);
    fs::write(&path, &damaged).unwrap();
    drop(topic.writer(Partition(0), small()).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), durable as u64);
}
