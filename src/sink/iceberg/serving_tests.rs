//! Names that show versions: the same in every catalog.

use std::time::Duration;

use iceberg::spec::Snapshot;

use super::testing::*;
use crate::error::ErrorKind;
use crate::plan::schema::{DataType, Field, Schema};
use crate::table::catalog::Settings;
use crate::table::commit::marker_summary;
use crate::table::condemn::Condemned;
use crate::table::expiry::Retention;
use crate::table::retire::Retired;
use crate::table::serving::{Action, Move, Trouble, Turn, Turned};
use crate::table::uses::{Directories, Uses};
use crate::table::{CommitOutcome, CreateTable, Fence, Pin, Table};
use crate::time;

suite!(
    a_name_shows_a_version_and_moves_with_it,
    names_turn_together_or_not_at_all,
    what_was_decided_on_another_state_is_not_done,
    turns_of_other_names_are_not_undone,
    a_turn_whose_reply_is_lost_is_found_in_the_name,
    what_another_tool_does_to_a_name_is_undone,
    a_name_that_is_gone_does_not_stop_its_version,
    columns_that_mean_something_else_are_refused,
    what_a_name_has_shown_it_goes_on_with,
    a_promote_and_a_condemnation_exclude_each_other,
    what_a_name_has_shown_is_needed_until_it_may_be_forgotten,
    a_version_that_is_not_kept_is_retired_until_it_serves_again,
);

pub(super) fn settings() -> Settings {
    Settings { rewrite_below: 0, ..Settings::default() }
}

/// A version of its own: commits to its table.
pub(super) struct Version<'a> {
    world: &'a World,
    pub(super) table: Table,
    checkpoint: u64,
}

impl<'a> Version<'a> {
    pub(super) fn new(world: &'a World, table: &str) -> Self {
        world.catalog.claim_owner(table, 1).unwrap();
        Self { world, table: world.create(table, &["k"]), checkpoint: 0 }
    }

    pub(super) fn commit(&mut self, rows: &[Row]) -> CommitOutcome {
        self.checkpoint += 1;
        let mut commit = commit_of(&self.table, self.checkpoint, stage(&self.table, vec![upsert(rows)]));
        commit.summary = marker_summary(&self.version(), "t", self.checkpoint, &format!("hash-{}", self.checkpoint));
        commit.summary.insert("kappa.offsets".into(), format!("{{\"t\":{{\"0\":{}}}}}", self.checkpoint));
        self.world.catalog.commit(&[commit], &self.fence()).unwrap().remove(0)
    }

    fn version(&self) -> String {
        self.table.name().table().to_owned()
    }

    pub(super) fn fence(&self) -> Fence {
        Fence { version: self.version(), ..fence(self.checkpoint) }
    }

    pub(super) fn now(&self) -> Table {
        self.world.catalog.require(self.table.name()).unwrap()
    }
}

/// The move of a name on the states as they are.
pub(super) fn to(world: &World, name: &str, version: &Version<'_>) -> Move {
    let base = world.catalog.load(&world.name(name)).unwrap();
    let shown = base.as_ref().and_then(|base| base.turns().unwrap()?.current().cloned());
    let from = shown.map(|turn| world.catalog.require(&turn.table).unwrap()).filter(|from| from.uuid() != version.table.uuid());
    let turn = Turn {
        id: time::new_uuid().to_string(),
        at_ms: 5,
        action: Action::Promote,
        table: version.table.name().clone(),
        uuid: version.table.uuid(),
        version: version.version(),
        job: None,
        proof: None,
        unverified: Some("a test".into()),
        accepted: Vec::new(),
        by: "test".into(),
    };
    Move { base, from, retire: None, to: version.now(), name: world.name(name), view: None, turn }
}

pub(super) fn turn(world: &World, name: &str, version: &Version<'_>) -> Table {
    match world.catalog.turn_names(&[to(world, name, version)]).unwrap() {
        Turned::Done(mut states, _) => states.remove(0),
        other => panic!("{other:?}"),
    }
}

fn troubles(outcome: &CommitOutcome) -> Vec<&'static str> {
    let CommitOutcome::Committed { troubles, .. } = outcome else { panic!("{outcome:?}") };
    troubles.iter().map(|trouble: &Trouble| trouble.error.code()).collect()
}

