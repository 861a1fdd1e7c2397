//! Lines become records.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn values(topic: &Topic) -> Vec<Vec<OwnedRecord>> {
    let one = |partition| read(&mut topic.reader(partition, Offset(0)).unwrap(), 1 << 20, None).unwrap();
    topic.partitions().map(one).collect()
}

/// Gives a few bytes at a time.
struct Dripping(Cursor<Vec<u8>>, usize);

impl std::io::Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn lines_go_round_the_partitions_in_order(
        lines in proptest::collection::vec("[a-z\\[\\]\"\t ]{0,12}", 0..50),
        crlf in any::<bool>(),
        last_is_ended in any::<bool>(),
        drip in 1..40usize,
        partitions in 1..4i32,
    ) {
        let root = tempfile::tempdir().unwrap();
        let topic = LogDir::open(root.path()).create_topic("t", partitions, Retention::default()).unwrap();
        let mut text = lines.join(if crlf { "\r\n" } else { "\n" });
        if last_is_ended {
            text.push('\n');
        }
        let mut writer = topic.topic_writer(None, small()).unwrap();
        let report = writer.append_lines(Dripping(Cursor::new(text.into_bytes()), drip), None, &|| 7).unwrap();
        let expected: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
        prop_assert_eq!(report.records, expected.len() as u64);
        let got = values(&topic);
        for (number, line) in expected.iter().enumerate() {
            let record = &got[number % partitions as usize][number / partitions as usize];
            prop_assert_eq!((record.value.as_deref(), record.timestamp), (Some(line.as_bytes()), 7));
        }
        prop_assert_eq!(got.iter().map(Vec::len).sum::<usize>(), expected.len());
    }
}

#[test]
fn a_key_column_decides_the_partition() {
    let root = tempfile::tempdir().unwrap();
    let topic = LogDir::open(root.path()).create_topic("t", 4, Retention::default()).unwrap();
    let text =
        "{\"merchant\":\"m1\",\"n\":1}\n{\"n\":2}\n\n{\"merchant\":\"m\\u0031\",\"n\":3}\nno json\n{\"merchant\":null}\n";
    let mut writer = topic.topic_writer(None, small()).unwrap();
    let report = writer.append_lines(Cursor::new(text), Some("merchant"), &|| 7).unwrap();
    assert_eq!((report.records, report.empty, report.without_key), (5, 1, 3));
    let all: Vec<OwnedRecord> = values(&topic).concat();
    let keyed: Vec<&OwnedRecord> = all.iter().filter(|record| record.key.is_some()).collect();
    assert_eq!(keyed.len(), 2);
    for record in keyed {
        assert_eq!(record.key.as_deref(), Some(&b"m1"[..]));
        assert_eq!(record.partition, Partition(partition_of(b"m1", 4)));
    }
}

#[test]
fn the_round_goes_on_where_the_last_writer_stopped() {
    let root = tempfile::tempdir().unwrap();
    let topic = LogDir::open(root.path()).create_topic("t", 3, Retention::default()).unwrap();
    for number in 0..7 {
        let mut writer = topic.topic_writer(None, small()).unwrap();
        writer.append_lines(Cursor::new(format!("{number}")), None, &|| 7).unwrap();
    }
    assert_eq!(values(&topic).iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 2]);
    let mut writer = topic.topic_writer(Some(Partition(1)), small()).unwrap();
    writer.append_lines(Cursor::new("{\"k\":\"a\"}\n{}"), Some("k"), &|| 7).unwrap();
    assert_eq!(values(&topic).iter().map(Vec::len).collect::<Vec<_>>(), [3, 4, 2]);
}

#[test]
fn an_input_that_pauses_can_be_followed() {
    let root = tempfile::tempdir().unwrap();
    let topic = one_partition(root.path());
    let (mut end, input) = std::io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
    let appending = {
        let topic = topic.clone();
        std::thread::spawn(move || {
            topic.topic_writer(None, WriterOptions::default()).unwrap().append_lines(input, None, &|| 7).unwrap()
        })
    };
    std::io::Write::write_all(&mut end, b"first\nsec").unwrap();
    let mut tries = 0;
    while read_from(&topic, 0).unwrap().len() != 1 {
        tries += 1;
        assert!(tries < 200, "the first line never became visible");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::io::Write::write_all(&mut end, b"ond").unwrap();
    drop(end);
    assert_eq!(appending.join().unwrap().records, 2);
    assert_eq!(read_from(&topic, 1).unwrap()[0].value.as_deref(), Some(&b"second"[..]));
}
