//! The shape of the house: which module may use which, each vendor behind its door, files and functions that fit a screen.

use std::path::{Path, PathBuf};

/// From the top down; a module uses only those of lower rows, and not its peers.
const LAYERS: [&[&str]; 9] = [
    &["sim"],
    &["python"],
    &["lifecycle"],
    &["job", "query"],
    &["checkpoint", "runtime"],
    &["operator", "source", "sink"],
    &["state", "codec", "table", "log", "broker"],
    &["plan", "protocol"],
    &["message", "config", "durable", "process", "time", "error"],
];
/// The words that all the others speak: their own row may use them too.
const WORDS: [&str; 2] = ["error", "time"];
/// Crates that may be named in some places only.
const DOORS: [(&str, &[&str]); 6] = [
    ("rocksdb", &["state/rocksdb.rs"]),
    ("iceberg", &["table/", "sink/iceberg"]),
    ("sqlx", &["table/sql/"]),
    ("reqwest", &["table/rest/"]),
    ("pyo3", &["python/", "python.rs"]),
    ("rdkafka", &["broker/", "broker.rs"]),
];
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// Written in two parts, so that this file does not find itself.
const LEFT_OVERS: [(&str, &str); 5] = [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X:")];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| collect(&root().join(folder), &mut found));
    assert!(!found.is_empty());
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source { path: path.strip_prefix(root()).unwrap().display().to_string(), text });
        }
    }
}

/// The code of a line: without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// `src/table/sql.rs` is of module `table`.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The modules that a line names behind `crate::`, `{a, b}` included.
fn named_modules(line: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        match rest.strip_prefix('{') {
            Some(list) => modules.extend(list.split([',', '}']).map(str::trim).map(|item| &item[..word(item)])),
            None => modules.push(&rest[..word(rest)]),
        }
    }
    modules.retain(|module| layer(module).is_some());
    modules
}

fn report(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let module = module(&source.path);
        if module == "lib" {
            continue;
        }
        let Some(own) = layer(module) else {
            found.push(format!("{}: module {module} has no place", source.path));
            continue;
        };
        for (number, line) in source.text.lines().enumerate() {
            for used in named_modules(code(line)).into_iter().filter(|used| *used != module) {
                let below = layer(used).is_some_and(|layer| layer > own);
                let word = own == LAYERS.len() - 1 && WORDS.contains(&used);
                if !below && !word {
                    found.push(format!("{}:{}: {module} uses {used}", source.path, number + 1));
                }
            }
        }
    }
    report("arrows point down only", &found);
}

#[test]
fn each_vendor_is_behind_its_door() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let inside = source.path.strip_prefix("src/").unwrap();
        for (vendor, doors) in DOORS {
            if doors.iter().any(|door| inside.starts_with(door)) {
                continue;
            }
            for (number, line) in source.text.lines().enumerate() {
                let path = format!("{vendor}::");
                // `self::iceberg::` and `sink::iceberg::` are our own.
                let named = code(line).match_indices(&path).any(|(at, _)| {
                    let before = &code(line)[..at];
                    !before.ends_with("::") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                if named {
                    found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
                }
            }
        }
    }
    report("a vendor outside of its door", &found);
}

#[test]
fn files_and_functions_are_small() {
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for source in sources(&["src", "tests", "benches"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        if lines.len() > FILE_LINES {
            files.push(format!("{}: {} lines", source.path, lines.len()));
        }
        for (start, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = line.len() - line.trim_start().len();
            // rustfmt puts the closing brace under the first word.
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == closing).map_or(0, |length| length + 1);
            if length > FUNCTION_LINES {
                functions.push(format!("{}:{}: {length} lines: {}", source.path, start + 1, line.trim()));
            }
        }
    }
    report("files above 500 lines", &files);
    report("functions above 70 lines", &functions);
}

/// A function with a body on lines of its own.
fn is_function(line: &str) -> bool {
    let words = line.trim_start();
    let start =
        ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn ", "pub const fn ", "async fn ", "pub async fn "];
    start.iter().any(|start| words.starts_with(start)) && !words.ends_with('}') && !words.ends_with(';')
}

#[test]
fn nothing_is_left_over() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (number, line) in source.text.lines().enumerate() {
            if LEFT_OVERS.iter().any(|(front, back)| line.contains(&format!("{front}{back}"))) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    report("left over", &found);
}

#[test]
fn the_rules_find_what_they_look_for() {
    assert_eq!(module("src/table/sql.rs"), "table");
    assert_eq!(module("src/job.rs"), "job");
    assert_eq!(named_modules("use crate::{table::Io, plan};"), ["table", "plan"]);
    assert_eq!(named_modules("let x = crate::log::f(crate::nothing::y);"), ["log"]);
    assert!(is_function("    pub fn new(") && !is_function("fn one() { 1 }"));
}
