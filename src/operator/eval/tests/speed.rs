//! Costs per row, printed: `cargo test --release -- --ignored --nocapture eval::tests::speed`.

use super::*;
use crate::plan::expr::Function as F;
use crate::plan::testing::*;
use crate::time::instant;

const ROWS: usize = 8_192;

fn measure(name: &str, expr: &Expr, batch: &RecordBatch, schema: &Schema) {
    let evaluator = Evaluator::compile(expr, schema, zones()).unwrap();
    let once = || {
        let start = instant();
        std::hint::black_box(evaluator.evaluate(std::hint::black_box(batch)).unwrap());
        start.elapsed().as_nanos()
    };
    // The least of many: other work on the machine only adds.
    let least = (0..1_000).map(|_| once()).min().unwrap_or_default();
    println!("{name:40} {:6.2} ns a row", least as f64 / ROWS as f64);
}

#[test]
#[ignore = "prints measurements"]
fn costs() {
    let schema = schema(&[("status", DataType::String), ("amount", DataType::Int64), ("t", MS)]);
    let status = StringArray::from_iter_values((0..ROWS).map(|i| if i % 4 == 0 { "refunded" } else { "captured" }));
    let amount = Int64Array::from_iter_values((0..ROWS as i64).map(|i| i * 7_919 % 1_000 - 10));
    let times = (0..ROWS as i64).map(|i| 1_772_396_130_123 + i * 911 - (i * 7_919 % 60_000));
    let times = TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![Arc::new(status), Arc::new(amount), Arc::new(times)];
    let batch = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    let zone = || "America/New_York".to_owned();
    measure("status == \"captured\"", &call(F::Eq, [col("status"), text("captured")]), &batch, &schema);
    measure("amount > 0", &call(F::Gt, [col("amount"), int(0)]), &batch, &schema);
    measure("both", &captured(), &batch, &schema);
    measure("dt.date(Asia/Kolkata)", &dt_date(col("t"), "Asia/Kolkata"), &batch, &schema);
    measure("dt.date(America/New_York)", &dt_date(col("t"), &zone()), &batch, &schema);
    let hour = F::DtTruncate { every: "1h".into(), time_zone: zone() };
    measure("dt.truncate(1h, America/New_York)", &call(hour, [col("t")]), &batch, &schema);
    let day = F::DtTruncate { every: "1d".into(), time_zone: zone() };
    measure("dt.truncate(1d, America/New_York)", &call(day, [col("t")]), &batch, &schema);
    measure("dt.month", &call(F::DtMonth { time_zone: zone() }, [col("t")]), &batch, &schema);
    measure("amount * 3", &call(F::Mul, [col("amount"), int(3)]), &batch, &schema);
    measure("amount // 7", &call(F::FloorDiv, [col("amount"), int(7)]), &batch, &schema);
    measure("status.str.to_uppercase()", &call(F::StrToUppercase, [col("status")]), &batch, &schema);
    measure("amount.cast(String)", &cast(col("amount"), DataType::String, true), &batch, &schema);
}
