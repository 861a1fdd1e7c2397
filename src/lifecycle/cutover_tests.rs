//! Names over real versions: what earlier releases have made, what a name leaves, and a view that cannot follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keep_warm;
use super::promote::{Promotion, promote};
use super::rollback::rollback;
use crate::config::Settings;
use crate::job::RunOptions;
use crate::log::{LogDir, NewRecord, Retention, WriterOptions};
use crate::message::Partition;
use crate::plan::expr::{AggregateFunction, Expr};
use crate::plan::logical::Node;
use crate::plan::testing::*;
use crate::protocol::cutover::Request;
use crate::query::diff::side::Subject;
use crate::sink::dead_letter;
use crate::table::field_ids::FieldIds;
use crate::table::{Catalog, CreateTable, TableName};

struct World {
    _root: tempfile::TempDir,
    settings: Settings,
    catalog: Catalog,
    checkpoints: PathBuf,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fill(root.path());
        let overrides = [("log.url".to_owned(), format!("file://{}/log", root.path().display()))].into();
        let settings = Settings::resolve(&overrides, None).unwrap().in_directory(root.path());
        let catalog = Catalog::of(&settings).unwrap();
        let checkpoints = Settings::directory("checkpoints", &settings.checkpoints).unwrap();
        Self { _root: root, settings, catalog, checkpoints }
    }

    /// A version: its outputs go to tables.
    fn build(&self, outputs: &[(Node, &str)]) {
        let name = |at: usize| if outputs.len() > 1 { format!("o{at}") } else { String::new() };
        let tables: BTreeMap<String, &str> = outputs.iter().enumerate().map(|(at, (_, table))| (name(at), *table)).collect();
        let options = serde_json::json!({"mode": "reprocess", "output_tables": tables, "parallelism": 1});
        let options: RunOptions = serde_json::from_value(options).unwrap();
        let plan = job(outputs.iter().map(|(node, _)| node.clone()));
        crate::job::start(plan, options, self.settings.clone()).unwrap().report().unwrap();
    }

    fn promote(&self, name: &str, table: &str, views: Option<&str>) -> Promotion {
        let request = Request { unverified: Some("a test".into()), keep_warm: false, ..Request::default() };
        promote(&self.catalog, &self.checkpoints, &[(called(name), called(table))], &request, views).unwrap()
    }

    fn ids(&self, table: &str) -> Vec<(String, i32)> {
        let table = self.catalog.require(&called(table)).unwrap();
        let fields = table.metadata().current_schema().as_struct().fields().to_vec();
        fields.iter().map(|field| (field.name.clone(), field.id)).collect()
    }
}

fn called(table: &str) -> TableName {
    TableName::parse(table, "default").unwrap()
}

fn fill(root: &Path) {
    let retention = Retention { ms: None, bytes: None };
    let topic = LogDir::open(root.join("log")).create_topic(&read().topic, 1, retention).unwrap();
    let mut writer = topic.writer(Partition(0), WriterOptions::default()).unwrap();
    for at in 0..10 {
        let value = format!(r#"{{"status": "captured", "amount": {at}, "merchant_id": "m", "event_time": {at}}}"#);
        writer.push(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }).unwrap();
    }
    writer.flush().unwrap();
}

fn daily(total: Expr) -> Node {
    group(source(), [named("day", dt_date(col("event_time"), "UTC"))], [named("total", total)])
}

fn sum() -> Expr {
    agg(AggregateFunction::Sum, col("amount"))
}

fn mean() -> Expr {
    agg(AggregateFunction::Mean, col("amount"))
}

#[test]
fn columns_of_what_an_earlier_release_has_made_keep_their_ids() {
    let world = World::new();
    world.build(&[(daily(sum()), "v3")]);
    // It did not write of which output a table is; that of its dead letters is of none.
    let old = world.catalog.require(&called("v3")).unwrap();
    world.catalog.alter(old.name(), |builder| builder.remove_properties(&["kappa.output".to_owned()]).unwrap());
    let letters = CreateTable {
        name: called("v3__dead_letter"),
        schema: dead_letter::schema(),
        primary_key: vec![],
        properties: [("kappa.job".to_owned(), old.property("kappa.job").unwrap().to_owned())].into(),
        field_ids: FieldIds::default(),
    };
    world.catalog.create(&letters).unwrap();
    world.build(&[(daily(mean()), "v4")]);
    let ids = |day: i32, total: i32| vec![("day".to_owned(), day), ("total".to_owned(), total)];
    assert_eq!((world.ids("v3"), world.ids("v4")), (ids(1, 2), ids(1, 3)));
    world.promote("n", "v3", None);
    assert_eq!(world.promote("n", "v4", None).names[0].table, "default.v4");
    rollback(&world.catalog, &world.checkpoints, &called("n")).unwrap();
}

#[test]
fn a_version_that_writes_to_more_than_the_name_is_not_stopped_without_a_word() {
    let world = World::new();
    world.build(&[(daily(sum()), "v3"), (daily(mean()), "other")]);
    world.build(&[(daily(sum()), "v4")]);
    world.promote("n", "v3", None);
    let subject = || Subject::of(world.catalog.require(&called("v3")).unwrap(), &world.checkpoints).unwrap();
    let (name, to) = (called("n"), called("v4"));
    let moved = [(name.clone(), to.clone())];
    let retired = |from: &Subject| keep_warm::retired(&world.catalog, &world.checkpoints, from, (&name, &to), &moved).unwrap();
    let (retire, note) = retired(&subject());
    assert!(retire.is_some() && note.ends_with("; its version writes default.other too, which no name shows"), "{note}");
    // Who reads a topic cannot be asked.
    let mut feeds = subject();
    feeds.manifest.as_mut().unwrap().outputs[1].table = "kafka:alerts".into();
    let (retire, note) = retired(&feeds);
    assert!(retire.is_none(), "{note}");
    assert_eq!(note, "default.v3 is kept warm all the same: it writes topic alerts");
    world.promote("m", "other", None);
    let (retire, note) = retired(&subject());
    assert!(retire.is_none() && note.ends_with("all the same: its version shows in default.m too"), "{note}");
}

#[test]
fn a_rollback_does_not_wait_for_a_view() {
    let world = World::new();
    world.build(&[(daily(sum()), "v3")]);
    world.build(&[(daily(sum()), "v4")]);
    world.promote("n", "v3", Some("{name}__view"));
    world.promote("n", "v4", None);
    let set_view = |view: &str| {
        let property = [("kappa.view".to_owned(), view.to_owned())].into();
        world.catalog.alter(&called("n"), |builder| builder.set_properties(property).unwrap());
    };
    set_view("default.v4");
    let shown = rollback(&world.catalog, &world.checkpoints, &called("n")).unwrap().names.remove(0);
    assert_eq!((shown.table.as_str(), shown.rows), ("default.v3", 1));
    let behind = "its view is behind, kappa promote default.n default.v3 brings it up: there is a table of the name default.v4";
    assert!(shown.notes.iter().any(|note| note.starts_with(behind)), "{:?}", shown.notes);
    assert!(shown.notes.iter().any(|note| note.contains("or let default.n have none")), "{:?}", shown.notes);
    let request = Request::default();
    let wanted = [(called("n"), called("v3"))];
    let error = promote(&world.catalog, &world.checkpoints, &wanted, &request, None).unwrap_err();
    assert_eq!(error.code(), "name_taken", "{error}");
    set_view("default.n__view");
    promote(&world.catalog, &world.checkpoints, &wanted, &request, None).unwrap();
    assert!(world.catalog.selected(&called("n__view")).unwrap().contains("`v3`"));
}