fn a_name_shows_a_version_and_moves_with_it(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1), row("y", 1)]);
    b.commit(&[row("x", 10)]);
    turn(&world, "n", &a);
    assert_eq!(world.read("n"), [row("x", 1), row("y", 1)]);
    assert_eq!(troubles(&a.commit(&[row("x", 2)])), Vec::<&str>::new());
    let with_a = world.catalog.require(&world.name("n")).unwrap();
    assert_eq!(world.read("n"), [row("x", 2), row("y", 1)], "a commit of its version moves it");
    assert_eq!((with_a.row_count(), with_a.summary(None, "kappa.offsets")), (2, Some("{\"t\":{\"0\":2}}")));
    assert_eq!(with_a.primary_key().unwrap(), ["k"]);

    turn(&world, "n", &b);
    assert_eq!(world.read("n"), [row("x", 10)]);
    a.commit(&[row("x", 3)]);
    assert_eq!(world.read("n"), [row("x", 10)], "a version that serves no more does not");
    b.commit(&[row("x", 11)]);
    assert_eq!(world.read("n"), [row("x", 11)]);
    let now = world.catalog.require(&world.name("n")).unwrap();
    assert_eq!(world.read_at("n", now.shown_before(1)), [row("x", 2), row("y", 1)], "as it was before the turn");
    assert_eq!((now.shown_before(2), now.shown_before(0)), (None, now.current_snapshot_id()));
    assert_eq!(now.turns().unwrap().unwrap().before().unwrap().uuid, a.table.uuid());
    assert_eq!((a.now().serves(), b.now().serves()), (vec![], vec![world.name("n")]));

    turn(&world, "n", &a);
    assert_eq!(world.read("n"), [row("x", 3), row("y", 1)]);
    assert_eq!(world.other().require(&world.name("n")).unwrap().uuid(), now.uuid());
    // Its data is the versions': other tools are not to remove it.
    let cleaned = |table: &Table| table.property("gc.enabled").map(str::to_owned);
    for table in [&world.catalog.require(&world.name("n")).unwrap(), &a.now(), &b.now()] {
        assert_eq!(cleaned(table).as_deref(), Some("false"), "{}", table.name());
    }
}

fn names_turn_together_or_not_at_all(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    turn(&world, "n", &a);
    turn(&world, "m", &a);
    let moves = [to(&world, "n", &b), to(&world, "m", &b)];
    turn(&world, "m", &a);
    assert!(matches!(world.catalog.turn_names(&moves).unwrap(), Turned::Lost(_)));
    assert_eq!((world.read("n"), world.read("m")), (vec![row("x", 1)], vec![row("x", 1)]));
    assert!(matches!(world.catalog.turn_names(&[to(&world, "n", &b), to(&world, "m", &b)]).unwrap(), Turned::Done(..)));
    assert_eq!((world.read("n"), world.read("m")), (vec![row("x", 10)], vec![row("x", 10)]));
    b.commit(&[row("x", 11)]);
    assert_eq!((world.read("n"), world.read("m")), (vec![row("x", 11)], vec![row("x", 11)]));
}

fn what_was_decided_on_another_state_is_not_done(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    let first = to(&world, "n", &a);
    a.commit(&[row("x", 2)]);
    assert!(matches!(world.catalog.turn_names(&[first]).unwrap(), Turned::Lost(_)), "an older state of its version");
    assert!(world.catalog.load(&world.name("n")).unwrap().is_none(), "and no name is left");
    turn(&world, "n", &a);
    for meanwhile in [&mut a, &mut b] {
        let decided =
            to(&world, "n", &Version { world: &world, table: world.catalog.require(&world.name("b")).unwrap(), checkpoint: 0 });
        meanwhile.commit(&[row("x", 20)]);
        assert!(matches!(world.catalog.turn_names(&[decided]).unwrap(), Turned::Lost(_)));
        assert_eq!(world.read("n"), [row("x", 20)]);
    }
    let again = world.other().create(&world.to_create("n", &[])).unwrap_err();
    assert_eq!(again.code(), "table_exists");
}

