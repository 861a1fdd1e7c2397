//! Looking at a few records of a log, for people.

use std::time::Duration;

use super::LogSource;
use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};
use crate::time::instant;

const BLOCK_BYTES: usize = 64 << 10;
/// A log that gives nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Shows `look` the records from one offset to another, a block at a time. Ends early, without an error, where they do not come.
/// A source gives each of its partitions once: who looks at two places opens two.
pub fn peek(
    source: &dyn LogSource,
    partition: Partition,
    at: Offset,
    until: Offset,
    look: &mut dyn FnMut(&RecordBlock) -> Result<()>,
) -> Result<()> {
    if at >= until {
        return Ok(());
    }
    let mut reader = source.open(partition, at, None)?;
    let mut block = RecordBlock::default();
    let began = instant();
    while began.elapsed() < PATIENCE {
        reader.poll(&mut block, BLOCK_BYTES, Some(until))?;
        if !block.is_empty() {
            look(&block)?;
        }
        if block.next_offset >= until {
            break;
        }
        if block.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// The timestamp of the first record from one offset to another, milliseconds since 1970 UTC.
pub fn first_timestamp(source: &dyn LogSource, partition: Partition, at: Offset, until: Offset) -> Result<Option<i64>> {
    let mut found = None;
    // One record, or the one behind a hole.
    peek(source, partition, at, until.min(Offset(at.0 + 100)), &mut |block| {
        found = found.or_else(|| block.records.first().map(|record| record.timestamp));
        Ok(())
    })?;
    Ok(found)
}
