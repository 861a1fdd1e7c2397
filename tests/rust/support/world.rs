//! A folder with everything that a job needs, and what can be asked of it from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes as types;
use kappa::checkpoint::manifest::{Manifest, Mode, Sealed};
use kappa::config::Settings;
use kappa::job::RunOptions;
use kappa::log::{LogDir, NewRecord, Retention, TopicWriter, WriterOptions};
use kappa::message::Partition;
use kappa::plan::logical::JobPlan;
use kappa::table::{Catalog, TableName};

use super::cluster;
use super::data::{Log, TOPIC};
use super::jobs::Job;
use super::oracle::{Account, Domain, Multiset, cells, float, number, recompute, text};

/// A temporary folder with an embedded log, a catalog, a warehouse and checkpoints.
pub struct World {
    pub dir: tempfile::TempDir,
    pub settings: Settings,
    /// Where the log is a Kafka cluster: its address, the topic and its partitions.
    kafka: Option<(String, String, usize)>,
    /// As somebody else sees it who asks again and again.
    catalog: OnceLock<Catalog>,
}

/// The settings of a folder.
pub fn overrides(dir: &std::path::Path) -> BTreeMap<String, String> {
    let url = |scheme: &str, name: &str| format!("{scheme}://{}", dir.join(name).display());
    BTreeMap::from([
        ("log.url".to_owned(), url("file", "log")),
        ("catalog.url".to_owned(), url("sqlite", "catalog.db")),
        ("warehouse".to_owned(), url("file", "warehouse")),
        ("checkpoints".to_owned(), url("file", "checkpoints")),
    ])
}

impl World {
    /// With an empty topic.
    pub fn new(partitions: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::resolve(&overrides(dir.path()), None).unwrap();
        let world = Self { dir, settings, kafka: None, catalog: OnceLock::new() };
        world.log().create_topic(TOPIC, partitions as i32, Retention::default()).unwrap();
        world
    }

    /// With a topic that holds all of a log.
    pub fn with(log: &Log) -> Self {
        let world = Self::new(log.partitions.len());
        world.writer().append(log, &log.ends());
        world
    }

    /// With an empty topic of a Kafka cluster.
    pub fn on_kafka(address: &str, partitions: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let topic = format!("events-{}", kappa::time::new_uuid());
        cluster::create(address, &topic, partitions);
        let log = ("log.url".to_owned(), format!("kafka://{address}"));
        let settings = Settings::resolve(&overrides(dir.path()).into_iter().chain([log]).collect(), None).unwrap();
        Self { dir, settings, kafka: Some((address.to_owned(), topic, partitions)), catalog: OnceLock::new() }
    }

    /// Writes to the topic of the Kafka cluster from its beginning.
    pub fn kafka_writer(&self) -> cluster::Producing {
        let (address, topic, partitions) = self.kafka.as_ref().unwrap();
        cluster::Producing::new(address, topic, *partitions)
    }

    /// The plan of a job over this world's topic.
    pub fn plan(&self, job: &Job) -> JobPlan {
        match &self.kafka {
            None => job.plan(),
            Some((_, topic, _)) => JobPlan::from_json(&job.plan().to_json().unwrap().replace(TOPIC, topic)).unwrap(),
        }
    }

    pub fn log(&self) -> LogDir {
        LogDir::open(self.dir.path().join("log"))
    }

    /// Goes on where the topic ends.
    pub fn writer(&self) -> Writer {
        let options = WriterOptions { batch_bytes: 2_000, segment_bytes: 40_000, ..WriterOptions::default() };
        Writer { topic: self.log().topic(TOPIC).unwrap().topic_writer(None, options).unwrap() }
    }

    pub fn catalog(&self) -> Catalog {
        let settings = &self.settings;
        let open = || Catalog::open(&settings.catalog_url, &settings.catalog_name, &settings.warehouse).unwrap();
        self.catalog.get_or_init(open).clone()
    }

    /// The rows of a table; none where there is no table, or nothing in it.
    pub fn rows(&self, table: &str) -> Multiset {
        let there = self.catalog().load(&TableName::parse(table, "").unwrap()).unwrap().is_some();
        if there { self.rows_at(table, None) } else { Multiset::new() }
    }

    /// The rows of a snapshot.
    fn rows_at(&self, table: &str, snapshot: Option<i64>) -> Multiset {
        let (catalog, name) = (self.catalog(), TableName::parse(table, "").unwrap());
        let mut rows = Multiset::new();
        let (_, scan) = kappa::query::read::scan(&catalog, &name, snapshot).unwrap();
        for batch in scan {
            let batch = batch.unwrap();
            (0..batch.num_rows()).for_each(|row| *rows.entry(row_text(&batch, row)).or_default() += 1);
        }
        rows
    }