/// Behind REST nobody notices that the version has changed; no name is forgotten all the same.
fn turns_of_other_names_are_not_undone(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    let (first, second) = (to(&world, "n", &a), to(&world, "m", &a));
    assert!(matches!(world.catalog.turn_names(&[first]).unwrap(), Turned::Done(..)));
    if matches!(world.catalog.turn_names(&[second]).unwrap(), Turned::Lost(_)) {
        turn(&world, "m", &a);
    }
    assert_eq!(a.now().serves(), [world.name("m"), world.name("n")]);
    a.commit(&[row("x", 2)]);
    assert_eq!((world.read("n"), world.read("m")), (vec![row("x", 2)], vec![row("x", 2)]));
}

fn a_turn_whose_reply_is_lost_is_found_in_the_name(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    for (fault, is_there) in [(Fault::RequestLost, false), (Fault::ReplyLost, true)] {
        let moved = to(&world, "n", &a);
        let id = moved.turn.id.clone();
        world.inject(fault);
        assert!(matches!(world.catalog.turn_names(&[moved]).unwrap(), Turned::Unknown(_)));
        let name = world.other().load(&world.name("n")).unwrap();
        let has = name.is_some_and(|name| name.turns().unwrap().unwrap().all().iter().any(|turn| turn.id == id));
        assert_eq!(has, is_there);
    }
    assert_eq!(world.read("n"), [row("x", 1)]);
}

fn what_another_tool_does_to_a_name_is_undone(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    let meddle = |checkpoint| {
        let name = world.catalog.require(&world.name("n")).unwrap();
        foreign_commit_to(&world.catalog, &name, checkpoint, &[row("z", 9)]).unwrap();
        assert_eq!(world.read("n").last(), Some(&row("z", 9)));
    };
    turn(&world, "n", &a);
    meddle(1);
    assert_eq!(troubles(&a.commit(&[row("x", 2)])), ["foreign_commit"]);
    assert_eq!(world.read("n"), [row("x", 2)]);
    // Nothing is committed any more: a look now and then finds it.
    meddle(2);
    let (_, troubles) = world.catalog.follow(a.table.name(), a.table.uuid(), &a.fence()).unwrap();
    assert_eq!(troubles.iter().map(|trouble| trouble.error.code()).collect::<Vec<_>>(), ["foreign_commit"]);
    assert_eq!(world.read("n"), [row("x", 2)]);
    assert_eq!(world.catalog.follow(a.table.name(), a.table.uuid(), &a.fence()).unwrap(), Default::default());
}

fn a_name_that_is_gone_does_not_stop_its_version(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    let name = turn(&world, "n", &a);
    world.catalog.drop_table(&world.catalog.require(name.name()).unwrap()).unwrap();
    assert_eq!(troubles(&a.commit(&[row("x", 2)])), ["name_gone"]);
    world.create("n", &[]);
    assert_eq!(troubles(&a.commit(&[row("x", 3)])), ["name_gone"], "another table of that name is none");
    assert_eq!((world.read("a"), world.read("n")), (vec![row("x", 3)], vec![]));
}

fn columns_that_mean_something_else_are_refused(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    turn(&world, "n", &a);
    let fields = ["k", "n", "t"].map(|column| Field::new(column, DataType::String)).to_vec();
    let other = world.catalog.create(&CreateTable { schema: Schema { fields }, ..world.to_create("b", &[]) }).unwrap();
    let error =
        world.catalog.turn_names(&[to(&world, "n", &Version { world: &world, table: other, checkpoint: 0 })]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "nothing_yet"));
    let other = world.catalog.require(&world.name("b")).unwrap();
    let mut commit = commit_of(&other, 1, vec![]);
    commit.summary = marker_summary("b", "t", 1, "h");
    world.catalog.claim_owner("b", 1).unwrap();
    world.catalog.commit(&[commit], &Fence { version: "b".into(), ..fence(1) }).unwrap();
    let error =
        world.catalog.turn_names(&[to(&world, "n", &Version { world: &world, table: other, checkpoint: 1 })]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "other_columns"));
    assert!(error.message().contains("column n (string) of table") && error.message().contains("held n (long)"), "{error}");
    assert_eq!(world.read("n"), [row("x", 1)]);
}

