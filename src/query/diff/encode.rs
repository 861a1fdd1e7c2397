//! Rows as bytes: equal rows have equal bytes, and the bytes of keys sort as the keys do.

use arrow::array::ArrayRef;
use arrow::row::{RowConverter, Rows, SortField};

use super::columns::{Column, Columns, normal};
use crate::error::{Error, Result};

/// Brings rows to bytes and back. One for each thread.
pub struct Encoder {
    key: Part,
    values: Part,
}

/// Some columns of a row.
struct Part {
    columns: Vec<Column>,
    converter: RowConverter,
}

/// Rows as bytes.
pub struct Encoded {
    key: Rows,
    /// None where there are no such columns.
    values: Option<Rows>,
}

impl Encoded {
    /// The bytes of a row's key and of its values.
    pub fn row(&self, index: usize) -> (Bytes<'_>, Bytes<'_>) {
        (Bytes(Some(self.key.row(index))), Bytes(self.values.as_ref().map(|values| values.row(index))))
    }
}

/// The bytes of a part of a row.
pub struct Bytes<'a>(Option<arrow::row::Row<'a>>);

impl AsRef<[u8]> for Bytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |row| row.as_ref())
    }
}

impl Part {
    fn new(columns: &[Column]) -> Result<Self> {
        let fields = columns.iter().map(|column| SortField::new(column.data_type.clone())).collect();
        Ok(Self { columns: columns.to_vec(), converter: RowConverter::new(fields)? })
    }

    fn encode(&self, columns: &[ArrayRef]) -> Result<Option<Rows>> {
        if self.columns.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.converter.convert_columns(columns)?))
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.map(|row| parser.parse(row)))?)
    }
}

impl Encoder {
    /// Of the columns of a comparison.
    pub fn new(columns: &Columns) -> Result<Self> {
        Ok(Self { key: Part::new(&columns.key)?, values: Part::new(&columns.values)? })
    }

    /// Columns, those of the key first, in the form in which equal values have equal bytes.
    pub fn normal(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let wanted = self.key.columns.iter().chain(&self.values.columns);
        columns.iter().zip(wanted).map(|(column, wanted)| normal(column, &wanted.data_type, &wanted.name)).collect()
    }

    /// The rows of columns in their normal form: those of the key, then the others.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Encoded> {
        let (key, values) = columns.split_at_checked(self.key.columns.len()).unwrap_or_default();
        let key = self.key.encode(key)?.ok_or_else(|| Error::internal("rows without a key"))?;
        Ok(Encoded { key, values: self.values.encode(values)? })
    }

    /// The key columns of rows.
    pub fn keys<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.key.decode(rows)
    }

    /// The other columns of rows.
    pub fn values<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.values.decode(rows)
    }

    /// A key in words.
    pub fn describe(&self, key: &[u8]) -> Result<String> {
        let columns = self.keys(std::iter::once(key))?;
        let one = |(column, array): (&Column, &ArrayRef)| {
            Ok(format!("{}={}", column.name, arrow::util::display::array_value_to_string(array, 0)?))
        };
        Ok(self.key.columns.iter().zip(&columns).map(one).collect::<Result<Vec<_>>>()?.join(", "))
    }
}
