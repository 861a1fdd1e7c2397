//! A flipped bit is reported, or changes nothing: it never yields a wrong record.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::error::ErrorKind;

#[test]
fn a_flipped_bit_never_yields_a_wrong_record() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let root = tempfile::tempdir().unwrap();
        let topic = one_partition(root.path());
        let mut writer = topic.writer(Partition(0), WriterOptions { compression, segment_bytes: 2_000, ..small() }).unwrap();
        append(&mut writer, &records(0..120)).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let expected = records(0..120);
        let mut harmless = 0;
        let mut tried = 0;
        for base in dir(&topic).segments().unwrap() {
            for extension in ["log", "index", "timeindex"] {
                let path = dir(&topic).file(base, extension);
                let whole = fs::read(&path).unwrap();
                // In place: writing the whole file anew would make the file system flush it each time.
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                for (at, byte) in whole.iter().enumerate() {
                    file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
                    tried += 1;
                    harmless += usize::from(check(&topic, &expected, extension == "log"));
                    file.write_all_at(&[*byte], at as u64).unwrap();
                }
            }
        }
        assert!(tried > 2_000 && harmless < tried / 4, "{harmless} of {tried} had no effect");
    }
}

/// Reads from several offsets; whether all came out right. Anything wrong fails the test.
fn check(topic: &Topic, expected: &[OwnedRecord], is_log: bool) -> bool {
    let mut is_right = true;
    for at in [0, 31, 77, 119] {
        let mut reader = match topic.reader(Partition(0), Offset(at)) {
            Ok(reader) => reader,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                continue;
            }
        };
        let mut block = RecordBlock::default();
        let mut next = at as usize;
        loop {
            match reader.poll(&mut block, 1 << 16, None) {
                Ok(()) if block.is_empty() => break,
                Ok(()) => {
                    for index in 0..block.len() {
                        assert_eq!(OwnedRecord::of(&block, index).as_ref(), expected.get(next));
                        next += 1;
                    }
                }
                Err(error) => {
                    assert!(is_log, "an index is only a hint: {error}");
                    assert_eq!(error.kind(), ErrorKind::Corruption);
                    for name in ["topic", "partition", "offset", "file", "position"] {
                        assert!(error.context().iter().any(|(key, _)| *key == name), "{error}");
                    }
                    is_right = false;
                    break;
                }
            }
        }
        assert!(next == expected.len() || !is_right, "records are missing");
        if !is_log {
            let found = topic.offset_at(Partition(0), 1_000 + at).unwrap();
            assert_eq!(found, Offset(at));
        }
    }
    is_right
}

#[test]
fn damage_is_reported_where_it_is_and_what_came_before_is_read() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let options = WriterOptions { segment_bytes: 1 << 20, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    append(&mut writer, &records(0..30)).unwrap();
    let first = writer.flush().unwrap().0;
    let path = dir(&topic).file(0, "log");
    let position = fs::metadata(&path).unwrap().len();
    append(&mut writer, &records(30..60)).unwrap();
    writer.flush().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[position as usize + 100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    let mut block = RecordBlock::default();
    reader.poll(&mut block, 1 << 20, None).unwrap();
    assert_eq!((block.len() as i64, block.next_offset), (first, Offset(first)));
    let error = reader.poll(&mut block, 1 << 20, None).unwrap_err();
    let context: Vec<String> = error.context().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let file = format!("file={}", path.display());
    assert_eq!(context, ["topic=t", "partition=0", "offset=30", &file, &format!("position={position}")]);
}

#[test]
fn a_segment_that_is_missing_is_a_gap() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let mut writer = topic.writer(Partition(0), small()).unwrap();
    append(&mut writer, &records(0..500)).unwrap();
    writer.flush().unwrap();
    let bases = dir(&topic).segments().unwrap();
    fs::remove_file(dir(&topic).file(bases[1], "log")).unwrap();
    let mut reader = topic.reader(Partition(0), Offset(0)).unwrap();
    let error = read(&mut reader, 1 << 20, None).unwrap_err();
    assert_eq!((error.code(), reader.position()), ("log.gap", Offset(bases[1])));
    // Opening within the gap must not find the segment before it and stop there in silence.
    let mut reader = topic.reader(Partition(0), Offset(bases[1] + 1)).unwrap();
    assert_eq!(read(&mut reader, 1 << 20, None).unwrap_err().code(), "log.gap");
}
