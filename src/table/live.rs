//! What a snapshot holds: its live files, and the rows of them that are deleted.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, ManifestContentType, ManifestEntryRef, ManifestFile,
    ManifestList, Snapshot,
};
use roaring::RoaringTreemap;

use super::deletes::{DeleteFiles, Positions};
use super::files::path_of;
use super::iceberg_error;
use super::manifests::ManifestReader;
use crate::error::{Error, Result};

/// A file of the table, with what its manifest entry says about its age.
#[derive(Clone, Debug)]
pub struct LiveFile {
    /// The file.
    pub file: DataFile,
    /// The snapshot that added it.
    pub snapshot_id: i64,
    /// Its data sequence number: deletes of the same or a later number apply to it.
    pub sequence: i64,
    /// The sequence number of the commit that added the file.
    pub file_sequence: i64,
}

impl LiveFile {
    pub(super) fn from_entry(entry: &ManifestEntryRef) -> Result<Self> {
        let age = entry.snapshot_id.zip(entry.sequence_number).zip(entry.file_sequence_number);
        let Some(((snapshot_id, sequence), file_sequence)) = age else {
            let message = format!("manifest entry of {} has no sequence number", entry.file_path());
            return Err(Error::corruption("manifest", message));
        };
        Ok(Self { file: entry.data_file.clone(), snapshot_id, sequence, file_sequence })
    }

    /// What it weighs, less the deleted rows.
    pub(super) fn weight(&self, positions: &Positions) -> Weight {
        let deleted = positions.get(self.file.file_path()).map_or(0, RoaringTreemap::len);
        Weight { bytes: self.file.file_size_in_bytes(), rows: self.file.record_count(), deleted }
    }
}

/// The size of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) deleted: u64,
}

impl Weight {
    /// Bytes, by the share of rows that are not deleted.
    pub(super) fn live_bytes(&self) -> u64 {
        let rows = self.rows.max(1);
        (u128::from(self.bytes) * u128::from(rows.saturating_sub(self.deleted)) / u128::from(rows)) as u64
    }

    /// Of all rows.
    pub(super) fn deleted_share(&self) -> f64 {
        self.deleted as f64 / self.rows.max(1) as f64
    }
}

/// The live files of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Data files.
    pub data: Vec<LiveFile>,
    /// Position delete files.
    pub deletes: Vec<LiveFile>,
    /// What is in them.
    pub(super) kept: DeleteFiles,
}

/// The manifests of a snapshot; none without a snapshot.
pub fn manifests(snapshot: Option<&Snapshot>) -> Result<Vec<ManifestFile>> {
    let Some(snapshot) = snapshot else { return Ok(Vec::new()) };
    let path = path_of(snapshot.manifest_list())?;
    let bytes = std::fs::read(&path).map_err(|error| Error::io("read manifest list", &path, error))?;
    // Version 2 reads the list by the schema in the file, which suits a list of version 1 as well.
    let list = ManifestList::parse_with_version(&bytes, FormatVersion::V2)
        .map_err(|error| iceberg_error(&format!("read manifest list {}", path.display()), error))?;
    Ok(list.consume_entries().into_iter().collect())
}

impl Live {
    /// Loads the live files that `manifests` list. Files that kappa cannot read are refused.
    pub fn load(reader: &ManifestReader, manifests: &[ManifestFile]) -> Result<Self> {
        let mut live = Self { kept: reader.deletes().clone(), ..Self::default() };
        for manifest in manifests.iter().filter(|manifest| manifest.has_added_files() || manifest.has_existing_files()) {
            let files = reader.live_entries(manifest)?;
            files.iter().try_for_each(|entry| check_readable(&entry.file))?;
            match manifest.content {
                ManifestContentType::Data => live.data.extend(files.iter().cloned()),
                ManifestContentType::Deletes => live.deletes.extend(files.iter().cloned()),
            }
        }
        Ok(live)
    }

    /// Bytes of data that are live, about: a file counts by the share of its rows that is not deleted.
    pub fn bytes(&self, positions: &Positions) -> u64 {
        self.data.iter().map(|entry| entry.weight(positions).live_bytes()).sum()
    }

    /// Whether all of these positions are in files that are live.
    pub fn has_all(&self, positions: &Positions) -> bool {
        let live: HashSet<&str> = self.data.iter().map(|entry| entry.file.file_path()).collect();
        positions.keys().all(|path| live.contains(path.as_str()))
    }

    /// Rows of the data files, deleted ones too.
    pub fn rows(&self) -> u64 {
        self.data.iter().map(|entry| entry.file.record_count()).sum()
    }

    /// Rows at some positions: those of a file that is listed twice, as a faulty writer may do it, are there twice.
    pub fn rows_at(&self, positions: &Positions) -> u64 {
        let of = |entry: &LiveFile| positions.get(entry.file.file_path()).map_or(0, RoaringTreemap::len);
        self.data.iter().map(of).sum()
    }

    /// Rows that are live, if these positions are deleted.
    pub fn live_rows(&self, positions: &Positions) -> u64 {
        self.rows().saturating_sub(self.rows_at(positions))
    }

    /// The least that [`Self::bytes`] can say, without knowing the positions: as if those rows were deleted that weigh the most.
    pub fn least_bytes(&self) -> u64 {
        let mut left: u64 = self.deletes.iter().map(|entry| entry.file.record_count()).sum();
        let size = |entry: &LiveFile| (entry.file.file_size_in_bytes(), entry.file.record_count());
        let mut sizes: Vec<(u64, u64)> = self.data.iter().map(size).collect();
        sizes.sort_unstable_by_key(|(bytes, rows)| std::cmp::Reverse(bytes / (*rows).max(1)));
        let live = sizes.into_iter().map(|(bytes, rows)| {
            let deleted = rows.min(left);
            left -= deleted;
            Weight { bytes, rows, deleted }.live_bytes()
        });
        live.sum()
    }

    /// The positions that are deleted in files that are live.
    pub fn positions(&self) -> Result<Positions> {
        self.positions_in(&self.deletes)
    }

    /// The positions that some of its delete files delete in files that are live.
    pub(super) fn positions_in<'a>(&self, deletes: impl IntoIterator<Item = &'a LiveFile>) -> Result<Positions> {
        let sequences: HashMap<&str, i64> = self.data.iter().map(|entry| (entry.file.file_path(), entry.sequence)).collect();
        let mut positions = Positions::new();
        for delete in deletes {
            for (path, rows) in &*self.kept.read(delete.file.file_path())? {
                if sequences.get(path.as_str()).is_none_or(|sequence| *sequence > delete.sequence) {
                    continue;
                }
                match positions.get_mut(path) {
                    Some(deleted) => *deleted |= rows,
                    None => drop(positions.insert(path.clone(), rows.clone())),
                }
            }
        }
        // A position behind the end of a file, as a faulty writer may make it, deletes nothing.
        for entry in &self.data {
            if let Some(deleted) = positions.get_mut(entry.file.file_path()) {
                deleted.remove_range(entry.file.record_count()..);
            }
        }
        Ok(positions)
    }
}

fn check_readable(file: &DataFile) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::refused("unsupported_file", format!("{} is {what}, which kappa does not read", file.file_path()))
            .hint("rewrite the table with the engine that wrote it"))
    };
    match (file.content_type(), file.file_format()) {
        (DataContentType::EqualityDeletes, _) => refuse("an equality delete file"),
        (DataContentType::PositionDeletes, DataFileFormat::Puffin) => refuse("a deletion vector"),
        (_, DataFileFormat::Parquet) => Ok(()),
        (_, format) => refuse(&format!("a file of format {format}")),
    }
}
