//! Types: the plan's to Iceberg's, Iceberg's to Arrow with field ids, and batches to what a table stores.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes as arrow_types;
use iceberg::spec::{ListType, NestedField, PrimitiveType, Schema as IcebergSchema, StructType, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::iceberg_error;
use crate::error::{Error, Result};
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};

/// The Iceberg schema of a new table.
///
/// Field ids are assigned in order. Identifier fields are set only where every key column is free of nulls: Iceberg does
/// not allow null identifiers, but a group key can be null.
pub fn to_iceberg(schema: &Schema, primary_key: &[String]) -> Result<IcebergSchema> {
    let mut next_id = 0;
    let fields = schema.fields.iter().map(|field| to_iceberg_field(field, &mut next_id)).collect::<Result<Vec<_>>>()?;
    let mut identifiers = Vec::new();
    let mut all_required = true;
    for name in primary_key {
        let found = fields.iter().find(|field| &field.name == name);
        let field =
            found.ok_or_else(|| Error::plan("unknown_column", format!("primary key column {name} is not in the table")))?;
        all_required &= field.required && field.field_type.is_primitive();
        identifiers.push(field.id);
    }
    let identifiers = if all_required { identifiers } else { Vec::new() };
    let builder = IcebergSchema::builder().with_fields(fields).with_identifier_field_ids(identifiers);
    builder.build().map_err(|error| Error::plan("invalid_schema", format!("table schema: {error}")).source(error))
}

fn to_iceberg_field(field: &Field, next_id: &mut i32) -> Result<Arc<NestedField>> {
    *next_id += 1;
    let id = *next_id;
    let data_type = to_iceberg_type(&field.name, &field.data_type, next_id)?;
    Ok(Arc::new(NestedField::new(id, &field.name, data_type, !field.nullable)))
}

fn to_iceberg_type(column: &str, data_type: &DataType, next_id: &mut i32) -> Result<Type> {
    let primitive = match data_type {
        DataType::String => PrimitiveType::String,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Date => PrimitiveType::Date,
        DataType::Int32 => PrimitiveType::Int,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Binary => PrimitiveType::Binary,
        DataType::Decimal { precision, scale } => {
            data_type.validate()?;
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: u32::from(scale.unsigned_abs()) }
        }
        DataType::Timestamp(TimeUnit::Nanosecond) => {
            return Err(Error::plan("nanoseconds", format!("column {column}: a table cannot hold {data_type}"))
                .hint(format!("cast it: col({column:?}).cast(kappa.Timestamp(\"us\"))")));
        }
        DataType::Timestamp(_) => PrimitiveType::Timestamptz,
        DataType::List(inner) => {
            *next_id += 1;
            let id = *next_id;
            let element = to_iceberg_type(column, inner, next_id)?;
            return Ok(Type::List(ListType { element_field: Arc::new(NestedField::list_element(id, element, false)) }));
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| to_iceberg_field(field, next_id)).collect::<Result<Vec<_>>>()?;
            return Ok(Type::Struct(StructType::new(fields)));
        }
    };
    Ok(Type::Primitive(primitive))
}

/// The Arrow schema that a table's rows have in kappa: the engine's types, with Parquet field ids in the metadata.
pub fn to_arrow(schema: &IcebergSchema) -> Result<arrow_types::SchemaRef> {
    let fields = schema.as_struct().fields().iter().map(|field| to_arrow_field(field)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(arrow_types::Schema::new(fields)))
}

/// The Arrow field of an Iceberg field, its id in the metadata.
pub fn to_arrow_field(field: &NestedField) -> Result<arrow_types::Field> {
    use arrow_types::DataType as A;
    let data_type = match field.field_type.as_ref() {
        Type::Primitive(PrimitiveType::Binary) => A::Binary,
        Type::Primitive(PrimitiveType::Timestamptz) => A::Timestamp(arrow_types::TimeUnit::Microsecond, Some("UTC".into())),
        Type::Struct(inner) => A::Struct(inner.fields().iter().map(|field| to_arrow_field(field)).collect::<Result<_>>()?),
        Type::List(list) => A::List(Arc::new(to_arrow_field(&list.element_field)?)),
        other => iceberg::arrow::type_to_arrow_type(other).map_err(|error| iceberg_error("table schema", error))?,
    };
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field.id.to_string())]);
    Ok(arrow_types::Field::new(&field.name, data_type, !field.required).with_metadata(id))
}

/// The same schema without field ids, as callers outside the table layer see it.
pub fn without_ids(schema: &arrow_types::Schema) -> arrow_types::SchemaRef {
    Arc::new(arrow_types::Schema::new(schema.fields().iter().map(|field| plain(field)).collect::<Vec<_>>()))
}

fn plain(field: &arrow_types::Field) -> arrow_types::Field {
    use arrow_types::DataType as A;
    let data_type = match field.data_type() {
        A::Struct(fields) => A::Struct(fields.iter().map(|field| plain(field)).collect()),
        A::List(element) => A::List(Arc::new(plain(element))),
        other => other.clone(),
    };
    arrow_types::Field::new(field.name(), data_type, field.is_nullable())
}

/// Brings a batch into the form of `target`: columns by name, timestamps to microseconds. A value that does not fit is an
/// error, never a null.
pub fn conform(batch: &RecordBatch, target: &arrow_types::SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != target.fields().len() {
        let message = format!("{} columns for a table of {}", batch.num_columns(), target.fields().len());
        return Err(Error::internal(message));
    }
    let column = |field: &Arc<arrow_types::Field>| {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| Error::internal(format!("rows for a table lack its column {}", field.name())))?;
        convert(column, field)
    };
    let columns = target.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    assemble(target, columns, batch.num_rows())
}

