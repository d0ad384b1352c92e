//! Finding a runbook: a file, standard input as `-`, or by its plain name a copy inside the program.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use crate::{
    Error, Kind, Result,
    script::{
        Document, Library,
        library::{EMBEDDED, embedded},
    },
    terminal::nearest,
};

/// How a runbook's file ends.
const EXTENSION: &str = "rhai";
/// No script that a person wrote is longer, in bytes.
const LIMIT: u64 = 4 << 20;

/// Whether a word on the command line means a runbook and not a subcommand.
pub fn looks_like_one(word: &str) -> bool {
    let path = Path::new(word);
    word == "-" || ends_like_one(path) || path.is_file() || copy(path).is_some()
}

/// The runbook that a word names, and where its imports are looked up. Fails with [`Kind::Usage`] when there is none,
/// naming what is near.
pub fn find(word: &str) -> Result<(Document, Library)> {
    if word == "-" {
        let document = Document { name: "standard input".into(), text: read(io::stdin(), "standard input")? };
        return Ok((document, Library::of_folder(Path::new(""))));
    }
    let path = Path::new(word);
    if path.is_dir() {
        return Err(Error::new(Kind::Usage, format!("{word} is a folder")).hint("name a runbook in it"));
    }
    let document = match fs::File::open(path) {
        Ok(file) => Document { text: read(file, word)?, name: word.to_owned() },
        Err(error) if error.kind() == io::ErrorKind::NotFound => copy(path).ok_or_else(|| missing(path))?,
        Err(error) => return Err(Error::new(Kind::Usage, format!("cannot read the runbook {word}")).source(error)),
    };
    Ok((document, Library::beside(path)))
}

/// The copy inside the program, named with or without the folder `runbooks/` and the ending.
fn copy(path: &Path) -> Option<Document> {
    let name = path.to_str()?;
    let short = name.strip_prefix("runbooks/").unwrap_or(name);
    let short = short.strip_suffix(".rhai").unwrap_or(short);
    let (name, text) = embedded().iter().find(|(name, _)| name.strip_suffix(".rhai") == Some(short))?;
    Some(Document { name: format!("{EMBEDDED}{name}"), text: (*text).to_owned() })
}

fn read(input: impl Read, name: &str) -> Result<String> {
    let cannot = |why: &str| Error::new(Kind::Usage, format!("cannot use {name} as a runbook: {why}"));
    let mut bytes = Vec::new();
    let length =
        input.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| cannot("reading failed").source(error))?;
    if length as u64 > LIMIT {
        return Err(cannot("it is longer than 4 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| cannot("it is not text in UTF-8"))
}

/// That there is no such runbook; with those beside it or inside the program that have a similar name.
fn missing(path: &Path) -> Error {
    let folder = path.parent().unwrap_or(Path::new(""));
    let searched = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let beside: Vec<_> = fs::read_dir(searched)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| ends_like_one(Path::new(name)))
        .collect();
    // What is imported is no runbook of its own.
    let inside = embedded().iter().filter_map(|(name, _)| name.strip_suffix(".rhai"));
    let inside: Vec<_> = inside.filter(|name| !name.starts_with("lib/")).collect();
    let wanted =
        path.with_extension("").file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let near = nearest(&format!("{wanted}.{EXTENSION}"), beside.iter().map(String::as_str));
    let near = near.into_iter().map(|name| folder.join(name).display().to_string());
    let near_inside = nearest(&wanted, inside.iter().copied()).into_iter().map(|name| format!("{name} (inside lhrun)"));
    let near: Vec<_> = near.chain(near_inside).collect();
    let hint = if near.is_empty() {
        format!("name a file, or one of the runbooks inside lhrun: {}", inside.join(", "))
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Error::new(Kind::Usage, format!("there is no runbook {}", path.display())).hint(hint)
}

fn ends_like_one(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == EXTENSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        fs::write(&path, "log(1);").unwrap();
        let (document, library) = find(path.to_str().unwrap()).unwrap();
        assert_eq!(document.text, "log(1);");
        assert_eq!(library, Library::beside(&path));
    }

    #[test]
    fn a_plain_name_leads_to_the_copy_inside() {
        for word in ["full-restore", "full-restore.rhai", "runbooks/full-restore.rhai"] {
            let document = copy(Path::new(word)).unwrap();
            assert_eq!(document.name, "embedded:full-restore.rhai");
        }
        assert_eq!(copy(Path::new("other/full-restore.rhai")), None);
    }

    #[test]
    fn a_missing_file_is_answered_with_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("my-checks.rhai"), "").unwrap();
        fs::write(folder.path().join("other.txt"), "").unwrap();
        for missing in ["my-chekcs.rhai", "my-chekcs"] {
            let error = find(folder.path().join(missing).to_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.message().contains("my-chekcs"));
            let near = folder.path().join("my-checks.rhai").display().to_string();
            assert_eq!(error.hint_text().unwrap(), format!("did you mean {near}?"));
        }
    }

    #[test]
    fn a_missing_name_is_answered_with_the_copies_inside() {
        let hint = |word: &str| missing(Path::new(word)).hint_text().unwrap().to_owned();
        assert_eq!(hint("/no/such/ful-restore"), "did you mean full-restore (inside lhrun)?");
        let all = hint("/no/such/x");
        assert!(all.contains("dr-drill") && !all.contains("lib/"), "{all}");
    }

    #[test]
    fn what_is_no_script_is_refused() {
        assert!(read(&[0xff, 0xfe][..], "x").unwrap_err().message().contains("UTF-8"));
        assert!(read(io::repeat(b' '), "x").unwrap_err().message().contains("4 MiB"));
        assert_eq!(read(&b"log(1)"[..], "x").unwrap(), "log(1)");
        let folder = tempfile::tempdir().unwrap();
        assert!(find(folder.path().to_str().unwrap()).unwrap_err().message().contains("is a folder"));
    }

    #[test]
    fn runbooks_are_told_from_subcommands() {
        assert!(looks_like_one("no/such.rhai") && looks_like_one("-") && looks_like_one("Cargo.toml"));
        assert!(looks_like_one("dr-drill") && !looks_like_one("sandbx") && !looks_like_one("src"));
    }
}
