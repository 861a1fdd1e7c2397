//! Formats on disk: what an earlier build wrote is read, to the byte; what was damaged is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kappa::checkpoint::manifest::{
    Edge, Manifest, Mode, OperatorState, OutputState, PartitionState, SourceCounts, SourceState, StateField,
};
use kappa::error::ErrorKind;
use kappa::message::{Epoch, Offset};
use kappa::plan::logical::JobPlan;
use kappa::plan::schema::DataType;
use kappa::protocol::checkpoint::{StagedContent, StagedFile};
use kappa::protocol::event_time::{Candidate, PartitionTime};
use serde_json::json;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest-format-1.manifest")
}

fn plan() -> JobPlan {
    let day = json!({"call": {"function": {"dt_date": {"time_zone": "UTC"}}, "args": [{"column": "t"}]}});
    let plan = json!({"format": 1, "job": "golden", "outputs": [{"plan": {"aggregate": {
        "input": {"read": {
            "id": 0, "topic": "events.v1",
            "schema": [{"name": "s", "type": "string"}, {"name": "t", "type": {"timestamp": "ms"}}],
            "event_time": "t", "max_out_of_orderness_ms": 30_000, "late": "keep", "on_bad_record": "dead_letter",
            "max_future_ms": 86_400_000,
        }},
        "keys": [{"name": "day", "expr": day}],
        "aggregates": [{"name": "users", "expr": {"aggregate": {"function": "count_distinct", "input": {"column": "s"}}}}],
    }}}]});
    JobPlan::from_json(&plan.to_string()).unwrap()
}

fn partition(start: i64, next: i64, end: Option<i64>, time: PartitionTime) -> PartitionState {
    let counts = SourceCounts { read: 20, bad: 1, below_floor: 2, late_dropped: 0, late_kept: 3, jumped: 4 };
    PartitionState { start: Offset(start), next: Offset(next), end: end.map(Offset), leader_epoch: 5, lost: 0, time, counts }
}

fn file(content: StagedContent, name: &str, data_file: serde_json::Value) -> StagedFile {
    let path = format!("file:///warehouse/test/t/data/{name}.parquet");
    StagedFile { content, path, rows: 7, bytes: 1_234, checksum: 0xdead_beef, data_file }
}

/// Every member in use; fixed names and times.
fn manifest() -> Manifest {
    let candidate = Some(Candidate { time: 1_777_000_000_000, confirmations: 2 });
    let first = PartitionTime { accepted_max: Some(1_776_643_200_000), candidate, found_at_ms: None };
    let partitions =
        BTreeMap::from([(0, partition(0, 20, Some(40), first)), (1, partition(10, 30, None, PartitionTime::default()))]);
    let field = |id, name: &str, data_type| StateField { id, name: name.into(), data_type };
    Manifest {
        format: 1,
        job: "golden".into(),
        version: "0196a000-0000-7000-8000-000000000001".into(),
        catalog: None,
        timeline: "0196a000-0000-4000-8000-000000000002".into(),
        checkpoint: Epoch(12),
        owner: 3,
        holder: None,
        previous: "ab".repeat(32),
        claim: true,
        created_ms: 1_777_117_130_000,
        mode: Mode::Reprocess,
        from: "2026-04-20".into(),
        until: "head".into(),
        finished: true,
        plan: plan(),
        fingerprint: "cd".repeat(32),
        time_zones: serde_json::from_value(json!([])).unwrap(),
        sources: vec![SourceState {
            topic: "events.v1".into(),
            topic_id: "0196a000-0000-4000-8000-000000000003".into(),
            floor_ms: Some(1_776_600_000_000),
            complete_from_ms: Some(1_776_600_000_000),
            partitions,
        }],
        closed_ms: None,
        visible_ms: Some(1_776_643_170_000),
        timers: Vec::new(),
        operators: vec![OperatorState {
            input: Edge::Append,
            name: "output 0 aggregate".into(),
            families: vec!["output 0 aggregate".into(), "output 0 aggregate distinct 0".into()],
            key_encoding: 1,
            accumulator_encodings: vec![2],
            hash_seed: 9,
            key_groups: 1024,
            fields: vec![field(1, "day", DataType::Date), field(2, "users", DataType::Int64)],
            expiry: None,
        }],
        state: Some("state/12-3".into()),
        state_checksum: None,
        outputs: vec![OutputState {
            name: Some("daily".into()),
            table: "test.t".into(),
            edge: Edge::Upsert,
            weight: None,
            filtered: 4,
            expired: 0,
            used: 30,
            rows_changed: 7,
            records: 0,
            files: vec![
                file(StagedContent::Data, "a", json!({"file_path": "a"})),
                file(StagedContent::DeletedKeys, "a-keys", serde_json::Value::Null),
            ],
            dead_letters: vec![file(StagedContent::Data, "b", json!({"file_path": "b"}))],
        }],
    }
}

#[test]
fn a_manifest_of_format_1_is_read_and_written_to_the_byte() {
    if std::env::var_os("KAPPA_BLESS").is_some() {
        std::fs::write(golden(), manifest().encode().unwrap().0).unwrap();
    }
    let bytes = std::fs::read(golden()).unwrap();
    let sealed = Manifest::decode(&bytes).unwrap();
    assert_eq!(sealed.manifest, manifest());
    let (again, hash) = sealed.manifest.encode().unwrap();
    assert_eq!((String::from_utf8(again).unwrap(), hash), (String::from_utf8(bytes).unwrap(), sealed.hash));
}

#[test]
fn a_manifest_with_any_bit_flipped_is_refused() {
    let bytes = std::fs::read(golden()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Manifest::decode(&damaged).expect_err(&format!("bit {bit} flipped"));
        assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Refused), "{error}");
    }
}

#[test]
fn a_torn_or_overlong_manifest_is_refused() {
    let mut bytes = std::fs::read(golden()).unwrap();
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err(), "torn at {end}");
    }
    bytes.push(b'\n');
    assert!(Manifest::decode(&bytes).is_err());
}

/// What is named is removed one day: nothing but what lies in the version's own directory.
#[test]
fn a_manifest_that_names_a_path_of_somebody_else_is_refused() {
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = Manifest::decode(&manifest.encode().unwrap().0).expect_err("a stray path");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "manifest"), "{error}");
    };
    for state in
        ["", "state", "state/", "state/..", "state/../work/3", "/etc", "/state/1-1", "work/3", "state//etc", "state/./x"]
    {
        refused(&|manifest| manifest.state = Some(state.into()));
    }
    for path in ["", "outbox/../state/12-3", "/etc/passwd", "outbox/", "outbox//etc/passwd", "../outbox/3/x"] {
        let records = StagedFile { path: path.into(), ..file(StagedContent::Records, "x", serde_json::Value::Null) };
        refused(&|manifest| manifest.outputs[0].files.push(records.clone()));
    }
    for path in ["file:///warehouse/test/t/data/../../../x", "/../x"] {
        let data = StagedFile { path: path.into(), ..file(StagedContent::DeletedKeys, "x", serde_json::Value::Null) };
        refused(&|manifest| manifest.outputs[0].dead_letters.push(data.clone()));
    }
}
