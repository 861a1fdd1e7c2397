//! Commits against a real SQLite catalog and real files.

use super::testing::*;
use crate::error::ErrorKind;
use crate::sink::{Change, StagedContent};
use crate::table::catalog::Settings;
use crate::table::{CommitOutcome, Fence};

#[test]
fn a_new_table_has_no_rows_and_the_name_is_taken() {
    let world = World::rewriting_below(0);
    assert!(world.catalog.load(&name("t")).unwrap().is_none());
    let table = world.create("t", &["k"]);
    assert_eq!(world.read("t"), []);
    assert_eq!(table.primary_key().unwrap(), ["k"]);
    assert!(table.location().ends_with(&format!("/metric/t-{}", &table.uuid().simple().to_string()[..8])));
    assert_eq!(world.catalog.create(&create("t", &[])).unwrap_err().code(), "table_exists");
    assert_eq!(world.other().list().unwrap(), [name("t")]);
    assert_eq!(world.other().load(&name("t")).unwrap().unwrap().uuid(), table.uuid());
}

#[test]
fn appends_add_up_and_old_snapshots_stay_readable() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let first = world.commit(&table, 1, vec![Change::Append(batch(&[row("a", 1), row("a", 1)]))]);
    world.commit(&table, 2, vec![]);
    world.commit(&table, 3, vec![Change::Append(batch(&[(None, 3)]))]);
    assert_eq!(world.read("t"), [(None, 3), row("a", 1), row("a", 1)]);
    assert_eq!(world.read_at("t", Some(snapshot_of(&first))), [row("a", 1), row("a", 1)]);
    let summary = world.summary("t");
    assert_eq!((summary["total-records"].as_str(), summary["total-data-files"].as_str()), ("3", "2"));
    assert_eq!((summary["added-records"].as_str(), summary["operation"].as_str()), ("1", "append"));
    assert_eq!(summary["kappa.checkpoint"], "3");
    assert_eq!(world.catalog.require(&name("t")).unwrap().property("kappa.checkpoint"), Some("3"));
}

#[test]
fn an_empty_commit_moves_the_marker_only() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1)])]);
    world.commit(&table, 2, vec![]);
    assert_eq!(world.read("t"), [row("a", 1)]);
    assert_eq!(world.summary("t")["kappa.checkpoint"], "2");
    assert_eq!(world.summary("t")["total-records"], "1");
}

/// The same upserts by rewriting and by position deletes.
fn upserts(rewrite_below: u64) -> World {
    let world = World::rewriting_below(rewrite_below);
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1), (None, 1)])]);
    world.commit(&table, 2, vec![upsert(&[row("b", 2), row("c", 2)])]);
    assert_eq!(world.read("t"), [(None, 1), row("a", 1), row("b", 2), row("c", 2)]);
    world.commit(&table, 3, vec![upsert(&[(None, 3), row("b", 3)]), Change::Delete(keys(&[Some("a"), Some("nobody")]))]);
    assert_eq!(world.read("t"), [(None, 3), row("b", 3), row("c", 2)]);
    world.commit(&table, 4, vec![Change::Delete(keys(&[None]))]);
    assert_eq!(world.read("t"), [row("b", 3), row("c", 2)]);
    world
}

#[test]
fn a_small_table_is_rewritten() {
    let world = upserts(u64::MAX);
    let summary = world.summary("t");
    assert_eq!((summary["total-data-files"].as_str(), summary["total-delete-files"].as_str()), ("1", "0"));
    assert_eq!((summary["total-records"].as_str(), summary["operation"].as_str()), ("2", "overwrite"));
    assert_eq!(summary["deleted-data-files"], "1");
}

#[test]
fn a_large_table_gets_position_deletes() {
    let world = upserts(0);
    let summary = world.summary("t");
    assert_eq!((summary["total-data-files"].as_str(), summary["total-delete-files"].as_str()), ("3", "3"));
    assert_eq!((summary["total-records"].as_str(), summary["total-position-deletes"].as_str()), ("7", "5"));
}

