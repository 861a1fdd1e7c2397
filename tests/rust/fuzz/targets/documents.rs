//! Documents that are read whole: manifests, markers, headers, plans, settings.

use std::collections::BTreeMap;

use kappa::checkpoint::manifest::Manifest;
use kappa::config::Settings;
use kappa::log::headers;
use kappa::message::HeaderIter;
use kappa::message::varint::Cursor;
use kappa::plan::logical::JobPlan;
use kappa::plan::time_zones::ZoneTables;
use kappa::plan::{explain, fingerprint, lower, replay, validate};
use kappa::protocol::delivery::Marker;
use sha2::{Digest, Sha256};

use super::scratch;

const MANIFEST: &str = include_str!("../../../golden/manifest-format-1.manifest");

/// The document of a manifest; its header is made for it.
pub fn manifests() -> Vec<Vec<u8>> {
    let body = MANIFEST.split_once('\n').unwrap().1;
    let records = body.replace("\"deleted_keys\"", "\"records\"").replace("file:///warehouse/test/t/data/", "outbox/3/");
    vec![body.as_bytes().to_vec(), records.into_bytes()]
}

pub fn run_manifest(body: &[u8]) {
    let _ = Manifest::decode(body);
    let hash = kappa::checkpoint::manifest::hex(&Sha256::digest(body));
    let header = format!("kappa-manifest 1 {} {:08x} {hash}\n", body.len(), crc32c::crc32c(body));
    let Ok(sealed) = Manifest::decode(&[header.as_bytes(), body].concat()) else { return };
    let manifest = sealed.manifest;
    for path in manifest.outputs.iter().flat_map(|output| &output.files).map(|file| &file.path).chain(&manifest.state) {
        assert!(!path.split('/').any(|part| part == ".."), "{path}");
    }
    assert!(manifest.state.iter().all(|state| state.starts_with("state/") && state.len() > 6));
    let _ = (manifest.check_account(), manifest.output_sources(), manifest.position_sum(), manifest.positions());
    let again = Manifest::decode(&manifest.encode().unwrap().0).unwrap();
    assert_eq!(again.manifest.encode().unwrap(), manifest.encode().unwrap());
}

pub fn messages() -> Vec<Vec<u8>> {
    let marker = Marker {
        format: 1,
        job: "payments".into(),
        version: "0196a000-0000-7000-8000-000000000001".into(),
        timeline: "0196a000-0000-4000-8000-000000000002".into(),
        checkpoint: 12,
        manifest: "ab".repeat(32),
        previous: 11,
        owner: 3,
        topic_id: "id".into(),
    };
    vec![marker.encode().unwrap(), vec![4, 2, b'a', 2, b'x', 2, b'b', 1], vec![0xff; 12], vec![0x80, 0x01, 1]]
}

pub fn run_message(input: &[u8]) {
    if let Ok(marker) = Marker::decode("t", input) {
        assert_eq!(Marker::decode("t", &marker.encode().unwrap()).unwrap(), marker);
    }
    let ours: Vec<_> = HeaderIter::new(input).take_while(Result::is_ok).collect();
    assert!(ours.len() <= input.len() / 2 && headers(input).len() <= input.len() / 2);
    let mut cursor = Cursor::new(input, 0);
    while cursor.varint().is_some() {}
    let mut cursor = Cursor::new(input, 0);
    while let Some(length) = cursor.length() {
        if cursor.skip(length.unwrap_or(0)).is_none() {
            break;
        }
    }
    assert!(cursor.at() <= input.len());
}