    /// An entry of the summary of a table's newest snapshot.
    pub fn summary(&self, table: &str, key: &str) -> Option<String> {
        let table = self.catalog().load(&TableName::parse(table, "").unwrap()).unwrap()?;
        table.metadata().current_snapshot()?.summary().additional_properties.get(key).cloned()
    }

    /// A property of a table.
    pub fn property(&self, table: &str, key: &str) -> Option<String> {
        let table = self.catalog().load(&TableName::parse(table, "").unwrap()).unwrap()?;
        table.metadata().properties().get(key).cloned()
    }

    /// By partition, the position that a table's newest snapshot says.
    pub fn position(&self, table: &str) -> Option<Vec<i64>> {
        self.summary(table, "kappa.offsets").map(|text| position_of(&text))
    }

    /// Whether every table of a job is at a position.
    pub fn is_at(&self, job: &Job, position: &[i64]) -> bool {
        (0..job.outputs.len()).all(|output| self.position(&job.table(output)).as_deref() == Some(position))
    }

    /// **The prefix property**: every table holds exactly what a recomputation up to its snapshot's position gives, and so
    /// do the dead letters; the account adds up. Returns the position, none before the first commit.
    pub fn check(&self, log: &Log, job: &Job, domain: &Domain, what: &str) -> Option<Vec<i64>> {
        let position = self.position(&job.table(0));
        let upto = position.clone().unwrap_or_else(|| domain.start.clone());
        let expected = recompute(log, job, domain, &upto);
        for (number, output) in expected.outputs.iter().enumerate() {
            let table = job.table(number);
            assert_eq!(self.position(&table), position, "{what}: tables of one checkpoint move together");
            assert_same(&format!("{what}: {table} at {upto:?}"), &self.rows(&table), &output.rows);
            if position.is_some() {
                assert_eq!(self.account(&table), output.account, "{what}: account of {table} at {upto:?}");
            }
            if job.buries() {
                let letters = self.dead_letters(&format!("{table}__dead_letter"));
                assert_same(&format!("{what}: dead letters of {table} at {upto:?}"), &letters, &expected.dead_letters);
            }
        }
        position
    }

    /// The prefix property for every snapshot that a table ever had, or for some of them if there are very many.
    pub fn check_history(&self, log: &Log, job: &Job, domain: &Domain) {
        const CHECKED: usize = 40;
        for output in 0..job.outputs.len() {
            let table = self.catalog().require(&TableName::parse(&job.table(output), "").unwrap()).unwrap();
            let snapshots: Vec<_> = table.metadata().snapshots().collect();
            for snapshot in snapshots.iter().step_by(snapshots.len() / CHECKED + 1) {
                let upto = position_of(&snapshot.summary().additional_properties["kappa.offsets"]);
                let expected = recompute(log, job, domain, &upto);
                let found = self.rows_at(&job.table(output), Some(snapshot.snapshot_id()));
                assert_same(&format!("history: {} at {upto:?}", job.table(output)), &found, &expected.outputs[output].rows);
            }
        }
    }

