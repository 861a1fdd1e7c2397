//! Random logs: out of order, late, far ahead, nulls, skewed keys, empty and idle partitions, records that are no records.

use super::data::{BASE, Fault, Log, MAX_FUTURE, OUT_OF_ORDERNESS, Random, Record, Row};

/// What kind of log.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub records: usize,
    pub partitions: usize,
    /// With records that cannot be decoded.
    pub bad: bool,
}

/// The log of a seed.
pub fn generate(seed: u64, shape: Shape) -> Log {
    let mut random = Random(seed);
    let mut partitions = vec![Vec::new(); shape.partitions];
    // One partition may stay empty, one may fall silent half way.
    let empty = (shape.partitions > 1 && random.once_in(3)).then(|| random.below(shape.partitions as u64) as usize);
    let idle = random.once_in(3).then(|| random.below(shape.partitions as u64) as usize);
    let mut drift = vec![0i64; shape.partitions];
    // In some logs many records have the very same event time, in one partition and in several.
    let grain = random.pick(&[1, 60_000, 1_800_000]);
    for i in 0..shape.records {
        let partition = random.below(shape.partitions as u64) as usize;
        if empty == Some(partition) || (idle == Some(partition) && i * 2 > shape.records) {
            continue;
        }
        // Now and then a partition's time moves ahead for good.
        if random.once_in(600) {
            drift[partition] += MAX_FUTURE * 2;
        }
        let clock = BASE + i as i64 * 240_000 + drift[partition];
        partitions[partition].push(record(&mut random, clock, grain, shape.bad));
    }
    Log { partitions }
}

fn record(random: &mut Random, clock: i64, grain: i64, bad: bool) -> Record {
    let t = clock
        + match random.below(40) {
            0..2 => -OUT_OF_ORDERNESS - random.between(-1, 3_600_000),
            2 => MAX_FUTURE * random.between(1, 12) + random.between(-5_000, 5_000),
            3 => -OUT_OF_ORDERNESS,
            _ => random.between(-OUT_OF_ORDERNESS / 2, OUT_OF_ORDERNESS / 2),
        };
    let t = t.div_euclid(grain) * grain;
    let row = row(random, t);
    let timestamp = clock + random.between(-3_000, 3_000);
    if bad && random.once_in(25) {
        let (payload, fault) = spoil(random, &row);
        // All that such a record says is its time.
        return Record { timestamp, payload, fault, row: Row { t, ..Row::default() } };
    }
    Record { timestamp, payload: Some(payload(random, &row).into_bytes()), fault: Fault::None, row }
}

fn row(random: &mut Random, t: i64) -> Row {
    let k = match random.below(10) {
        0 => None,
        1..6 => Some("a".to_owned()),
        _ => Some(format!("k{}", random.below(12))),
    };
    let s = match random.below(12) {
        0 => None,
        1 => Some(random.pick(&["", "é\"\\\n", "日本", "\u{1F600}", "a\u{0}b"]).to_owned()),
        2..6 => Some(format!("u{}", random.below(9))),
        _ => Some(format!("user-{}", random.below(400))),
    };
    let n = match random.below(12) {
        0 => None,
        1 => Some(random.between(-(1 << 40), 1 << 40)),
        _ => Some(random.between(-50, 50)),
    };
    let f = match random.below(12) {
        0 => None,
        1 => Some(random.pick(&[1e16, -1e16, 1e-9, 0.1, 3e300, -3e300, 5e-324, -0.0])),
        _ => Some(random.between(-1_000_000, 1_000_000) as f64 / 7.0),
    };
    Row {
        k,
        g: (!random.once_in(8)).then(|| random.between(-1, 2) as i32),
        n,
        f,
        d: (!random.once_in(8)).then(|| i128::from(random.between(-9_999_999, 9_999_999))),
        s,
        b: random.pick(&[None, Some(true), Some(true), Some(false)]),
        t,
    }
}

/// The row as JSON, in one of the many ways to write it.
fn payload(random: &mut Random, row: &Row) -> String {
    let mut members = members(random, row);
    if random.once_in(2) {
        let turn = random.below(members.len() as u64) as usize;
        members.rotate_left(turn);
    }
    if random.once_in(3) {
        members.push(r#""note":{"deep":[1,2.5e3,{"k":"not k","t":"not t"}],"text":"a,b}"}"#.to_owned());
    }
    let (open, comma) = if random.once_in(10) { ("{ \n", " ,\t") } else { ("{", ",") };
    format!("{open}{}}}", members.join(comma))
}

fn members(random: &mut Random, row: &Row) -> Vec<String> {
    let text = |value: &String| serde_json::to_string(value).unwrap();
    let cents = |v: i128| format!("{}{}.{:02}", if v < 0 { "-" } else { "" }, v.abs() / 100, v.abs() % 100);
    let decimal = row.d.map(|v| if random.once_in(4) { format!("\"{}\"", cents(v)) } else { cents(v) });
    let time = if random.once_in(8) {
        let time = chrono::DateTime::from_timestamp_millis(row.t).unwrap();
        format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    } else {
        row.t.to_string()
    };
    let values = [
        ("k", row.k.as_ref().map(text)),
        ("g", row.g.map(|v| v.to_string())),
        ("n", row.n.map(|v| v.to_string())),
        ("f", row.f.map(|v| format!("{v:?}"))),
        ("d", decimal),
        ("s", row.s.as_ref().map(text)),
        ("b", row.b.map(|v| v.to_string())),
        ("t", Some(time)),
    ];
    let mut members = Vec::new();
    for (name, value) in values {
        match value {
            Some(value) => members.push(format!("\"{name}\":{value}")),
            None if random.once_in(2) => members.push(format!("\"{name}\":null")),
            None => {}
        }
    }
    members
}

/// A record that cannot be decoded, by everyone or by those who use a column.
fn spoil(random: &mut Random, row: &Row) -> (Option<Vec<u8>>, Fault) {
    let good = format!("{{\"k\":\"a\",\"t\":{}}}", row.t);
    let with = |member: &str| Some(format!("{{{member},\"t\":{}}}", row.t).into_bytes());
    let always = |text: &str| (Some(text.as_bytes().to_vec()), Fault::Always);
    match random.below(16) {
        0 => (None, Fault::Always),
        1 => always(""),
        2 => always("not json"),
        3 => always(&good[..good.len() - 1]),
        4 => always(&format!("{good} {{}}")),
        5 => always(&format!("[{good}]")),
        6 => always(r#"{"k":"no event time"}"#),
        7 => always(r#"{"k":"null event time","t":null}"#),
        8 => always(r#"{"t":"yesterday"}"#),
        9 => always(&format!("{{\"t\":{0},\"k\":\"a\",\"t\":{0}}}", row.t)),
        10 => (Some(b"{\"k\":\"\xff\xfe\",\"t\":1776643200000}".to_vec()), Fault::Always),
        11 => always(&format!("{{\"t\":{}.5}}", row.t)),
        12 => (with("\"n\":1.9"), Fault::Column("n")),
        13 => (with("\"d\":1.001"), Fault::Column("d")),
        14 => (with("\"b\":\"true\""), Fault::Column("b")),
        _ => (with("\"s\":5"), Fault::Column("s")),
    }
}
