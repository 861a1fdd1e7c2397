//! Field ids of a new table. Readers tell columns by their ids, and a name shows one version's table after another: a column that
//! another version of the same output has under the same name and a type that can be read as the other keeps its id, and any other
//! gets one that none of them has used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, TableMetadata, Type};

use super::catalog::{Catalog, Table};
use super::iceberg_error;
use super::name::TableName;
use super::store::Swapped;
use crate::error::{Error, Result};

/// What a field id means in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A value.
    Primitive(PrimitiveType),
    /// What holds others, in a word.
    Nested(&'static str),
}

impl std::fmt::Display for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Primitive(primitive) => primitive.fmt(f),
            Self::Nested(kind) => f.write_str(kind),
        }
    }
}

impl Meaning {
    fn of(data_type: &Type) -> Self {
        match data_type {
            Type::Primitive(primitive) => Self::Primitive(primitive.clone()),
            Type::Struct(_) => Self::Nested("struct"),
            Type::List(_) => Self::Nested("list"),
            _ => Self::Nested("map"),
        }
    }

    /// Whether rows of both can be read under one id: it is one type, or Iceberg allows to widen the one to the other. Which of
    /// them is the older does not matter: a name may be turned back.
    pub(super) fn is_readable_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Primitive(one), Self::Primitive(other)) => one == other || widens(one, other) || widens(other, one),
            (one, other) => one == other,
        }
    }
}

fn widens(from: &PrimitiveType, to: &PrimitiveType) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (from, to) {
        (Int, Long) | (Float, Double) => true,
        (Decimal { precision: a, scale: s }, Decimal { precision: b, scale: t }) => a <= b && s == t,
        _ => false,
    }
}

/// By id, the path of a column, those in lists and structs too, and what it is.
pub(super) fn meanings(schema: &Schema) -> BTreeMap<i32, (String, Meaning)> {
    let named = schema.field_id_to_name_map().iter();
    named.filter_map(|(id, name)| Some((*id, (name.clone(), Meaning::of(&schema.field_by_id(*id)?.field_type))))).collect()
}

/// The ids that other versions of an output have used, the newest first.
#[derive(Clone, Debug, Default)]
pub struct FieldIds {
    used: Vec<(i32, String, Meaning)>,
    last: i32,
}

impl FieldIds {
    fn add(&mut self, table: &TableMetadata) {
        self.last = self.last.max(table.last_column_id());
        // A server numbers a table's columns before we do: a schema that no snapshot has means nothing.
        let of_snapshots: BTreeSet<i32> = table.snapshots().filter_map(|snapshot| snapshot.schema_id()).collect();
        let older = of_snapshots.into_iter().filter(|id| *id != table.current_schema_id());
        let older = older.filter_map(|id| table.schema_by_id(id));
        let used = std::iter::once(table.current_schema()).chain(older).flat_map(|schema| meanings(schema));
        self.used.extend(used.map(|(id, (name, meaning))| (id, name, meaning)));
    }

    /// The schema of a new table with these ids taken into account.
    pub(super) fn number(&self, schema: &Schema) -> Result<Schema> {
        if self.used.is_empty() {
            return Ok(schema.clone());
        }
        let mut numbers = Numbers { ids: self, taken: BTreeSet::new(), last: self.last, new: HashMap::new() };
        for (old, (path, meaning)) in meanings(schema) {
            numbers.give(old, &path, &meaning);
        }
        let fields = schema.as_struct().fields().iter().map(|field| numbers.field(field)).collect::<Vec<_>>();
        let identifiers = schema.identifier_field_ids().map(|id| numbers.of(id));
        let builder = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers);
        builder.build().map_err(|error| iceberg_error("number columns", error))
    }
}

struct Numbers<'a> {
    ids: &'a FieldIds,
    taken: BTreeSet<i32>,
    last: i32,
    new: HashMap<i32, i32>,
}

impl Numbers<'_> {
    fn give(&mut self, old: i32, path: &str, meaning: &Meaning) {
        let used = &self.ids.used;
        let means_the_same = |id: i32| used.iter().all(|(other, _, was)| *other != id || was.is_readable_as(meaning));
        let mut same = used.iter().filter(|(_, name, _)| name == path).map(|(id, ..)| *id);
        let kept = same.find(|id| !self.taken.contains(id) && means_the_same(*id));
        let id = kept.unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        self.taken.insert(id);
        self.new.insert(old, id);
    }

    fn of(&self, old: i32) -> i32 {
        self.new.get(&old).copied().unwrap_or(old)
    }

    fn field(&self, field: &NestedFieldRef) -> NestedFieldRef {
        let data_type = match field.field_type.as_ref() {
            Type::Struct(inner) => {
                Type::Struct(StructType::new(inner.fields().iter().map(|field| self.field(field)).collect()))
            }
            Type::List(list) => Type::List(ListType { element_field: self.field(&list.element_field) }),
            other => other.clone(),
        };
        Arc::new(NestedField { id: self.of(field.id), field_type: Box::new(data_type), ..field.as_ref().clone() })
    }
}

impl Catalog {
    /// The field ids of the tables that are like one that is to be made.
    ///
    /// # Errors
    /// Those of the catalog: without knowing all of them columns would get ids that mean something else, for good.
    pub fn field_ids(&self, is_like: impl Fn(&Table) -> bool) -> Result<FieldIds> {
        let mut tables = Vec::new();
        for name in self.list()? {
            match self.load(&name) {
                Ok(table) => tables.extend(table.filter(&is_like)),
                Err(error) if error.is_retryable() => return Err(error),
                // A table that nobody can load shows nothing that could be read wrongly.
                Err(_) => {}
            }
        }
        tables.sort_by_key(|table| std::cmp::Reverse(table.metadata().last_updated_ms()));
        let mut ids = FieldIds::default();
        tables.iter().for_each(|table| ids.add(table.metadata()));
        Ok(ids)
    }

