//! Views of names: the same in every catalog, but for the moment at which they turn.

use super::serving_tests::{Version, settings, to, turn};
use super::testing::*;
use crate::table::TableName;
use crate::table::serving::{Action, Move, Turn, Turned};

suite!(
    a_view_turns_with_its_name,
    a_view_that_was_left_behind_is_brought,
    what_somebody_else_has_made_is_not_changed,
    a_name_is_rolled_back_whatever_its_view_is,
);

fn with_view(world: &World, name: &str, version: &Version<'_>) -> Move {
    Move { view: Some(world.name(&format!("{name}__view"))), ..to(world, name, version) }
}

fn turn_with_view(world: &World, name: &str, version: &Version<'_>) {
    let Turned::Done(_, troubles) = world.catalog.turn_names(&[with_view(world, name, version)]).unwrap() else { panic!() };
    assert_eq!(troubles, []);
}

/// The table that a view selects from.
fn selects(world: &World, view: &TableName) -> Option<String> {
    let columns = "SELECT `k`, `n`, `t` FROM `";
    let sql = world.other().selected(view)?;
    Some(sql.strip_prefix(columns).unwrap().trim_end_matches('`').to_owned())
}

fn a_view_turns_with_its_name(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    let view = world.name("n__view");
    turn(&world, "n", &a);
    assert_eq!(selects(&world, &view), None);
    turn_with_view(&world, "n", &a);
    assert_eq!(selects(&world, &view).as_deref(), Some("a"));
    let base = world.catalog.require(&world.name("n")).unwrap();
    assert_eq!(base.view(), Some(view.clone()));
    // From then on it turns, whoever turns the name, and not where that is lost.
    let decided = Move { view: base.view(), ..to(&world, "n", &b) };
    b.commit(&[row("x", 11)]);
    assert!(matches!(world.catalog.turn_names(&[decided]).unwrap(), Turned::Lost(_)));
    assert_eq!(selects(&world, &view).as_deref(), Some("a"));
    for version in [&b, &a, &b] {
        turn_with_view(&world, "n", version);
        assert_eq!(selects(&world, &view).as_deref(), Some(version.table.name().table()));
    }
    world.inject(Fault::RequestLost);
    assert!(matches!(world.catalog.turn_names(&[with_view(&world, "n", &a)]).unwrap(), Turned::Unknown(_)));
    assert_eq!((world.read("n"), selects(&world, &view).as_deref()), (vec![row("x", 11)], Some("b")));
    let back = Move { turn: Turn { action: Action::Rollback, ..to(&world, "n", &a).turn }, ..with_view(&world, "n", &a) };
    world.inject(Fault::ReplyLost);
    assert!(matches!(world.catalog.turn_names(&[back]).unwrap(), Turned::Unknown(_)));
    let shown = if kind == Kind::Rest { "b" } else { "a" };
    assert_eq!((world.read("n"), selects(&world, &view).as_deref()), (vec![row("x", 1)], Some(shown)));
    world.catalog.bring_view(&world.name("n")).unwrap();
    assert_eq!(selects(&world, &view).as_deref(), Some("a"));
}

fn a_view_that_was_left_behind_is_brought(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    let (name, view) = (world.name("n"), world.name("n__view"));
    turn_with_view(&world, "n", &b);
    world.catalog.set_view(&name, &view, &a.now());
    assert_eq!(selects(&world, &view).as_deref(), Some("a"));
    let look =
        |version: &Version<'_>| world.catalog.follow(version.table.name(), version.table.uuid(), &version.fence()).unwrap();
    assert_eq!(look(&a).1, [], "it shows nothing");
    assert_eq!(selects(&world, &view).as_deref(), Some("a"));
    assert_eq!(look(&b).1, []);
    // In a database nothing leaves it behind.
    let expected = if kind == Kind::Rest { "b" } else { "a" };
    assert_eq!(selects(&world, &view).as_deref(), Some(expected));
    world.catalog.bring_view(&name).unwrap();
    assert_eq!(selects(&world, &view).as_deref(), Some("b"));
}

fn what_somebody_else_has_made_is_not_changed(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let mut a = Version::new(&world, "a");
    a.commit(&[row("x", 1)]);
    world.create("n__view", &[]);
    let refused = |moved: Move| world.catalog.turn_names(&[moved]).unwrap_err();
    let error = refused(with_view(&world, "n", &a));
    assert_eq!(error.code(), "name_taken", "{error}");
    assert!(world.catalog.load(&world.name("n")).unwrap().is_none());
    // A view of another name, by a pattern that has changed meanwhile.
    world.catalog.set_view(&world.name("other"), &world.name("v"), &a.now());
    let error = refused(Move { view: Some(world.name("v")), ..to(&world, "n", &a) });
    assert_eq!(error.code(), "foreign_view", "{error}");
    assert!(error.message().contains(&format!("which is of the name {}", world.name("other"))), "{error}");
    // And a view where the name is to be.
    let error = refused(to(&world, "v", &a));
    assert!(["name_taken", "table_exists"].contains(&error.code()), "{error}");
    turn(&world, "n", &a);
}

fn a_name_is_rolled_back_whatever_its_view_is(kind: Kind) {
    let Some(world) = World::on(kind, settings()) else { return };
    let (mut a, mut b) = (Version::new(&world, "a"), Version::new(&world, "b"));
    a.commit(&[row("x", 1)]);
    b.commit(&[row("x", 10)]);
    turn_with_view(&world, "n", &a);
    turn_with_view(&world, "n", &b);
    // Somebody has put a view of his own in its place.
    world.catalog.set_view(&world.name("other"), &world.name("v"), &b.now());
    let property = [("kappa.view".to_owned(), world.name("v").to_string())].into();
    world.catalog.alter(&world.name("n"), |builder| builder.set_properties(property).unwrap());
    let back = |action| {
        let moved = to(&world, "n", &a);
        Move { view: Some(world.name("v")), turn: Turn { action, ..moved.turn }, ..moved }
    };
    let error = world.catalog.turn_names(&[back(Action::Promote)]).unwrap_err();
    assert_eq!(error.code(), "foreign_view", "{error}");
    assert!(error.hint_text().unwrap().contains("is the view of"), "{error}");
    let Turned::Done(_, troubles) = world.catalog.turn_names(&[back(Action::Rollback)]).unwrap() else { panic!() };
    assert_eq!(troubles.iter().map(|it| (&it.name, it.error.code())).collect::<Vec<_>>(), [(&world.name("n"), "foreign_view")]);
    assert_eq!((world.read("n"), selects(&world, &world.name("v")).as_deref()), (vec![row("x", 1)], Some("b")));
}
