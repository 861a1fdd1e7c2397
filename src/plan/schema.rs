//! The types of columns, and how they look in Arrow.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes as arrow_types;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The resolution of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Second,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millisecond,
    /// Microseconds.
    #[serde(rename = "us")]
    Microsecond,
    /// Nanoseconds. Iceberg v2 cannot hold them: cast before a table.
    #[serde(rename = "ns")]
    Nanosecond,
}

impl TimeUnit {
    /// How many of this unit make a second.
    pub fn per_second(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1_000_000,
            Self::Nanosecond => 1_000_000_000,
        }
    }

    /// `s`, `ms`, `us` or `ns`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        }
    }

    fn to_arrow(self) -> arrow_types::TimeUnit {
        match self {
            Self::Second => arrow_types::TimeUnit::Second,
            Self::Millisecond => arrow_types::TimeUnit::Millisecond,
            Self::Microsecond => arrow_types::TimeUnit::Microsecond,
            Self::Nanosecond => arrow_types::TimeUnit::Nanosecond,
        }
    }
}

/// The type of a column. Every column may hold nulls unless its field says otherwise.
///
/// The JSON form is part of the plan: `"int64"`, `{"decimal": {"precision": 10, "scale": 2}}`, `{"timestamp": "ms"}`,
/// `{"list": "string"}`, `{"struct": [{"name": "x", "type": "int64"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// UTF-8 text.
    String,
    /// True or false.
    Boolean,
    /// A calendar day.
    Date,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// IEEE double.
    Float64,
    /// Bytes: record keys and dead letters.
    Binary,
    /// Exact decimal number of up to 38 digits.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// An instant, UTC.
    Timestamp(TimeUnit),
    /// A list of values of one type.
    List(Box<DataType>),
    /// Named members.
    Struct(Vec<Field>),
}

impl DataType {
    /// The Arrow type that columns of this type have everywhere in the engine.
    pub fn to_arrow(&self) -> arrow_types::DataType {
        use arrow_types::DataType as A;
        match self {
            Self::String => A::Utf8,
            Self::Boolean => A::Boolean,
            Self::Date => A::Date32,
            Self::Int32 => A::Int32,
            Self::Int64 => A::Int64,
            Self::Float64 => A::Float64,
            Self::Binary => A::Binary,
            Self::Decimal { precision, scale } => A::Decimal128(*precision, *scale),
            Self::Timestamp(unit) => A::Timestamp(unit.to_arrow(), Some("UTC".into())),
            Self::List(inner) => A::List(Arc::new(arrow_types::Field::new("element", inner.to_arrow(), true))),
            Self::Struct(fields) => A::Struct(fields.iter().map(Field::to_arrow).collect()),
        }
    }

    /// Whether values can be added up.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Int32 | Self::Int64 | Self::Float64 | Self::Decimal { .. })
    }

    /// Checks what a declaration cannot get wrong by its shape alone.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Decimal { precision, scale } if !(1..=38).contains(precision) || *scale < 0 || *scale as u8 > *precision => {
                Err(Error::plan("invalid_type", format!("{self} is not a decimal type"))
                    .hint("precision is 1 to 38, scale 0 to precision"))
            }
            Self::List(inner) => inner.validate(),
            Self::Struct(fields) if fields.is_empty() => Err(Error::plan("invalid_type", "a struct needs at least one member")),
            Self::Struct(fields) => fields.iter().try_for_each(|field| field.data_type.validate()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision}, {scale})"),
            Self::Timestamp(unit) => write!(f, "Timestamp({:?})", unit.name()),
            Self::List(inner) => write!(f, "List({inner})"),
            Self::Struct(fields) => {
                f.write_str("Struct({")?;
                for (i, field) in fields.iter().enumerate() {
                    write!(f, "{}{:?}: {}", if i == 0 { "" } else { ", " }, field.name, field.data_type)?;
                }
                f.write_str("})")
            }
            simple => write!(f, "{simple:?}"),
        }
    }
}

/// A named column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Whether it can be null. Columns read from a log can.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_true(value: &bool) -> bool {
    *value
}

impl Field {
    /// A column that can be null.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: true }
    }

    /// The Arrow field.
    pub fn to_arrow(&self) -> arrow_types::Field {
        arrow_types::Field::new(&self.name, self.data_type.to_arrow(), self.nullable)
    }
}

/// The columns of a stream, in order, with distinct names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    /// The columns.
    pub fields: Vec<Field>,
}

impl Schema {
    /// The column of that name and its position.
    pub fn find(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// The Arrow schema.
    pub fn to_arrow(&self) -> arrow_types::SchemaRef {
        Arc::new(arrow_types::Schema::new(self.fields.iter().map(Field::to_arrow).collect::<Vec<_>>()))
    }
}