#[test]
fn what_was_not_prepared_is_gone_with_its_writer() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    let before = files_of(&table);
    let mut staging = crate::sink::iceberg::IcebergStaging::new(&table).unwrap().roll_at(1);
    for number in 0..3 {
        crate::sink::StagingWriter::write(&mut staging, upsert(&[row("a", number)])).unwrap();
    }
    assert!(files_of(&table).len() >= before.len() + 2);
    drop(staging);
    assert_eq!(files_of(&table), before);
}

#[test]
fn everything_can_be_deleted() {
    for rewrite_below in [0, u64::MAX] {
        let world = World::rewriting_below(rewrite_below);
        let table = world.create("t", &["k"]);
        world.commit(&table, 1, vec![upsert(&[row("a", 1), (None, 1)])]);
        world.commit(&table, 2, vec![Change::Delete(keys(&[None, Some("a")]))]);
        assert_eq!(world.read("t"), []);
        world.commit(&table, 3, vec![upsert(&[row("a", 3)])]);
        assert_eq!(world.read("t"), [row("a", 3)]);
    }
}

#[test]
fn many_delete_files_and_manifests_are_merged() {
    let settings = Settings { rewrite_below: 0, merge_deletes_at: 3, merge_manifests_above: 4, ..Settings::default() };
    let world = World::new(settings);
    let table = world.create("t", &["k"]);
    for checkpoint in 1..=20 {
        let key = format!("k{}", checkpoint % 3);
        world.commit(&table, checkpoint, vec![upsert(&[row(&key, checkpoint as i64), row("x", checkpoint as i64)])]);
    }
    assert_eq!(world.read("t"), [row("k0", 18), row("k1", 19), row("k2", 20), row("x", 20)]);
    let summary = world.summary("t");
    assert!(summary["total-delete-files"].parse::<u32>().unwrap() <= 4, "{summary:?}");
    assert!(summary["total-data-files"].parse::<u32>().unwrap() <= 8, "{summary:?}");
    let table = world.catalog.require(&name("t")).unwrap();
    let manifests = crate::table::live::manifests(table.metadata().current_snapshot().map(AsRef::as_ref)).unwrap();
    assert!(manifests.len() <= 7, "{}", manifests.len());
    let live = crate::table::live::Live::load(world.other().manifests(), &manifests).unwrap();
    assert_eq!(summary["total-data-files"], live.data.len().to_string());
    assert_eq!(summary["total-delete-files"], live.deletes.len().to_string());
    let rows = |files: &[crate::table::live::LiveFile]| files.iter().map(|entry| entry.file.record_count()).sum::<u64>();
    assert_eq!(summary["total-records"], rows(&live.data).to_string());
    assert_eq!(summary["total-position-deletes"], rows(&live.deletes).to_string());
}

#[test]
fn a_repeated_checkpoint_does_nothing() {
    for rewrite_below in [0, u64::MAX] {
        let world = World::rewriting_below(rewrite_below);
        let table = world.create("t", &["k"]);
        world.commit(&table, 1, vec![upsert(&[row("a", 1)])]);
        let commit = commit_of(&table, 2, stage(&table, vec![upsert(&[row("a", 2)])]));
        let first = world.catalog.commit(std::slice::from_ref(&commit), &fence(2)).unwrap().remove(0);
        // Another process, which knows nothing of it, and to which the files of the first are not of interest any more.
        crate::table::files::remove_quietly(commit.files.iter().map(|file| &file.path).filter(|_| rewrite_below > 0));
        let again = world.other().commit(std::slice::from_ref(&commit), &fence(2)).unwrap().remove(0);
        let CommitOutcome::Committed { snapshot_id, released, .. } = first else { panic!() };
        assert_eq!(again, CommitOutcome::AlreadyCommitted { snapshot_id: Some(snapshot_id), released: released.clone() });
        assert_eq!(released.len(), if rewrite_below == 0 { 1 } else { 2 });
        assert_eq!(world.read("t"), [row("a", 2)]);
        // An older one, too.
        world.commit(&table, 3, vec![]);
        let old = world.catalog.commit(&[commit], &fence(2)).unwrap();
        assert!(matches!(old[0], CommitOutcome::AlreadyCommitted { .. }));
    }
}

