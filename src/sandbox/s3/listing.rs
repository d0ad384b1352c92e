//! Listings in key order, without reading more folders than the page needs.

use std::{collections::BTreeSet, fs, io, iter::Peekable, path::Path};

use s3s::{S3ErrorCode, S3Result};

use super::{
    key,
    objects::{Meta, Objects, broken},
    versions::Version,
};

/// What to list.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub prefix: &'a str,
    pub delimiter: Option<&'a str>,
    /// Only what comes after this key or common prefix.
    pub after: &'a str,
    /// At most this many keys and common prefixes together.
    pub max: usize,
}

#[derive(Debug)]
pub(super) enum Entry {
    Object(String, Box<Meta>),
    Prefix(String),
}

/// One line of a listing of versions.
pub(super) enum Line {
    Version(String, Box<Version>),
    Prefix(String),
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Prefix(name) => name,
        }
    }
}

impl Objects {
    /// A page, and whether there is more.
    pub(super) fn list(&self, bucket: &str, wanted: &Wanted<'_>) -> S3Result<(Vec<Entry>, bool)> {
        let folder = self.bucket(bucket)?;
        let mut plain = Walk::start(&folder, wanted).map_err(broken)?.peekable();
        let mut odd = odd_keys(&self.aside(".odd", bucket), wanted).map_err(broken)?.into_iter().peekable();
        let mut entries: Vec<Entry> = Vec::new();
        let mut last_prefix = None;
        while let Some(key) = next(&mut plain, &mut odd).map_err(broken)? {
            let common = common_prefix(&key, wanted);
            let name = common.unwrap_or(&key);
            if name <= wanted.after || last_prefix.as_deref() == Some(name) {
                continue;
            }
            if entries.len() >= wanted.max {
                return Ok((entries, wanted.max > 0));
            }
            if common.is_some() {
                last_prefix = Some(name.to_owned());
                entries.push(Entry::Prefix(name.to_owned()));
                continue;
            }
            match self.find(bucket, &key) {
                Ok((_, meta)) => entries.push(Entry::Object(key, Box::new(meta))),
                // Deleted since its folder was read.
                Err(error) if *error.code() == S3ErrorCode::NoSuchKey => {}
                Err(error) => return Err(error),
            }
        }
        Ok((entries, false))
    }

    /// A page of all versions, and whether there is more. With a version to begin after, which is one of the key
    /// [`Wanted::after`], the older ones of that key come first.
    pub(super) fn list_versions(
        &self,
        bucket: &str,
        wanted: &Wanted<'_>,
        after: Option<&str>,
    ) -> S3Result<(Vec<Line>, bool)> {
        let folder = self.bucket(bucket)?;
        let mut keys: BTreeSet<String> = Walk::start(&folder, wanted).and_then(Iterator::collect).map_err(broken)?;
        for aside in [".odd", ".versions"] {
            keys.extend(odd_keys(&self.aside(aside, bucket), wanted).map_err(broken)?);
        }
        if after.is_some() {
            keys.insert(wanted.after.to_owned());
        }
        let mut lines: Vec<Line> = Vec::new();
        let mut last_prefix = None;
        for key in keys {
            let goes_on = after.is_some() && key == wanted.after;
            let common = common_prefix(&key, wanted);
            let name = common.unwrap_or(&key);
            if name <= wanted.after && !goes_on || last_prefix.as_deref() == Some(name) {
                continue;
            }
            let mut found = Vec::new();
            if common.is_some() {
                last_prefix = Some(name.to_owned());
                found.push(Line::Prefix(name.to_owned()));
            } else {
                let history = self.history(bucket, &key)?;
                let seen = history.iter().position(|version| goes_on && after == Some(version.meta.version_id()));
                let rest = history.into_iter().skip(seen.map_or(0, |seen| seen + 1));
                found.extend(rest.map(|version| Line::Version(key.clone(), Box::new(version))));
            }
            for line in found {
                if lines.len() >= wanted.max {
                    return Ok((lines, wanted.max > 0));
                }
                lines.push(line);
            }
        }
        Ok((lines, false))
    }
}

