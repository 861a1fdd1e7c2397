//! From a block of records to rows: decoding, the policies for bad and late records, and the account.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int32Array, Int64Array, ListBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, StructBuilder, TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType as ArrowType, SchemaRef, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::codec::{BadRecord, JsonDecoder};
use crate::error::{Error, Result};
use crate::message::{HeaderIter, RecordBlock};
use crate::operator::steps::Rows;
use crate::plan::logical::{BadRecordPolicy, LatePolicy, MetadataKind};
use crate::plan::lower::SourceSpec;
use crate::plan::schema::DataType;
use crate::protocol::event_time::{PartitionTime, SourceCounts, TimeBounds};
use crate::sink::dead_letter::DeadLetter;

/// Turns blocks of one source into rows.
pub struct SourceDecoder {
    topic: String,
    decoder: JsonDecoder,
    schema: SchemaRef,
    event_time: usize,
    event_time_name: String,
    metadata: Vec<MetadataKind>,
    on_bad_record: BadRecordPolicy,
    late: LatePolicy,
    bounds: TimeBounds,
    floor: Option<i64>,
    keep: Keep,
    /// By row of the batch at hand, the watermark when it was read; empty unless it is kept.
    watermarks: Vec<i64>,
    bad: Vec<BadRecord>,
}

/// What rows carry of their records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Their positions.
    pub order: bool,
    /// The watermark of their partition when they were read.
    pub watermarks: bool,
}

/// What a range of records came to.
pub struct SourceRows {
    /// The rows to work on.
    pub rows: Rows,
    /// Records for the dead-letter table.
    pub dead: Vec<DeadLetter>,
    /// Where the rows come from.
    pub origin: Origin,
}

impl SourceDecoder {
    /// For a source. `floor_ms`: records with an event time below are left out. `keep`: what rows carry.
    pub fn new(spec: &SourceSpec, floor_ms: Option<i64>, keep: Keep) -> Result<Self> {
        let read = &spec.read;
        let column = spec.schema.fields.get(spec.event_time);
        let Some(DataType::Timestamp(unit)) = column.map(|field| &field.data_type) else {
            return Err(Error::internal("the event time is not a timestamp"));
        };
        let bounds = TimeBounds::new(unit.per_second(), read.max_out_of_orderness_ms, read.max_future_ms);
        let kind = |name: &str| read.metadata.iter().find(|column| column.name == name).map(|column| column.kind);
        let metadata =
            spec.schema.fields.iter().skip(spec.payload.fields.len()).filter_map(|field| kind(&field.name)).collect();
        Ok(Self {
            topic: read.topic.clone(),
            decoder: JsonDecoder::new(&spec.payload)?,
            schema: spec.schema.to_arrow(),
            event_time: spec.event_time,
            event_time_name: read.event_time.clone(),
            metadata,
            on_bad_record: read.on_bad_record,
            late: read.late,
            bounds,
            floor: floor_ms.map(|ms| bounds.from_ms(ms)),
            keep,
            watermarks: Vec::new(),
            bad: Vec::new(),
        })
    }

    /// The bounds of event time.
    pub fn bounds(&self) -> TimeBounds {
        self.bounds
    }

    /// Decodes records `range` of a block, the next of their partition, and keeps the partition's time and account.
    pub fn decode(
        &mut self,
        block: &RecordBlock,
        range: Range<usize>,
        time: &mut PartitionTime,
        counts: &mut SourceCounts,
    ) -> Result<SourceRows> {
        counts.read += range.len() as u64;
        self.bad.clear();
        let decoded = self.decoder.decode(block, range.clone(), &mut self.bad)?;
        let index = RowIndex { rows: decoded.rows, start: range.start };
        let times = event_times(decoded.batch.column(self.event_time))?;
        let mut dead = Vec::new();
        let keep = self.judge(block, &index, &decoded.batch, &times, time, counts, &mut dead)?;
        let mut bad = std::mem::take(&mut self.bad);
        bad.sort_by_key(|bad| bad.index);
        counts.bad += bad.len() as u64;
        bad.iter().try_for_each(|bad| self.reject(block, bad, &mut dead))?;
        self.bad = bad;
        let batch = self.with_metadata(block, &index, decoded.batch)?;
        let mut rows = Rows { batch, order: None, watermarks: None };
        if self.keep.watermarks {
            rows.watermarks = Some(std::mem::take(&mut self.watermarks).into());
        }
        if self.keep.order {
            let offsets = (0..times.len()).map(|row| block.records[index.of(row)].offset);
            rows.order = Some((Int64Array::new(times, None), Int64Array::from_iter_values(offsets)));
        }
        if let Some(keep) = &keep {
            rows = rows.filter(keep)?;
        }
        Ok(SourceRows { rows, dead, origin: Origin { index, keep } })
    }