/// A batch of `rows` rows; a null in a column that has none is an error that names it.
pub fn assemble(schema: &arrow_types::SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::data("table_row", format!("rows do not fit the table: {error}")).source(error))
}

/// One column in the form of `field`.
pub fn convert(column: &ArrayRef, field: &arrow_types::Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|error| {
        let message = format!("column {}: cannot store {} as {}: {error}", field.name(), column.data_type(), field.data_type());
        Error::data("table_value", message).source(error)
    })
}

/// A column of nulls: what a file written before the column existed holds.
pub fn nulls(field: &arrow_types::Field, rows: usize) -> ArrayRef {
    new_null_array(field.data_type(), rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray, TimestampSecondArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn every_type() -> Schema {
        let inner = vec![Field::new("x", DataType::Int64), Field::new("t", DataType::Timestamp(TimeUnit::Millisecond))];
        let fields = vec![
            Field { nullable: false, ..Field::new("k", DataType::String) },
            Field::new("b", DataType::Boolean),
            Field::new("d", DataType::Date),
            Field::new("i", DataType::Int32),
            Field::new("l", DataType::Int64),
            Field::new("f", DataType::Float64),
            Field::new("raw", DataType::Binary),
            Field::new("dec", DataType::Decimal { precision: 20, scale: 4 }),
            Field::new("ts", DataType::Timestamp(TimeUnit::Second)),
            Field::new("list", DataType::List(Box::new(DataType::String))),
            Field::new("st", DataType::Struct(inner)),
        ];
        Schema { fields }
    }

    #[test]
    fn every_type_has_a_column_and_ids_are_distinct() {
        let schema = to_iceberg(&every_type(), &["k".into()]).unwrap();
        assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [1]);
        assert_eq!(schema.highest_field_id(), 14);
        let arrow = to_arrow(&schema).unwrap();
        assert_eq!(arrow.field_with_name("raw").unwrap().data_type(), &arrow_types::DataType::Binary);
        let plain = without_ids(&arrow);
        assert!(plain.fields().iter().all(|field| field.metadata().is_empty()));
    }

    #[test]
    fn a_key_that_can_be_null_is_no_identifier() {
        let schema = to_iceberg(&every_type(), &["k".into(), "d".into()]).unwrap();
        assert_eq!(schema.identifier_field_ids().count(), 0);
    }

    #[test]
    fn nanoseconds_are_refused_with_the_cast_to_write() {
        let schema = Schema { fields: vec![Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond))] };
        let error = to_iceberg(&schema, &[]).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Plan);
        assert!(error.to_string().contains("cast(kappa.Timestamp(\"us\"))"), "{error}");
    }

    #[test]
    fn timestamps_become_microseconds_and_overflow_is_an_error() {
        let schema = Schema { fields: vec![Field::new("t", DataType::Timestamp(TimeUnit::Second))] };
        let target = to_arrow(&to_iceberg(&schema, &[]).unwrap()).unwrap();
        let rows = |value| {
            let column = TimestampSecondArray::from(vec![Some(value), None]).with_timezone("UTC");
            RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(column)]).unwrap()
        };
        let stored = conform(&rows(-7), &target).unwrap();
        assert_eq!(
            arrow::array::AsArray::as_primitive::<arrow_types::TimestampMicrosecondType>(stored.column(0)).value(0),
            -7_000_000
        );
        assert!(stored.column(0).is_null(1));
        assert!(conform(&rows(i64::MAX / 1000), &target).is_err());
    }

    #[test]
    fn nested_timestamps_are_converted_too() {
        let inner = vec![Field::new("x", DataType::Int64), Field::new("t", DataType::Timestamp(TimeUnit::Millisecond))];
        let schema = Schema { fields: vec![Field::new("s", DataType::Struct(inner))] };
        let target = to_arrow(&to_iceberg(&schema, &[]).unwrap()).unwrap();
        let arrow_types::DataType::Struct(members) = schema.to_arrow().field(0).data_type().clone() else { panic!() };
        let t = TimestampMillisecondArray::from(vec![5]).with_timezone("UTC");
        let column = StructArray::new(members, vec![Arc::new(Int64Array::from(vec![1])), Arc::new(t)], None);
        let stored = conform(&RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(column)]).unwrap(), &target).unwrap();
        let stored = arrow::array::AsArray::as_struct(stored.column(0));
        assert_eq!(arrow::array::AsArray::as_primitive::<Int64Type>(stored.column(0)).value(0), 1);
        assert_eq!(
            arrow::array::AsArray::as_primitive::<arrow_types::TimestampMicrosecondType>(stored.column(1)).value(0),
            5000
        );
    }

    #[test]
    fn a_null_in_a_column_without_nulls_is_an_error() {
        let schema = Schema { fields: vec![Field { nullable: false, ..Field::new("k", DataType::String) }] };
        let target = to_arrow(&to_iceberg(&schema, &[]).unwrap()).unwrap();
        let loose = arrow_types::Schema::new(vec![arrow_types::Field::new("k", arrow_types::DataType::Utf8, true)]);
        let batch = RecordBatch::try_new(Arc::new(loose), vec![Arc::new(StringArray::from(vec![None::<&str>]))]).unwrap();
        assert!(conform(&batch, &target).unwrap_err().to_string().contains('k'));
    }
}
