//! The house style, as a test: what can be checked is checked here, so that reviews are about the rest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that can not read the tree should fail loudly"
)]

use std::path::{Path, PathBuf};

const CRATES: [&str; 8] = [
    "domain", "proto", "storage", "raft", "node", "client", "chaos", "benches",
];

/// Who may depend on whom. Nobody depends on chaos and benches.
const EDGES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("proto", &["domain"]),
    ("storage", &["domain", "proto"]),
    ("raft", &["domain", "proto", "storage"]),
    ("client", &["domain", "proto"]),
    ("node", &["domain", "proto", "storage", "raft", "client"]),
    ("chaos", &["domain", "proto", "client"]),
    ("benches", &["domain", "proto", "client", "storage"]),
];

/// A crate that only one of ours may name.
const OWNED: &[(&str, &str)] = &[
    ("openraft", "raft"),
    ("sled", "storage"),
    ("axum", "node"),
    ("prost-reflect", "proto node"),
];

const BANNED_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "managers", "handler",
    "handlers", "types",
];

/// Past this a noun is missing. Tests and tables count too.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|c| root().join(c)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What others wrote keeps its own style.
                if path.file_name().is_none_or(|name| name != "vendor") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(
        found.len() > 50,
        "the walk found only {} files",
        found.len()
    );
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn check(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The dependency section of a manifest, dev-dependencies excluded.
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let table: toml::Table = manifest.parse().unwrap();
    table
        .get("dependencies")
        .and_then(|d| d.as_table())
        .map(|d| d.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() {
    let mut faults = vec![];
    for (krate, allowed) in EDGES {
        for dependency in dependencies(krate) {
            if let Some(ours) = dependency.strip_prefix("meridian-")
                && !allowed.contains(&ours)
            {
                faults.push(format!("{krate} depends on {ours}"));
            }
        }
    }
    check(&faults);
}

#[test]
fn libraries_have_one_owner_each() {
    let mut faults = vec![];
    for krate in CRATES {
        for dependency in dependencies(krate) {
            for (library, owners) in OWNED {
                if dependency == *library && !owners.split(' ').any(|owner| owner == krate) {
                    faults.push(format!(
                        "{krate} names {library}, which belongs to {owners}"
                    ));
                }
            }
        }
    }
    check(&faults);
}

#[test]
fn the_domain_is_pure() {
    let mut faults = vec![];
    for path in rust_files()
        .iter()
        .filter(|p| shown(p).starts_with("domain/src"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        for impure in [
            "std::fs",
            "std::net",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::thread",
            "std::env",
            "async fn",
            "tracing::",
            "println!",
            " rand::",
        ] {
            if text.contains(impure) {
                faults.push(format!("{} uses {impure}", shown(path)));
            }
        }
    }
    check(&faults);
}

#[test]
fn storage_touches_files_through_its_disk_only() {
    let mut faults = vec![];
    for path in rust_files()
        .iter()
        .filter(|p| shown(p).starts_with("storage/src"))
    {
        let name = shown(path);
        // sled does its own file I/O; its folder alone is handled here, beside the disk itself.
        let may = name.starts_with("storage/src/disk/")
            || name.starts_with("storage/src/backend/")
            || name.contains("/tests");
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        if !may && (code.contains("std::fs::") || code.contains("File::open")) {
            faults.push(format!("{name} uses std::fs"));
        }
        if code.contains("tokio::") {
            faults.push(format!("{name} names tokio"));
        }
    }
    check(&faults);
}

#[test]
fn status_codes_live_in_one_file() {
    let mut faults = vec![];
    for path in rust_files() {
        let name = shown(&path);
        let below = ["domain/", "storage/", "raft/"]
            .iter()
            .any(|c| name.starts_with(c));
        let text = std::fs::read_to_string(&path).unwrap();
        if below && (text.contains("tonic::Code") || text.contains("tonic::Status")) {
            faults.push(format!("{name} names a transport's status"));
        }
    }
    check(&faults);
}

#[test]
fn every_file_opens_with_its_chapter() {
    let mut faults = vec![];
    for path in rust_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        // Attributes of a test module may stand before it.
        if !text.lines().take(12).any(|line| line.starts_with("//!")) {
            faults.push(format!("{} has no chapter", shown(&path)));
        }
    }
    check(&faults);
}

#[test]
fn files_and_folders_are_named_after_nouns() {
    let mut faults = vec![];
    for path in rust_files() {
        let name = shown(&path);
        for part in name.trim_end_matches(".rs").split('/') {
            if BANNED_NAMES.contains(&part) || part.starts_with("impl_") || part.ends_with("_v2") {
                faults.push(format!("{name}: {part:?} says nothing"));
            }
        }
    }
    check(&faults);
}

#[test]
fn no_file_outgrows_its_noun() {
    let mut faults = vec![];
    for path in rust_files() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > LINES_MAX {
            faults.push(format!(
                "{} has {lines} lines; find the noun that is missing",
                shown(&path)
            ));
        }
    }
    check(&faults);
}

#[test]
fn every_queue_has_a_bound() {
    let mut faults = vec![];
    for path in rust_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        if shown(&path) == "node/tests/tidy.rs" {
            continue;
        }
        for unbounded in ["unbounded_channel", "mpsc::channel()", "unbounded()"] {
            if text.contains(unbounded) {
                faults.push(format!("{} uses {unbounded}", shown(&path)));
            }
        }
    }
    check(&faults);
}

#[test]
fn unsafe_is_forbidden_everywhere() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for krate in CRATES {
        let manifest = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert!(inherits, "{krate} does not take the workspace's lints");
    }
}

/// Words between backticks that look like a path of this repository.
fn named_paths(text: &str) -> Vec<String> {
    let mut found = vec![];
    for (i, word) in text.split('`').enumerate() {
        let is_code = i % 2 == 1;
        let first = word.split('/').next().unwrap_or_default();
        let looks_like_path = word.contains('/')
            && !word.contains(|c: char| c.is_whitespace() || "*<>{}$()".contains(c))
            && (CRATES.contains(&first) || first == ".ci");
        if is_code && looks_like_path {
            found.push(
                word.trim_end_matches('/')
                    .split(':')
                    .next()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    found
}

#[test]
fn paths_that_documents_name_exist() {
    let mut faults = vec![];
    let mut checked = 0;
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "storage/docs/FORMATS.md",
        "benches/BASELINE.md",
        "node/deploy/README.md",
    ] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for path in named_paths(&text) {
            checked += 1;
            if !root().join(&path).exists() {
                faults.push(format!("{document} names {path}, which does not exist"));
            }
        }
    }
    assert!(
        checked > 20,
        "only {checked} paths were found in the documents"
    );
    check(&faults);
}
