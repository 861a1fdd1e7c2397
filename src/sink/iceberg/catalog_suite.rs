//! What every catalog does alike: one suite, and each case of it once for each kind of catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use iceberg::spec::{SnapshotReference, SnapshotRetention};

use super::proxy::Then;
use super::testing::*;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::schema::{DataType, Field, Schema};
use crate::protocol::door::{Act, Door, Keeper};
use crate::sink::Change;
use crate::table::catalog::Settings;
use crate::table::expiry::Retention;
use crate::table::{CommitOutcome, CreateTable, Fence, Table};

suite!(
    a_table_is_made_once_listed_and_dropped,
    tables_are_replaced_together,
    a_column_has_its_id_from_the_other_versions,
    ids_that_nobody_could_ask_for_are_not_taken_for_none,
    what_is_written_is_read,
    writers_that_race_all_get_in,
    of_two_that_make_a_table_one_does,
    a_process_that_was_taken_over_is_refused,
    a_commit_that_was_begun_before_the_claim_is_refused,
    two_tables_move_together_or_not_at_all,
    a_commit_whose_reply_is_lost_is_found,
    a_commit_that_never_came_is_made_again,
    snapshots_expire_and_the_marker_is_still_found,
    files_are_merged_and_the_rows_stay,
    what_main_says_of_its_retention_stays,
);