/// Earlier releases looked at fewer columns, and have turned names to what is refused now.
fn what_a_name_has_shown_it_goes_on_with(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let columns = |types: [DataType; 3]| {
        let fields = ["k", "n", "t"].into_iter().zip(types).map(|(name, of)| Field::new(name, of)).collect();
        Schema { fields }
    };
    let other = |table: &str, types| {
        world.catalog.claim_owner(table, 1).unwrap();
        let create = CreateTable { schema: columns(types), ..world.to_create(table, &[]) };
        Version { world: &world, table: world.catalog.create(&create).unwrap(), checkpoint: 0 }
    };
    let empty = |version: &mut Version<'_>| {
        version.checkpoint += 1;
        let mut commit = commit_of(&version.table, version.checkpoint, vec![]);
        commit.summary = marker_summary(&version.version(), "t", version.checkpoint, &version.checkpoint.to_string());
        world.catalog.commit(&[commit], &version.fence()).unwrap().remove(0)
    };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    let name = turn(&world, "n", &a);
    let mut b = other("b", [DataType::String, DataType::String, DataType::Int64]);
    empty(&mut b);
    assert_eq!(world.catalog.turn_names(&[to(&world, "n", &b)]).unwrap_err().code(), "other_columns");

    world.catalog.alter(name.name(), |builder| {
        let builder = builder.add_current_schema(b.table.metadata().current_schema().as_ref().clone()).unwrap();
        let shown = name.metadata().current_snapshot().unwrap();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(time::random_positive_i64())
            .with_parent_snapshot_id(Some(shown.snapshot_id()))
            .with_sequence_number(shown.sequence_number() + 1)
            .with_timestamp_ms(shown.timestamp_ms() + 1)
            .with_manifest_list(shown.manifest_list())
            .with_summary(shown.summary().clone())
            .with_schema_id(1)
            .build();
        builder.set_branch_snapshot(snapshot, "main").unwrap()
    });
    turn(&world, "n", &b);
    assert_eq!(troubles(&empty(&mut b)), Vec::<&str>::new());
    let shows = |name: &Table| name.summary(None, "kappa.serving.checkpoint").map(str::to_owned);
    assert_eq!(shows(&world.catalog.require(name.name()).unwrap()), Some("2".into()));
    turn(&world, "n", &a);
    assert_eq!(troubles(&a.commit(&[row("x", 2)])), Vec::<&str>::new());
    assert_eq!(world.read("n"), [row("x", 2)]);
    // What it has not shown is looked at as ever.
    let mut c = other("c", [DataType::String, DataType::Date, DataType::Int64]);
    empty(&mut c);
    assert_eq!(world.catalog.turn_names(&[to(&world, "n", &c)]).unwrap_err().code(), "other_columns");
}

/// A snapshot of the name is pinned; its version forgets its own, and cleans up after itself.
#[test]
fn files_that_a_name_needs_stay_as_long_as_it_does() {
    let retention = Retention { all: Duration::from_secs(60), hourly: Duration::ZERO, at_least: 1 };
    let world = World::new(Settings { retention, ..settings() });
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    let shown = turn(&world, "n", &a).current_snapshot_id();
    let age = Duration::from_secs(3600);
    world.catalog.pin(&world.name("n"), &Pin { snapshot: shown.unwrap(), prefix: "test-", name: "1", age }).unwrap();
    let mut care = Care::default();
    for n in 2..6 {
        world.catalog.pass(Duration::from_secs(120));
        care.forgotten(&a.commit(&[row("x", n)]));
        care.clean(&world, &a.table);
        care.sweep_of(&world, &a.table, time::new_ordered_uuid(), &a.fence());
    }
    assert_eq!(a.now().metadata().snapshots().len(), 2, "the version has forgotten it");
    assert_eq!(world.read_at("n", shown), [row("x", 1)], "the name has not");

    // The name goes on with another version, and still has it.
    turn(&world, "n", &b);
    world.catalog.pass(Duration::from_secs(120));
    care.forgotten(&a.commit(&[row("x", 7)]));
    care.clean(&world, &a.table);
    assert_eq!(world.read_at("n", shown), [row("x", 1)]);
    assert_eq!(world.read("n"), [row("x", 10)]);
    let before = files_of(&a.table).len();
    // Once nobody has it, it goes.
    world.catalog.drop_table(&world.catalog.require(&world.name("n")).unwrap()).unwrap();
    let fence = a.fence();
    let began = time::new_ordered_uuid();
    let removed = care.sweep_of(&world, &a.table, began, &fence);
    assert!(removed > 0 && files_of(&a.table).len() < before, "{removed} removed");
    assert_eq!(world.read("a"), [row("x", 7)]);
}

