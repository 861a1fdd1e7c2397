//! The fast way in: lines of text, one record each.
//!
//! One thread reads the input while the caller's cuts it into lines and appends them; buffers go round between the two, and
//! nothing is allocated per record.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::encode::{MAX_RECORD, NewRecord};
use super::json_key;
use super::topic_writer::TopicWriter;
use crate::error::{Error, Result};

const CHUNK: usize = 1 << 20;
/// An input that pauses this long has its records made durable, so that `producer | kappa log append` can be followed.
const PAUSE: Duration = Duration::from_millis(200);
/// Records of an input that never pauses become durable at least so often.
const AT_LEAST: Duration = Duration::from_secs(2);

/// How often the topic's retention is looked after meanwhile.
const RETENTION: Duration = Duration::from_secs(60);

/// What [`TopicWriter::append_lines`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinesReport {
    /// Records appended.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Empty lines, which are no records.
    pub empty: u64,
    /// Records whose key column was missing, null, or not found because the line is no JSON object. They have no key.
    pub without_key: u64,
}

impl TopicWriter {
    /// Appends each line of `input` as a record, and makes all durable before it returns. Line ends (LF or CRLF) are not
    /// part of the record. Lines are not judged: one that is no JSON is a bad record for whoever reads it.
    ///
    /// With `key_column` the record's key is the value of that top-level JSON column: text as such, anything else as it is
    /// written. `clock` gives the timestamp, milliseconds since 1970 UTC; it is asked about once per megabyte.
    ///
    /// After an error the records before it may or may not be there.
    pub fn append_lines(
        &mut self,
        input: impl Read + Send + 'static,
        key_column: Option<&str>,
        clock: &dyn Fn() -> i64,
    ) -> Result<LinesReport> {
        let (full_in, full) = bounded(4);
        let (empty_in, empty) = bounded(4);
        for _ in 0..4 {
            let _ = empty_in.send(vec![0; CHUNK]);
        }
        // Not joined: after an error here the reader may wait for its input for ever; it ends with its channels.
        std::thread::Builder::new()
            .name("kappa-log-input".to_owned())
            .spawn(move || read_chunks(input, &empty, &full_in))
            .map_err(|error| Error::io("start a thread to read", "the input", error))?;
        let mut lines = Lines { key: key_column.map(json_key::KeyColumn::new), ..Lines::default() };
        self.take_chunks(&mut lines, &full, &empty_in, clock)?;
        let rest = std::mem::take(&mut lines.cut);
        if !rest.is_empty() {
            lines.line(self, &rest, clock())?;
        }
        self.flush()?;
        Ok(lines.report)
    }

    fn take_chunks(
        &mut self,
        lines: &mut Lines,
        full: &Receiver<std::io::Result<(Vec<u8>, usize)>>,
        empty: &Sender<Vec<u8>>,
        clock: &dyn Fn() -> i64,
    ) -> Result<()> {
        let mut flushed = crate::time::instant();
        let mut swept = flushed;
        let mut is_flushed = true;
        loop {
            match full.recv_timeout(PAUSE) {
                Ok(chunk) => {
                    let (buffer, size) =
                        chunk.map_err(|error| Error::io("read", "the input", error).with("line", lines.count + 1))?;
                    lines.chunk(self, buffer.get(..size).unwrap_or_default(), clock())?;
                    let _ = empty.send(buffer);
                    is_flushed = false;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let is_idle = full.is_empty() && flushed.elapsed() >= PAUSE;
            if !is_flushed && (is_idle || flushed.elapsed() >= AT_LEAST) {
                self.flush()?;
                is_flushed = true;
                flushed = crate::time::instant();
            }
            if swept.elapsed() >= RETENTION {
                self.enforce_retention(clock())?;
                swept = crate::time::instant();
            }
        }
    }
}

fn read_chunks(mut input: impl Read, empty: &Receiver<Vec<u8>>, full: &Sender<std::io::Result<(Vec<u8>, usize)>>) {
    while let Ok(mut buffer) = empty.recv() {
        let read = loop {
            match input.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let message = match read {
            Ok(0) => return,
            Ok(size) => Ok((buffer, size)),
            Err(error) => Err(error),
        };
        let is_last = message.is_err();
        if full.send(message).is_err() || is_last {
            return;
        }
    }
}

/// Cuts chunks into lines.
#[derive(Default)]
struct Lines {
    key: Option<json_key::KeyColumn>,
    /// The front of a line that the next chunk goes on with.
    cut: Vec<u8>,
    count: u64,
    report: LinesReport,
}

impl Lines {
    fn chunk(&mut self, writer: &mut TopicWriter, chunk: &[u8], timestamp: i64) -> Result<()> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = chunk.get(start..end).unwrap_or_default();
            start = end + 1;
            if self.cut.is_empty() {
                self.line(writer, line, timestamp)?;
            } else {
                let mut whole = std::mem::take(&mut self.cut);
                whole.extend_from_slice(line);
                self.line(writer, &whole, timestamp)?;
                whole.clear();
                self.cut = whole;
            }
        }
        self.cut.extend_from_slice(chunk.get(start..).unwrap_or_default());
        if self.cut.len() > MAX_RECORD {
            return Err(self.at_line(Error::data("log.record_too_large", "a line is longer than 64 MiB"), self.count + 1));
        }
        Ok(())
    }

    #[inline]
    fn line(&mut self, writer: &mut TopicWriter, line: &[u8], timestamp: i64) -> Result<()> {
        self.count += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first().is_none_or(u8::is_ascii_whitespace) && line.trim_ascii().is_empty() {
            self.report.empty += 1;
            return Ok(());
        }
        let key = self.key.as_mut().and_then(|column| column.of(line));
        self.report.without_key += u64::from(key.is_none());
        let record = NewRecord { key, value: Some(line), headers: &[], timestamp };
        if let Err(error) = writer.push(&record) {
            return Err(self.at_line(error, self.count));
        }
        self.report.records += 1;
        self.report.bytes += line.len() as u64;
        Ok(())
    }

    #[cold]
    fn at_line(&self, error: Error, line: u64) -> Error {
        error.with("line", line)
    }
}
