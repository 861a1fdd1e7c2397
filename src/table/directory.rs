//! The directories of tables, `WAREHOUSE/NAMESPACE/TABLE-XXXXXXXX`: which are kappa's to remove, and how.
//!
//! What a table says about its place is what somebody has written into it. Only a directory of this form goes, which lies right in
//! the warehouse and is no link, nor behind one; and of it only what Iceberg keeps there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::catalog::Catalog;
use super::files::path_of;
use super::metadata;
use super::name::TableName;
use super::{CATALOG_PROPERTY, PREVIEW_PROPERTY};
use crate::durable::sync_directory;
use crate::error::{Error, Result};

/// The folders of a table's directory. Without the second nobody knows what it was: it goes last.
const FOLDERS: [&str; 2] = ["data", "metadata"];

/// A table's directory, and what its newest metadata says.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub directory: PathBuf,
    /// The name that the table had by it.
    pub name: String,
    /// The catalog in which it was made, and the version whose it is: none if it does not say.
    pub catalog: Option<String>,
    /// See `catalog`.
    pub version: Option<String>,
    /// Whether it is a preview's.
    pub is_preview: bool,
    /// When it was written last, milliseconds since 1970 UTC.
    pub written_ms: i64,
}

impl Catalog {
    /// The directory of a table of kappa's by its location, without links. Whether it is still there does not matter.
    ///
    /// # Errors
    /// `Refused`: no file there is for kappa to remove.
    pub fn own_directory(&self, location: &str) -> Result<PathBuf> {
        let refuse = |why: &str| {
            let message = format!("{location} {why}");
            Err(Error::refused("not_ours", message)
                .hint(format!("kappa removes tables' files below {} only", self.warehouse())))
        };
        let (Ok(path), Ok(root)) = (path_of(location), path_of(self.warehouse())) else {
            return refuse("is not a directory on this disk");
        };
        let root = root.canonicalize().unwrap_or(root);
        let parts = |path: &Path| {
            Some((path.parent()?.parent()?.to_owned(), path.parent()?.file_name()?.to_owned(), path.file_name()?.to_owned()))
        };
        let Some((above, namespace, table)) = parts(&path) else { return refuse("is not in the warehouse") };
        if above.canonicalize().unwrap_or(above) != root {
            return refuse("is not in the warehouse");
        }
        if name_of(&namespace.to_string_lossy(), &table.to_string_lossy()).is_none() {
            return refuse("is not named as kappa names the directories of tables");
        }
        let directory = root.join(&namespace).join(&table);
        for part in [root.join(&namespace), directory.clone()] {
            // A link is none.
            if fs::symlink_metadata(&part).is_ok_and(|found| !found.is_dir()) {
                return refuse("lies behind a link");
            }
        }
        Ok(directory)
    }

    /// Removes a table's files: what Iceberg keeps in its directory, and the directory if nothing else is in it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_directory(&self, directory: &Path) -> Result<()> {
        for folder in FOLDERS.map(|folder| directory.join(folder)) {
            // What is behind a link is somebody else's.
            if fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                fs::remove_dir_all(&folder).map_err(|error| Error::io("remove", &folder, error))?;
            }
        }
        let _ = fs::remove_dir(directory);
        directory.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), sync_directory)
    }

    /// The directories of tables in the warehouse that kappa has made, but for those in `known`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn other_directories(&self, known: &super::uses::Directories) -> Result<Vec<Found>> {
        let root = path_of(self.warehouse())?;
        let root = root.canonicalize().unwrap_or(root);
        let mut found = Vec::new();
        for namespace in folders(&root)? {
            for directory in folders(&namespace)? {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let Some(table) = name_of(&name(&namespace), &name(&directory)) else { continue };
                if !known.contains(&directory) {
                    found.extend(look_into(directory, &table));
                }
            }
        }
        Ok(found)
    }
}

/// The table that a directory is named after, if it is named as kappa does.
fn name_of(namespace: &str, directory: &str) -> Option<TableName> {
    let (table, short) = directory.rsplit_once('-')?;
    let is_short = short.len() == 8 && short.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    TableName::parse(&format!("{namespace}.{table}"), "").ok().filter(|_| is_short)
}

