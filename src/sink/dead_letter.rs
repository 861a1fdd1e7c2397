//! Records that could not be used, as rows of a table beside the output: `<table>__dead_letter`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};

use crate::error::Result;
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};

/// A record that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The log's timestamp, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its payload, untouched.
    pub value: Option<Vec<u8>>,
    /// The column that could not be read, where it was one.
    pub column: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

const SUFFIX: &str = "__dead_letter";

/// What the dead-letter table of `table` is called.
pub fn table_name(table: &str) -> String {
    format!("{table}{SUFFIX}")
}

/// Whether a dead-letter table is called so.
pub fn is_name(table: &str) -> bool {
    table.ends_with(SUFFIX)
}

/// The columns of every dead-letter table.
pub fn schema() -> Schema {
    let columns = [
        ("topic", DataType::String),
        ("partition", DataType::Int32),
        ("offset", DataType::Int64),
        ("timestamp", DataType::Timestamp(TimeUnit::Millisecond)),
        ("key", DataType::Binary),
        ("value", DataType::Binary),
        ("column", DataType::String),
        ("reason", DataType::String),
    ];
    Schema { fields: columns.into_iter().map(|(name, data_type)| Field::new(name, data_type)).collect() }
}

/// Dead letters as rows.
pub fn to_batch(topic: &str, letters: &[DeadLetter]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(letters.iter().map(|_| topic))),
        Arc::new(Int32Array::from_iter_values(letters.iter().map(|l| l.partition))),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.offset))),
        Arc::new(TimestampMillisecondArray::from_iter_values(letters.iter().map(|l| l.timestamp)).with_timezone("UTC")),
        Arc::new(BinaryArray::from_iter(letters.iter().map(|l| l.key.as_deref()))),
        Arc::new(BinaryArray::from_iter(letters.iter().map(|l| l.value.as_deref()))),
        Arc::new(StringArray::from_iter(letters.iter().map(|l| l.column.as_deref()))),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.reason.as_str()))),
    ];
    Ok(RecordBatch::try_new(schema().to_arrow(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_rows_of_the_schema() {
        let letter = DeadLetter {
            partition: 1,
            offset: 2,
            timestamp: 3,
            key: None,
            value: Some(b"{".to_vec()),
            column: None,
            reason: "not JSON".into(),
        };
        let batch = to_batch("t", &[letter]).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 8));
        assert_eq!(table_name("metric.x"), "metric.x__dead_letter");
        assert!(is_name(&table_name("x")) && !is_name("x"));
    }
}
