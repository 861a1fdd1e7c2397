//! Other tools' maintenance, for tests: what Spark's procedures do to a table, by a compare-and-swap that knows nothing of
//! kappa. Their snapshots have no marker.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

use iceberg::spec::{DataContentType, DataFile, Operation};

use super::catalog::{Catalog, Settings, Table};
use super::datafile::ParquetFile;
use super::expiry::Forgotten;
use super::live::{Live, manifests};
use super::maintenance::Reach;
use super::name::TableName;
use super::scan::RowReader;
use super::snapshot::{Change, Notes, build, next_location};
use super::store::Swapped;
use super::{schema, upsert};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    /// All rows go into one file, in another order; delete files stay, though there is nothing left for them to delete.
    RewriteDataFiles,
    /// The deletes of each data file go into a delete file of its own.
    RewritePositionDeleteFiles,
    /// All manifests of a kind become one.
    RewriteManifests,
    /// All snapshots but the newest go, and the files that only they reach.
    ExpireSnapshots,
}

impl Catalog {
    /// Does it to the table as it is now.
    pub(crate) fn maintain(&self, name: &TableName, procedure: Procedure) {
        let base = self.require(name).unwrap();
        if procedure == Procedure::ExpireSnapshots {
            return self.forget_all_but_the_newest(&base);
        }
        let manifests = manifests(base.metadata().current_snapshot().map(AsRef::as_ref)).unwrap();
        let live = Live::load(&self.manifests, &manifests).unwrap();
        let mut change = Change { operation: Operation::Replace, ..Change::nothing() };
        let mut above = usize::MAX;
        match procedure {
            Procedure::RewriteDataFiles => {
                change.added.extend(in_one_file(&base, &live));
                change.removed = live.data;
            }
            Procedure::RewritePositionDeleteFiles => {
                for positions in live.positions().unwrap() {
                    change.added_deletes.push(live.kept.write(&base, [positions].into(), &mut vec![]).unwrap());
                }
                change.removed = live.deletes;
            }
            _ => above = 0,
        }
        let settings = Settings { merge_manifests_above: above, ..Settings::default() };
        let notes = Notes { summary: &BTreeMap::new(), properties: HashMap::new(), now: self.now_ms() };
        let built = build(&self.manifests, &base, manifests, &change, notes, &settings, &mut vec![]).unwrap();
        self.put(&base, &built.table);
    }

    fn forget_all_but_the_newest(&self, base: &Table) {
        let metadata = base.metadata();
        let ids: Vec<i64> = metadata.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
        let ids: Vec<i64> = ids.into_iter().filter(|id| Some(*id) != metadata.current_snapshot_id()).collect();
        let old: Vec<Forgotten> = ids.iter().filter_map(|id| Forgotten::of(metadata, *id)).collect();
        let builder = metadata.clone().into_builder(Some(base.metadata_location().to_owned()));
        let next = builder.remove_snapshots(&ids).build().unwrap().metadata;
        let location = next_location(base, &next).unwrap();
        let next = base.next(next, location);
        self.put(base, &next);
        self.clean(base.name(), base.uuid(), &old, &mut Reach::default(), &AtomicBool::new(false)).unwrap();
    }

    fn put(&self, base: &Table, next: &Table) {
        self.write_metadata(next).unwrap();
        assert!(matches!(self.swap(&[base.swap_for(next)], None).unwrap(), Swapped::Done));
        self.remember(next);
    }
}

fn in_one_file(table: &Table, live: &Live) -> Option<DataFile> {
    let (schema, positions) = (schema::to_arrow(table.metadata().current_schema()).unwrap(), live.positions().unwrap());
    let mut output = ParquetFile::create(&upsert::new_data_url(table, ""), &schema).unwrap();
    let mut rows = 0;
    for entry in live.data.iter().rev() {
        let path = entry.file.file_path();
        for batch in RowReader::open(path, &schema, positions.get(path)).unwrap() {
            let batch = batch.unwrap();
            rows += batch.num_rows();
            output.write(&batch).unwrap();
        }
    }
    let written = output.finish().unwrap().data_file(table.metadata().current_schema(), DataContentType::Data).unwrap();
    (rows > 0).then_some(written)
}
