//! A PostgreSQL server that gives transactions up, ends connections and refuses: the one that `KAPPA_TEST_POSTGRES` names.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::error::ErrorKind;

/// A database in a schema of its own, and its URL.
fn database() -> Option<(Io, Database, String)> {
    let Ok(url) = std::env::var("KAPPA_TEST_POSTGRES") else {
        assert!(std::env::var("KAPPA_REQUIRE_CATALOGS").is_err(), "KAPPA_TEST_POSTGRES is not set");
        eprintln!("NOT CHECKED: KAPPA_TEST_POSTGRES is not set");
        return None;
    };
    let (io, url) = (Io::new().unwrap(), fresh_schema(&url));
    let database = Database::postgres(&io, &url, "kappa").unwrap();
    Some((io, database, url))
}

fn name() -> TableName {
    TableName::parse("t", "n").unwrap()
}

/// Claims a version in a transaction that goes wrong until it was tried so many times.
fn claim_but(io: &Io, database: &Database, wrong: &str, times: usize) -> (Result<Outcome<()>>, usize) {
    let tried = AtomicUsize::new(0);
    let body = async |session: &mut Session| {
        session.execute("INSERT INTO kappa_owners VALUES ('v', 1, 0)", &[]).await?;
        if tried.fetch_add(1, SeqCst) < times {
            session.execute(wrong, &[]).await?;
        }
        Ok(End::Commit(()))
    };
    let outcome = io.run(database.transact("try", body));
    (outcome, tried.load(SeqCst))
}

fn owners(io: &Io, database: &Database) -> i64 {
    let count = async |session: &mut Session| session.rows("SELECT count(*) FROM kappa_owners", &[]).await?[0].integer(0);
    io.run(database.ask("count", count)).unwrap()
}

const SERIALIZATION: &str = "DO $$ BEGIN RAISE EXCEPTION 'others' USING ERRCODE = '40001'; END $$";
const DEADLOCK: &str = "DO $$ BEGIN RAISE EXCEPTION 'others' USING ERRCODE = '40P01'; END $$";
const OTHER: &str = "DO $$ BEGIN RAISE EXCEPTION 'wrong' USING ERRCODE = '22001'; END $$";
const END_CONNECTION: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

#[test]
fn a_transaction_that_the_server_gave_up_because_of_others_is_begun_again() {
    for (wrong, times) in [(SERIALIZATION, 3), (DEADLOCK, 3), (END_CONNECTION, 1)] {
        let Some((io, database, _)) = database() else { return };
        let (outcome, tried) = claim_but(&io, &database, wrong, times);
        assert!(matches!(outcome, Ok(Outcome::Known(()))), "{wrong}");
        assert_eq!((tried, owners(&io, &database)), (times + 1, 1), "{wrong}");
    }
}

#[test]
fn what_goes_wrong_for_another_reason_is_not_tried_again_and_has_not_happened() {
    for (wrong, tries, again) in [(OTHER, 1, false), (END_CONNECTION, 2, true)] {
        let Some((io, database, _)) = database() else { return };
        let (outcome, tried) = claim_but(&io, &database, wrong, usize::MAX);
        let Err(error) = outcome else { panic!("{wrong}") };
        assert_eq!((error.kind(), error.is_retryable(), tried), (ErrorKind::Unavailable, again, tries), "{error}");
        assert_eq!(owners(&io, &database), 0);
    }
}

/// A commit that the server turns down at its end is known not to have happened; any other end is not known.
#[test]
fn an_error_of_the_commit_itself_is_not_taken_for_a_refusal() {
    for (code, known) in [("40001", true), ("40003", false), ("57P01", false)] {
        let Some((io, database, _)) = database() else { return };
        let make = [
            format!(
                "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'at the end' USING ERRCODE = '{code}'; END $$"
            ),
            "CREATE CONSTRAINT TRIGGER at_the_end AFTER INSERT ON kappa_owners DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION fails()"
                .to_owned(),
        ];
        for statement in &make {
            io.run(database.ask("prepare", async |session| session.execute(statement, &[]).await)).unwrap();
        }
        let (outcome, tried) = claim_but(&io, &database, "", 0);
        match outcome {
            Ok(Outcome::Unknown(_)) => assert!(!known && tried == 1, "{code}"),
            Err(_) => assert!(known && tried == ATTEMPTS as usize, "{code}"),
            Ok(Outcome::Known(())) => panic!("{code}"),
        }
    }
}

#[test]
fn a_process_that_hangs_in_a_transaction_does_not_keep_others_out() {
    let Some((io, database, _)) = database() else { return };
    let seconds = |setting: &str| -> u64 {
        let show = format!("SHOW {setting}");
        let shown = io.run(database.ask("ask", async |session| session.rows(&show, &[]).await?[0].text(0))).unwrap();
        shown.unwrap().strip_suffix('s').unwrap().parse().unwrap()
    };
    // Who waits for a lock is not idle. It may have begun to wait before the other fell silent.
    let (idle, lock) = (seconds("idle_in_transaction_session_timeout"), seconds("lock_timeout"));
    assert!(lock >= idle + 10, "{lock} s, {idle} s");
    // And hears of the lock before it takes the server for away.
    assert!(lock + 10 <= postgres::TO_ANSWER.as_secs(), "{lock} s");
}

#[test]
fn whoever_may_not_make_tables_uses_those_that_are_there() {
    let Some((io, database, url)) = database() else { return };
    let schema = url.split_once("[search_path]=").unwrap().1;
    let run = |statement: String| {
        io.run(database.ask("prepare", async |session| session.execute(&statement, &[]).await)).unwrap();
    };
    let role = format!("role_{schema}");
    run(format!("CREATE ROLE {role} LOGIN PASSWORD 'other'"));
    run(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
    let place = url.split_once('@').unwrap().1;
    let theirs = format!("postgresql://{role}:other@{place}");
    // It sees no table that it has no right to, and may not make one.
    let error = Database::postgres(&io, &theirs, "kappa").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    run(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"));
    let other = Database::postgres(&io, &theirs, "kappa").unwrap();
    assert!(io.run(other.insert(&name(), "file:///a")).unwrap());
    assert_eq!(io.run(database.location(&name())).unwrap().as_deref(), Some("file:///a"));
    // The same place again is the same table; another is not.
    assert!(io.run(database.insert(&name(), "file:///a")).unwrap());
    assert!(!io.run(database.insert(&name(), "file:///b")).unwrap());
    assert!(!io.run(database.remove(&name(), "file:///b")).unwrap());
    assert!(io.run(database.remove(&name(), "file:///a")).unwrap());
}

/// Many processes begin with an empty database.
#[test]
fn of_many_that_make_the_tables_none_fails() {
    let Some((io, database, url)) = database() else { return };
    for table in ["iceberg_tables", "iceberg_namespace_properties", "kappa_owners"] {
        let drop = format!("DROP TABLE {table}");
        io.run(database.ask("prepare", async |session| session.execute(&drop, &[]).await)).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| Database::postgres(&Io::new().unwrap(), &url, "kappa").map(drop).unwrap());
        }
    });
    assert_eq!(owners(&io, &database), 0);
}