    /// Gives a new table its ids where the store has given it others. Nothing is in it yet.
    pub(super) fn number(&self, table: Table, schema: &Schema) -> Result<Table> {
        if table.metadata().current_schema().as_struct() == schema.as_struct() || table.marker().is_some() {
            return Ok(table);
        }
        let previous = Some(table.metadata_location().to_owned());
        let built = table.metadata().clone().into_builder(previous).add_current_schema(schema.clone());
        let built = built.and_then(|builder| builder.build());
        let next = built.map_err(|error| iceberg_error(&format!("number the columns of {}", table.name()), error))?;
        let next = table.next(next.metadata, table.metadata_location().to_owned());
        match self.swap(&[table.swap_for(&next)], None)? {
            Swapped::Done => self.require(table.name()),
            Swapped::Unknown(error) => Err(error),
            Swapped::Lost(_) => Err(moved(table.name())),
        }
    }
}

fn moved(name: &TableName) -> Error {
    Error::conflict("table_changed", format!("table {name} was changed by somebody else while it was made")).hint("try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::schema::{DataType, Field};
    use crate::table::schema::to_iceberg;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone())).collect();
        to_iceberg(&crate::plan::schema::Schema { fields }, &[]).unwrap()
    }

    fn used(ids: &mut FieldIds, schema: &Schema) {
        ids.last = ids.last.max(schema.highest_field_id());
        ids.used.extend(meanings(schema).into_iter().map(|(id, (name, meaning))| (id, name, meaning)));
    }

    fn numbers(ids: &FieldIds, columns: &[(&str, DataType)]) -> Vec<(i32, String)> {
        meanings(&ids.number(&schema(columns)).unwrap()).into_iter().map(|(id, (name, _))| (id, name)).collect()
    }

    fn named(ids: &[(i32, &str)]) -> Vec<(i32, String)> {
        ids.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
    }

    use DataType::{Date, Float64, Int32, Int64, List, String as Text};

    #[test]
    fn a_column_keeps_its_id_and_one_of_another_type_gets_a_new_one() {
        let mut ids = FieldIds::default();
        let first = [("day", Date), ("total", Int64), ("n", Int32)];
        assert_eq!(numbers(&ids, &first), named(&[(1, "day"), (2, "total"), (3, "n")]));
        used(&mut ids, &schema(&first));
        assert_eq!(numbers(&ids, &first), named(&[(1, "day"), (2, "total"), (3, "n")]));
        // In another order, widened, of another type, new.
        let second = [("n", Int64), ("total", Float64), ("x", Text), ("day", Date)];
        assert_eq!(numbers(&ids, &second), named(&[(1, "day"), (3, "n"), (4, "total"), (5, "x")]));
        let second = ids.number(&schema(&second)).unwrap();
        used(&mut ids, &second);
        // Each type finds its id again, and a third type none.
        assert_eq!(numbers(&ids, &[("total", Int64)]), named(&[(2, "total")]));
        assert_eq!(numbers(&ids, &[("total", Float64)]), named(&[(4, "total")]));
        assert_eq!(numbers(&ids, &[("total", Text)]), named(&[(6, "total")]));
    }

    #[test]
    fn what_is_in_lists_and_structs_has_ids_too() {
        let mut ids = FieldIds::default();
        let pair = |inner: DataType| DataType::Struct(vec![Field::new("a", inner), Field::new("b", Int64)]);
        used(&mut ids, &schema(&[("p", pair(Int64)), ("l", List(Box::new(Int64)))]));
        let all = [(1, "p"), (2, "p.a"), (3, "p.b"), (4, "l"), (5, "l.element")];
        assert_eq!(numbers(&ids, &[("p", pair(Int64)), ("l", List(Box::new(Int64)))]), named(&all));
        let changed = [(1, "p"), (3, "p.b"), (4, "l"), (6, "p.a"), (7, "l.element")];
        assert_eq!(numbers(&ids, &[("l", List(Box::new(Text))), ("p", pair(Text))]).len(), 5);
        assert_eq!(numbers(&ids, &[("p", pair(Text)), ("l", List(Box::new(Text)))]), named(&changed));
        // A list is no struct.
        assert_eq!(numbers(&ids, &[("l", pair(Int64))]), named(&[(6, "l"), (7, "l.a"), (8, "l.b")]));
    }

    #[test]
    fn a_type_that_was_widened_can_be_turned_back() {
        use PrimitiveType::{Date, Decimal, Int, Long, String, Timestamptz};
        let decimal = |precision, scale| Decimal { precision, scale };
        let reads = |a: &PrimitiveType, b: &PrimitiveType| {
            let (a, b) = (Meaning::Primitive(a.clone()), Meaning::Primitive(b.clone()));
            assert_eq!(a.is_readable_as(&b), b.is_readable_as(&a));
            a.is_readable_as(&b)
        };
        for (a, b) in [(Int, Long), (Date, Date), (decimal(9, 2), decimal(18, 2))] {
            assert!(reads(&a, &b), "{a} {b}");
        }
        for (a, b) in [(Int, String), (Date, Timestamptz), (decimal(9, 2), decimal(18, 3))] {
            assert!(!reads(&a, &b), "{a} {b}");
        }
    }
}
