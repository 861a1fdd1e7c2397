//! Constants: from the plan's JSON to values, and from one type to another where nothing is lost.

use serde_json::Value;

use super::decimal;
use super::expr::Literal;
use super::schema::DataType;
use crate::error::{Error, Result};

/// A constant's value; what it means depends on its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// No value, of any type.
    Null,
    /// Boolean.
    Boolean(bool),
    /// Int32, Int64, Date (days since 1970), Timestamp (its unit since 1970 UTC).
    Integer(i64),
    /// Float64.
    Float(f64),
    /// Decimal: the count of 10^-scale.
    Decimal(i128),
    /// String.
    Text(String),
}

impl Literal {
    /// A bare null, which takes any type.
    pub fn null() -> Self {
        Self { data_type: None, value: Value::Null }
    }

    /// A constant of a type, its value as the JSON form wants it.
    pub fn new(data_type: DataType, value: impl Into<Value>) -> Self {
        Self { data_type: Some(data_type), value: value.into() }
    }

    /// The value, checked against the type.
    ///
    /// # Errors
    /// A `PlanError` if the JSON value is not one of this type.
    pub fn constant(&self) -> Result<Constant> {
        if self.value.is_null() {
            return Ok(Constant::Null);
        }
        let wrong = || {
            let type_name = self.data_type.as_ref().map_or("no type".to_owned(), ToString::to_string);
            Error::plan("invalid_literal", format!("{} is not a literal of {type_name}", self.value))
                .hint("use kappa.lit(value, dtype) with a value of that type")
        };
        let data_type = self.data_type.as_ref().ok_or_else(wrong)?;
        data_type.validate()?;
        constant_of(data_type, &self.value).ok_or_else(wrong)
    }
}

fn constant_of(data_type: &DataType, value: &Value) -> Option<Constant> {
    Some(match data_type {
        DataType::Boolean => Constant::Boolean(value.as_bool()?),
        DataType::Int32 | DataType::Date => Constant::Integer(i64::from(i32::try_from(value.as_i64()?).ok()?)),
        DataType::Int64 | DataType::Timestamp(_) => Constant::Integer(value.as_i64()?),
        DataType::Float64 => Constant::Float(match value.as_str() {
            Some("NaN") => f64::NAN,
            Some("Infinity") => f64::INFINITY,
            Some("-Infinity") => f64::NEG_INFINITY,
            Some(text) => text.parse::<f64>().ok().filter(|v| v.is_finite())?,
            None => value.as_f64()?,
        }),
        DataType::Decimal { precision, scale } => Constant::Decimal(decimal::parse(value.as_str()?, *precision, *scale)?),
        DataType::String => Constant::Text(value.as_str()?.to_owned()),
        DataType::Binary | DataType::List(_) | DataType::Struct(_) => return None,
    })
}

impl Constant {
    /// The same value as another type, if it has exactly that value there. Integers become floats and decimals, floats
    /// become the decimal that their shortest text says (0.1 is 0.1), instants change unit.
    pub fn adapt(&self, from: &DataType, to: &DataType) -> Option<Self> {
        if from == to || *self == Self::Null {
            return Some(self.clone());
        }
        match (self, from, to) {
            (Self::Integer(v), DataType::Int32 | DataType::Int64, _) => adapt_integer(*v, to),
            (Self::Float(v), _, DataType::Decimal { precision, scale }) => {
                Some(Self::Decimal(decimal::parse(&float_text(*v)?, *precision, *scale)?))
            }
            (Self::Decimal(v), DataType::Decimal { scale: old, .. }, DataType::Decimal { precision, scale }) => {
                decimal::rescale(*v, *old, *scale).filter(|v| decimal::fits(*v, *precision)).map(Self::Decimal)
            }
            (Self::Integer(v), DataType::Timestamp(old), DataType::Timestamp(new)) => {
                let (old, new) = (old.per_second(), new.per_second());
                if new >= old {
                    v.checked_mul(new / old).map(Self::Integer)
                } else {
                    let step = old / new;
                    (v % step == 0).then_some(Self::Integer(v / step))
                }
            }
            _ => None,
        }
    }

