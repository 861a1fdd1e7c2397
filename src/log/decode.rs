//! Batches to records: positions in the bytes as they were read, nothing copied unless it was compressed.

use std::io::Read;
use std::ops::Range;

use super::batch::{BatchHeader, Compression, MAX_RECORDS};
use super::varint::Cursor;
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

/// Unpacks records into `out`, which is emptied first. More than [`MAX_RECORDS`] bytes are refused.
pub fn unpack(compression: Compression, packed: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    out.clear();
    let limit = MAX_RECORDS as u64 + 1;
    let read = match compression {
        Compression::None => Read::take(packed, limit).read_to_end(out),
        Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(packed).take(limit).read_to_end(out),
        Compression::Zstd => {
            zstd::stream::read::Decoder::with_buffer(packed).and_then(|decoder| decoder.take(limit).read_to_end(out))
        }
    };
    match read {
        Ok(size) if size <= MAX_RECORDS => Ok(()),
        Ok(_) => Err("the batch unpacks to more than 256 MiB"),
        Err(_) => Err("the batch cannot be unpacked"),
    }
}
