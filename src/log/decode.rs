//! Batches to records: positions in the bytes as they were read, nothing copied unless it was compressed.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

use super::batch::{BatchHeader, Compression, MAX_RECORDS};
use crate::message::varint::Cursor;
use crate::message::{RecordRef, Span};

/// Adds the records of a batch that lie in `wanted` to `out`. `place` is where they lie in `data`, unpacked.
///
/// Says what is wrong if the bytes are not records; `out` may then hold some of them, which the caller takes back.
pub fn records(
    header: &BatchHeader,
    data: &[u8],
    place: Range<usize>,
    wanted: Range<i64>,
    out: &mut Vec<RecordRef>,
) -> Result<(), &'static str> {
    let data = data.get(..place.end).ok_or("the records are cut off")?;
    let mut cursor = Cursor::new(data, place.start);
    let append_time = header.has_append_time().then_some(header.max_timestamp);
    let last = header.last_offset();
    let mut next = header.base_offset;
    // A record takes at least 7 bytes: a wrong count cannot reserve more than the batch justifies.
    out.reserve((header.count as usize).min(place.len() / 7));
    for _ in 0..header.count {
        let mut record = one(header, &mut cursor).ok_or("a record goes past its own length or the batch's")?;
        if record.offset < next || record.offset > last {
            return Err("the offsets of the batch's records do not rise within its bounds");
        }
        next = record.offset + 1;
        if let Some(timestamp) = append_time {
            record.timestamp = timestamp;
        }
        if wanted.contains(&record.offset) {
            out.push(record);
        }
    }
    if cursor.at() != place.end {
        return Err("bytes follow the batch's last record");
    }
    Ok(())
}

#[inline]
fn one(header: &BatchHeader, cursor: &mut Cursor<'_>) -> Option<RecordRef> {
    let length = cursor.length()??;
    let end = cursor.at() + length;
    cursor.byte()?;
    let timestamp = header.base_timestamp.wrapping_add(cursor.varint()?);
    let offset = header.base_offset.checked_add(cursor.varint()?)?;
    let key = field(cursor)?;
    let value = field(cursor)?;
    let headers_at = cursor.at();
    let count = cursor.varint()?;
    for _ in 0..count {
        cursor.length()?.and_then(|name| cursor.skip(name))?;
        field(cursor)?;
    }
    let headers = Span::new(headers_at, cursor.at() - headers_at);
    (cursor.at() == end && count >= 0).then_some(RecordRef { offset, timestamp, key, value, headers })
}

#[inline]
fn field(cursor: &mut Cursor<'_>) -> Option<Span> {
    match cursor.length()? {
        None => Some(Span::NULL),
        Some(length) => {
            let at = cursor.at();
            cursor.skip(length)?;
            Some(Span::new(at, length))
        }
    }
}

/// Room for unpacked bytes is made in steps of this size, and no more is taken than is filled.
const STEP: usize = 256 << 10;

/// Unpacks the records of compressed batches.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<zstd::stream::raw::Decoder<'static>>,
}

impl Unpacker {
    /// Appends the records that were packed so to `out`. What unpacks to more than [`MAX_RECORDS`] bytes is refused as soon as
    /// that shows: a few bytes may stand for gigabytes. After an error `out` is as it was.
    pub fn unpack(&mut self, compression: Compression, packed: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let start = out.len();
        let unpacked = match compression {
            Compression::None => {
                out.extend_from_slice(packed);
                Ok(())
            }
            Compression::Lz4 => lz4(packed, out),
            Compression::Zstd => self.zstd(packed, out),
        };
        let outcome = match unpacked {
            Err(_) => Err("the batch cannot be unpacked"),
            Ok(()) if out.len() - start > MAX_RECORDS => Err("the batch unpacks to more than 256 MiB"),
            Ok(()) => Ok(()),
        };
        if outcome.is_err() {
            out.truncate(start);
        }
        outcome
    }

    fn zstd(&mut self, packed: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            none => none.insert(zstd::stream::raw::Decoder::new()?),
        };
        decoder.reinit()?;
        let mut input = InBuffer::around(packed);
        let start = out.len();
        while out.len() - start <= MAX_RECORDS {
            make_room(out, start);
            let before = (input.pos(), out.len());
            let mut output = OutBuffer::around_pos(out, before.1);
            let wanted = decoder.run(&mut input, &mut output)?;
            if wanted == 0 {
                if input.pos() == packed.len() {
                    return Ok(());
                }
                decoder.reinit()?;
            } else if before == (input.pos(), out.len()) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

fn lz4(packed: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut frames = lz4_flex::frame::FrameDecoder::new(packed);
    let start = out.len();
    while out.len() - start <= MAX_RECORDS {
        let room = make_room(out, start);
        if frames.by_ref().take(room as u64).read_to_end(out)? < room {
            // The frame has ended. What follows would not be read by others either.
            return if frames.get_ref().is_empty() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) };
        }
    }
    Ok(())
}

/// Makes room behind what was unpacked from `start` on, by steps that grow with it: twice as much, as vectors take it, would be
/// a lot of memory for a large batch. How much there is.
fn make_room(out: &mut Vec<u8>, start: usize) -> usize {
    if out.capacity() - out.len() < STEP {
        out.reserve_exact(STEP.max((out.len() - start) / 8));
    }
    out.capacity() - out.len()
}
