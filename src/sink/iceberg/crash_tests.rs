//! Crash points in a real process that dies by SIGKILL: the test binary runs itself as the child.

use std::path::Path;
use std::process::Command;

use super::testing::*;
use crate::sink::{Change, StagedFile};
use crate::table::catalog::Settings;
use crate::table::{Catalog, CommitOutcome, Table};

const DIRECTORY: &str = "KAPPA_TEST_CRASH_DIRECTORY";

fn open_world(directory: &Path, rewrite_below: u64) -> Catalog {
    open(directory).with_settings(Settings { rewrite_below, ..Settings::default() })
}

fn manifest(directory: &Path) -> std::path::PathBuf {
    directory.join("manifest.json")
}

/// Stages checkpoint 2, makes its manifest durable, and commits it.
fn second_checkpoint(catalog: &Catalog, table: &Table, directory: &Path) -> CommitOutcome {
    let files = match std::fs::read(manifest(directory)) {
        Ok(bytes) => serde_json::from_slice::<Vec<StagedFile>>(&bytes).unwrap(),
        Err(_) => {
            let files = stage(table, vec![upsert(&[row("b", 2), row("c", 2)]), Change::Delete(keys(&[None]))]);
            std::fs::write(manifest(directory), serde_json::to_vec(&files).unwrap()).unwrap();
            files
        }
    };
    catalog.commit(&[commit_of(table, 2, files)], &fence(2)).unwrap().remove(0)
}

#[test]
#[ignore = "the child of the crash tests"]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let catalog = open_world(directory, std::env::var("KAPPA_TEST_REWRITE").unwrap().parse().unwrap());
    let table = catalog.require(&name("t")).unwrap();
    second_checkpoint(&catalog, &table, directory);
}

/// Kills a child at `point`, then goes on as a restart would: what is in the table before and after.
fn crash_at(point: &str, rewrite_below: u64) -> (bool, CommitOutcome) {
    let world = World::rewriting_below(rewrite_below);
    let directory = world.directory.path();
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1), (None, 1)])]);
    let before = world.read("t");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "sink::iceberg::crash_tests::child"])
        .env(DIRECTORY, directory)
        .env("KAPPA_TEST_REWRITE", rewrite_below.to_string())
        .env("KAPPA_FAILPOINT", point)
        .output()
        .unwrap()
        .status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    let catalog = open_world(directory, rewrite_below);
    let after = [row("a", 1), row("b", 2), row("c", 2)];
    let committed = world.read("t") != before;
    if committed {
        assert_eq!(world.read("t"), after);
    }
    let table = catalog.require(&name("t")).unwrap();
    let outcome = second_checkpoint(&catalog, &table, directory);
    assert_eq!(world.read("t"), after);
    (committed, outcome)
}

#[test]
fn a_process_killed_anywhere_commits_once() {
    for rewrite_below in [0, u64::MAX] {
        for point in ["K5", "K6", "K15"] {
            let (committed, outcome) = crash_at(point, rewrite_below);
            assert!(!committed, "{point}");
            assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{point}: {outcome:?}");
        }
        let (committed, outcome) = crash_at("K16", rewrite_below);
        assert!(committed);
        assert!(matches!(outcome, CommitOutcome::AlreadyCommitted { snapshot_id: Some(_), .. }), "{outcome:?}");
    }
}