macro_rules! over_a_network {
    ($($case:ident),* $(,)?) => {
        mod postgres_by_proxy { $(#[test] fn $case() { super::$case(super::Kind::Postgres); })* }
        mod rest_by_proxy { $(#[test] fn $case() { super::$case(super::Kind::Rest); })* }
    };
}

over_a_network!(
    a_reply_that_the_network_loses_is_found,
    a_request_that_the_network_loses_is_made_again,
    a_connection_that_was_cut_is_made_again,
    a_catalog_that_is_away_is_waited_for,
    a_table_whose_making_is_not_confirmed_is_found,
);

fn positions() -> Settings {
    Settings { rewrite_below: 0, ..Settings::default() }
}

fn append(rows: &[Row]) -> Vec<Change> {
    vec![Change::Append(batch(rows))]
}

fn a_table_is_made_once_listed_and_dropped(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    assert!(world.catalog.load(&world.name("t")).unwrap().is_none());
    assert_eq!(world.catalog.require(&world.name("t")).unwrap_err().code(), "no_such_table");
    let made = world.create("t", &["k"]);
    world.create("a", &[]);
    for catalog in [&world.catalog, &world.other()] {
        let seen = catalog.require(&world.name("t")).unwrap();
        assert_eq!((seen.uuid(), seen.location()), (made.uuid(), made.location()));
        assert_eq!(seen.primary_key().unwrap(), ["k"]);
        let listed = catalog.list().unwrap();
        let ours: Vec<_> = listed.iter().filter(|name| name.namespace() == world.name("t").namespace()).collect();
        assert_eq!(ours, [&world.name("a"), &world.name("t")]);
    }
    let error = world.other().create(&world.to_create("t", &[])).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "table_exists"));
    world.commit(&made, 1, vec![upsert(&[row("a", 1)])]);
    assert_eq!(world.catalog.drop_table(&made).unwrap_err().kind(), ErrorKind::Conflict);
    world.catalog.drop_table(&world.catalog.require(&world.name("t")).unwrap()).unwrap();
    assert!(world.other().load(&world.name("t")).unwrap().is_none());
    assert_ne!(world.create("t", &[]).uuid(), made.uuid());
}

fn tables_are_replaced_together(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let (a, b) = (world.create("a", &[]), world.create("b", &[]));
    world.commit(&a, 1, append(&[row("a", 1)]));
    let (new_a, new_b) = (world.to_create("a", &["k"]), world.to_create("b", &["k"]));
    let seen = world.catalog.require(&world.name("a")).unwrap();
    if kind == Kind::Rest {
        let error = world.catalog.replace(&[(seen, &new_a), (b.clone(), &new_b)]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "replace_unsupported"));
        assert_eq!(world.read("a"), [row("a", 1)]);
        return;
    }
    assert_eq!(world.catalog.replace(&[(b.clone(), &new_b), (a, &new_a)]).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.catalog.require(&world.name("b")).unwrap().uuid(), b.uuid());
    world.catalog.replace(&[(seen.clone(), &new_a), (b.clone(), &new_b)]).unwrap();
    assert_ne!(world.catalog.require(&world.name("b")).unwrap().uuid(), b.uuid());
    assert_eq!(world.read("a"), []);
}

/// A name may show them one after the other.
fn a_column_has_its_id_from_the_other_versions(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let is_like = |table: &Table| table.property("job") == Some("x");
    let properties = || [("job".to_owned(), "x".to_owned())].into();
    let make = |table: &str, columns: [(&str, DataType); 3]| {
        let fields = columns.map(|(column, data_type)| Field::new(column, data_type)).to_vec();
        let create = CreateTable { schema: Schema { fields }, properties: properties(), ..world.to_create(table, &[]) };
        let field_ids = world.catalog.field_ids(is_like).unwrap();
        world.catalog.create(&CreateTable { field_ids, ..create }).unwrap();
        let made = world.other().require(&world.name(table)).unwrap();
        let fields = made.metadata().current_schema().as_struct().fields().to_vec();
        fields.iter().map(|field| (field.name.clone(), field.id)).collect::<Vec<_>>()
    };
    let ids = |ids: [(&str, i32); 3]| ids.map(|(name, id)| (name.to_owned(), id)).to_vec();
    let (text, long, double) = (DataType::String, DataType::Int64, DataType::Float64);
    assert_eq!(make("a", [("k", text.clone()), ("n", long.clone()), ("m", long.clone())]), ids([("k", 1), ("n", 2), ("m", 3)]));
    assert_eq!(
        make("b", [("k", text.clone()), ("n", double.clone()), ("m", long.clone())]),
        ids([("k", 1), ("n", 4), ("m", 3)])
    );
    assert_eq!(make("c", [("n", long.clone()), ("o", text.clone()), ("k", text.clone())]), ids([("n", 2), ("o", 5), ("k", 1)]));
    let last = world.other().require(&world.name("c")).unwrap();
    assert!(last.metadata().last_column_id() >= 5);
    if kind == Kind::Rest {
        // Whoever made it died before it had its ids.
        let fields = [("n", double), ("k", text), ("p", long)].map(|(column, of)| Field::new(column, of)).to_vec();
        let create = CreateTable { schema: Schema { fields }, properties: properties(), ..world.to_create("d", &[]) };
        let made = world.catalog.create(&create).unwrap();
        let field_ids = world.catalog.field_ids(|table| is_like(table) && table.uuid() != made.uuid()).unwrap();
        let finished = world.catalog.finish(made, &CreateTable { field_ids, ..create }).unwrap();
        let fields = finished.metadata().current_schema().as_struct().fields().to_vec();
        assert_eq!(fields.iter().map(|field| field.id).collect::<Vec<_>>(), [4, 1, 6]);
    }
}

/// A door through which nobody hears where a table is.
struct Away;

impl Keeper for Away {
    fn enter(&self, act: Act) -> Result<u64> {
        if act == Act::Find { Err(Error::new(ErrorKind::Unavailable, "catalog", "no answer")) } else { Ok(0) }
    }

    fn leave(&self, _: Act, _: u64) -> Result<()> {
        Ok(())
    }
}

fn ids_that_nobody_could_ask_for_are_not_taken_for_none(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("a", &[]);
    let error = world.other().behind(Door::kept_by(Arc::new(Away))).field_ids(|_| true).unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("catalog", true), "{error}");
    if kind != Kind::Rest {
        // One that is lost keeps no other from being made.
        std::fs::remove_file(table.metadata_location().trim_start_matches("file://")).unwrap();
        assert_eq!(world.other().load(table.name()).unwrap_err().code(), "io");
        world.other().field_ids(|_| true).unwrap();
    }
}

