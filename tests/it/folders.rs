//! Folders of the tests: stores, buckets and fixtures.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Copies all files to another folder, beside what is there.
pub fn copy(from: &Path, to: &Path) {
    for file in below(from) {
        let target = to.join(file.strip_prefix(from).expect("it is below"));
        fs::create_dir_all(target.parent().expect("its folder")).expect("a folder");
        fs::copy(&file, target).expect("a copy");
    }
}

/// The files below the folder, by name.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() { found.extend(below(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}
