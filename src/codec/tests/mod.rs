//! The rules one by one (`rules`, `syntax`), by a table of cases (`cases`), and against other people's parsers (`oracles`).

mod cases;
mod oracles;
mod rows;
mod rules;
mod syntax;

use arrow::array::RecordBatch;

use super::{BadRecord, Decoded, JsonDecoder};
use crate::message::{RecordBlock, RecordRef, Span};
use crate::plan::schema::{DataType, Field, Schema};

/// A schema of nullable columns.
pub(super) fn schema(fields: &[(&str, DataType)]) -> Schema {
    Schema { fields: fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone())).collect() }
}

/// A block of these payloads, with nothing between them: what reads past its end reads the next record.
pub(super) fn block<P: AsRef<[u8]>>(payloads: &[Option<P>]) -> RecordBlock {
    let mut block = RecordBlock::default();
    for (offset, payload) in payloads.iter().enumerate() {
        let value = match payload {
            Some(payload) => {
                let span = Span::new(block.data.len(), payload.as_ref().len());
                block.data.extend_from_slice(payload.as_ref());
                span
            }
            None => Span::NULL,
        };
        let (key, headers) = (Span::NULL, Span::NULL);
        block.records.push(RecordRef { offset: offset as i64, timestamp: 0, key, value, headers });
    }
    block
}

/// Decodes all of a block with a new decoder.
pub(super) fn decode_all(schema: &Schema, block: &RecordBlock) -> (Decoded, Vec<BadRecord>) {
    let mut bad = Vec::new();
    let decoded = JsonDecoder::new(schema).unwrap().decode(block, 0..block.len(), &mut bad).unwrap();
    (decoded, bad)
}

/// Decodes one payload.
pub(super) fn decode_one(schema: &Schema, payload: impl AsRef<[u8]>) -> Result<RecordBatch, BadRecord> {
    let (decoded, mut bad) = decode_all(schema, &block(&[Some(payload)]));
    match bad.pop() {
        Some(bad_record) => {
            assert_eq!((decoded.batch.num_rows(), decoded.rows), (0, Some(Vec::new())));
            Err(bad_record)
        }
        None => {
            assert_eq!((decoded.batch.num_rows(), decoded.rows), (1, None));
            Ok(decoded.batch)
        }
    }
}