    /// The narrowest decimal type that holds a number exactly.
    pub fn natural_decimal(&self, own: &DataType) -> Option<DataType> {
        let (value, scale) = match self {
            Self::Integer(v) if own.is_numeric() => (i128::from(*v), 0),
            Self::Float(v) => decimal::parse_natural(&float_text(*v)?)?,
            _ => return None,
        };
        let (value, scale) = if scale < 0 {
            (value.checked_mul(decimal::pow10(scale.unsigned_abs())?)?, 0)
        } else {
            (value, i8::try_from(scale).ok()?)
        };
        let precision = decimal::digits(value).max(scale.unsigned_abs());
        (precision <= decimal::MAX_PRECISION).then_some(DataType::Decimal { precision, scale })
    }
}

fn adapt_integer(value: i64, to: &DataType) -> Option<Constant> {
    match to {
        DataType::Int32 => i32::try_from(value).ok().map(|v| Constant::Integer(i64::from(v))),
        DataType::Int64 => Some(Constant::Integer(value)),
        DataType::Float64 => (i128::from(value) == (value as f64) as i128).then_some(Constant::Float(value as f64)),
        DataType::Decimal { precision, scale } => {
            decimal::rescale(i128::from(value), 0, *scale).filter(|v| decimal::fits(*v, *precision)).map(Constant::Decimal)
        }
        _ => None,
    }
}

/// The shortest text that reads back as the same float.
fn float_text(value: f64) -> Option<String> {
    value.is_finite().then(|| ryu::Buffer::new().format_finite(value).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::schema::TimeUnit;

    #[test]
    fn values_are_checked_against_their_type() {
        assert_eq!(Literal::new(DataType::Int64, 5).constant().unwrap(), Constant::Integer(5));
        assert_eq!(Literal::new(DataType::Float64, 5).constant().unwrap(), Constant::Float(5.0));
        assert_eq!(Literal::new(DataType::Float64, "Infinity").constant().unwrap(), Constant::Float(f64::INFINITY));
        assert_eq!(Literal::new(DataType::Float64, "0.30000000000000004").constant().unwrap(), Constant::Float(0.1 + 0.2));
        for wrong in ["inf", "nan", "1e999", "x", ""] {
            assert!(Literal::new(DataType::Float64, wrong).constant().is_err(), "{wrong}");
        }
        assert_eq!(Literal::null().constant().unwrap(), Constant::Null);
        let error = Literal::new(DataType::Int32, 3_000_000_000_i64).constant().unwrap_err();
        assert_eq!(error.message(), "3000000000 is not a literal of Int32");
        assert!(Literal { data_type: None, value: 1.into() }.constant().is_err());
        assert!(Literal::new(DataType::Int64, 1.5).constant().is_err());
    }

    #[test]
    fn adapting_never_changes_the_value() {
        let (int, float) = (DataType::Int64, DataType::Float64);
        let money = DataType::Decimal { precision: 5, scale: 2 };
        assert_eq!(Constant::Integer(7).adapt(&int, &DataType::Int32), Some(Constant::Integer(7)));
        assert_eq!(Constant::Integer(1 << 40).adapt(&int, &DataType::Int32), None);
        assert_eq!(Constant::Integer((1 << 53) + 1).adapt(&int, &float), None);
        assert_eq!(Constant::Integer(i64::MAX).adapt(&int, &float), None);
        assert_eq!(Constant::Integer(999).adapt(&int, &money), Some(Constant::Decimal(99_900)));
        assert_eq!(Constant::Integer(1000).adapt(&int, &money), None);
        assert_eq!(Constant::Float(9.99).adapt(&float, &money), Some(Constant::Decimal(999)));
        assert_eq!(Constant::Float(0.125).adapt(&float, &money), None);
        assert_eq!(Constant::Float(0.125).natural_decimal(&float), Some(DataType::Decimal { precision: 3, scale: 3 }));
        assert_eq!(Constant::Float(f64::NAN).adapt(&float, &money), None);
        let (ms, us) = (DataType::Timestamp(TimeUnit::Millisecond), DataType::Timestamp(TimeUnit::Microsecond));
        assert_eq!(Constant::Integer(5_000).adapt(&us, &ms), Some(Constant::Integer(5)));
        assert_eq!(Constant::Integer(5_001).adapt(&us, &ms), None);
    }
}