fn what_is_written_is_read(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), (None, 2)])]);
    world.commit(&table, 2, vec![upsert(&[row("a", 3), row("b", 4)])]);
    let expected = [(None, 2), row("a", 3), row("b", 4)];
    assert_eq!(world.read("t"), expected);
    let other = world.other().require(&world.name("t")).unwrap();
    assert_eq!((other.row_count(), other.marker().unwrap().0.checkpoint), (3, 2));
    assert!(matches!(world.commit(&table, 2, vec![]), CommitOutcome::AlreadyCommitted { .. }));
    foreign_commit_to(&world.other(), &table, 1, &[row("b", 5)]).unwrap();
    assert!(matches!(world.commit(&table, 2, vec![]), CommitOutcome::AlreadyCommitted { .. }));
    world.commit(&table, 3, vec![upsert(&[row("c", 6)])]);
    assert_eq!(world.read("t"), [(None, 2), row("a", 3), row("b", 5), row("c", 6)]);
}

fn writers_that_race_all_get_in(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    race(&world, &table, 4);
    assert_eq!(world.read("t").len(), 12);
    assert_eq!(world.summary("t")["total-records"], "12");
}

fn of_two_that_make_a_table_one_does(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| match world.other().create(&world.to_create("t", &[])) {
                Ok(_) => {
                    made.fetch_add(1, SeqCst);
                }
                Err(error) => assert_eq!(error.code(), "table_exists", "{error}"),
            });
        }
    });
    assert_eq!(made.load(SeqCst), 1);
}

fn a_process_that_was_taken_over_is_refused(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    world.commit(&table, 1, append(&[row("a", 1)]));
    let commit = commit_of(&table, 2, stage(&table, append(&[row("a", 2)])));
    take_over(&world, 2);
    let error = world.catalog.commit(std::slice::from_ref(&commit), &fence(2)).unwrap_err();
    assert_eq!((error.kind(), error.code(), error.is_retryable()), (ErrorKind::Conflict, "fenced", false));
    assert!(error.to_string().contains("owner 2"), "{error}");
    // Nor is one that has nothing left to commit, nor its merges, nor its removal of files.
    assert_eq!(world.catalog.commit(&[commit_of(&table, 1, vec![])], &fence(1)).unwrap_err().code(), "fenced");
    let sweep = Care::default().sweep_as(&world, &table, crate::time::new_ordered_uuid(), 1);
    assert_eq!(sweep.unwrap_err().code(), "fenced");
    assert_eq!(world.read("t"), [row("a", 1)]);
    let again = world.catalog.claim_owner(VERSION, 1).and_then(|()| world.catalog.claim_tables(VERSION, 1, &[world.name("t")]));
    assert_eq!(again.unwrap_err().code(), "fenced");
    take_over(&world, 2);
    // The new owner delivers the same files.
    world.other().commit(&[commit], &Fence { owner: 2, ..fence(2) }).unwrap();
    assert_eq!(world.read("t"), [row("a", 1), row("a", 2)]);
}

/// As a process does that resumes a version.
fn take_over(world: &World, owner: u64) {
    let catalog = world.other();
    catalog.claim_owner(VERSION, owner).unwrap();
    catalog.claim_tables(VERSION, owner, &[world.name("t"), world.name("not_there")]).unwrap();
}

fn a_commit_that_was_begun_before_the_claim_is_refused(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    world.commit(&table, 1, append(&[row("a", 1)]));
    let commit = commit_of(&table, 2, stage(&table, append(&[row("a", 2)])));
    let (other, name) = (world.other(), world.name("t"));
    world.meanwhile(move || {
        other.claim_owner(VERSION, 2).unwrap();
        other.claim_tables(VERSION, 2, &[name]).unwrap();
    });
    assert_eq!(world.catalog.commit(&[commit], &fence(2)).unwrap_err().code(), "fenced");
    assert_eq!(world.read("t"), [row("a", 1)]);
    assert_eq!(world.summary("t")["kappa.checkpoint"], "1");
}

