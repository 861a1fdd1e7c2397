//! Forgetting: whole segments, from the start, never the one that is written to.

use std::fs;

use serde::{Deserialize, Serialize};

use super::extent::Extent;
use super::files::{self, PartitionDir};
use super::seek;
use crate::durable::sync_directory;
use crate::error::{Error, Result};

/// How long and how much a topic is kept. Nothing set: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Milliseconds that a segment is kept after its newest timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<i64>,
    /// Bytes that each partition keeps at least, if it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What is overdue: the new start of the log, and how many bytes lie before it.
pub fn overdue(dir: &PartitionDir, extent: &Extent, retention: &Retention, now_ms: i64) -> Result<Option<(i64, u64)>> {
    if *retention == Retention::default() {
        return Ok(None);
    }
    let bases: Vec<i64> = dir.segments()?.into_iter().filter(|base| *base <= extent.segment).collect();
    let sizes: Vec<u64> = bases.iter().map(|base| size(dir, *base)).collect::<Result<_>>()?;
    let mut left: u64 = sizes.iter().sum();
    let (mut start, mut removed) = (extent.start, 0);
    for ((base, next), size) in bases.iter().zip(bases.iter().skip(1)).zip(&sizes) {
        let too_many = retention.bytes.is_some_and(|keep| left - size >= keep);
        let too_old = match retention.ms {
            Some(keep) if !too_many => seek::newest_timestamp(dir, extent, *base, *next)? < now_ms.saturating_sub(keep),
            _ => false,
        };
        if !too_many && !too_old {
            break;
        }
        start = *next;
        left -= size;
        removed += size;
    }
    Ok((start > extent.start).then_some((start, removed)))
}

fn size(dir: &PartitionDir, base: i64) -> Result<u64> {
    let path = dir.file(base, "log");
    Ok(fs::metadata(&path).map_err(|error| Error::io("read the size of", &path, error))?.len())
}

/// Deletes the segments that end at or before `start`. The start must be durable already; doing it twice is harmless.
pub fn remove_before(dir: &PartitionDir, start: i64) -> Result<()> {
    let bases = dir.segments()?;
    let mut is_any = false;
    for (base, next) in bases.iter().zip(bases.iter().skip(1)) {
        if *next <= start {
            // The log last: without it the others would not be found again.
            for extension in ["index", "timeindex", "log"] {
                files::remove(&dir.file(*base, extension))?;
            }
            is_any = true;
        }
    }
    if is_any { sync_directory(&dir.path) } else { Ok(()) }
}
