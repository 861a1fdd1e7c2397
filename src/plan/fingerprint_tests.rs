use super::*;
use crate::plan::expr::{AggregateFunction as A, Function as F};
use crate::plan::logical::{BadRecordPolicy, MetadataColumn, MetadataKind};
use crate::plan::testing::*;
use crate::plan::validate::schema_of;

fn of(nodes: impl IntoIterator<Item = Node>) -> String {
    fingerprint(&job(nodes)).unwrap()
}

#[test]
fn the_canonical_text_is_pinned() {
    let expected = concat!(
        r#"{"outputs":[{"plan":{"aggregate":{"aggregates":[{"expr":{"aggregate":{"function":"count_distinct","input":{"column":"merchant_id"}}},"name":"merchants"}],"#,
        r#""input":{"filter":{"input":{"read":{"event_time":"event_time","id":0,"late":"keep","max_future_ms":86400000,"max_out_of_orderness_ms":30000,"#,
        r#""schema":[{"name":"status","type":"string"},{"name":"amount","type":"int64"},{"name":"merchant_id","type":"string"},{"name":"event_time","type":{"timestamp":"ms"}},{"name":"note","type":"string"}],"#,
        r#""topic":"payments.captured.v1"}},"predicate":{"call":{"args":[{"call":{"args":[{"column":"status"},{"literal":{"type":"string","value":"captured"}}],"function":"eq"}},"#,
        r#"{"call":{"args":[{"column":"amount"},{"literal":{"type":"int64","value":0}}],"function":"gt"}}],"function":"and"}}}},"#,
        r#""keys":[{"expr":{"call":{"args":[{"column":"event_time"}],"function":{"dt_date":{"time_zone":"Asia/Kolkata"}}}},"name":"day"}]}}}],"semantics_version":1}"#
    );
    assert_eq!(canonical_text(&job([merchants()])).unwrap(), expected);
}

/// Plans and their fingerprints, written once: a change here makes every table of earlier releases refuse `live`.
#[test]
fn golden_fingerprints() {
    let golden: Vec<(JobPlan, String)> = serde_json::from_str(include_str!("../../tests/golden/fingerprints.json")).unwrap();
    assert!(golden.len() >= 5);
    for (plan, expected) in golden {
        assert_eq!(fingerprint(&plan).unwrap(), expected, "{}", canonical_text(&plan).unwrap());
    }
}

/// Prints what belongs into the golden file when a plan is added to it (never when one changes).
#[test]
#[ignore = "writes the golden file's text"]
fn print_golden() {
    let reads = || {
        let mut read = read();
        read.metadata = vec![MetadataColumn { name: "at".into(), kind: MetadataKind::Offset }];
        Node::Read(Box::new(read))
    };
    let zone = "America/New_York".to_owned();
    let hour = call(F::DtTruncate { every: "1h".into(), time_zone: zone }, [col("event_time")]);
    let mean = call(F::Div, [agg(A::Sum, col("amount")), len()]);
    let compound = group(with_columns(source(), [named("hour", hour)]), [named("hour", col("hour"))], [named("mean", mean)]);
    let price = cast(col("amount"), decimal(12, 2), true);
    let when = call(F::When, [call(F::Gt, [price.clone(), lit(decimal(3, 1), "10.5")]), float(0.1), float(f64::MAX)]);
    let append = select(reads(), [named("price", price), named("rate", when), named("at", col("at"))]);
    let renamed = select(merchants(), [named("n", col("merchants")), named("date", col("day"))]);
    let plans = [
        job([merchants()]),
        job([compound]),
        job([append]),
        job([renamed, merchants()]),
        job([nested()]),
        job([expiring(merchants(), 86_400_000)]),
    ];
    let golden: Vec<_> = plans.iter().map(|plan| (plan, fingerprint(plan).unwrap())).collect();
    println!("{}", serde_json::to_string_pretty(&golden).unwrap());
}

#[test]
fn what_does_not_change_the_rows_is_not_in_it() {
    let base = of([merchants()]);
    let mut plan = job([merchants()]);
    plan.job = "renamed".into();
    plan.outputs[0].name = Some("daily".into());
    assert_eq!(fingerprint(&plan).unwrap(), base);
    let with = |change: &dyn Fn(&mut Read)| {
        let mut other = read();
        change(&mut other);
        let filter = filter(Node::Read(Box::new(other)), captured());
        let Node::Aggregate { keys, aggregates, .. } = merchants() else { unreachable!() };
        of([group(filter, keys, aggregates)])
    };
    assert_eq!(with(&|r| r.on_bad_record = BadRecordPolicy::Skip), base);
    assert_eq!(with(&|r| r.id = 7), base);
    assert_ne!(with(&|r| r.max_out_of_orderness_ms = 1), base);
    assert_ne!(with(&|r| r.topic = "other".into()), base);
    assert_ne!(with(&|r| r.late = crate::plan::logical::LatePolicy::Drop), base);
}

#[test]
fn spellings_of_one_plan_agree() {
    let more = [named("amount", call(F::Mul, [col("amount"), int(2)])), named("k", float(1.0))];
    let selected = with_columns_as_select(&schema_of(&source()).unwrap(), &more);
    assert_eq!(of([with_columns(source(), more.clone())]), of([select(source(), selected)]));
    let whole = |value: serde_json::Value| of([with_columns(source(), [named("k", lit(DataType::Float64, value))])]);
    assert_eq!(whole(json!(1)), whole(json!(1.0)));
    assert_ne!(whole(json!(0.0)), whole(json!(-0.0)));
    let price = |value: &str| of([with_columns(source(), [named("k", lit(decimal(5, 2), value))])]);
    assert_eq!(price("1.5"), price("1.50"));
    assert_ne!(price("1.5"), price("1.51"));
}

#[test]
fn what_changes_the_result_changes_it() {
    let base = of([merchants()]);
    let other = group(
        filter(source(), captured()),
        [named("day", dt_date(col("event_time"), "UTC"))],
        [named("merchants", agg(A::CountDistinct, col("merchant_id")))],
    );
    assert_ne!(of([other.clone()]), base);
    assert_ne!(of([merchants(), other.clone()]), of([other, merchants()]), "tables are found by name");
    assert_ne!(of([expiring(merchants(), 1)]), base);
    assert_ne!(of([expiring(merchants(), 1)]), of([expiring(merchants(), 2)]));
    let mut renamed = job([merchants(), source()]);
    let before = fingerprint(&renamed).unwrap();
    renamed.outputs[0].name = Some("x".into());
    assert_ne!(fingerprint(&renamed).unwrap(), before);
}
