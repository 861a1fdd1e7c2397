//! Leader epochs of a partition, in the text format of Kafka's `leader-epoch-checkpoint`.
//!
//! The epoch rises when a torn tail was cut off: offsets at and after its start may have been written twice, though
//! nobody has read them the first time.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::files::{self, PartitionDir};
use crate::error::{Error, Result};

fn path(dir: &PartitionDir) -> PathBuf {
    dir.path.join("leader-epoch-checkpoint")
}

/// The epochs and the offsets they start at, rising.
pub fn read(dir: &PartitionDir) -> Result<Vec<(i32, i64)>> {
    let path = path(dir);
    let text = match fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    parse(&text).ok_or_else(|| {
        let what = "the list of leader epochs is damaged";
        dir.named(Error::corruption("log.leader_epochs", what)).with("file", path.display()).hint(files::RESTORE)
    })
}

fn parse(text: &str) -> Option<Vec<(i32, i64)>> {
    let mut lines = text.lines();
    let version = lines.next()?;
    let count: usize = lines.next()?.parse().ok()?;
    let one = |line: &str| line.split_once(' ').and_then(|(epoch, start)| Some((epoch.parse().ok()?, start.parse().ok()?)));
    let epochs: Vec<(i32, i64)> = lines.map(one).collect::<Option<_>>()?;
    (version == "0" && epochs.len() == count && epochs.is_sorted()).then_some(epochs)
}

/// Starts an epoch at an offset. Epochs that would start at or after it have no records, and are left out.
pub fn start(dir: &PartitionDir, epoch: i32, offset: i64) -> Result<()> {
    let mut epochs = read(dir)?;
    epochs.retain(|(_, start)| *start < offset);
    epochs.push((epoch, offset));
    let lines: String = epochs.iter().map(|(epoch, start)| format!("{epoch} {start}\n")).collect();
    files::replace(&path(dir), format!("0\n{}\n{lines}", epochs.len()).as_bytes())
}
