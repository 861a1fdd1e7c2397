//! Expressions as their author would write them: `(status == "captured") & (amount > 0)`. For `explain` and for error
//! messages; never parsed, and no part of the fingerprint.

use std::fmt;

use chrono::{DateTime, TimeDelta};

use super::expr::{AggregateExpr, AggregateFunction, Expr, Function, Literal, NamedExpr};
use super::literal::Constant;
use super::schema::{DataType, TimeUnit};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) if is_identifier(name) => f.write_str(name),
            Self::Column(name) => write!(f, "col({name:?})"),
            Self::Literal(literal) => literal.fmt(f),
            Self::Call { function, args } => write_call(f, function, args),
            Self::Cast { input, to, strict: true } => write!(f, "{}.cast({to})", Operand(input)),
            Self::Cast { input, to, strict: false } => write!(f, "{}.cast({to}, strict=False)", Operand(input)),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
        }
    }
}

impl fmt::Display for NamedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Expr::Column(name) if *name == self.name => self.expr.fmt(f),
            expr => write!(f, "{}={expr}", self.name),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.constant(), &self.data_type) {
            (Ok(Constant::Null), _) => f.write_str("None"),
            (Ok(Constant::Boolean(true)), _) => f.write_str("True"),
            (Ok(Constant::Boolean(false)), _) => f.write_str("False"),
            (Ok(Constant::Integer(days)), Some(DataType::Date)) => match date(days) {
                Some(day) => write!(f, "date({day})"),
                None => write!(f, "date({days} days)"),
            },
            (Ok(Constant::Integer(value)), Some(DataType::Timestamp(unit))) => match instant(value, *unit) {
                Some(instant) => write!(f, "datetime({instant})"),
                None => write!(f, "datetime({value} {})", unit.name()),
            },
            (Ok(Constant::Integer(value)), _) => value.fmt(f),
            (Ok(Constant::Float(value)), _) => write!(f, "{value:?}"),
            (Ok(Constant::Text(text)), _) => write!(f, "{text:?}"),
            (Ok(Constant::Decimal(_)), Some(data_type)) => {
                write!(f, "lit({}, {data_type})", self.value.as_str().unwrap_or_default())
            }
            _ => write!(f, "lit({})", self.value),
        }
    }
}

impl fmt::Display for AggregateExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(input) = &self.input {
            Operand(input).fmt(f)?;
        }
        if let (Some(filter), Some(_)) = (&self.filter, &self.input) {
            write!(f, ".filter({filter})")?;
        }
        let dot = if self.input.is_some() { "." } else { "" };
        let ignore_nulls = if self.ignore_nulls { "ignore_nulls=True" } else { "" };
        write!(f, "{dot}{}({ignore_nulls})", self.function.name())?;
        match (&self.filter, &self.input) {
            (Some(filter), None) => write!(f, ".filter({filter})"),
            _ => Ok(()),
        }
    }
}

impl AggregateFunction {
    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::Len => "len",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::First => "first",
            Self::Last => "last",
            Self::NUnique => "n_unique",
            Self::CountDistinct => "count_distinct",
        }
    }
}

/// An expression where something is put before or behind it.
struct Operand<'a>(&'a Expr);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expr::Call { function, .. } if function.operator().is_some() || is_prefix(function) => write!(f, "({})", self.0),
            Expr::Literal(literal) if !literal.value.is_string() => write!(f, "lit({literal})"),
            other => other.fmt(f),
        }
    }
}

/// An operand of an operator: numbers need no `lit()` there.
struct Side<'a>(&'a Expr);

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expr::Literal(literal) => literal.fmt(f),
            other => Operand(other).fmt(f),
        }
    }
}

fn is_prefix(function: &Function) -> bool {
    matches!(function, Function::Neg | Function::Not)
}

fn write_call(f: &mut fmt::Formatter<'_>, function: &Function, args: &[Expr]) -> fmt::Result {
    match (function, function.operator(), args) {
        (_, Some(operator), [first, rest @ ..]) if !rest.is_empty() => {
            write!(f, "{}", Side(first))?;
            rest.iter().try_for_each(|arg| write!(f, " {operator} {}", Side(arg)))
        }
        (Function::Neg, _, [arg]) => write!(f, "-{}", Side(arg)),
        (Function::Not, _, [arg]) => write!(f, "~{}", Side(arg)),
        (Function::When, _, args) => write_when(f, args),
        (Function::Coalesce, _, args) => write!(f, "coalesce({})", List(args)),
        (Function::IsIn, _, [value, items @ ..]) => write!(f, "{}.is_in([{}])", Operand(value), List(items)),
        (_, _, [receiver, rest @ ..]) => {
            write!(f, "{}.{}({}", Operand(receiver), function.method(), List(rest))?;
            write_parameters(f, function)?;
            f.write_str(")")
        }
        (_, _, []) => write!(f, "{}()", function.method()),
    }
}