#[test]
fn the_same_checkpoint_with_other_content_stops() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    world.commit(&table, 1, vec![Change::Append(batch(&[row("a", 1)]))]);
    let mut commit = commit_of(&table, 1, stage(&table, vec![Change::Append(batch(&[row("b", 1)]))]));
    commit.summary.insert("kappa.manifest".into(), "other".into());
    let error = world.catalog.commit(&[commit], &fence(1)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "marker_differs"));
    assert_eq!(world.read("t"), [row("a", 1)]);
}

#[test]
fn another_timeline_starts_anew() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    world.commit(&table, 1, vec![Change::Append(batch(&[row("a", 1)]))]);
    let mut commit = commit_of(&table, 1, stage(&table, vec![Change::Append(batch(&[row("b", 1)]))]));
    commit.summary.insert("kappa.timeline".into(), "timeline-2".into());
    let outcome = world.catalog.commit(&[commit], &fence(1)).unwrap();
    assert!(matches!(outcome[0], CommitOutcome::Committed { .. }));
    assert_eq!(world.read("t").len(), 2);
}

#[test]
fn a_zombie_is_refused_and_told_who_took_over() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let commit = commit_of(&table, 1, stage(&table, vec![Change::Append(batch(&[row("a", 1)]))]));
    world.other().claim_owner(VERSION, 2).unwrap();
    let error = world.catalog.commit(std::slice::from_ref(&commit), &fence(1)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "fenced"));
    assert!(error.to_string().contains("owner 2"), "{error}");
    assert_eq!(world.read("t"), []);
    assert_eq!(world.catalog.claim_owner(VERSION, 1).unwrap_err().code(), "fenced");
    world.catalog.claim_owner(VERSION, 2).unwrap();
    // The new owner delivers the same files.
    world.catalog.commit(&[commit], &Fence { owner: 2, ..fence(1) }).unwrap();
    assert_eq!(world.read("t"), [row("a", 1)]);
}

#[test]
fn a_version_that_nobody_claimed_cannot_be_committed() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let mut commit = commit_of(&table, 1, vec![]);
    commit.summary.insert("kappa.version".into(), "v9".into());
    let error = world.catalog.commit(&[commit], &Fence { version: "v9".into(), ..fence(1) }).unwrap_err();
    assert_eq!(error.code(), "fenced");
}

#[test]
fn two_tables_move_together_or_not_at_all() {
    let world = World::rewriting_below(0);
    let (good, gone) = (world.create("a", &[]), world.create("b", &["k"]));
    let commits = |checkpoint: u64| {
        let rows = [row("x", checkpoint as i64)];
        let a = commit_of(&good, checkpoint, stage(&good, vec![Change::Append(batch(&rows))]));
        [a, commit_of(&gone, checkpoint, stage(&gone, vec![upsert(&rows)]))]
    };
    assert_eq!(world.catalog.commit(&commits(1), &fence(1)).unwrap().len(), 2);
    let stale = commits(2);
    let other = world.other();
    other.replace(&[(other.require(&name("b")).unwrap(), &create("b", &["k"]))]).unwrap();
    let error = world.catalog.commit(&stale, &fence(2)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "table_replaced"));
    assert_eq!(world.read("a"), [row("x", 1)]);
    assert_eq!(world.read("b"), []);
}

