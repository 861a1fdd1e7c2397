//! The jobs of the tests, as the JSON that Python hands over.

use kappa::plan::logical::JobPlan;
use serde_json::{Value, json};

use super::data::{MAX_FUTURE, OUT_OF_ORDERNESS, TOPIC};

/// Groups of `Daily` with more rows than this are filtered away: rows that were there vanish.
pub const DAILY_LIMIT: i64 = 60;
/// Groups of `Nested` with more rows than this are filtered away.
pub const NESTED_LIMIT: i64 = 40;

/// Groups of `Hourly` expire so long after their hour, milliseconds.
pub const EXPIRE_AFTER: i64 = 1_200_000;

/// What an output computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Every aggregate, by two keys that may be null, behind a filter.
    Wide,
    /// A distinct count by local day, with a filter behind it.
    Daily,
    /// Ungrouped rows.
    Rows,
    /// Two groupings: rows of the first come, change, move to another group of the second, leave it and come again.
    Nested,
    /// A distinct count by hour and key, whose groups expire.
    Hourly,
    /// The same, and of that by day how many keys had so many users: days expire later.
    HourlyNested,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    pub outputs: Vec<Output>,
    /// `keep`, `drop` or `dead_letter`.
    pub late: &'static str,
    /// `fail`, `skip` or `dead_letter`.
    pub bad: &'static str,
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Daily => "daily",
            Self::Rows => "rows",
            Self::Nested => "nested",
            Self::Hourly => "hourly",
            Self::HourlyNested => "hourly_nested",
        }
    }

    /// Payload columns that it uses.
    fn uses(self) -> &'static [&'static str] {
        match self {
            Self::Wide => &["k", "g", "n", "f", "d", "s", "b", "t"],
            Self::Daily => &["b", "s", "n", "t"],
            Self::Rows => &["b", "n", "k", "t"],
            Self::Nested => &["k", "s", "g", "n", "d", "f", "t"],
            Self::Hourly | Self::HourlyNested => &["k", "s", "n", "t"],
        }
    }
}

impl Job {
    pub fn new(outputs: &[Output], late: &'static str, bad: &'static str) -> Self {
        Self { outputs: outputs.to_vec(), late, bad }
    }

    /// Whether some output uses a payload column.
    pub fn uses(&self, column: &str) -> bool {
        self.outputs.iter().any(|output| output.uses().contains(&column))
    }

    /// Whether each table has a table of dead letters.
    pub fn buries(&self) -> bool {
        self.late == "dead_letter" || self.bad == "dead_letter"
    }

    /// The table of an output.
    pub fn table(&self, output: usize) -> String {
        format!("test.{}", self.outputs[output].name())
    }

    /// `--output-table`, by output name.
    pub fn output_tables(&self) -> std::collections::BTreeMap<String, String> {
        let alone = self.outputs.len() == 1;
        let name = |i: usize| if alone { String::new() } else { self.outputs[i].name().to_owned() };
        (0..self.outputs.len()).map(|i| (name(i), self.table(i))).collect()
    }

    pub fn plan(&self) -> JobPlan {
        let alone = self.outputs.len() == 1;
        let output = |output: &Output| {
            let plan = match output {
                Output::Wide => self.wide(),
                Output::Daily => self.daily(),
                Output::Rows => self.rows(),
                Output::Nested => self.nested(),
                Output::Hourly => self.hourly(),
                Output::HourlyNested => self.hourly_nested(),
            };
            if alone { json!({"plan": plan}) } else { json!({"name": output.name(), "plan": plan}) }
        };
        let outputs: Vec<Value> = self.outputs.iter().map(output).collect();
        let plan = json!({"format": 1, "job": "test-job", "outputs": outputs});
        JobPlan::from_json(&plan.to_string()).unwrap()
    }