/// The plan of the manifest, and one that uses more of the language.
pub fn plans() -> Vec<Vec<u8>> {
    let body: serde_json::Value = serde_json::from_str(MANIFEST.split_once('\n').unwrap().1).unwrap();
    let read = r#"{"read":{"id":0,"topic":"events.v1","schema":[{"name":"k","type":"string"},{"name":"n","type":"int64"},
        {"name":"d","type":{"decimal":{"precision":12,"scale":2}}},{"name":"l","type":{"list":"int64"}},
        {"name":"o","type":{"struct":[{"name":"a","type":"float64"}]}},{"name":"t","type":{"timestamp":"ms"}}],
        "event_time":"t","max_out_of_orderness_ms":30000,"late":"drop","on_bad_record":"skip","max_future_ms":86400000,
        "metadata":[{"name":"p","kind":"partition"},{"name":"h","kind":"headers"}]}}"#;
    let call = |function: &str, args: &str| format!(r#"{{"call":{{"function":{function},"args":[{args}]}}}}"#);
    let (n, one) = (r#"{"column":"n"}"#, r#"{"literal":{"type":"int64","value":1}}"#);
    let predicate =
        call("\"and\"", &format!("{},{}", call("\"gt\"", &format!("{n},{one}")), call("\"is_not_null\"", r#"{"column":"k"}"#)));
    let keys = format!(
        r#"[{{"name":"k","expr":{{"column":"k"}}}},{{"name":"day","expr":{}}}]"#,
        call(r#"{"dt_date":{"time_zone":"Asia/Kolkata"}}"#, r#"{"column":"t"}"#)
    );
    let rounded = call(r#"{"round":{"decimals":2}}"#, &format!(r#"{{"cast":{{"input":{n},"to":"float64","strict":true}}}}"#));
    let aggregate = |name: &str, function: &str, input: &str| {
        format!(r#"{{"name":"{name}","expr":{{"aggregate":{{"function":"{function}","input":{input}}}}}}}"#)
    };
    let aggregates = [
        aggregate("sum", "sum", n),
        aggregate("mean", "mean", &rounded),
        aggregate("users", "count_distinct", r#"{"column":"k"}"#),
        aggregate("most", "max", r#"{"column":"d"}"#),
    ];
    let plan = format!(
        r#"{{"format":1,"job":"j","outputs":[{{"plan":{{"aggregate":{{"input":{{"filter":{{"input":{read},"predicate":{predicate}}}}},
        "keys":{keys},"aggregates":[{}]}}}}}}]}}"#,
        aggregates.join(",")
    );
    validate::check_plan(&JobPlan::from_json(&plan).unwrap()).unwrap();
    vec![body["plan"].to_string().into_bytes(), plan.into_bytes()]
}

pub fn run_plan(input: &[u8]) {
    let Ok(plan) = JobPlan::from_json(&String::from_utf8_lossy(input)) else { return };
    let checked = validate::check_plan(&plan);
    let lowered = lower::lower(&plan);
    assert!(checked.is_ok() || lowered.is_err(), "a plan that is refused is lowered");
    let _ = (explain::explain(&plan), replay::check(&plan), ZoneTables::of_plan(&plan));
    if let Ok(text) = fingerprint::fingerprint(&plan) {
        let again = JobPlan::from_json(&plan.to_json().unwrap()).unwrap();
        assert_eq!(fingerprint::fingerprint(&again).unwrap(), text);
    }
}

pub fn configs() -> Vec<Vec<u8>> {
    let texts = [
        "[log]\nurl = \"kafka://a:9092,b:9092\"\n\n[catalog]\nurl = \"sqlite://c.db\"\nnamespace = \"metric\"\n",
        "warehouse = \"file://../w\"\ncheckpoints = \"./c\"\n[kafka]\nlinger.ms = 5\n\"sasl.password\" = \"env:P\"\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub fn run_config(input: &[u8]) {
    let place = scratch("config");
    std::fs::create_dir_all(&place).unwrap();
    let file = place.join("kappa.toml");
    std::fs::write(&file, input).unwrap();
    if let Ok(settings) = Settings::resolve(&BTreeMap::new(), Some(&file)) {
        let _ = (settings.sink_cluster(), settings.kafka.shown().count());
        let directory = Settings::directory("checkpoints", &settings.checkpoints);
        assert!(directory.is_err() || directory.is_ok_and(|path| !path.components().any(|part| part.as_os_str() == "..")));
    }
}
