//! How fast lines go into the embedded log, and records come out: `cargo bench --bench log`.
//!
//! Arguments: millions of records (default 4), the directory (default: a temporary one). Figures go to stdout as
//! Markdown, one line per measurement.

// A bench prints, and stops at the first surprise.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};

use kappa::error::Result;
use kappa::log::{Compression, LogDir, Retention, Topic, WriterOptions};
use kappa::message::RecordBlock;
use kappa::time::instant;

const PARTITIONS: i32 = 4;

fn main() -> Result<()> {
    let numbers: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let records = numbers.first().and_then(|millions| millions.parse::<f64>().ok()).unwrap_or(4.0) * 1e6;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = numbers.get(1).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let lines = root.join("lines.json");
    generate(&lines, records as u64).expect("lines are written");
    let bytes = std::fs::metadata(&lines).expect("lines are there").len();
    println!("| what | records/s | MB/s | seconds | records per CPU second |\n|---|---|---|---|---|");
    let log = LogDir::open(root.join("log"));
    for (name, key, compression) in [
        ("append lines", None, Compression::None),
        ("append lines, keyed", Some("merchant_id"), Compression::None),
        ("append lines, lz4", None, Compression::Lz4),
        ("append lines, zstd", None, Compression::Zstd),
    ] {
        let topic = log.create_topic("bench", PARTITIONS, Retention::default())?;
        let started = (instant(), cpu_seconds());
        let input = std::fs::File::open(&lines).expect("lines are there");
        let mut writer = topic.topic_writer(None, WriterOptions { compression, ..WriterOptions::default() })?;
        let report = writer.append_lines(input, key, &kappa::time::now_ms)?;
        drop(writer);
        print(name, report.records, bytes, started.0.elapsed().as_secs_f64(), cpu_seconds() - started.1);
        if key.is_none() {
            scan(&topic, compression, bytes)?;
        }
        log.delete_topic("bench")?;
    }
    Ok(())
}

fn scan(topic: &Topic, compression: Compression, bytes: u64) -> Result<()> {
    // The first reads from disk, perhaps; the best of the others from the page cache.
    let mut best = (f64::INFINITY, f64::INFINITY);
    let mut records = 0;
    for _ in 0..4 {
        let started = (instant(), cpu_seconds());
        let mut scan = topic.scan_all()?;
        let mut block = RecordBlock::default();
        records = 0;
        while scan.next_block(&mut block)? {
            records += block.len() as u64;
        }
        best = (best.0.min(started.0.elapsed().as_secs_f64()), best.1.min(cpu_seconds() - started.1));
    }
    print(&format!("scan, one thread, {compression:?}").to_lowercase(), records, bytes, best.0, best.1);
    Ok(())
}

fn print(what: &str, records: u64, bytes: u64, seconds: f64, cpu: f64) {
    let millions = records as f64 / 1e6;
    let megabytes = bytes as f64 / seconds / 1e6;
    println!("| {what} | {:.2} M | {megabytes:.0} | {seconds:.2} | {:.2} M |", millions / seconds, millions / cpu);
}

/// What this thread has used of a core, so that figures mean something on a machine that does other things too. The thread
/// that reads the input of an append is not in it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

/// Payments of about 150 bytes.
fn generate(path: &Path, records: u64) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    for number in 0..records {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        writeln!(
            out,
            r#"{{"payment_id":"pay_{mixed:012x}","merchant_id":"m_{:06}","status":"captured","amount":{},"currency":"INR","event_time":{}}}"#,
            mixed % 50_000,
            mixed % 1_000_000,
            1_777_000_000_000 + number
        )?;
    }
    out.flush()
}