    fn read(&self) -> Value {
        let field = |name: &str, data_type: Value| json!({"name": name, "type": data_type});
        json!({"read": {
            "id": 0,
            "topic": TOPIC,
            "schema": [
                field("k", json!("string")), field("g", json!("int32")), field("n", json!("int64")),
                field("f", json!("float64")), field("d", json!({"decimal": {"precision": 12, "scale": 2}})),
                field("s", json!("string")), field("b", json!("boolean")), field("t", json!({"timestamp": "ms"})),
            ],
            "event_time": "t",
            "max_out_of_orderness_ms": OUT_OF_ORDERNESS,
            "late": self.late,
            "on_bad_record": self.bad,
            "max_future_ms": MAX_FUTURE,
            "metadata": [{"name": "p", "kind": "partition"}, {"name": "o", "kind": "offset"}],
        }})
    }

    fn wide(&self) -> Value {
        let predicate = call("or", &[call("is_null", &[col("n")]), call("gt", &[col("n"), int(-40)])]);
        let aggregates = [
            ("rows", json!({"aggregate": {"function": "len"}})),
            ("rows_b", json!({"aggregate": {"function": "len", "filter": col("b")}})),
            ("n_count", agg("count", "n")),
            ("n_sum", agg("sum", "n")),
            ("n_min", agg("min", "n")),
            ("n_max", agg("max", "n")),
            ("n_mean", agg("mean", "n")),
            ("n_sum_b", json!({"aggregate": {"function": "sum", "input": col("n"), "filter": col("b")}})),
            ("d_sum", agg("sum", "d")),
            ("d_min", agg("min", "d")),
            ("d_max", agg("max", "d")),
            ("f_sum", agg("sum", "f")),
            ("f_mean", agg("mean", "f")),
            ("f_min", agg("min", "f")),
            ("f_max", agg("max", "f")),
            ("s_min", agg("min", "s")),
            ("s_max", agg("max", "s")),
            ("t_max", agg("max", "t")),
            ("s_first", agg("first", "s")),
            ("s_last", agg("last", "s")),
            ("n_last", json!({"aggregate": {"function": "last", "input": col("n"), "ignore_nulls": true}})),
            ("n_first_b", json!({"aggregate": {"function": "first", "input": col("n"), "filter": col("b")}})),
            ("s_unique", agg("n_unique", "s")),
            ("s_distinct", agg("count_distinct", "s")),
            ("n_distinct_b", json!({"aggregate": {"function": "count_distinct", "input": col("n"), "filter": col("b")}})),
        ];
        json!({"aggregate": {
            "input": {"filter": {"input": self.read(), "predicate": predicate}},
            "keys": [named("k", &col("k")), named("g", &col("g"))],
            "aggregates": aggregates.iter().map(|(name, expr)| named(name, expr)).collect::<Vec<_>>(),
        }})
    }

    fn daily(&self) -> Value {
        let day = json!({"call": {"function": {"dt_date": {"time_zone": "Asia/Kolkata"}}, "args": [col("t")]}});
        let grouped = json!({"aggregate": {
            "input": {"filter": {"input": self.read(), "predicate": col("b")}},
            "keys": [named("day", &day)],
            "aggregates": [
                named("users", &agg("count_distinct", "s")),
                named("rows", &json!({"aggregate": {"function": "len"}})),
                named("top", &agg("max", "n")),
            ],
        }});
        let kept = json!({"filter": {"input": grouped, "predicate": call("le", &[col("rows"), int(DAILY_LIMIT)])}});
        let both = call("add", &[col("users"), col("rows")]);
        json!({"with_columns": {"input": kept, "columns": [named("both", &both)]}})
    }