#[test]
fn only_what_is_missing_is_committed_to_several_tables() {
    let world = World::rewriting_below(0);
    let (a, b) = (world.create("a", &[]), world.create("b", &[]));
    let to_a = commit_of(&a, 1, stage(&a, vec![Change::Append(batch(&[row("x", 1)]))]));
    let to_b = commit_of(&b, 1, stage(&b, vec![Change::Append(batch(&[row("y", 1)]))]));
    world.catalog.commit(std::slice::from_ref(&to_a), &fence(1)).unwrap();
    let outcomes = world.catalog.commit(&[to_a, to_b], &fence(1)).unwrap();
    assert!(matches!(outcomes[0], CommitOutcome::AlreadyCommitted { .. }));
    assert!(matches!(outcomes[1], CommitOutcome::Committed { .. }));
    assert_eq!((world.read("a"), world.read("b")), (vec![row("x", 1)], vec![row("y", 1)]));
}

#[test]
fn a_foreign_commit_in_between_is_built_upon() {
    for rewrite_below in [0, u64::MAX] {
        let world = World::rewriting_below(rewrite_below);
        let table = world.create("t", &["k"]);
        world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1)])]);
        foreign_commit(&world.other(), "t", 1, &[row("b", 100), row("f", 100)]).unwrap();
        // The marker is found behind the foreign snapshot.
        assert!(matches!(world.commit(&table, 1, vec![]), CommitOutcome::AlreadyCommitted { .. }));
        world.commit(&table, 2, vec![upsert(&[row("b", 2)])]);
        assert_eq!(world.read("t"), [row("a", 1), row("b", 2), row("f", 100)]);
    }
}

#[test]
fn writers_that_race_all_get_in() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    race(&world, &table, 5);
    assert_eq!(world.read("t").len(), 15);
    assert_eq!(world.summary("t")["total-records"], "15");
    // Attempts that lost left nothing behind: what is in metadata/ is what the table names.
    let table = world.catalog.require(&name("t")).unwrap();
    let files = std::fs::read_dir(crate::table::files::path_of(&format!("{}/metadata", table.location())).unwrap()).unwrap();
    // 16 metadata files, 15 lists, 15 manifests.
    assert_eq!(files.count(), 46);
}

#[test]
fn damaged_and_foreign_staged_files_stop_the_commit() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let staged = stage(&table, vec![Change::Append(batch(&[row("a", 1)]))]);
    let path = crate::table::files::path_of(&staged[0].path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let check = |code| {
        let error = world.catalog.commit(&[commit_of(&table, 1, staged.clone())], &fence(1)).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, code), "{error}");
    };
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    check("staged_file");
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    check("staged_file");
    std::fs::remove_file(&path).unwrap();
    check("staged_file");
    std::fs::write(&path, &whole).unwrap();
    let mut elsewhere = staged.clone();
    elsewhere[0].path = format!("{}/data/../../x.parquet", table.location());
    assert!(world.catalog.commit(&[commit_of(&table, 1, elsewhere)], &fence(1)).is_err());
    world.catalog.commit(&[commit_of(&table, 1, staged)], &fence(1)).unwrap();
    assert_eq!(world.read("t"), [row("a", 1)]);
}

#[test]
fn data_files_roll_and_are_described() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let mut staging = super::IcebergStaging::new(&table).unwrap().roll_at(1);
    use crate::sink::StagingWriter as _;
    staging.write(Change::Append(batch(&[row("a", 1), (None, 5)]))).unwrap();
    staging.write(Change::Append(batch(&[row("b", 2)]))).unwrap();
    let files = staging.prepare(crate::message::Epoch(1)).unwrap();
    assert_eq!(
        files.iter().map(|file| (file.content, file.rows)).collect::<Vec<_>>(),
        [(StagedContent::Data, 2), (StagedContent::Data, 1)]
    );
    assert_eq!(staging.prepare(crate::message::Epoch(2)).unwrap(), []);
    let described = crate::table::datafile::from_json(&files[0].data_file, table.metadata().current_schema()).unwrap();
    assert_eq!(crate::table::datafile::to_json(described.clone()).unwrap(), files[0].data_file);
    assert_eq!((described.null_value_counts()[&1], described.value_counts()[&2]), (1, 2));
    assert_eq!(described.lower_bounds()[&2], ::iceberg::spec::Datum::long(1));
    assert_eq!(described.upper_bounds()[&3], ::iceberg::spec::Datum::timestamptz_micros(5000));
    assert_eq!(described.upper_bounds()[&1], ::iceberg::spec::Datum::string("a"));
    world.catalog.commit(&[commit_of(&table, 1, files)], &fence(1)).unwrap();
    assert_eq!(world.read("t").len(), 3);
}

