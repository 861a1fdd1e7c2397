//! Batches to records: positions in the bytes as they were read, nothing copied unless it was compressed.

use std::io::Read;
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

/// Unpacks the records of compressed batches. Its memory is kept from batch to batch.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<zstd::stream::raw::Decoder<'static>>,
    out: Vec<u8>,
}

impl Unpacker {
    /// The records that were packed so. More than [`MAX_RECORDS`] bytes are refused.
    pub fn unpack(&mut self, compression: Compression, packed: &[u8]) -> Result<&[u8], &'static str> {
        self.out.clear();
        match compression {
            Compression::None => self.out.extend_from_slice(packed),
            Compression::Lz4 => {
                let frames = lz4_flex::frame::FrameDecoder::new(packed);
                frames.take(MAX_RECORDS as u64 + 1).read_to_end(&mut self.out).map_err(|_| "the batch cannot be unpacked")?;
            }
            Compression::Zstd => self.zstd(packed).map_err(|_| "the batch cannot be unpacked")?,
        }
        if self.out.len() > MAX_RECORDS { Err("the batch unpacks to more than 256 MiB") } else { Ok(&self.out) }
    }

    fn zstd(&mut self, packed: &[u8]) -> std::io::Result<()> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            none => none.insert(zstd::stream::raw::Decoder::new()?),
        };
        decoder.reinit()?;
        let mut input = InBuffer::around(packed);
        while self.out.len() <= MAX_RECORDS {
            self.out.reserve(128 << 10);
            let before = (input.pos(), self.out.len());
            let size = before.1;
            let mut output = OutBuffer::around_pos(&mut self.out, size);
            let wanted = decoder.run(&mut input, &mut output)?;
            if wanted == 0 {
                if input.pos() == packed.len() {
                    return Ok(());
                }
                decoder.reinit()?;
            } else if before == (input.pos(), self.out.len()) {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}