fn two_tables_move_together_or_not_at_all(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let (a, b) = (world.create("a", &[]), world.create("b", &["k"]));
    let commits = |checkpoint: u64| {
        let rows = [row("x", checkpoint as i64)];
        [commit_of(&a, checkpoint, stage(&a, append(&rows))), commit_of(&b, checkpoint, stage(&b, vec![upsert(&rows)]))]
    };
    assert_eq!(world.catalog.commit(&commits(1), &fence(1)).unwrap().len(), 2);
    // The second of them moves under the first attempt; what was to become of the first is not to be seen.
    let (other, table) = (world.other(), b.clone());
    let seen = world.catalog.require(&world.name("a")).unwrap().current_snapshot_id();
    world.meanwhile_after(2, move || foreign_commit_to(&other, &table, 1, &[row("f", 9)]).unwrap());
    let outcomes = world.catalog.commit(&commits(2), &fence(2)).unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, CommitOutcome::Committed { .. })), "{outcomes:?}");
    assert_eq!(world.read("a"), [row("x", 1), row("x", 2)]);
    assert_eq!(world.read("b"), [row("f", 9), row("x", 2)]);
    let now = world.catalog.require(&world.name("a")).unwrap();
    assert_eq!(now.metadata().current_snapshot().unwrap().parent_snapshot_id(), seen, "an attempt that lost left a snapshot");
}

fn a_commit_whose_reply_is_lost_is_found(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1)])]);
    world.inject(Fault::ReplyLost);
    assert!(matches!(world.commit(&table, 2, vec![upsert(&[row("a", 2)])]), CommitOutcome::AlreadyCommitted { .. }));
    assert_eq!(world.read("t"), [row("a", 2)]);
}

fn a_commit_that_never_came_is_made_again(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    world.inject(Fault::RequestLost);
    assert!(matches!(world.commit(&table, 1, append(&[row("a", 1)])), CommitOutcome::Committed { .. }));
    assert_eq!(world.read("t"), [row("a", 1)]);
}

fn snapshots_expire_and_the_marker_is_still_found(kind: Kind) {
    let none = std::time::Duration::ZERO;
    let retention = Retention { all: none, hourly: none, at_least: 4 };
    let Some(world) = World::on(kind, Settings { retention, ..positions() }) else { return };
    let table = world.create("t", &["k"]);
    for checkpoint in 1..=10 {
        world.commit(&table, checkpoint, vec![upsert(&[row("a", checkpoint as i64)])]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let snapshots = world.other().require(&world.name("t")).unwrap().metadata().snapshots().len();
        assert!(snapshots <= 5, "{snapshots}");
    }
    assert_eq!(world.read("t"), [row("a", 10)]);
    assert!(matches!(world.commit(&table, 10, vec![]), CommitOutcome::AlreadyCommitted { .. }));
}

fn files_are_merged_and_the_rows_stay(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    for checkpoint in 1..=12 {
        world.commit(&table, checkpoint, append(&[row("a", checkpoint as i64)]));
    }
    let before = world.read("t");
    assert!(Care::default().merge(&world, &table, 12) > 0);
    assert_eq!(world.read("t"), before);
    assert!(matches!(world.commit(&table, 12, vec![]), CommitOutcome::AlreadyCommitted { .. }));
}

/// Other tools set it, and go by it.
fn what_main_says_of_its_retention_stays(kind: Kind) {
    let Some(world) = World::on(kind, positions()) else { return };
    let table = world.create("t", &[]);
    let [first, second] = [1, 2].map(|checkpoint| snapshot_of(&world.commit(&table, checkpoint, append(&[row("a", 1)]))));
    let other = world.other();
    set_back(&other, table.name(), first);
    let retention = SnapshotRetention::branch(Some(7), Some(8_000_000_000), Some(9_000_000_000));
    set_main(&other, table.name(), SnapshotReference::new(second, retention.clone()));
    let third = snapshot_of(&world.commit(&table, 3, append(&[row("a", 3)])));
    let now = serde_json::to_value(world.other().require(table.name()).unwrap().metadata()).unwrap();
    let main: SnapshotReference = serde_json::from_value(now["refs"]["main"].clone()).unwrap();
    assert_eq!(main, SnapshotReference::new(third, retention));
}

/// What only the message that commits has in it.
fn commits(kind: Kind) -> &'static str {
    if kind == Kind::Postgres { "COMMIT\0" } else { "assert-ref-snapshot-id" }
}