    /// By key and user, and of those by key, by the user's last `g` and by how many rows the user has. A user whose rows
    /// are two more than a multiple of four counts for nothing.
    fn nested(&self) -> Value {
        let users = json!({"aggregate": {
            "input": {"filter": {"input": self.read(), "predicate": call("is_not_null", &[col("s")])}},
            "keys": [named("k", &col("k")), named("s", &col("s"))],
            "aggregates": [
                named("rows", &len()), named("n", &agg("sum", "n")), named("d", &agg("sum", "d")), named("f", &agg("sum", "f")),
                named("last", &agg("last", "g")), named("values", &agg("count_distinct", "n")),
            ],
        }});
        let kept = call("ne", &[call("mod", &[col("rows"), int(4)]), int(2)]);
        // Infinite or not a number where `n` is even.
        let ratio = call("div", &[col("f"), call("mod", &[col("n"), int(2)])]);
        let between = json!({"select": {
            "input": {"filter": {"input": users, "predicate": kept}},
            "columns": [
                named("k", &col("k")), named("last", &col("last")), named("rows", &col("rows")), named("n", &col("n")),
                named("d", &col("d")), named("f", &col("f")), named("values", &col("values")), named("ratio", &ratio),
            ],
        }});
        let grouped = json!({"aggregate": {
            "input": between,
            "keys": [named("k", &col("k")), named("last", &col("last")),
                     named("size", &call("floor_div", &[col("rows"), int(5)]))],
            "aggregates": [
                named("users", &len()), named("rows", &agg("sum", "rows")), named("n_count", &agg("count", "n")),
                named("n_sum", &agg("sum", "n")), named("n_mean", &agg("mean", "n")), named("d_sum", &agg("sum", "d")),
                named("d_mean", &agg("mean", "d")), named("f_sum", &agg("sum", "f")), named("f_mean", &agg("mean", "f")),
                named("ratio_sum", &agg("sum", "ratio")), named("ratio_mean", &agg("mean", "ratio")),
                named("values", &agg("sum", "values")),
                named("odd", &json!({"aggregate": {"function": "len", "filter": call("eq", &[call("mod", &[col("rows"), int(2)]), int(1)])}})),
                named("share", &call("div", &[agg("sum", "n"), len()])),
            ],
        }});
        // Not defined for groups without users: those are gone.
        let each = json!({"with_columns": {
            "input": grouped, "columns": [named("each", &call("floor_div", &[int(1_000), col("users")]))],
        }});
        json!({"filter": {"input": each, "predicate": call("le", &[col("rows"), int(NESTED_LIMIT)])}})
    }

    fn hourly(&self) -> Value {
        let hour = json!({"dt_truncate": {"every": "1h", "time_zone": "Asia/Kolkata"}});
        let hour = json!({"call": {"function": hour, "args": [col("t")]}});
        json!({"aggregate": {
            "input": {"filter": {"input": self.read(), "predicate": call("is_not_null", &[col("n")])}},
            "keys": [named("k", &col("k")), named("hour", &hour)],
            "aggregates": [
                named("rows", &len()), named("users", &agg("count_distinct", "s")), named("n", &agg("sum", "n")),
                named("last", &agg("last", "s")),
            ],
            "expire_after_ms": EXPIRE_AFTER,
        }})
    }

    fn hourly_nested(&self) -> Value {
        let day = json!({"call": {"function": {"dt_date": {"time_zone": "Asia/Kolkata"}}, "args": [col("hour")]}});
        json!({"aggregate": {
            "input": self.hourly(),
            "keys": [named("day", &day), named("users", &col("users"))],
            "aggregates": [named("groups", &len()), named("rows", &agg("sum", "rows"))],
            "expire_after_ms": 2 * EXPIRE_AFTER,
        }})
    }

    fn rows(&self) -> Value {
        let predicate = call("or", &[col("b"), call("gt", &[col("n"), int(10)])]);
        json!({"select": {
            "input": {"filter": {"input": self.read(), "predicate": predicate}},
            "columns": [
                named("p", &col("p")), named("o", &col("o")), named("k", &col("k")),
                named("m", &call("add", &[col("n"), int(1)])), named("t", &col("t")),
            ],
        }})
    }
}

fn col(name: &str) -> Value {
    json!({"column": name})
}

fn int(value: i64) -> Value {
    json!({"literal": {"type": "int64", "value": value}})
}

fn call(function: &str, args: &[Value]) -> Value {
    json!({"call": {"function": function, "args": args}})
}

fn len() -> Value {
    json!({"aggregate": {"function": "len"}})
}

fn agg(function: &str, column: &str) -> Value {
    json!({"aggregate": {"function": function, "input": col(column)}})
}

fn named(name: &str, expr: &Value) -> Value {
    json!({"name": name, "expr": expr})
}
