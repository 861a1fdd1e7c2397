//! A log as the generator knows it: each record's payload, and what a reader must make of it.

/// The topic of all tests.
pub const TOPIC: &str = "events.v1";
/// How far out of order records may come, milliseconds.
pub const OUT_OF_ORDERNESS: i64 = 120_000;
/// How far ahead a record may be, milliseconds.
pub const MAX_FUTURE: i64 = 86_400_000;
/// 2026-04-20T00:00:00Z.
pub const BASE: i64 = 1_776_643_200_000;

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    pub timestamp: i64,
    pub payload: Option<Vec<u8>>,
    pub fault: Fault,
    pub row: Row,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// No plan can decode it.
    Always,
    /// A plan that uses this column cannot decode it.
    Column(&'static str),
}

/// What a good record says.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub k: Option<String>,
    pub g: Option<i32>,
    pub n: Option<i64>,
    pub f: Option<f64>,
    /// Hundredths.
    pub d: Option<i128>,
    pub s: Option<String>,
    pub b: Option<bool>,
    /// Milliseconds since 1970 UTC.
    pub t: i64,
}

/// By partition, its records in offset order.
#[derive(Clone, Debug)]
pub struct Log {
    pub partitions: Vec<Vec<Record>>,
}

impl Log {
    /// By partition, the position after the last record.
    pub fn ends(&self) -> Vec<i64> {
        self.partitions.iter().map(|records| records.len() as i64).collect()
    }

    /// By partition, the offset of the first record with this timestamp or a later one; the end if there is none.
    pub fn offsets_at(&self, timestamp: i64) -> Vec<i64> {
        let at =
            |records: &Vec<Record>| records.iter().position(|record| record.timestamp >= timestamp).unwrap_or(records.len());
        self.partitions.iter().map(|records| at(records) as i64).collect()
    }
}

/// Random numbers, the same for the same seed on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `bound` − 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    /// True once in `one_in` times.
    pub fn once_in(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}