#[test]
fn a_table_is_replaced_and_dropped_only_as_it_was_seen() {
    let world = World::rewriting_below(0);
    let (stale, other) = (world.create("t", &[]), world.create("other", &[]));
    world.commit(&stale, 1, vec![Change::Append(batch(&[row("a", 1)]))]);
    assert_eq!(world.catalog.drop_table(&stale).unwrap_err().kind(), ErrorKind::Conflict);
    // Two are replaced together, or neither is.
    let (create_other, create_t) = (create("other", &["k"]), create("t", &["k"]));
    let changes = [(other.clone(), &create_other), (stale.clone(), &create_t)];
    assert_eq!(world.catalog.replace(&changes).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.catalog.require(&name("other")).unwrap().uuid(), other.uuid());
    let seen = world.catalog.require(&name("t")).unwrap();
    world.catalog.replace(&[(other.clone(), &create_other), (seen, &create_t)]).unwrap();
    assert_ne!(world.catalog.require(&name("other")).unwrap().uuid(), other.uuid());
    let fresh = world.catalog.require(&name("t")).unwrap();
    assert_ne!(fresh.location(), stale.location());
    assert_eq!(world.read("t"), []);
    world.catalog.drop_table(&fresh).unwrap();
    assert!(world.catalog.load(&name("t")).unwrap().is_none());
    assert_eq!(world.catalog.require(&name("t")).unwrap_err().code(), "no_such_table");
}

#[test]
fn old_metadata_files_go_and_the_log_stays_short() {
    let world = World::rewriting_below(0);
    let mut options = create("t", &[]);
    options.properties.insert("write.metadata.previous-versions-max".into(), "3".into());
    let table = world.catalog.create(&options).unwrap();
    for checkpoint in 1..=6 {
        world.commit(&table, checkpoint, vec![]);
    }
    let directory = crate::table::files::path_of(&format!("{}/metadata", table.location())).unwrap();
    let json = |entry: &std::io::Result<std::fs::DirEntry>| entry.as_ref().unwrap().path().to_string_lossy().ends_with(".json");
    assert_eq!(std::fs::read_dir(directory).unwrap().filter(json).count(), 4);
    assert_eq!(world.other().require(&name("t")).unwrap().metadata().metadata_log().len(), 3);
}

/// Another tool rewrites the table, and removes what the commit that is being made is still to read.
#[test]
fn a_commit_whose_base_is_removed_meanwhile_is_built_again() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1)])]);
    let before = files_of(&table);
    let other = world.other().with_settings(Settings { rewrite_below: u64::MAX, ..Settings::default() });
    world.meanwhile(move || {
        foreign_commit(&other, "t", 1, &[row("z", 9)]).unwrap();
        let gone = before.iter().filter(|file| file.ends_with(".parquet") || file.ends_with(".avro"));
        gone.for_each(|file| std::fs::remove_file(file.trim_start_matches("file://")).unwrap());
    });
    world.commit(&table, 2, vec![upsert(&[row("a", 2)])]);
    assert_eq!(world.read("t"), [row("a", 2), row("b", 1), row("z", 9)]);
    assert_eq!(world.summary("t")["kappa.checkpoint"], "2");
}

