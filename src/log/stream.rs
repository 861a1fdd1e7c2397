//! Batches one after the other in a file of their own, outside of any topic.

use std::io::Read;

use super::batch::{BatchHeader, HEADER, PREFIX};
use super::decode::{self, Unpacker};
use crate::message::RecordBlock;

/// Reads batches from the front. Its memory is kept from batch to batch.
pub struct BatchStream<R> {
    input: R,
    batch: Vec<u8>,
    unpacker: Unpacker,
}

impl<R: Read> BatchStream<R> {
    /// From where the input is now.
    pub fn new(input: R) -> Self {
        Self { input, batch: Vec::new(), unpacker: Unpacker::default() }
    }

    /// Replaces the content of `block` by the records of the next batch; false at the end of the input.
    ///
    /// # Errors
    /// What is wrong with the bytes, or with reading them.
    pub fn next(&mut self, block: &mut RecordBlock) -> Result<bool, String> {
        block.clear();
        let failed = |error: std::io::Error| error.to_string();
        self.batch.clear();
        let head = (&mut self.input).take(HEADER as u64).read_to_end(&mut self.batch).map_err(failed)?;
        if head == 0 {
            return Ok(false);
        }
        let header = BatchHeader::parse(&self.batch)?;
        let rest = header.size - HEADER;
        if (&mut self.input).take(rest as u64).read_to_end(&mut self.batch).map_err(failed)? != rest {
            return Err(format!("a batch of {} bytes is cut off", header.size - PREFIX));
        }
        if !header.is_intact(&self.batch) {
            return Err("the checksum of a batch is wrong".to_owned());
        }
        let records = self.batch.get(HEADER..).unwrap_or_default();
        let compression = header.compression().ok_or("a batch is packed in an unknown way")?;
        self.unpacker.unpack(compression, records, &mut block.data)?;
        let wanted = header.base_offset..header.last_offset().saturating_add(1);
        decode::records(&header, &block.data, 0..block.data.len(), wanted, &mut block.records)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Compression;
    use crate::log::NewRecord;
    use crate::log::encode::BatchBuilder;

    #[test]
    fn batches_come_back_and_damage_is_found() {
        let mut file = Vec::new();
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for batch in 0..3_u8 {
            for record in 0..=batch {
                let value = [batch, record];
                let value = (record > 0).then_some(&value[..]);
                builder.push(&NewRecord { key: Some(&[record]), value, timestamp: 7, ..NewRecord::default() });
            }
            builder.finish(i64::from(batch) * 10, 0).unwrap();
            file.extend_from_slice(builder.bytes());
            builder.clear();
        }
        let read = |bytes: &[u8]| {
            let (mut stream, mut block, mut found) = (BatchStream::new(bytes), RecordBlock::default(), Vec::new());
            while stream.next(&mut block)? {
                found.extend((0..block.len()).map(|i| (block.key(i).map(<[u8]>::to_vec), block.value(i).map(<[u8]>::to_vec))));
            }
            Ok::<_, String>(found)
        };
        let whole = read(&file).unwrap();
        assert_eq!(whole.len(), 6);
        assert_eq!((whole[0].clone(), whole[5].clone()), ((Some(vec![0]), None), (Some(vec![2]), Some(vec![2, 2]))));
        assert!(read(&file[..file.len() - 1]).is_err());
        file[100] ^= 1;
        assert!(read(&file).is_err());
    }
}
