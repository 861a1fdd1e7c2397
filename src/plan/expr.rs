//! Expressions over columns, as the plan stores them.
//!
//! The JSON form is part of the plan: `{"column": "amount"}`, `{"literal": {"type": "int64", "value": 0}}`,
//! `{"call": {"function": "gt", "args": [..]}}`, `{"call": {"function": {"dt_date": {"time_zone": "UTC"}}, "args": [..]}}`,
//! `{"cast": {"input": .., "to": "int64", "strict": true}}`, `{"aggregate": {"function": "sum", "input": ..}}`.

use serde::{Deserialize, Serialize};

use super::schema::{DataType, TimeUnit};

/// An expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expr {
    /// A column by name.
    Column(String),
    /// A constant.
    Literal(Literal),
    /// A function of other expressions.
    Call {
        /// Which.
        function: Function,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// A conversion. Strict: a value that does not fit stops the job. Otherwise it becomes null.
    Cast {
        /// What is converted.
        input: Box<Expr>,
        /// To which type.
        to: DataType,
        /// Whether a value that does not fit is an error.
        strict: bool,
    },
    /// A function of all rows of a group: inside `agg` only.
    Aggregate(AggregateExpr),
}

/// A constant: its type (none for a bare null) and its value as JSON. Text for String and Decimal, an integer for
/// Date (days since 1970) and Timestamp (its unit since 1970 UTC). Float64 as text too (`"0.1"`, `"NaN"`, `"Infinity"`,
/// `"-Infinity"`): a JSON number with 17 digits can be read one bit off by the JSON library, text is read exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Literal {
    /// The type, unless it is a bare null.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<DataType>,
    /// The value.
    pub value: serde_json::Value,
}

/// A function from rows to rows: each output row depends on its input row alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // named as users write them; `docs` of the Python methods say what each does
pub enum Function {
    Add,
    Sub,
    Mul,
    /// True division: Float64, or Decimal for decimals.
    Div,
    FloorDiv,
    Mod,
    Pow,
    Neg,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Kleene logic, as in SQL: null and false is false.
    And,
    Or,
    Not,
    IsNull,
    IsNotNull,
    /// The first that is not null.
    Coalesce,
    /// First argument among the others.
    IsIn,
    Abs,
    Round {
        decimals: u32,
    },
    /// `when(p1).then(x1)….otherwise(y)`: args p1, x1, p2, x2, …, y.
    When,
    DtDate {
        time_zone: String,
    },
    /// `every`: `1s`, `15m`, `1h`, `1d`, `1w` (Monday), `1mo`, `1y`.
    DtTruncate {
        every: String,
        time_zone: String,
    },
    DtYear {
        time_zone: String,
    },
    DtMonth {
        time_zone: String,
    },
    DtDay {
        time_zone: String,
    },
    DtHour {
        time_zone: String,
    },
    DtMinute {
        time_zone: String,
    },
    DtSecond {
        time_zone: String,
    },
    /// Monday is 1, Sunday 7 (ISO, as in Polars).
    DtWeekday {
        time_zone: String,
    },
    /// Int64: the unit's count since 1970 UTC.
    DtEpoch {
        unit: TimeUnit,
    },
    StrToLowercase,
    StrToUppercase,
    StrStripChars,
    StrStartsWith,
    StrEndsWith,
    /// A literal substring, not a pattern.
    StrContains,
    /// Every occurrence of a literal substring.
    StrReplace,
    /// Args: text, start (negative: from the end), optional length; in characters.
    StrSlice,
    StrLenChars,
    ListLen,
    ListGet,
    ListContains,
    StructField {
        name: String,
    },
}

/// A function of all rows of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateExpr {
    /// Which.
    pub function: AggregateFunction,
    /// Of what; absent for `len`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<Expr>>,
    /// Only rows for which this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Box<Expr>>,
    /// For `first` and `last`: skip nulls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_nulls: bool,
}

/// The aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregateFunction {
    /// Rows. Int64.
    Len,
    /// Non-null values. Int64.
    Count,
    /// Of no values: null. Integers give Int64, decimals Decimal(38, s), floats the exact sum rounded once.
    Sum,
    /// Least value; NaN is greatest.
    Min,
    /// Greatest value; NaN is greatest.
    Max,
    /// Float64.
    Mean,
    /// By (event time, partition, offset).
    First,
    /// By (event time, partition, offset).
    Last,
    /// Distinct values, null counted as one (Polars).
    NUnique,
    /// Distinct values without null (SQL).
    CountDistinct,
}

/// An expression with the name of the column it makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedExpr {
    /// The column.
    pub name: String,
    /// Its value.
    pub expr: Expr,
}
