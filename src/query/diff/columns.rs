//! Which columns of two tables are compared, as what type, and how the tables' columns differ.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Float32Type, Float64Type, Schema, TimeUnit};
use arrow::row::{RowConverter, SortField};
use serde::Serialize;

use crate::error::{Error, Result};

/// A column that is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name in both tables.
    pub name: String,
    /// The type that the values of both are compared as.
    pub data_type: DataType,
    /// Numbers that differ by no more than this are the same.
    pub tolerance: Option<f64>,
}

/// How a column of the one table differs from that of the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SchemaDifference {
    /// Its name.
    pub column: String,
    /// Its type in the first table; none: it is not there.
    pub a: Option<String>,
    /// Its type in the second table.
    pub b: Option<String>,
    /// Whether its values are compared all the same.
    pub compared: bool,
}

/// The columns of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// What tells rows apart; all compared columns where tables are compared as multisets.
    pub key: Vec<Column>,
    /// What is compared between rows of the same key.
    pub values: Vec<Column>,
    /// Whether equal rows are counted instead of matched by key.
    pub multiset: bool,
    /// Columns that are not the same in both.
    pub differences: Vec<SchemaDifference>,
}

impl Columns {
    /// Chooses the columns of two tables that are compared by `key`; as multisets of rows if it is empty.
    ///
    /// # Errors
    /// `Config` for a key or a tolerance that names no column that can have one; `Refused` if nothing can be compared.
    pub fn choose(a: &Schema, b: &Schema, key: &[String], tolerance: &BTreeMap<String, f64>) -> Result<Self> {
        let (mut common, mut differences) = (Vec::new(), Vec::new());
        for field in a.fields() {
            let theirs = b.field_with_name(field.name()).ok().map(|field| field.data_type());
            let shared = theirs.and_then(|theirs| shared_type(field.data_type(), theirs)).filter(can_be_compared);
            if theirs.is_none_or(|theirs| type_name(theirs) != type_name(field.data_type())) || shared.is_none() {
                differences.push(SchemaDifference {
                    column: field.name().clone(),
                    a: Some(type_name(field.data_type())),
                    b: theirs.map(type_name),
                    compared: shared.is_some(),
                });
            }
            let tolerance = tolerance.get(field.name()).copied();
            common.extend(shared.map(|data_type| Column { name: field.name().clone(), data_type, tolerance }));
        }
        for field in b.fields().iter().filter(|field| a.field_with_name(field.name()).is_err()) {
            let b = Some(type_name(field.data_type()));
            differences.push(SchemaDifference { column: field.name().clone(), a: None, b, compared: false });
        }
        check_key(key, &common)?;
        check_tolerance(tolerance, key, &common)?;
        if common.is_empty() {
            return Err(Error::refused("nothing_in_common", "the tables have no column in common that can be compared"));
        }
        let multiset = key.is_empty();
        let is_key = |column: &Column| multiset || key.contains(&column.name);
        let (key, values) = common.into_iter().partition(is_key);
        Ok(Self { key, values, multiset, differences })
    }

    /// All that are compared: the key first.
    pub fn all(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().chain(&self.values)
    }
}

fn check_key(key: &[String], common: &[Column]) -> Result<()> {
    match key.iter().find(|name| common.iter().all(|column| column.name != **name)) {
        None => Ok(()),
        Some(name) => Err(Error::config("no_such_key", format!("the key column {name} is not in both tables with one type"))
            .hint("name columns that tell the rows of both apart: --key COLUMN, once for each")),
    }
}

fn check_tolerance(tolerance: &BTreeMap<String, f64>, key: &[String], common: &[Column]) -> Result<()> {
    for (name, limit) in tolerance {
        let refuse = |message: String, hint: &str| Err(Error::config("tolerance", message).hint(hint));
        if !(*limit >= 0.0 && limit.is_finite()) {
            return refuse(format!("the tolerance of {name} is {limit}"), "give a number that is 0 or more");
        }
        let Some(column) = common.iter().find(|column| column.name == *name) else {
            return refuse(format!("a tolerance is given for {name}, which is not compared"), "check the name of the column");
        };
        if key.is_empty() {
            let message = format!("a tolerance is given for {name}, and the rows have no key");
            return refuse(
                message,
                "tables without a key are compared as multisets of whole rows: name a key with --key COLUMN",
            );
        }
        if key.contains(name) {
            return refuse(format!("a tolerance is given for {name}, which is a part of the key"), "leave it out");
        }
        if !is_number(&column.data_type) {
            let message = format!("a tolerance is given for {name}, which is a {}", type_name(&column.data_type));
            return refuse(message, "only numbers can be nearly the same");
        }
    }
    Ok(())
}

/// Whether sums and distances of values are taken.
pub fn is_number(data_type: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int32, Int64};
    matches!(data_type, Int32 | Int64 | Float32 | Float64 | Decimal128(..))
}

fn can_be_compared(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// The type that values of both can be brought to without a loss.
pub fn shared_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Decimal128, Float32, Float64, Int32, Int64, Timestamp};
    Some(match (a, b) {
        _ if a.equals_datatype(b) => a.clone(),
        (Int32, Int64) | (Int64, Int32) => Int64,
        (Float32, Float64) | (Float64, Float32) => Float64,
        (Decimal128(p, s), Decimal128(q, t)) => {
            let (scale, whole) = (*s.max(t), (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t)));
            let precision = u8::try_from(whole + i16::from(scale)).ok().filter(|p| *p <= DECIMAL128_MAX_PRECISION)?;
            Decimal128(precision, scale)
        }
        (Decimal128(p, s), Int32 | Int64) | (Int32 | Int64, Decimal128(p, s)) => {
            let precision = (19 + u8::try_from(*s).ok()?).max(*p);
            (precision <= DECIMAL128_MAX_PRECISION).then_some(Decimal128(precision, *s))?
        }
        // What has no zone is taken as UTC, as kappa writes it.
        (Timestamp(..), Timestamp(..)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

/// A type as people know it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "String".to_owned(),
        DataType::Date32 => "Date".to_owned(),
        DataType::Decimal128(precision, scale) => format!("Decimal({precision}, {scale})"),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            };
            format!("Timestamp({unit:?}){}", if zone.is_some() { "" } else { " without a time zone" })
        }
        DataType::List(inner) => format!("List({})", type_name(inner.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{:?}: {}", field.name(), type_name(field.data_type())));
            format!("Struct({{{}}})", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A column in the form in which equal values have equal bytes: of the shared type, with one zero and one NaN.
pub fn normal(column: &ArrayRef, data_type: &DataType, name: &str) -> Result<ArrayRef> {
    let column = if column.data_type() == data_type {
        column.clone()
    } else {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        arrow::compute::cast_with_options(column, data_type, &options).map_err(|error| {
            let message = format!(
                "column {name}: {} cannot be compared as {}: {error}",
                type_name(column.data_type()),
                type_name(data_type)
            );
            Error::data("diff_value", message).source(error)
        })?
    };
    one_zero(&column)
}

fn one_zero(column: &ArrayRef) -> Result<ArrayRef> {
    use std::sync::Arc;
    Ok(match column.data_type() {
        DataType::Float64 => Arc::new(
            column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
        ),
        DataType::Float32 => Arc::new(
            column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
        ),
        DataType::Struct(fields) => {
            let members = column.as_struct().columns().iter().map(one_zero).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), members, column.nulls().cloned())?)
        }
        DataType::List(element) => {
            let list = column.as_list::<i32>();
            let values = one_zero(list.values())?;
            Arc::new(ListArray::try_new(element.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        _ => column.clone(),
    })
}