fn a_promote_and_a_condemnation_exclude_each_other(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    turn(&world, "n", &a);
    let condemned = Condemned { since_ms: 5, by: "test".into() };
    let decided = to(&world, "n", &b);
    assert!(world.catalog.condemn(&[b.now()], Some(&condemned)).unwrap());
    assert!(matches!(world.catalog.turn_names(&[decided]).unwrap(), Turned::Lost(_)));
    assert_eq!(b.now().condemned().unwrap(), Some(condemned.clone()));
    assert_eq!(b.now().check_not_condemned().unwrap_err().code(), "condemned");
    assert!(world.catalog.condemn(&[b.now()], None).unwrap());
    b.now().check_not_condemned().unwrap();
    let before = b.now();
    b.commit(&[row("y", 11)]);
    assert!(!world.catalog.condemn(&[before], Some(&condemned)).unwrap(), "it has moved since");
    turn(&world, "n", &b);
    assert_eq!(world.read("n"), [row("x", 10), row("y", 11)]);
}

fn what_a_name_has_shown_is_needed_until_it_may_be_forgotten(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    turn(&world, "n", &a);
    turn(&world, "n", &b);
    let directory = |version: &Version<'_>| Directories::from([world.catalog.own_directory(version.table.location()).unwrap()]);
    let name = || world.catalog.require(&world.name("n")).unwrap();
    let needs = |version| !Uses::default().of(&world.catalog, &name()).unwrap().is_disjoint(&directory(version));
    assert!(needs(&a) && needs(&b));
    assert!(world.catalog.forget_shown(&name(), &directory(&a)).unwrap());
    assert_eq!(name().metadata().snapshots().count(), 2, "it may be asked for yet");
    if kind == Kind::Rest {
        // The server dates what it writes by its own clock, and takes nothing that is dated later.
        return;
    }
    world.catalog.pass(Duration::from_secs(8 * 24 * 3600));
    assert!(!needs(&a) && needs(&b));
    assert!(world.catalog.forget_shown(&name(), &directory(&b)).unwrap());
    assert_eq!(name().metadata().snapshots().count(), 2, "nothing of what is shown is forgotten, nor what lies elsewhere");
    assert!(world.catalog.forget_shown(&name(), &directory(&a)).unwrap());
    assert_eq!(name().metadata().snapshots().count(), 1);
    assert_eq!(world.read("n"), [row("x", 10)]);
    b.commit(&[row("x", 11)]);
    assert_eq!(world.read("n"), [row("x", 11)]);
}

fn a_version_that_is_not_kept_is_retired_until_it_serves_again(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    let retired = Retired { at_ms: 5, name: world.name("n"), table: b.table.name().clone(), by: "process 1 on host h".into() };
    let retiring = |name: &str, to_: &Version<'_>| {
        let moved = Move { retire: Some(retired.clone()), ..to(&world, name, to_) };
        assert!(matches!(world.catalog.turn_names(&[moved]).unwrap(), Turned::Done(..)));
    };
    let asked = |version: &Version<'_>| {
        let tables = [(version.table.name(), version.table.uuid())];
        world.catalog.retired(tables.into_iter()).unwrap()
    };
    turn(&world, "n", &a);
    retiring("n", &b);
    assert_eq!((asked(&a), asked(&b)), (Some(retired.clone()), None));
    assert_eq!(world.read("n"), [row("x", 10)]);
    // It serves again, and the next time somebody keeps it.
    turn(&world, "n", &a);
    turn(&world, "n", &b);
    assert_eq!(asked(&a), None);
    // Another name shows it still.
    turn(&world, "m", &a);
    turn(&world, "n", &a);
    retiring("n", &b);
    assert_eq!(asked(&a), None);
    turn(&world, "m", &b);
    assert_eq!(asked(&a), None, "it was kept when the last name left it");
    turn(&world, "n", &a);
    retiring("n", &b);
    world.catalog.unretire(a.table.name()).unwrap();
    assert_eq!(asked(&a), None);
    a.commit(&[row("x", 2)]);
    assert_eq!(world.read("a"), [row("x", 2)]);
}
