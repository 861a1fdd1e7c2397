//! Which key is explained: from what somebody wrote to a value of each column.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, and, cast_with_options};
use arrow::datatypes::DataType;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::plan::names::nearest;

/// A key as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Asked {
    /// `day=2026-03-03,currency=DKK`, or the value of the only column.
    Text(String),
    /// Values in the order of the key's columns.
    Values(Vec<Option<String>>),
    /// Values by column; none is null.
    Named(BTreeMap<String, Option<String>>),
}

/// Values by column; none is null.
pub type Key = Vec<(String, Option<String>)>;

/// Which columns a key may have.
pub struct Columns<'a> {
    /// For errors.
    pub table: &'a str,
    /// The primary key; empty for tables of rows without one.
    pub key: &'a [String],
    /// All columns: without a primary key any of them tells rows apart.
    pub all: &'a [String],
}

impl Columns<'_> {
    /// Those that may be named.
    fn named(&self) -> &[String] {
        if self.key.is_empty() { self.all } else { self.key }
    }

    fn refuse(&self, message: String) -> Error {
        let hint = match self.key {
            [] => format!("{} has no primary key: name columns and values, such as {}=…", self.table, first(self.all)),
            [one] => format!("the key of {} is {one}: give its value", self.table),
            key => format!("the key of {} is ({}): give a value of each, {}=…", self.table, key.join(", "), key.join("=…,")),
        };
        Error::refused("invalid_key", message).hint(hint)
    }

    /// The values by column.
    ///
    /// # Errors
    /// `Refused` where a column of the primary key is missing, or one is named that is not there.
    pub fn resolve(&self, asked: &Asked) -> Result<Key> {
        let named = match asked {
            Asked::Named(named) => named.clone(),
            Asked::Values(values) if values.len() == self.key.len() => self.key.iter().cloned().zip(values.clone()).collect(),
            Asked::Values(values) => return Err(self.refuse(format!("{} values are no key", values.len()))),
            Asked::Text(text) => self.parse(text)?,
        };
        if let Some(unknown) = named.keys().find(|name| !self.named().contains(name)) {
            let near = nearest(unknown, self.named().iter().map(String::as_str));
            let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let what = if self.key.is_empty() { "column" } else { "key column" };
            return Err(self.refuse(format!("table {} has no {what} {unknown}{meant}", self.table)));
        }
        if let Some(missing) = self.key.iter().find(|name| !named.contains_key(*name)) {
            return Err(self.refuse(format!("a key without a value of {missing}")));
        }
        if named.is_empty() {
            return Err(self.refuse("a key without a column".to_owned()));
        }
        Ok(named.into_iter().collect())
    }

    /// `A=1,B=2`. A value goes on until `,` and the name of another column, so that it may hold commas and `=` itself.
    fn parse(&self, text: &str) -> Result<BTreeMap<String, Option<String>>> {
        let begins = |rest: &str| {
            let names = self.named().iter().filter(|name| rest.strip_prefix(name.as_str()).is_some_and(|r| r.starts_with('=')));
            names.max_by_key(|name| name.len()).cloned()
        };
        let Some(mut name) = begins(text) else {
            return match self.key {
                [only] => Ok([(only.clone(), Some(text.to_owned()))].into()),
                _ => Err(self.refuse(format!("{text:?} is no key"))),
            };
        };
        let mut found = BTreeMap::new();
        let mut rest = &text[name.len() + 1..];
        loop {
            let next = rest.match_indices(',').find_map(|(at, _)| Some((at, begins(rest.get(at + 1..)?)?)));
            let (value, after) = match &next {
                Some((at, other)) => (&rest[..*at], Some((other.clone(), &rest[at + 2 + other.len()..]))),
                None => (rest, None),
            };
            found.insert(name, Some(value.to_owned()));
            match after {
                Some((other, others)) => (name, rest) = (other, others),
                None => return Ok(found),
            }
        }
    }
}

fn first(names: &[String]) -> &str {
    names.first().map_or("COLUMN", String::as_str)
}

/// A value of a column, ready to be looked for.
#[derive(Clone, Debug)]
pub struct Wanted(ArrayRef);