fn a_reply_that_the_network_loses_is_found(kind: Kind) {
    let Some((world, proxy)) = World::by_proxy(kind, positions()) else { return };
    let (a, b) = (world.create("a", &[]), world.create("b", &["k"]));
    let mut fates = vec![Then::LoseReply];
    if kind == Kind::Rest {
        fates.push(Then::Answer("504"));
        fates.push(Then::Answer("500"));
        // As when something between sends it twice.
        fates.push(Then::Answer("409"));
    }
    for (index, fate) in fates.into_iter().enumerate() {
        let checkpoint = index as u64 + 1;
        let rows = [row("x", checkpoint as i64)];
        proxy.set_trap(commits(kind), fate);
        let both =
            [commit_of(&a, checkpoint, stage(&a, append(&rows))), commit_of(&b, checkpoint, stage(&b, vec![upsert(&rows)]))];
        let outcomes = world.catalog.commit(&both, &fence(checkpoint)).unwrap();
        let found = outcomes.iter().all(|outcome| matches!(outcome, CommitOutcome::AlreadyCommitted { .. }));
        assert!(found || fate == Then::Answer("409"), "{fate:?}: {outcomes:?}");
        assert!(proxy.has_caught(), "{fate:?}");
        assert_eq!(world.read("a").len() as u64, checkpoint, "{fate:?}");
        assert_eq!(world.read("b"), [row("x", checkpoint as i64)]);
    }
}

fn a_request_that_the_network_loses_is_made_again(kind: Kind) {
    let Some((world, proxy)) = World::by_proxy(kind, positions()) else { return };
    let table = world.create("t", &[]);
    proxy.set_trap(commits(kind), Then::LoseRequest);
    assert!(matches!(world.commit(&table, 1, append(&[row("a", 1)])), CommitOutcome::Committed { .. }));
    assert!(proxy.has_caught());
    assert_eq!(world.read("t"), [row("a", 1)]);
}

fn a_connection_that_was_cut_is_made_again(kind: Kind) {
    let Some((world, proxy)) = World::by_proxy(kind, positions()) else { return };
    let table = world.create("t", &[]);
    for checkpoint in 1..=3 {
        proxy.cut();
        assert!(matches!(world.commit(&table, checkpoint, append(&[row("a", 1)])), CommitOutcome::Committed { .. }));
    }
    assert_eq!(world.read("t").len(), 3);
}

fn a_catalog_that_is_away_is_waited_for(kind: Kind) {
    let Some((world, proxy)) = World::by_proxy(kind, positions()) else { return };
    let table = world.create("t", &[]);
    let commit = commit_of(&table, 1, stage(&table, append(&[row("a", 1)])));
    proxy.refuse(true);
    let error = world.catalog.commit(std::slice::from_ref(&commit), &fence(1)).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    proxy.refuse(false);
    world.catalog.commit(&[commit], &fence(1)).unwrap();
    assert_eq!(world.read("t"), [row("a", 1)]);
}

fn a_table_whose_making_is_not_confirmed_is_found(kind: Kind) {
    let Some((world, proxy)) = World::by_proxy(kind, positions()) else { return };
    let makes = if kind == Kind::Postgres { "COMMIT\0" } else { "stage-create" };
    proxy.set_trap(makes, Then::LoseReply);
    let made = world.create("t", &[]);
    assert!(proxy.has_caught());
    assert_eq!(world.other().require(&world.name("t")).unwrap().uuid(), made.uuid());
    world.commit(&made, 1, append(&[row("a", 1)]));
    assert_eq!(world.read("t"), [row("a", 1)]);
}
