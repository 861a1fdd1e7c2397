//! What is fed with hostile bytes. A target panics when something is wrong: with the answer, not with the bytes.
//!
//! The folder stands on its own: `fuzz/` drives the same targets with libFuzzer.

mod documents;
mod json;
mod log;
mod table;

use std::path::{Path, PathBuf};

/// One thing that reads bytes of others.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// How many changed inputs a quick run tries.
    pub quick: usize,
    /// Inputs that are as they should be.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes an input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: &[Target] = &[
    Target { name: "json", quick: 20_000, seeds: json::seeds, run: json::run },
    Target { name: "log", quick: 300, seeds: log::seeds, run: log::run },
    Target { name: "batches", quick: 20_000, seeds: log::batch_seeds, run: log::run_batches },
    Target { name: "bombs", quick: 0, seeds: log::bombs, run: log::run_bomb },
    Target { name: "manifest", quick: 10_000, seeds: documents::manifests, run: documents::run_manifest },
    Target { name: "messages", quick: 60_000, seeds: documents::messages, run: documents::run_message },
    Target { name: "plan", quick: 3_000, seeds: documents::plans, run: documents::run_plan },
    Target { name: "config", quick: 6_000, seeds: documents::configs, run: documents::run_config },
    Target { name: "table", quick: 100, seeds: table::seeds, run: table::run },
];

/// The target of a name.
pub fn named(name: &str) -> &'static Target {
    ALL.iter().find(|target| target.name == name).expect("a target of this name")
}

/// A folder in memory, where there is one: files by the thousand are written.
pub fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

/// A folder of this process's own.
fn scratch(name: &str) -> PathBuf {
    memory().join(format!("kappa-fuzz-{:08x}", std::process::id())).join(name)
}

/// Removes what [`scratch`] made.
pub fn clear() {
    if let Some(root) = scratch("x").parent() {
        let _ = std::fs::remove_dir_all(root);
    }
}

/// Copies a folder and what is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