/// The directories in a directory, links apart, in order.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::io("look into", path, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("look into", path, error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What the newest metadata in a directory says; none if there is none that can be read.
fn look_into(directory: PathBuf, name: &TableName) -> Option<Found> {
    let entries = fs::read_dir(directory.join("metadata")).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(".metadata.json")).collect();
    files.sort_unstable();
    let read = |path: &PathBuf| metadata::read(&format!("file://{}", path.display()), name).ok();
    let (metadata, _) = files.iter().rev().find_map(read)?;
    let property = |key: &str| metadata.properties().get(key).cloned();
    Some(Found {
        name: name.to_string(),
        catalog: property(CATALOG_PROPERTY),
        version: property("kappa.version"),
        is_preview: property(PREVIEW_PROPERTY).is_some(),
        written_ms: metadata.last_updated_ms().max(newest_file_ms(&directory)),
        directory,
    })
}

/// When a file in the folders of a directory was written last. One that goes meanwhile is left out.
fn newest_file_ms(directory: &Path) -> i64 {
    let mut newest = 0;
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.is_file() {
                newest = newest.max(found.mtime().saturating_mul(1000));
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::size::bytes_below;

    fn catalog(place: &Path) -> Catalog {
        let url = format!("sqlite://{}/catalog.db", place.display());
        Catalog::open(&url, "kappa", &format!("file://{}/w", place.display())).unwrap()
    }

    #[test]
    fn only_directories_of_tables_right_in_the_warehouse_are_kappas() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let at = root.display();
        let catalog = catalog(&root);
        fs::create_dir_all(root.join("w/m/t-0123abcd/data")).unwrap();
        fs::create_dir_all(root.join("elsewhere/t-0123abcd")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere"), root.join("w/linked")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere/t-0123abcd"), root.join("w/m/l-0123abcd")).unwrap();
        std::os::unix::fs::symlink(root.join("w"), root.join("way")).unwrap();
        let own = |location: &str| catalog.own_directory(location);
        for location in
            [format!("file://{at}/w/m/t-0123abcd"), format!("{at}/w/a.b/gone-00000000"), format!("file:{at}/way/m/t-0123abcd")]
        {
            assert!(own(&location).is_ok_and(|path| path.starts_with(root.join("w"))), "{location}");
        }
        for location in [
            "file:///".to_owned(),
            "file:///etc".to_owned(),
            "s3://w/m/t-0123abcd".to_owned(),
            String::new(),
            format!("file://{at}/w"),
            format!("file://{at}/w/m"),
            format!("file://{at}/w/m/t"),
            format!("file://{at}/w/m/t-0123ABCD"),
            format!("file://{at}/w/m/t-0123abcd/data"),
            format!("file://{at}/w/m/../../elsewhere/t-0123abcd"),
            format!("file://{at}/elsewhere/t-0123abcd"),
            format!("file://{at}/w/linked/t-0123abcd"),
            format!("file://{at}/w/m/l-0123abcd"),
        ] {
            assert_eq!(own(&location).unwrap_err().code(), "not_ours", "{location}");
        }
    }

    #[test]
    fn what_others_have_put_into_a_directory_stays_and_so_does_what_is_behind_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (catalog, directory) = (catalog(place.path()), place.path().join("w/m/t-0123abcd"));
        let others = place.path().join("others");
        for folder in [directory.join("metadata/x"), others.clone()] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "12345").unwrap();
        }
        std::os::unix::fs::symlink(&others, directory.join("data")).unwrap();
        std::os::unix::fs::symlink(&others, directory.join("metadata/linked")).unwrap();
        fs::write(directory.join("notes"), "1").unwrap();
        fs::hard_link(directory.join("notes"), directory.join("metadata/notes")).unwrap();
        assert_eq!(bytes_below(&directory), 6);
        catalog.remove_directory(&directory).unwrap();
        assert!(!directory.join("metadata").exists() && directory.join("notes").exists() && others.join("file").exists());
        fs::remove_file(directory.join("notes")).unwrap();
        fs::remove_file(directory.join("data")).unwrap();
        catalog.remove_directory(&directory).unwrap();
        catalog.remove_directory(&directory).unwrap();
        assert!(!directory.exists());
    }
}
