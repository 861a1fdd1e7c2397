//! Functions of text, by Unicode characters (code points). No locale: the same everywhere.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, StringBuilder};
use arrow::compute::kernels::comparison::{contains, ends_with, starts_with};

use super::Kernel;
use super::map::{Slice, i64s, texts};
use super::value::{Value, row_count};
use crate::error::{Error, Result};
use crate::plan::expr::Function;

/// A function of text.
#[derive(Debug)]
pub(super) struct Text {
    part: Part,
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Lower,
    Upper,
    Strip,
    StartsWith,
    EndsWith,
    Contains,
    Replace,
    Slice,
    Len,
}

impl Text {
    pub(super) fn new(function: &Function, text: &str) -> Result<Self> {
        let part = match function {
            Function::StrToLowercase => Part::Lower,
            Function::StrToUppercase => Part::Upper,
            Function::StrStripChars => Part::Strip,
            Function::StrStartsWith => Part::StartsWith,
            Function::StrEndsWith => Part::EndsWith,
            Function::StrContains => Part::Contains,
            Function::StrReplace => Part::Replace,
            Function::StrSlice => Part::Slice,
            Function::StrLenChars => Part::Len,
            other => return Err(Error::internal(format!("{} is not a function of text", other.method()))),
        };
        Ok(Self { part, text: text.to_owned() })
    }

    fn slice(&self, args: &[Value]) -> Result<ArrayRef> {
        let rows = row_count(args);
        let [value, start, rest @ ..] = args else { return Err(Error::internal("slice without a start")) };
        let values = Texts::of(value)?;
        let start = i64s(start)?;
        let length = rest.first().map(i64s).transpose()?;
        let mut out = StringBuilder::with_capacity(rows, rows * 8);
        for row in 0..rows {
            let (Some(text), Some(start)) = (values.get(row), at(&start, row)) else {
                out.append_null();
                continue;
            };
            let length = length.as_ref().and_then(|length| at(length, row));
            if length.is_some_and(|length| length < 0) {
                return Err(Error::data("negative_length", format!("{}: a length of {}", self.text, length.unwrap_or(0)))
                    .with("row", row)
                    .hint("a length counts characters from the start; a negative start counts from the end"));
            }
            out.append_value(slice_chars(text, start, length));
        }
        Ok(Arc::new(out.finish()))
    }
}

impl Kernel for Text {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let array: ArrayRef = match (self.part, args) {
            (Part::Lower, [arg]) => {
                each(arg, |text, out| change_case(text, out, str::make_ascii_lowercase, str::to_lowercase))?
            }
            (Part::Upper, [arg]) => {
                each(arg, |text, out| change_case(text, out, str::make_ascii_uppercase, str::to_uppercase))?
            }
            (Part::Strip, [arg]) => each(arg, |text, out| out.push_str(text.trim()))?,
            (Part::Len, [arg]) => {
                let values = texts(arg)?;
                let lengths: Vec<i64> = (0..values.len())
                    .map(|row| if values.is_valid(row) { values.value(row).chars().count() as i64 } else { 0 })
                    .collect();
                Arc::new(Int64Array::new(lengths.into(), values.nulls().cloned()))
            }
            (Part::StartsWith, [left, right]) => Arc::new(starts_with(left, right)?),
            (Part::EndsWith, [left, right]) => Arc::new(ends_with(left, right)?),
            (Part::Contains, [left, right]) => Arc::new(contains(left, right)?),
            (Part::Replace, [value, from, to]) => replace(value, from, to)?,
            (Part::Slice, args) => self.slice(args)?,
            _ => return Err(Error::internal(format!("arguments of {}", self.text))),
        };
        Ok(Value::like(array, args))
    }

    fn fallible(&self) -> bool {
        matches!(self.part, Part::Slice)
    }
}

/// Texts by row, a constant for all.
struct Texts<'a> {
    array: &'a StringArray,
    constant: bool,
}

impl<'a> Texts<'a> {
    fn of(value: &'a Value) -> Result<Self> {
        Ok(Self { array: texts(value)?, constant: value.is_constant() })
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        let row = if self.constant { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

fn at(slice: &Slice<'_, i64>, row: usize) -> Option<i64> {
    let row = if slice.constant { 0 } else { row };
    slice.values.get(row).copied().filter(|_| slice.is_valid(row))
}

/// Writes the result of each text into one buffer.
fn each(arg: &Value, write: impl Fn(&str, &mut String)) -> Result<ArrayRef> {
    let values = texts(arg)?;
    let mut out = StringBuilder::with_capacity(values.len(), values.value_data().len());
    let mut buffer = String::new();
    for value in values {
        match value {
            Some(value) => {
                buffer.clear();
                write(value, &mut buffer);
                out.append_value(&buffer);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn change_case(text: &str, out: &mut String, ascii: impl Fn(&mut str), unicode: impl Fn(&str) -> String) {
    if text.is_ascii() {
        out.push_str(text);
        ascii(out);
    } else {
        // Whole words matter here: a Greek sigma at the end of one has a form of its own.
        out.push_str(&unicode(text));
    }
}

fn replace(value: &Value, from: &Value, to: &Value) -> Result<ArrayRef> {
    let rows = row_count(&[value.clone(), from.clone(), to.clone()]);
    let (value, from, to) = (Texts::of(value)?, Texts::of(from)?, Texts::of(to)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match (value.get(row), from.get(row), to.get(row)) {
            (Some(value), Some(from), Some(to)) if value.contains(from) => out.append_value(value.replace(from, to)),
            (Some(value), Some(_), Some(_)) => out.append_value(value),
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// As Python's `text[start:][:length]`, in characters.
fn slice_chars(text: &str, start: i64, length: Option<i64>) -> &str {
    let begin = if start >= 0 {
        byte_of(text, start.unsigned_abs())
    } else {
        let back = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
        text.char_indices().rev().nth(back.saturating_sub(1)).map_or(0, |(byte, _)| byte)
    };
    let rest = text.get(begin..).unwrap_or_default();
    match length {
        Some(length) => rest.get(..byte_of(rest, length.unsigned_abs())).unwrap_or_default(),
        None => rest,
    }
}

/// The byte at which a character starts; the end if there are not so many.
fn byte_of(text: &str, character: u64) -> usize {
    let Ok(character) = usize::try_from(character) else { return text.len() };
    if text.is_ascii() {
        return character.min(text.len());
    }
    text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_are_pythons(text in ".{0,6}", start in -8_i64..8, length in prop::option::of(0_i64..8)) {
            let chars: Vec<char> = text.chars().collect();
            let count = chars.len() as i64;
            let begin = if start < 0 { (count + start).max(0) } else { start.min(count) };
            let end = length.map_or(count, |length| (begin + length).min(count));
            let expected: String = chars[begin as usize..end as usize].iter().collect();
            prop_assert_eq!(slice_chars(&text, start, length), expected);
        }
    }

    #[test]
    fn extremes_are_not_overflows() {
        assert_eq!(slice_chars("añb", i64::MIN, Some(i64::MAX)), "añb");
        assert_eq!(slice_chars("añb", i64::MAX, None), "");
        assert_eq!(slice_chars("añb", -2, Some(1)), "ñ");
    }
}
