//! How keys and values look in the state: format version 1.
//!
//! These bytes are in checkpoints and decide which key group owns a key, so they never change; golden tests hold them.
//! A key is its columns one after the other. Each column starts with a tag, `00` for null (and nothing more) or `01`:
//!
//! | type | after the tag `01` |
//! |---|---|
//! | Boolean | one byte, 0 or 1 |
//! | Int32, Date | 4 bytes, big endian, sign bit flipped |
//! | Int64, Timestamp | 8 bytes, big endian, sign bit flipped |
//! | Decimal | 16 bytes of the unscaled value, big endian, sign bit flipped |
//! | Float64 | 8 bytes, big endian: the bits, all flipped if negative, else the sign bit flipped. Values only, not keys |
//! | String, Binary | the bytes, each `00` as `00 ff`, then `00 00`. As the last column of a key: the bytes as they are |
//! | Struct | its members as if they were columns, none of them last |
//! | List | for each element `01` and the element as if it were a column, not last; then `00` |
//!
//! So different keys have different bytes, and bytes compare as the columns do, one by one, null first.

mod decode;
mod lane;
#[cfg(test)]
mod tests;

use arrow::array::ArrayRef;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::message::KeyGroup;
use crate::plan::schema::DataType;
use decode::Decoder;
use lane::{Floats, Lane};

/// The version of these encodings, as manifests store it.
pub const FORMAT_VERSION: u8 = 1;

/// Into how many groups keys are hashed, whatever the parallelism.
pub const KEY_GROUPS: u16 = 1024;

/// The seed of [`key_hash`], as manifests store it: the bytes `kappa/v1`.
pub const HASH_SEED: u64 = 0x6b61_7070_612f_7631;

/// What [`ValueEncoder`] writes for null. No other value has these bytes.
pub const NULL_VALUE: &[u8] = &[0];

/// The hash of an encoded key or value: xxh3-64 with [`HASH_SEED`].
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, HASH_SEED)
}

/// The group of a key with that hash.
///
/// Bits 32 to 41: hash tables take the lowest bits for the bucket and the highest seven for the tag, so that a worker that
/// owns some of the groups still fills its tables evenly.
#[inline]
pub fn key_group(hash: u64) -> KeyGroup {
    KeyGroup((hash >> 32) as u16 & (KEY_GROUPS - 1))
}

/// Encodes group keys, and gives their columns back.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    types: Vec<DataType>,
}

impl KeyEncoder {
    /// For keys of these columns. A plan error if one of them is, or holds, a float.
    pub fn new(types: &[DataType]) -> Result<Self> {
        if let Some(data_type) = types.iter().find(|data_type| has_floats(data_type)) {
            return Err(Error::plan("float_key", format!("a group key cannot be {data_type}: floats do not make stable keys"))
                .hint("group by a Decimal or an integer, or round and cast the value to one"));
        }
        Ok(Self { types: types.to_vec() })
    }

    /// Writes the key of each row into `out` and where it ends into `ends`, both emptied first. A key needs at
    /// least one column: without any, the number of rows is not known, and none is written.
    pub fn encode(&self, columns: &[ArrayRef], out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        if columns.len() != self.types.len() {
            return Err(Error::internal(format!("{} key columns instead of {}", columns.len(), self.types.len())));
        }
        let lanes = columns
            .iter()
            .zip(&self.types)
            .enumerate()
            .map(|(i, (column, data_type))| Lane::new(data_type, column, Floats::Canonical, i + 1 == columns.len()))
            .collect::<Result<Vec<_>>>()?;
        let rows = columns.first().map_or(0, |column| column.len());
        if columns.iter().any(|column| column.len() != rows) {
            return Err(Error::internal("key columns of different lengths"));
        }
        lane::encode(&lanes, rows, out, ends);
        Ok(())
    }

    /// The columns of these keys, one row for each. A corruption error if bytes are not a key of these types.
    pub fn decode(&self, keys: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let mut decoders: Vec<_> = self.types.iter().map(|data_type| Decoder::new(data_type, keys.len())).collect();
        for &key in keys {
            let mut bytes = key;
            let last = decoders.len().saturating_sub(1);
            for (i, decoder) in decoders.iter_mut().enumerate() {
                decoder.read(&mut bytes, i == last)?;
            }
            decode::at_end(bytes)?;
        }
        decoders.into_iter().zip(&self.types).map(|(decoder, data_type)| decoder.finish(data_type)).collect()
    }
}

/// Encodes the values of one column of any type: each as a key of one column.
#[derive(Clone, Debug)]
pub struct ValueEncoder {
    data_type: DataType,
    floats: Floats,
}

impl ValueEncoder {
    /// For values that are compared by their bytes: −0.0 is written as 0.0, and every NaN as one, greater than all else.
    pub fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), floats: Floats::Canonical }
    }

    /// For values that are only kept: the bits of a float come back as they were.
    pub fn lossless(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), floats: Floats::Lossless }
    }

    /// Writes each row's value into `out` ([`NULL_VALUE`] for null) and where it ends into `ends`, both emptied first.
    pub fn encode(&self, column: &ArrayRef, out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        let lane = Lane::new(&self.data_type, column, self.floats, true)?;
        lane::encode(std::slice::from_ref(&lane), column.len(), out, ends);
        Ok(())
    }

    /// The column of these values. A corruption error if bytes are not a value of this type.
    pub fn decode(&self, values: &[&[u8]]) -> Result<ArrayRef> {
        let mut decoder = Decoder::new(&self.data_type, values.len());
        for &value in values {
            let mut bytes = value;
            decoder.read(&mut bytes, true)?;
            decode::at_end(bytes)?;
        }
        decoder.finish(&self.data_type)
    }
}

fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float64 => true,
        DataType::List(inner) => has_floats(inner),
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(&field.data_type)),
        _ => false,
    }
}

/// A number that compares as a float does: −0.0 as 0.0, all NaNs as one that is greater than everything.
#[inline]
pub fn float_order(value: f64) -> i64 {
    let canonical = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
    order_of_bits(canonical)
}

/// The float of [`float_order`].
#[inline]
pub fn float_of_order(order: i64) -> f64 {
    f64::from_bits((order ^ ((order >> 63) as u64 >> 1) as i64) as u64)
}

#[inline]
fn order_of_bits(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}