fn write_when(f: &mut fmt::Formatter<'_>, args: &[Expr]) -> fmt::Result {
    for (i, pair) in args.chunks(2).enumerate() {
        match pair {
            [condition, value] => {
                write!(f, "{}when({condition}).then({value})", if i == 0 { "" } else { "." })?;
            }
            [otherwise] => write!(f, ".otherwise({otherwise})")?,
            _ => {}
        }
    }
    Ok(())
}

fn write_parameters(f: &mut fmt::Formatter<'_>, function: &Function) -> fmt::Result {
    match function {
        Function::Round { decimals } => write!(f, "{decimals}"),
        Function::DtTruncate { every, time_zone } if time_zone == "UTC" => write!(f, "{every:?}"),
        Function::DtTruncate { every, time_zone } => write!(f, "{every:?}, time_zone={time_zone:?}"),
        Function::DtEpoch { unit } => write!(f, "{:?}", unit.name()),
        Function::StructField { name } => write!(f, "{name:?}"),
        other => match other.time_zone() {
            Some(zone) if zone != "UTC" => write!(f, "time_zone={zone:?}"),
            _ => Ok(()),
        },
    }
}

struct List<'a>(&'a [Expr]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Function {
    /// The infix operator it is written as, if it is.
    pub fn operator(&self) -> Option<&'static str> {
        Some(match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::FloorDiv => "//",
            Self::Mod => "%",
            Self::Pow => "**",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "&",
            Self::Or => "|",
            _ => return None,
        })
    }

    /// The time zone it works in, if it does.
    pub fn time_zone(&self) -> Option<&str> {
        match self {
            Self::DtDate { time_zone }
            | Self::DtTruncate { time_zone, .. }
            | Self::DtYear { time_zone }
            | Self::DtMonth { time_zone }
            | Self::DtDay { time_zone }
            | Self::DtHour { time_zone }
            | Self::DtMinute { time_zone }
            | Self::DtSecond { time_zone }
            | Self::DtWeekday { time_zone } => Some(time_zone),
            _ => None,
        }
    }

    /// How it is called in Python: an operator, or a method with its namespace.
    pub fn method(&self) -> &'static str {
        if let Some(operator) = self.operator() {
            return operator;
        }
        match self {
            Self::Neg => "-",
            Self::Not => "~",
            Self::IsNull => "is_null",
            Self::IsNotNull => "is_not_null",
            Self::Coalesce => "coalesce",
            Self::IsIn => "is_in",
            Self::Abs => "abs",
            Self::Round { .. } => "round",
            Self::When => "when",
            Self::DtDate { .. } => "dt.date",
            Self::DtTruncate { .. } => "dt.truncate",
            Self::DtYear { .. } => "dt.year",
            Self::DtMonth { .. } => "dt.month",
            Self::DtDay { .. } => "dt.day",
            Self::DtHour { .. } => "dt.hour",
            Self::DtMinute { .. } => "dt.minute",
            Self::DtSecond { .. } => "dt.second",
            Self::DtWeekday { .. } => "dt.weekday",
            Self::DtEpoch { .. } => "dt.epoch",
            Self::StrToLowercase => "str.to_lowercase",
            Self::StrToUppercase => "str.to_uppercase",
            Self::StrStripChars => "str.strip_chars",
            Self::StrStartsWith => "str.starts_with",
            Self::StrEndsWith => "str.ends_with",
            Self::StrContains => "str.contains",
            Self::StrReplace => "str.replace",
            Self::StrSlice => "str.slice",
            Self::StrLenChars => "str.len_chars",
            Self::ListLen => "list.len",
            Self::ListGet => "list.get",
            Self::ListContains => "list.contains",
            Self::StructField { .. } => "struct.field",
            _ => "operator",
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_') && chars.all(|c| c.is_alphanumeric() || c == '_')
}

/// `2026-03-01` for days since 1970.
pub fn date(days: i64) -> Option<String> {
    let day = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(TimeDelta::try_days(days)?)?;
    Some(day.format("%Y-%m-%d").to_string())
}

/// `2026-03-01T09:12:00Z`, with as many digits after the second as the unit has: 0, 3, 6 or 9.
pub fn instant(value: i64, unit: TimeUnit) -> Option<String> {
    let per_second = unit.per_second();
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let time = DateTime::from_timestamp(value.div_euclid(per_second), u32::try_from(nanos).ok()?)?;
    let text = match unit {
        TimeUnit::Second => time.format("%Y-%m-%dT%H:%M:%SZ"),
        TimeUnit::Millisecond => time.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
        TimeUnit::Microsecond => time.format("%Y-%m-%dT%H:%M:%S%.6fZ"),
        TimeUnit::Nanosecond => time.format("%Y-%m-%dT%H:%M:%S%.9fZ"),
    };
    Some(text.to_string())
}
