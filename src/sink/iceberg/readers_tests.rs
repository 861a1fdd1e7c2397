//! Tables for other people's readers: `KAPPA_READERS_DIR=dir cargo test -- --ignored tables_for_other_readers` leaves them
//! there, with what each must hold beside them.

use super::testing::*;
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};
use crate::sink::Change;
use crate::table::catalog::Settings;

#[test]
#[ignore = "writes into a directory that is given by hand"]
fn tables_for_other_readers() {
    let Ok(directory) = std::env::var("KAPPA_READERS_DIR") else { return };
    let mut expected = serde_json::Map::new();
    for (table, rewrite_below) in [("rewritten", u64::MAX), ("deleted", 0), ("merged", 0)] {
        let settings =
            Settings { rewrite_below, merge_deletes_at: if table == "merged" { 2 } else { 32 }, ..Settings::default() };
        let catalog = open(std::path::Path::new(&directory)).with_settings(settings);
        catalog.claim_owner(VERSION, 1).unwrap();
        let options = create(table, &["k"]);
        let created = catalog.create(&options).unwrap();
        let mut model = std::collections::BTreeMap::new();
        for checkpoint in 1..=8_u64 {
            let rows: Vec<Row> =
                (0..200).map(|n| row(&format!("k{}", n * checkpoint % 997), (n * checkpoint) as i64)).collect();
            let mut rows: Vec<Row> = rows.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
            rows.push((None, checkpoint as i64));
            let deleted = [format!("k{}", 500 + checkpoint)];
            rows.retain(|(key, _)| key.as_ref() != Some(&deleted[0]));
            let changes = vec![upsert(&rows), Change::Delete(keys(&[Some(&deleted[0])]))];
            catalog.commit(&[commit_of(&created, checkpoint, stage(&created, changes))], &fence(checkpoint)).unwrap();
            model.extend(rows.into_iter().map(|(key, number)| (key.unwrap_or_default(), number)));
            model.remove(&deleted[0]);
        }
        expected.insert(table.into(), serde_json::to_value(model).unwrap());
    }
    std::fs::write(format!("{directory}/expected.json"), serde_json::Value::Object(expected).to_string()).unwrap();
    every_type(&directory);
}

/// One row of every type, so that other readers' types can be looked at.
fn every_type(directory: &str) {
    let catalog = open(std::path::Path::new(directory));
    let inner = vec![Field::new("x", DataType::Int64), Field::new("t", DataType::Timestamp(TimeUnit::Millisecond))];
    let fields = vec![
        Field { nullable: false, ..Field::new("s", DataType::String) },
        Field::new("b", DataType::Boolean),
        Field::new("d", DataType::Date),
        Field::new("i", DataType::Int32),
        Field::new("f", DataType::Float64),
        Field::new("raw", DataType::Binary),
        Field::new("small", DataType::Decimal { precision: 9, scale: 2 }),
        Field::new("wide", DataType::Decimal { precision: 38, scale: 4 }),
        Field::new("ts", DataType::Timestamp(TimeUnit::Second)),
        Field::new("list", DataType::List(Box::new(DataType::String))),
        Field::new("st", DataType::Struct(inner)),
    ];
    let schema = Schema { fields };
    let json = r#"{"s":"x","b":true,"d":"2026-04-25","i":-7,"f":1.5,"raw":"00ff","small":-1.23,"wide":12345678901234567890.1234,
        "ts":"2026-04-25T11:35:00Z","list":["a",null],"st":{"x":1,"t":"2026-04-25T11:35:00.123Z"}}
        {"s":"y"}"#;
    let reader = arrow_json::ReaderBuilder::new(schema.to_arrow()).build(json.as_bytes()).unwrap();
    let options = crate::table::CreateTable { schema, primary_key: vec!["s".into()], ..create("types", &[]) };
    let created = catalog.create(&options).unwrap();
    let changes = reader.map(|batch| Change::Upsert(batch.unwrap())).collect();
    catalog.commit(&[commit_of(&created, 1, stage(&created, changes))], &fence(1)).unwrap();
    let batches = scan(&catalog, "types", None);
    let schema = batches.schema();
    let rows: Vec<_> = batches.map(|batch| batch.unwrap()).collect();
    println!("{schema:?}\n{}", arrow::util::pretty::pretty_format_batches(&rows).unwrap());
}

/// `KAPPA_READERS_DIR=dir`: the table that another engine wrote to last is read, upserted into and read again.
#[test]
#[ignore = "reads a directory that is given by hand"]
fn a_table_that_another_engine_extended() {
    let Ok(directory) = std::env::var("KAPPA_READERS_DIR") else { return };
    for rewrite_below in [0, u64::MAX] {
        let catalog = open(std::path::Path::new(&directory)).with_settings(Settings { rewrite_below, ..Settings::default() });
        let table = catalog.require(&name("deleted")).unwrap();
        let count = |key: &str| {
            let batches = scan(&catalog, "deleted", None);
            let keys = batches.flat_map(|batch| {
                let batch = batch.unwrap();
                arrow::array::AsArray::as_string::<i32>(batch.column(0))
                    .iter()
                    .map(|key| key.map(str::to_owned))
                    .collect::<Vec<_>>()
            });
            keys.filter(|found| found.as_deref() == Some(key)).count()
        };
        assert_eq!(count("foreign"), 1);
        let checkpoint = if rewrite_below == 0 { 9 } else { 10 };
        let staged = stage(&table, vec![upsert(&[row("foreign", 1), row("k30", 1)])]);
        catalog.commit(&[commit_of(&table, checkpoint, staged)], &fence(checkpoint)).unwrap();
        assert_eq!((count("foreign"), count("k30")), (1, 1));
    }
}
