//! The house rules of `docs/architecture.md`, read from the sources themselves.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may use, itself and the leaves (`error`, `terminal`) aside.
const ARROWS: [(&str, &[&str]); 10] = [
    ("cli", &["repl", "script", "run", "report", "longhorn", "backupstore", "cluster", "objectstore", "sandbox"]),
    ("repl", &["script", "run", "report"]),
    ("script", &["run", "report", "longhorn", "backupstore", "cluster", "objectstore"]),
    ("report", &["run"]),
    ("run", &["longhorn", "backupstore", "cluster", "objectstore"]),
    ("longhorn", &["backupstore", "cluster", "objectstore"]),
    ("backupstore", &["objectstore"]),
    ("cluster", &["objectstore"]),
    ("objectstore", &[]),
    ("terminal", &[]),
];

/// Which folders may name which crate.
const CRATES: [(&str, &[&str]); 3] = [
    ("rhai", &["script", "repl"]),
    (
        "kube",
        &[
            "cluster",
            "sandbox/longhorn",
            "sandbox/workload",
            "sandbox/mod.rs",
            "sandbox/guest.rs",
            "sandbox/lifecycle.rs",
        ],
    ),
    ("aws_sdk_s3", &["objectstore"]),
];

const LONGEST_FILE: usize = 500;

#[test]
fn rooms_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else { continue };
        for (number, line) in code_lines(&text) {
            for used in rooms_named_in(line) {
                if used != room && !["error", "terminal"].contains(&used) && !allowed.contains(&used) {
                    wrong.push(format!("src/{path}:{number} uses {used}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that go up:\n{}", wrong.join("\n"));
}

#[test]
fn each_foreign_world_has_one_door() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (name, folders) in CRATES {
            // `kube::` is also the name of a script namespace, so only imports count.
            let import = format!("use {name}::");
            let named = code_lines(&text).any(|(_, line)| line.trim_start().starts_with(&import));
            if named && !folders.iter().any(|folder| path.starts_with(folder)) {
                wrong.push(format!("src/{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_has_two_jobs() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST_FILE)
        .map(|(path, text)| format!("src/{path}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines, split by purpose:\n{}", long.join("\n"));
}

/// The sources by their path below `src/`, without those that are only for tests: these may reach anywhere.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().unwrap_or_default();
            if ["tests", "testing", "fake"].iter().any(|only| name == *only) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// Numbered lines without comments and without the tests at the end of the file, which may reach anywhere.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

/// Rooms named as `crate::room` in a line, also inside one pair of braces.
fn rooms_named_in(line: &str) -> Vec<&str> {
    let rooms = |word: &&str| ARROWS.iter().any(|(name, _)| name == word) || *word == "sandbox";
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(inner) => inner.split([',', '{', '}']).collect::<Vec<_>>(),
            None => vec![rest],
        })
        .map(|part| part.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .filter(rooms)
        .collect()
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    assert_eq!(rooms_named_in("use crate::{Error, Kind, cluster::Cluster, longhorn};"), ["cluster", "longhorn"]);
    assert_eq!(rooms_named_in("    crate::sandbox::start(crate::run::now())"), ["sandbox", "run"]);
}
