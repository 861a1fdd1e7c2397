//! A real process that appends and dies by SIGKILL at a durability edge; then everything it had acknowledged is there.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use super::*;

const ROOT: &str = "KAPPA_TEST_LOG_ROOT";

/// The process that dies: appends 400 records in flushes of different size, and notes each acknowledged end in a file.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn appends_until_it_is_killed() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let topic = LogDir::open(&root).topic("t").unwrap();
    let options = WriterOptions { segment_bytes: 3_000, ..small() };
    let mut writer = topic.writer(Partition(0), options).unwrap();
    let mut number = writer.end().0;
    while number < 400 {
        for _ in 0..1 + number % 37 {
            append(&mut writer, &[record(number)]).unwrap();
            number += 1;
        }
        writer.flush().unwrap();
        std::fs::write(Path::new(&root).join("acknowledged"), number.to_string()).unwrap();
        if number % 5 == 0 {
            let retention = Retention { ms: None, bytes: Some(20_000) };
            writer.enforce_retention(&retention, 0).unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_writer_dies() {
    for point in ["L1", "L2", "L3", "L4", "F4"] {
        for count in [1, 2, 5, 9, 14] {
            let root = tempfile::tempdir().unwrap();
            let topic = one_partition(root.path());
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "log::tests::crash::appends_until_it_is_killed", "--ignored", "--test-threads=1"])
                .env(ROOT, root.path())
                .env("KAPPA_FAILPOINT", format!("{point}:{count}"))
                .output()
                .unwrap()
                .status;
            if point != "L4" {
                assert_eq!(status.signal(), Some(9), "{point}:{count} was not reached");
            }
            let acknowledged =
                std::fs::read_to_string(root.path().join("acknowledged")).map_or(0, |text| text.parse().unwrap());
            let before = topic.extent(Partition(0)).unwrap();
            assert!(before.end.0 >= acknowledged, "{point}:{count}: readers see what was acknowledged at once");
            assert_eq!(read_from(&topic, before.start.0).unwrap(), records(before.start.0..before.end.0));
            let mut writer = topic.writer(Partition(0), small()).unwrap();
            let end = writer.end().0;
            assert!(end >= before.end.0);
            assert_eq!(writer.truncation().is_some(), point == "F4", "{point}:{count}: only a torn batch is cut off");
            append(&mut writer, &records(end..end + 50)).unwrap();
            writer.flush().unwrap();
            let start = topic.extent(Partition(0)).unwrap().start.0;
            assert_eq!(read_from(&topic, start).unwrap(), records(start..end + 50));
            assert_eq!(dir(&topic).segments().unwrap().first(), Some(&start), "no segment is left over");
        }
    }
}