    /// Lateness, floor and nulls of the event time. Which rows stay, or `None` for all.
    #[allow(clippy::too_many_arguments)] // one record's whole judgement in one loop
    fn judge(
        &mut self,
        block: &RecordBlock,
        index: &RowIndex,
        batch: &RecordBatch,
        times: &[i64],
        time: &mut PartitionTime,
        counts: &mut SourceCounts,
        dead: &mut Vec<DeadLetter>,
    ) -> Result<Option<BooleanArray>> {
        let nulls = batch.column(self.event_time).nulls().filter(|nulls| nulls.null_count() > 0);
        let mut dropped: Vec<usize> = Vec::new();
        let bounds = self.bounds;
        let watermark = |time: &PartitionTime| time.watermark_ms(&bounds).unwrap_or(i64::MIN);
        let (mut of, mut now) = (*time, watermark(time));
        self.watermarks.clear();
        for (row, &at) in times.iter().enumerate() {
            if self.keep.watermarks {
                if of != *time {
                    (of, now) = (*time, watermark(time));
                }
                self.watermarks.push(now);
            }
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.bad.push(self.without_time(block, index.of(row)));
                dropped.push(row);
                continue;
            }
            let judgement = time.observe(at, &bounds);
            counts.jumped += u64::from(judgement.jumped);
            if self.floor.is_some_and(|floor| at < floor) {
                counts.below_floor += 1;
                dropped.push(row);
            } else if judgement.late {
                if self.late == LatePolicy::Keep {
                    counts.late_kept += 1;
                    continue;
                }
                counts.late_dropped += 1;
                dropped.push(row);
                if self.late == LatePolicy::DeadLetter {
                    dead.push(letter(block, index.of(row), Some(self.event_time_name.clone()), "late".to_owned()));
                }
            }
        }
        if dropped.is_empty() {
            return Ok(None);
        }
        let mut keep = vec![true; times.len()];
        dropped.into_iter().for_each(|row| keep[row] = false);
        Ok(Some(BooleanArray::new(BooleanBuffer::from(keep), None)))
    }

    fn without_time(&self, block: &RecordBlock, index: usize) -> BadRecord {
        let text = String::from_utf8_lossy(block.value(index).unwrap_or_default()).chars().take(100).collect();
        BadRecord { index, column: Some(self.event_time_name.clone()), reason: "the event time is null".to_owned(), text }
    }

    fn reject(&self, block: &RecordBlock, bad: &BadRecord, dead: &mut Vec<DeadLetter>) -> Result<()> {
        match self.on_bad_record {
            BadRecordPolicy::Skip => Ok(()),
            BadRecordPolicy::DeadLetter => {
                dead.push(letter(block, bad.index, bad.column.clone(), format!("{}: {}", bad.reason, bad.text)));
                Ok(())
            }
            BadRecordPolicy::Fail => {
                let column = bad.column.as_ref().map(|column| format!("column {column}: ")).unwrap_or_default();
                let offset = block.records.get(bad.index).map_or(-1, |record| record.offset);
                let mut error = Error::data("bad_record", format!("{column}{}: {}", bad.reason, bad.text))
                    .with("topic", &self.topic)
                    .with("partition", block.partition)
                    .with("offset", offset);
                if let Some(column) = &bad.column {
                    error = error.with("column", column);
                }
                Err(error.hint(
                    "mend the declared schema, or set on_bad_record=\"skip\" or \"dead_letter\" in job.read and run the same command \
                     again: it goes on from the last checkpoint",
                ))
            }
        }
    }

    fn with_metadata(&self, block: &RecordBlock, index: &RowIndex, payload: RecordBatch) -> Result<RecordBatch> {
        if self.metadata.is_empty() {
            return Ok(payload);
        }
        let rows = payload.num_rows();
        let mut columns = payload.columns().to_vec();
        columns
            .extend(self.metadata.iter().map(|kind| metadata_column(*kind, block, index, rows)).collect::<Result<Vec<_>>>()?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// Which record each row was made of.
pub struct Origin {
    index: RowIndex,
    keep: Option<BooleanArray>,
}

impl Origin {
    /// The number of the record in its block.
    pub fn record_of(&self, row: usize) -> usize {
        let decoded = match &self.keep {
            None => row,
            Some(keep) => keep.values().set_indices().nth(row).unwrap_or(row),
        };
        self.index.of(decoded)
    }
}

/// From rows to records of the block.
struct RowIndex {
    rows: Option<Vec<u32>>,
    start: usize,
}

impl RowIndex {
    fn of(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(self.start + row, |rows| rows[row] as usize)
    }
}

fn letter(block: &RecordBlock, index: usize, column: Option<String>, reason: String) -> DeadLetter {
    let record = &block.records[index];
    DeadLetter {
        partition: block.partition.0,
        offset: record.offset,
        timestamp: record.timestamp,
        key: block.key(index).map(<[u8]>::to_vec),
        value: block.value(index).map(<[u8]>::to_vec),
        column,
        reason,
    }
}

fn event_times(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    match column.data_type() {
        ArrowType::Timestamp(ArrowUnit::Second, _) => Ok(column.as_primitive::<TimestampSecondType>().values().clone()),
        ArrowType::Timestamp(ArrowUnit::Millisecond, _) => {
            Ok(column.as_primitive::<TimestampMillisecondType>().values().clone())
        }
        ArrowType::Timestamp(ArrowUnit::Microsecond, _) => {
            Ok(column.as_primitive::<TimestampMicrosecondType>().values().clone())
        }
        ArrowType::Timestamp(ArrowUnit::Nanosecond, _) => Ok(column.as_primitive::<TimestampNanosecondType>().values().clone()),
        other => Err(Error::internal(format!("the event time is {other}"))),
    }
}

fn metadata_column(kind: MetadataKind, block: &RecordBlock, index: &RowIndex, rows: usize) -> Result<ArrayRef> {
    let records = (0..rows).map(|row| &block.records[index.of(row)]);
    Ok(match kind {
        MetadataKind::Partition => Arc::new(Int32Array::from_iter_values(records.map(|_| block.partition.0))),
        MetadataKind::Offset => Arc::new(Int64Array::from_iter_values(records.map(|record| record.offset))),
        MetadataKind::Timestamp => {
            Arc::new(TimestampMillisecondArray::from_iter_values(records.map(|record| record.timestamp)).with_timezone("UTC"))
        }
        MetadataKind::Key => {
            let mut keys = BinaryBuilder::new();
            (0..rows).for_each(|row| keys.append_option(block.key(index.of(row))));
            Arc::new(keys.finish())
        }
        MetadataKind::Headers => headers_column(block, index, rows)?,
    })
}

fn headers_column(block: &RecordBlock, index: &RowIndex, rows: usize) -> Result<ArrayRef> {
    let ArrowType::List(element) = MetadataKind::Headers.data_type().to_arrow() else {
        return Err(Error::internal("headers are a list"));
    };
    let ArrowType::Struct(fields) = element.data_type().clone() else {
        return Err(Error::internal("a header is a struct"));
    };
    let mut lists = ListBuilder::new(StructBuilder::from_fields(fields, rows)).with_field(element);
    for row in 0..rows {
        for header in HeaderIter::new(block.headers(index.of(row)).unwrap_or_default()) {
            let (name, value) = header?;
            let entry = lists.values();
            if let Some(names) = entry.field_builder::<StringBuilder>(0) {
                names.append_value(String::from_utf8_lossy(name));
            }
            if let Some(values) = entry.field_builder::<BinaryBuilder>(1) {
                values.append_option(value);
            }
            entry.append(true);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
