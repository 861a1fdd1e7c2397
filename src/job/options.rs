//! What a run is asked for, and what `--from` and `--until` mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::preview::Preview;
use crate::checkpoint::manifest::Mode;
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};
use crate::table::Settings as TableSettings;

/// The options of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Live or reprocess.
    pub mode: Mode,
    /// By output name (empty for an unnamed one), the table.
    pub output_tables: BTreeMap<String, String>,
    /// Where to start: see [`Position`]. Default: earliest.
    #[serde(default)]
    pub from: Option<String>,
    /// Where a reprocess ends: `head` (default), a time, or offsets.
    #[serde(default)]
    pub until: Option<String>,
    /// Ends a reprocess where this table's newest snapshot is in the log, so that the two can be compared.
    #[serde(default)]
    pub align: Option<String>,
    /// Makes it a preview: over a part of the log that was fixed before, into tables that the next one replaces.
    #[serde(default)]
    pub preview: Option<Preview>,
    /// After the end, goes on as a live run.
    #[serde(default)]
    pub follow: bool,
    /// Gives up what the table holds and starts again.
    #[serde(default)]
    pub replace: bool,
    /// Goes ahead although another process holds the lock.
    #[serde(default)]
    pub take_over: bool,
    /// Starts after a gap in the log.
    #[serde(default)]
    pub allow_gaps: bool,
    /// Lifts refusals that say so.
    #[serde(default)]
    pub force: bool,
    /// Worker threads; default: the machine's cores.
    #[serde(default)]
    pub parallelism: Option<usize>,
    /// Bytes for state: caches, write buffers, filters, dirty entries.
    #[serde(default = "default_memory")]
    pub memory_bytes: usize,
    /// The longest time between two checkpoints while records come.
    #[serde(default = "default_interval")]
    pub checkpoint_interval_ms: u64,
    /// Bytes of records that are read a second, at most.
    #[serde(default)]
    pub max_bytes_per_second: Option<u64>,
    /// Records decoded at a time, 8192 by default. It changes speed and nothing else.
    #[serde(default)]
    pub batch_records: Option<usize>,
    /// Limits of commits and of the maintenance of tables.
    #[serde(default)]
    pub tables: TableSettings,
}

impl RunOptions {
    /// Worker threads.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.parallelism.unwrap_or_else(cores).clamp(1, 256)
    }
}

fn default_memory() -> usize {
    512 << 20
}

fn default_interval() -> u64 {
    10_000
}

/// A position in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record that is still there.
    Earliest,
    /// The end as it is now.
    Head,
    /// A moment, milliseconds since 1970 UTC.
    Time(i64),
    /// An offset per partition; others start at their beginning.
    Offsets(BTreeMap<Partition, Offset>),
    /// Where a consumer group of the log's is; partitions for which it has committed nothing start at their beginning.
    Group(String),
}

impl Position {
    /// Reads `earliest`, `head`, a time with its zone (`2026-04-25T00:00:00Z`) or a date (UTC), a duration before now
    /// (`24h`), `group:NAME`, or `PARTITION:OFFSET,…`.
    pub fn parse(option: &str, text: &str, now_ms: i64) -> Result<Self> {
        let text = text.trim();
        let invalid = || {
            Error::config("invalid_position", format!("{option} {text:?} is not a position"))
                .hint(
                "use earliest, head, a time such as 2026-04-25T00:00:00Z, a duration such as 24h, group:NAME, or PARTITION:OFFSET,…",
            )
        };
        match text {
            "earliest" => return Ok(Self::Earliest),
            "head" => return Ok(Self::Head),
            _ => {}
        }
        if let Some(group) = text.strip_prefix("group:") {
            return if group.is_empty() { Err(invalid()) } else { Ok(Self::Group(group.to_owned())) };
        }
        if let Some(duration) = parse_duration_ms(text) {
            return Ok(Self::Time(now_ms.saturating_sub(duration)));
        }
        if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.timestamp_millis()));
        }
        if let Ok(date) = text.parse::<chrono::NaiveDate>() {
            return Ok(Self::Time(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()));
        }
        let mut offsets = BTreeMap::new();
        for part in text.split(',') {
            let (partition, offset) = part.split_once(':').ok_or_else(invalid)?;
            let partition = partition.trim().parse().map_err(|_| invalid())?;
            let offset: i64 = offset.trim().parse().map_err(|_| invalid())?;
            if offset < 0 || offsets.insert(Partition(partition), Offset(offset)).is_some() {
                return Err(invalid());
            }
        }
        Ok(Self::Offsets(offsets))
    }
}

/// `200ms`, `30s`, `15m`, `24h`, `7d`, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let parse = |text| Position::parse("--from", text, 100_000_000_000);
        assert_eq!(parse("earliest").unwrap(), Position::Earliest);
        assert_eq!(parse("24h").unwrap(), Position::Time(100_000_000_000 - 86_400_000));
        assert_eq!(parse("1970-01-02").unwrap(), Position::Time(86_400_000));
        assert_eq!(parse("1970-01-01T01:00:00+01:00").unwrap(), Position::Time(0));
        let offsets = BTreeMap::from([(Partition(0), Offset(5)), (Partition(2), Offset(7))]);
        assert_eq!(parse("0:5, 2:7").unwrap(), Position::Offsets(offsets));
        assert_eq!(parse("group:flink-v3").unwrap(), Position::Group("flink-v3".to_owned()));
        for bad in ["", "group:", "yesterday", "0:-1", "0:1,0:2", "1:", "2026-04-25T00:00:00", "5x"] {
            assert_eq!(parse(bad).unwrap_err().code(), "invalid_position", "{bad}");
        }
    }
}
