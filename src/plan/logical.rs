//! The logical plan: a tree of steps for each output. It is what Python hands over, what is stored with a version, and
//! what the fingerprint is taken of. It knows nothing of parallelism, batches, tables or threads.

use serde::{Deserialize, Serialize};

use super::expr::{Expr, NamedExpr};
use super::schema::{Field, Schema};

/// A whole job: its name and its outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPlan {
    /// Of this form: 1.
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// What is written, in the order of `job.write`.
    pub outputs: Vec<Output>,
}

/// One table, or topic, that a job writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The name given to `job.write`, by which `--output-table NAME=TABLE` refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How its rows come about.
    pub plan: Node,
    /// The topic that they go to; a table if there is none. Like the names of tables it is not part of the fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<KafkaTopic>,
}

/// A topic that an output goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTopic {
    /// Its name.
    pub topic: String,
    /// The columns that a record's key is made of; none: records have no key. Grouped results always have the primary key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// Records of a topic.
    Read(Box<Read>),
    /// Rows for which the predicate is true.
    Filter {
        /// From where.
        input: Box<Node>,
        /// The condition; null counts as false.
        predicate: Expr,
    },
    /// Exactly these columns.
    Select {
        /// From where.
        input: Box<Node>,
        /// The columns.
        columns: Vec<NamedExpr>,
    },
    /// The input's columns, with these added or put in their place.
    WithColumns {
        /// From where.
        input: Box<Node>,
        /// The columns.
        columns: Vec<NamedExpr>,
    },
    /// One row per key.
    Aggregate {
        /// From where.
        input: Box<Node>,
        /// The group key.
        keys: Vec<NamedExpr>,
        /// The aggregates: each expression contains at least one.
        aggregates: Vec<NamedExpr>,
        /// State of a group is dropped this long after its interval's end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expire_after_ms: Option<i64>,
    },
}

/// A topic and how its records become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Ordinal of the `job.read` call: outputs that share a stream share its source.
    pub id: u32,
    /// The topic.
    pub topic: String,
    /// The declared columns of the payload.
    pub schema: Schema,
    /// The column that holds the event time.
    pub event_time: String,
    /// How far behind the greatest event time of its partition a record may come without being late, milliseconds.
    pub max_out_of_orderness_ms: i64,
    /// What happens to late records.
    pub late: LatePolicy,
    /// What happens to records that cannot be decoded. Not part of the fingerprint.
    pub on_bad_record: BadRecordPolicy,
    /// A record further ahead of its partition than this does not move the watermark by itself, milliseconds.
    pub max_future_ms: i64,
    /// Columns taken from the record instead of its payload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataColumn>,
}

/// What happens to late records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePolicy {
    /// They are used, and counted.
    Keep,
    /// They are left out, and counted.
    Drop,
    /// They go to the dead-letter table, and are counted.
    DeadLetter,
}

/// What happens to records that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRecordPolicy {
    /// The job stops and names the record.
    Fail,
    /// They are left out, and counted.
    Skip,
    /// They go to the dead-letter table, and are counted.
    DeadLetter,
}

/// A column taken from the record itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataColumn {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub kind: MetadataKind,
}

/// What a metadata column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataKind {
    /// The record's key: Binary.
    Key,
    /// The headers: List(Struct(name: String, value: Binary)).
    Headers,
    /// Int32.
    Partition,
    /// Int64.
    Offset,
    /// Timestamp("ms").
    Timestamp,
}

impl Read {
    /// All columns: the payload's, then the metadata's.
    pub fn full_schema(&self) -> Schema {
        let metadata = self.metadata.iter().map(|column| Field::new(&column.name, column.kind.data_type()));
        Schema { fields: self.schema.fields.iter().cloned().chain(metadata).collect() }
    }
}

impl MetadataKind {
    /// The type of such a column.
    pub fn data_type(self) -> super::schema::DataType {
        use super::schema::{DataType, TimeUnit};
        match self {
            Self::Key => DataType::Binary,
            Self::Headers => DataType::List(Box::new(DataType::Struct(vec![
                Field::new("name", DataType::String),
                Field::new("value", DataType::Binary),
            ]))),
            Self::Partition => DataType::Int32,
            Self::Offset => DataType::Int64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond),
        }
    }
}

impl JobPlan {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// A `PlanError` if it is not the JSON of a plan, or if expressions are nested too deeply.
    pub fn from_json(text: &str) -> crate::error::Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let hint = if message.starts_with("recursion limit") {
                "an expression is nested about 40 levels deep: split it with with_columns, or use is_in"
            } else {
                "the Python package and its native part are of different releases: install them again"
            };
            crate::error::Error::plan("invalid_plan", format!("not a plan: {message}")).hint(hint)
        })
    }

    /// The JSON form.
    ///
    /// # Errors
    /// An internal error; it does not happen.
    pub fn to_json(&self) -> crate::error::Result<String> {
        serde_json::to_string(self).map_err(|error| crate::error::Error::internal(format!("a plan that is not JSON: {error}")))
    }
}
