//! The demo's payments to four columns, beside arrow-json on the same bytes: `cargo bench --bench decode`.

// A bench prints, and stops at the first surprise.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use kappa::codec::JsonDecoder;
use kappa::message::{RecordBlock, RecordRef, Span};
use kappa::plan::schema::{DataType, Field, Schema, TimeUnit};
use kappa::time::instant;

const ROWS: usize = 1_000_000;
const ROWS_PER_BLOCK: usize = 16_384;
const RUNS: usize = 7;

/// A payment, 147 bytes or so. The numbers are spread, not random: every run has the same.
fn payment(i: u64) -> String {
    let h = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let status = ["captured", "captured", "captured", "failed", "refunded"][(h % 5) as usize];
    format!(
        "{{\"payment_id\": \"pay_{:012x}\", \"merchant_id\": \"m_{:05}\", \"status\": \"{status}\", \"amount\": {}, \"currency\": \
         \"INR\", \"event_time\": {}}}",
        h & 0xFFFF_FFFF_FFFF,
        h % 20_000,
        h % 100_000 + 1,
        1_767_225_600_000 + i * 37,
    )
}

fn blocks() -> Vec<RecordBlock> {
    let mut blocks = Vec::new();
    for first in (0..ROWS).step_by(ROWS_PER_BLOCK) {
        let mut block = RecordBlock::default();
        for i in first..(first + ROWS_PER_BLOCK).min(ROWS) {
            let payload = payment(i as u64);
            let value = Span::new(block.data.len(), payload.len());
            block.data.extend_from_slice(payload.as_bytes());
            let (key, headers) = (Span::NULL, Span::NULL);
            block.records.push(RecordRef { offset: i as i64, timestamp: 0, key, value, headers });
        }
        blocks.push(block);
    }
    blocks
}

/// Seconds of one run.
fn time(run: impl FnOnce() -> usize) -> f64 {
    let start = instant();
    assert_eq!(run(), ROWS);
    start.elapsed().as_secs_f64()
}

fn main() {
    let schema = Schema {
        fields: vec![
            Field::new("status", DataType::String),
            Field::new("amount", DataType::Int64),
            Field::new("merchant_id", DataType::String),
            Field::new("event_time", DataType::Timestamp(TimeUnit::Millisecond)),
        ],
    };
    let blocks = blocks();
    let bytes: usize = blocks.iter().map(|block| block.data.len()).sum();

    let mut decoder = JsonDecoder::new(&schema).expect("schema");
    let mut bad = Vec::new();
    let mut kappa = || {
        let rows = |block: &RecordBlock| decoder.decode(block, 0..block.len(), &mut bad).expect("decoded").batch.num_rows();
        blocks.iter().map(rows).sum()
    };
    let theirs = || {
        arrow_json::ReaderBuilder::new(Arc::clone(&schema.to_arrow()))
            .with_batch_size(ROWS_PER_BLOCK)
            .build_decoder()
            .expect("schema")
    };
    let arrow_json = || {
        let mut decoder = theirs();
        let mut rows = |block: &RecordBlock| {
            decoder.decode(&block.data).expect("decoded");
            decoder.flush().expect("decoded").map_or(0, |batch| batch.num_rows())
        };
        blocks.iter().map(&mut rows).sum()
    };

    println!("{ROWS} payments, {:.1} bytes each, 4 columns of 6, one core, best of {RUNS}", bytes as f64 / ROWS as f64);
    // In turn, so that what else the machine does meets both.
    let (mut ours, mut other) = (f64::MAX, f64::MAX);
    for _ in 0..RUNS {
        ours = ours.min(time(&mut kappa));
        other = other.min(time(arrow_json));
    }
    for (name, seconds) in [("kappa", ours), ("arrow-json 58", other)] {
        println!("{name:14} {:6.2} M rows/s {:6.2} GB/s", ROWS as f64 / seconds / 1e6, bytes as f64 / seconds / 1e9);
    }
    println!("ratio          {:6.2}", other / ours);
}
