//! Bytes to Arrow, projected to the columns that the plan uses; and rows of Arrow as JSON ([`JsonRowEncoder`]).
//!
//! # What a JSON payload may be
//!
//! Exact or refused, never a wrong number. A payload is **one syntactically valid JSON object** (RFC 8259) in UTF-8, to its
//! last byte; white space may stand around it. Members that no column asks for are checked as strictly as the others: the
//! same record is well-formed or not whatever the projection. Strings hold no raw control characters and no lone surrogate
//! escapes; objects and lists nest at most 128 deep, the record itself counted; a byte order mark is not JSON.
//!
//! A missing member and an explicit `null` are both null. A null payload is a bad record, and so is a *projected* member that
//! occurs twice (compared as decoded text: `"a"` and `"\u0061"` are the same name), in the record and in projected structs;
//! other members may repeat. A null in a field that is declared not nullable is bad.
//!
//! | type | accepts | refuses |
//! |---|---|---|
//! | `String` | strings | anything else |
//! | `Boolean` | `true`, `false` | text, numbers |
//! | `Int32`, `Int64` | integers in range; `-0` is 0 | `1.0`, `1e3`, `"12"`, out of range |
//! | `Float64` | any number, rounded correctly once; `-0` is −0.0 | what rounds to infinity; text |
//! | `Decimal(p, s)` | a number, or text that is exactly a JSON number, read from the digits: `12.30`, `1e2`, `"0.10"` | digits other than 0 beyond the scale; more than `p` digits |
//! | `Timestamp(unit)` | an integer count of that unit since 1970 UTC; RFC 3339 text with an offset (`T`, `t` or one space between date and time) | text without an offset; digits other than 0 finer than the unit; second 60; an instant outside 64 bits, or outside 64 bits of microseconds |
//! | `Date` | text, `YYYY-MM-DD` | numbers; days the calendar does not have |
//! | `List`, `Struct` | lists, objects, nested at will; elements may be null | |
//!
//! `Binary` is no type of a payload column.

mod column;
mod json;
mod json_rows;
mod number;
mod object;
mod scan;
mod temporal;

#[cfg(test)]
mod tests;

pub use json::{BadRecord, Decoded, JsonDecoder};
pub use json_rows::{JsonRowEncoder, JsonRows};