    /// Every manifest of the newest version names the one before it, and none is of an owner before.
    pub fn check_chain(&self) {
        // Sorted by creation.
        let dir = self.versions().into_iter().max().unwrap().join("manifests");
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "manifest"));
        files.sort();
        // A running version may remove one while they are read.
        let sealed: Vec<_> =
            files.iter().filter_map(|f| std::fs::read(f).ok()).map(|b| Manifest::decode(&b).unwrap()).collect();
        // While new ones appear a listing may miss one of them.
        let adjacent = |pair: &&[Sealed]| pair[0].manifest.checkpoint.next() == pair[1].manifest.checkpoint;
        for pair in sealed.windows(2).filter(adjacent) {
            assert_eq!(pair[1].manifest.previous, pair[0].hash, "checkpoint {}", pair[1].manifest.checkpoint);
            assert!(pair[1].manifest.owner >= pair[0].manifest.owner, "checkpoint {}", pair[1].manifest.checkpoint);
        }
    }

    /// As `check`, and everything has been read.
    pub fn check_end(&self, log: &Log, job: &Job, domain: &Domain, what: &str) {
        let position = self.check(log, job, domain, what);
        assert_eq!(position, Some(log.ends()), "{what}: not at the end");
    }

    fn account(&self, table: &str) -> Account {
        let account: BTreeMap<String, u64> = serde_json::from_str(&self.summary(table, "kappa.account").unwrap()).unwrap();
        Account {
            read: account["read"],
            bad: account["bad"],
            below_floor: account["below_floor"],
            late_dropped: account["late_dropped"],
            filtered: account["filtered"],
            expired: account["expired"],
            used: account["used"],
            late_kept: account["late_kept"],
        }
    }

    /// Where, when and what: topic, key, column and reason are left out.
    fn dead_letters(&self, table: &str) -> Multiset {
        let mut letters = Multiset::new();
        for (row, count) in self.rows(table) {
            let parts: Vec<&str> = row.split(" | ").collect();
            let letter = [parts[1], parts[2], parts[3]].map(str::to_owned);
            // The payload may hold the separator.
            let payload = parts[5..parts.len() - 2].join(" | ");
            *letters.entry(cells(&[cells(&letter), payload])).or_default() += count;
        }
        letters
    }

    /// The newest manifest of the newest version.
    pub fn newest_manifest(&self) -> Manifest {
        let dir = self.versions().into_iter().max().unwrap().join("manifests");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let newest = files.filter(|file| file.extension().is_some_and(|extension| extension == "manifest")).max().unwrap();
        Manifest::decode(&std::fs::read(newest).unwrap()).unwrap().manifest
    }

    /// The directories of versions.
    pub fn versions(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("checkpoints")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Appends a log's records to the topic, further and further.
pub struct Writer {
    topic: TopicWriter,
}

impl Writer {
    /// Appends what is not there yet, up to these offsets, and makes it visible.
    pub fn append(&mut self, log: &Log, upto: &[i64]) {
        for (partition, from) in self.topic.durable_ends() {
            let number = partition.0 as usize;
            for record in &log.partitions[number][from.0 as usize..(upto[number].max(from.0)) as usize] {
                let record =
                    NewRecord { value: record.payload.as_deref(), timestamp: record.timestamp, ..NewRecord::default() };
                self.topic.push_to(Partition(partition.0), &record).unwrap();
            }
        }
        self.topic.flush().unwrap();
    }
}

/// The options of a run.
pub fn options(job: &Job, mode: Mode, parallelism: usize, interval_ms: u64) -> RunOptions {
    let options = serde_json::json!({
        "mode": mode,
        "output_tables": job.output_tables(),
        "parallelism": parallelism,
        "memory_bytes": 32 << 20,
        "checkpoint_interval_ms": interval_ms,
    });
    serde_json::from_value(options).unwrap()
}

fn position_of(text: &str) -> Vec<i64> {
    let offsets: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(text).unwrap();
    offsets.values().next().unwrap().values().copied().collect()
}

/// Waits for something that will come: a minute, then it is an error.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited too long for {what}");
}

fn assert_same(what: &str, found: &Multiset, expected: &Multiset) {
    if found == expected {
        return;
    }
    let other = |a: &Multiset, b: &Multiset| -> Vec<String> {
        a.iter().filter(|(row, n)| b.get(*row) != Some(n)).take(5).map(|(row, n)| format!("{n} × {row}")).collect()
    };
    panic!("{what}\nfound    {:#?}\nexpected {:#?}", other(found, expected), other(expected, found));
}

fn row_text(batch: &RecordBatch, row: usize) -> String {
    let texts: Vec<String> = batch.columns().iter().map(|column| cell_text(column.as_ref(), row)).collect();
    cells(&texts)
}

fn cell_text(column: &dyn Array, row: usize) -> String {
    use types::DataType as T;
    if column.is_null(row) {
        return "null".to_owned();
    }
    match column.data_type() {
        T::Utf8 => text(Some(&column.as_string::<i32>().value(row).to_owned())),
        T::Binary => text(Some(&String::from_utf8_lossy(column.as_binary::<i32>().value(row)).into_owned())),
        T::LargeBinary => text(Some(&String::from_utf8_lossy(column.as_binary::<i64>().value(row)).into_owned())),
        T::Boolean => column.as_boolean().value(row).to_string(),
        T::Int32 => number(Some(column.as_primitive::<types::Int32Type>().value(row))),
        T::Int64 => number(Some(column.as_primitive::<types::Int64Type>().value(row))),
        T::Date32 => number(Some(column.as_primitive::<types::Date32Type>().value(row))),
        T::Float64 => float(Some(column.as_primitive::<types::Float64Type>().value(row))),
        T::Decimal128(..) => number(Some(column.as_primitive::<types::Decimal128Type>().value(row))),
        T::Timestamp(types::TimeUnit::Microsecond, _) => {
            format!("{} us", column.as_primitive::<types::TimestampMicrosecondType>().value(row))
        }
        other => panic!("a column of {other}"),
    }
}