/// The smaller of the two next keys; one that is in both counts once.
fn next(
    plain: &mut Peekable<impl Iterator<Item = io::Result<String>>>,
    odd: &mut Peekable<impl Iterator<Item = String>>,
) -> io::Result<Option<String>> {
    match (plain.peek(), odd.peek()) {
        (Some(Ok(first)), Some(second)) if second < first => Ok(odd.next()),
        (Some(Ok(first)), Some(second)) if second == first => {
            odd.next();
            plain.next().transpose()
        }
        (None, _) => Ok(odd.next()),
        (Some(_), _) => plain.next().transpose(),
    }
}

/// What the key is rolled up to: everything up to the delimiter's first occurrence behind the prefix.
fn common_prefix<'k>(key: &'k str, wanted: &Wanted<'_>) -> Option<&'k str> {
    let delimiter = wanted.delimiter?;
    let below = key.get(wanted.prefix.len()..)?;
    below.find(delimiter).map(|at| &key[..wanted.prefix.len() + at + delimiter.len()])
}

/// Walks the folders of a bucket in key order. With the delimiter `/` a folder below the prefix is not entered but
/// given as a key that ends in `/`.
struct Walk<'a> {
    root: &'a Path,
    wanted: &'a Wanted<'a>,
    /// Folders being read, each with the rest of its entries in reverse order.
    open: Vec<Vec<String>>,
}

impl<'a> Walk<'a> {
    fn start(root: &'a Path, wanted: &'a Wanted<'a>) -> io::Result<Self> {
        let mut walk = Self { root, wanted, open: Vec::new() };
        let above = wanted.prefix.rfind('/').map_or("", |slash| &wanted.prefix[..=slash]);
        if above.is_empty() || key::plain(above.trim_end_matches('/')).is_some() && !above.ends_with("//") {
            walk.open.push(walk.entries(above)?);
        }
        Ok(walk)
    }

    /// What lies in the folder (empty, or ending in `/`) and is wanted, last key first. Folders end in `/`, so that
    /// sorting gives the order of the keys below them.
    fn entries(&self, above: &str) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        let folder = match fs::read_dir(self.root.join(above)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(keys);
            }
            folder => folder?,
        };
        for entry in folder {
            let entry = entry?;
            // A name that is no UTF-8 cannot be a key.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            let key = match () {
                () if kind.is_dir() => format!("{above}{name}/"),
                () if kind.is_file() => format!("{above}{name}"),
                () => continue,
            };
            let comes = key.as_str() > self.wanted.after || kind.is_dir() && self.wanted.after.starts_with(&key);
            let fits = key.starts_with(self.wanted.prefix) || kind.is_dir() && self.wanted.prefix.starts_with(&key);
            if comes && fits {
                keys.push(key);
            }
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Ok(keys)
    }

    /// Whether anything lies below: a folder made by hand may hold only folders.
    fn holds_file(&self, folder: &str) -> io::Result<bool> {
        for key in self.entries(folder)? {
            if !key.ends_with('/') || self.holds_file(&key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn step(&mut self) -> io::Result<Option<String>> {
        while let Some(entries) = self.open.last_mut() {
            let Some(key) = entries.pop() else {
                self.open.pop();
                continue;
            };
            if !key.ends_with('/') {
                return Ok(Some(key));
            }
            let whole = self.wanted.delimiter == Some("/") && key.len() > self.wanted.prefix.len();
            if !whole {
                let entries = self.entries(&key)?;
                self.open.push(entries);
            } else if self.holds_file(&key)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

impl Iterator for Walk<'_> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The wanted keys among those that are no paths, or have former versions: names in the folder, or folders, from which
/// the key can be had. They are few.
fn odd_keys(folder: &Path, wanted: &Wanted<'_>) -> io::Result<BTreeSet<String>> {
    fn collect(folder: &Path, name: &str, keys: &mut BTreeSet<String>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = format!("{name}{}", entry.file_name().to_string_lossy());
            match key::decoded(&name) {
                Some(key) => {
                    keys.insert(key);
                }
                None if entry.file_type()?.is_dir() => collect(&entry.path(), &name, keys)?,
                None => {}
            }
        }
        Ok(())
    }
    let mut keys = BTreeSet::new();
    collect(folder, "", &mut keys)?;
    keys.retain(|key| key.starts_with(wanted.prefix) && key.as_str() > wanted.after);
    Ok(keys)
}
