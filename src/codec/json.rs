//! Records of a block into a batch: what `codec` promises, a record at a time.

use std::ops::Range;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::object::{LONGEST, Object};
use super::scan::{self, Fault, Scan, Step, byte, white_space};
use crate::error::{Error, Result};
use crate::message::{RecordBlock, Span};
use crate::plan::schema::Schema;

/// How much of an offending text is kept, in bytes.
const TEXT_LIMIT: usize = 100;
/// How much of that stands before a place where the text is no JSON.
const TEXT_BEFORE: usize = 30;

/// Decodes JSON payloads into the columns of a schema. It learns how its records are written: keep one per source partition
/// or topic, and use it for all of its blocks.
pub struct JsonDecoder {
    schema: SchemaRef,
    record: Object,
}

/// A batch of decoded records.
#[derive(Debug)]
pub struct Decoded {
    /// The columns of the decoder's schema, a row for each good record, in order.
    pub batch: RecordBatch,
    /// For each row the index of its record in the block; `None` when the rows are exactly the range that was asked for.
    pub rows: Option<Vec<u32>>,
}

/// A record that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its index in the block.
    pub index: usize,
    /// The column it failed in, as a dotted path such as `items[2].price`; `None` if the fault lies in no column.
    pub column: Option<String>,
    /// What is wrong, in words that follow "column x: ".
    pub reason: String,
    /// The offending value, or the surroundings of the place that is no JSON: at most about 100 characters of the payload.
    pub text: String,
}

impl JsonDecoder {
    /// `schema`: the columns to decode, in output order. It may be empty: payloads are checked all the same.
    ///
    /// # Errors
    /// `Plan` for types that JSON payloads cannot hold and for two columns of one name.
    pub fn new(schema: &Schema) -> Result<Self> {
        Ok(Self { record: Object::new(&schema.fields, 1)?, schema: schema.to_arrow() })
    }

    /// Decodes records `range` of the block. Good records become rows, in order; each bad one is pushed to `bad`.
    ///
    /// # Errors
    /// `Refused` if the payloads of the range come to more than 2 GiB: text columns have 32-bit offsets. `Internal` if the
    /// range is not within the block. After an error the decoder is as it was before.
    pub fn decode(&mut self, block: &RecordBlock, range: Range<usize>, bad: &mut Vec<BadRecord>) -> Result<Decoded> {
        let Some(records) = block.records.get(range.clone()) else {
            return Err(Error::internal("records outside of their block")
                .with("range", format!("{range:?}"))
                .with("records", block.len()));
        };
        // No column can hold more text bytes, or more list elements, than its payloads have bytes.
        let payloads = records.iter().filter_map(|record| record.value.get(&block.data));
        if payloads.map(|payload| payload.len() as u64).sum::<u64>() > i32::MAX as u64 {
            return Err(Error::refused("batch_too_large", "payloads of more than 2 GiB in one batch")
                .with("records", range.len())
                .hint("decode fewer records at a time"));
        }
        self.record.reserve(range.len());
        let mut rows = 0;
        let mut indexes = None;
        for (index, record) in range.clone().zip(records) {
            match self.decode_record(&block.data, record.value) {
                Ok(()) => {
                    rows += 1;
                    if let Some(indexes) = &mut indexes {
                        Vec::push(indexes, index as u32);
                    }
                }
                Err(fault) => {
                    self.record.truncate(rows);
                    indexes.get_or_insert_with(|| (range.start as u32..index as u32).collect());
                    bad.push(self.explain(rows, index, record.value.get(&block.data), *fault));
                }
            }
        }
        let batch = self.finish(rows);
        if batch.is_err() {
            self.record.truncate(0);
        }
        Ok(Decoded { batch: batch?, rows: indexes })
    }

    /// Decodes one payload as one more row, or as part of a row.
    #[inline]
    fn decode_record(&mut self, data: &[u8], span: Span) -> Scan<()> {
        let Some(payload) = span.get(data) else { return Fault::value(0, "the payload is null") };
        // Reads are words and more: they may look beyond the payload, but not so far that it costs.
        let len = payload.len();
        if len == 0 {
            return Fault::value(0, "the payload is empty");
        }
        let to = data.len().min(span.start() + len + LONGEST);
        let text = data.get(span.start()..to).unwrap_or(payload);
        let end = self.record.decode(text, white_space(text, 0), 0)?;
        if end == len {
            return Ok(());
        }
        // A token that crossed the payload's end shows here at the latest.
        match white_space(payload, end) {
            end if end == len => Ok(()),
            end => Fault::syntax(end, "text after the object"),
        }
    }

    /// What is told about a bad record: what is wrong with it on its own, whatever record lies behind it.
    #[cold]
    fn explain(&mut self, rows: usize, index: usize, payload: Option<&[u8]>, fault: Fault) -> BadRecord {
        let payload = payload.unwrap_or_default();
        let fault = match self.record.decode(payload, white_space(payload, 0), 0) {
            Err(alone) if !payload.is_empty() => *alone,
            _ => fault,
        };
        self.record.truncate(rows);
        bad_record(index, payload, fault)
    }

    fn finish(&mut self, rows: usize) -> Result<RecordBatch> {
        let columns = self.record.columns().map(|column| column.finish()).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// What is told about a bad record.
fn bad_record(index: usize, payload: &[u8], fault: Fault) -> BadRecord {
    let Fault { reason, at, is_value, path } = fault;
    let column = path.into_iter().rev().fold(None, |column: Option<String>, step| {
        Some(match (column, step) {
            (None, Step::Member(name)) => name,
            (Some(path), Step::Member(name)) => format!("{path}.{name}"),
            (path, Step::Element(index)) => format!("{}[{index}]", path.unwrap_or_default()),
        })
    });
    let (from, to) = if is_value {
        (at, scan::skip(payload, at, 0).unwrap_or(payload.len()))
    } else {
        (at.saturating_sub(TEXT_BEFORE), payload.len())
    };
    let text = excerpt(payload.get(from.min(payload.len())..to).unwrap_or_default());
    let reason = match is_value {
        _ if at >= payload.len() && !payload.is_empty() => "the payload ends before its object does".to_owned(),
        true => reason.into_owned(),
        false => format!("{reason} at byte {at}"),
    };
    BadRecord { index, column, reason, text }
}

/// At most [`TEXT_LIMIT`] bytes, as text, with dots where it was cut.
fn excerpt(bytes: &[u8]) -> String {
    let mut cut = bytes.len().min(TEXT_LIMIT);
    // Not in the middle of a character.
    while cut < bytes.len() && cut > TEXT_LIMIT - 4 && byte(bytes, cut) & 0xC0 == 0x80 {
        cut -= 1;
    }
    let mut text = String::from_utf8_lossy(&bytes[..cut]).into_owned();
    if cut < bytes.len() {
        text.push('…');
    }
    text
}