#[test]
fn snapshots_expire_and_the_marker_is_still_found() {
    use crate::table::expiry::Retention;
    let none = std::time::Duration::ZERO;
    let retention = Retention { all: none, hourly: none, at_least: 4 };
    let world = World::new(Settings { rewrite_below: 0, retention, ..Settings::default() });
    let table = world.create("t", &["k"]);
    for checkpoint in 1..=12 {
        world.commit(&table, checkpoint, vec![upsert(&[row("a", checkpoint as i64)])]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let snapshots = world.other().require(&name("t")).unwrap().metadata().snapshots().len();
        assert!(snapshots <= 5, "{snapshots}");
    }
    assert_eq!(world.read("t"), [row("a", 12)]);
    assert!(matches!(world.commit(&table, 12, vec![]), CommitOutcome::AlreadyCommitted { .. }));
    // A version that never committed here cannot know, once snapshots are gone.
    let mut commit = commit_of(&table, 1, vec![]);
    commit.summary.insert("kappa.version".into(), "w".into());
    world.catalog.claim_owner("w", 1).unwrap();
    let error = world.catalog.commit(&[commit], &Fence { version: "w".into(), ..fence(1) }).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "marker_lost"));
}

#[test]
fn files_that_cannot_hold_a_key_are_not_read() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    let files: Vec<_> = [vec![row("a", 1), row("f", 1)], vec![row("m", 2), (None, 2)], vec![row("x", 3)]]
        .iter()
        .enumerate()
        .map(|(index, rows)| {
            let staged = stage(&table, vec![upsert(rows)]);
            let checkpoint = index as u64 + 1;
            world.catalog.commit(&[commit_of(&table, checkpoint, staged.clone())], &fence(checkpoint)).unwrap();
            crate::table::files::path_of(&staged[0].path).unwrap()
        })
        .collect();
    let hidden = |index: usize, checkpoint: u64, changes: Vec<Change>| {
        let aside = files[index].with_extension("aside");
        std::fs::rename(&files[index], &aside).unwrap();
        let staged = stage(&table, changes);
        let result = world.catalog.commit(&[commit_of(&table, checkpoint, staged)], &fence(checkpoint));
        std::fs::rename(&aside, &files[index]).unwrap();
        result
    };
    // Between the two keys of the first file, but not of the others.
    assert_eq!(hidden(0, 4, vec![upsert(&[row("c", 4)])]).unwrap_err().code(), "file_missing");
    hidden(2, 4, vec![upsert(&[row("a", 4), row("m", 4)])]).unwrap();
    // Null is in the second file only; a range that meets the file's is not needed for it.
    hidden(0, 5, vec![Change::Delete(keys(&[None, Some("z")]))]).unwrap();
    assert_eq!(world.read("t"), [row("a", 4), row("f", 1), row("m", 4), row("x", 3)]);
    assert_eq!(hidden(1, 6, vec![Change::Delete(keys(&[Some("m")]))]).unwrap_err().code(), "file_missing");
}

#[test]
fn an_unknown_outcome_is_looked_up() {
    use super::testing::Fault;
    for rewrite_below in [0, u64::MAX] {
        let world = World::rewriting_below(rewrite_below);
        let table = world.create("t", &["k"]);
        world.commit(&table, 1, vec![upsert(&[row("a", 1)])]);
        world.inject(Fault::ReplyLost);
        assert!(matches!(world.commit(&table, 2, vec![upsert(&[row("a", 2)])]), CommitOutcome::AlreadyCommitted { .. }));
        assert_eq!(world.read("t"), [row("a", 2)]);
        world.inject(Fault::RequestLost);
        assert!(matches!(world.commit(&table, 3, vec![upsert(&[row("b", 3)])]), CommitOutcome::Committed { .. }));
        assert_eq!(world.read("t"), [row("a", 2), row("b", 3)]);
        assert_eq!(world.other().require(&name("t")).unwrap().metadata().snapshots().len(), 3);
    }
}