impl Wanted {
    /// A value as a column of that type holds it.
    ///
    /// # Errors
    /// `Refused` where the column has no such values.
    pub fn new(name: &str, value: Option<&str>, data_type: &DataType) -> Result<Self> {
        let Some(text) = value else { return Ok(Self(new_null_array(data_type, 1))) };
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let value = cast_with_options(&StringArray::from(vec![text]), data_type, &strict).map_err(|error| {
            Error::refused("invalid_key", format!("{name}: {text:?} is no {data_type}"))
                .source(error)
                .hint("write days as 2026-03-03, times as 2026-03-03T12:00:00Z, numbers with their digits")
        })?;
        Ok(Self(value))
    }

    /// Which values of a column are it. Null is null.
    pub fn is(&self, column: &dyn Array) -> Result<BooleanArray> {
        Ok(not_distinct(&column, &Scalar::new(self.0.clone()))?)
    }
}

/// Which rows have these values in these columns.
pub fn rows_of(batch: &RecordBatch, wanted: &[(usize, Wanted)]) -> Result<BooleanArray> {
    let mut mask = BooleanArray::from(vec![true; batch.num_rows()]);
    for (column, wanted) in wanted {
        mask = and(&mask, &wanted.is(batch.column(*column))?)?;
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(key: &[&str], asked: &Asked) -> Result<Key> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (key, all) = (names(key), names(&["day", "day_of", "currency", "total"]));
        Columns { table: "t", key: &key, all: &all }.resolve(asked)
    }

    fn text(key: &[&str], text: &str) -> Result<Vec<String>> {
        let found = resolve(key, &Asked::Text(text.to_owned()))?;
        Ok(found.into_iter().map(|(name, value)| format!("{name}:{}", value.unwrap_or_default())).collect())
    }

    #[test]
    fn a_key_is_written_as_columns_and_values() {
        assert_eq!(text(&["day", "currency"], "day=2026-03-03,currency=DKK").unwrap(), ["currency:DKK", "day:2026-03-03"]);
        assert_eq!(text(&["currency"], "DKK").unwrap(), ["currency:DKK"]);
        assert_eq!(text(&["currency"], "currency=DKK").unwrap(), ["currency:DKK"]);
        assert_eq!(text(&["currency"], "a=b").unwrap(), ["currency:a=b"], "no column of that name");
        assert_eq!(text(&["day", "currency"], "currency=a,b=c,,day=").unwrap(), ["currency:a,b=c,", "day:"]);
        assert_eq!(text(&[], "total=1,day_of=x").unwrap(), ["day_of:x", "total:1"]);
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_columns() {
        for (key, asked, part) in [
            (&["day", "currency"][..], "DKK", "give a value of each, day=…,currency=…"),
            (&["day", "currency"], "day=1", "without a value of currency"),
            (&[], "1", "no primary key"),
        ] {
            let error = text(key, asked).unwrap_err();
            assert!(error.code() == "invalid_key" && error.to_string().contains(part), "{error}");
        }
        let named = Asked::Named([("curency".to_owned(), None)].into());
        assert!(resolve(&["currency"], &named).unwrap_err().to_string().contains("did you mean currency?"));
        let values = |values: &[&str]| Asked::Values(values.iter().map(|value| Some((*value).to_owned())).collect());
        assert_eq!(resolve(&["day", "currency"], &values(&["1", "2"])).unwrap().len(), 2);
        assert_eq!(resolve(&["day", "currency"], &values(&["1"])).unwrap_err().code(), "invalid_key");
    }

    #[test]
    fn values_are_looked_for_as_the_column_holds_them() {
        let wanted = |value, data_type: &DataType| Wanted::new("c", value, data_type);
        let days: ArrayRef = std::sync::Arc::new(arrow::array::Date32Array::from(vec![Some(20_515), None, Some(1)]));
        let mask = |value| wanted(value, &DataType::Date32).unwrap().is(&days).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(mask(Some("2026-03-03")), [Some(true), Some(false), Some(false)]);
        assert_eq!(mask(None), [Some(false), Some(true), Some(false)]);
        assert_eq!(wanted(Some("tomorrow"), &DataType::Date32).unwrap_err().code(), "invalid_key");
        assert_eq!(wanted(Some("1.5"), &DataType::Int64).unwrap_err().code(), "invalid_key");
    }
}
