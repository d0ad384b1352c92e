//! Finding a runbook: a file, standard input as `-`, or by its plain name a copy inside the program.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::Failure;
use crate::{
    Error, Kind, Result,
    terminal::{Diagnostic, nearest},
};

/// How a runbook's file ends.
pub const EXTENSION: &str = "rhai";
/// No script that a person wrote is longer, in bytes.
const LIMIT: u64 = 4 << 20;

/// A runbook's text and where it came from.
#[derive(Debug)]
pub struct Runbook {
    /// How messages name it.
    pub name: String,
    /// Its file, beside which `import` looks first.
    pub path: Option<PathBuf>,
    /// The script.
    pub text: String,
    /// It is the copy inside the program, because no file has that name.
    pub embedded: bool,
}

/// Whether a word on the command line means a runbook and not a subcommand.
pub fn looks_like_one(word: &str) -> bool {
    word == "-"
        || Path::new(word).extension().is_some_and(|end| end == EXTENSION)
        || Path::new(word).is_file()
        || embedded(word).is_some()
}

/// The names of the runbooks inside the program.
pub fn embedded_names() -> Vec<&'static str> {
    Vec::new()
}

fn embedded(_word: &str) -> Option<(&'static str, &'static str)> {
    None
}

/// The runbook that a word names. Fails with [`Kind::Usage`] when there is none, naming what is near.
pub fn find(word: &str) -> Result<Runbook, Failure> {
    if word == "-" {
        let text = read(io::stdin(), "standard input")?;
        return Ok(Runbook { name: "standard input".into(), path: None, text, embedded: false });
    }
    let path = Path::new(word);
    match fs::File::open(path) {
        Ok(_) if path.is_dir() => {
            Err(usage(format!("{word} is a folder, not a runbook"), suggestions(&path.join("x.rhai"))))
        }
        Ok(file) => {
            Ok(Runbook { name: word.into(), path: Some(path.into()), text: read(file, word)?, embedded: false })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match embedded(word) {
            Some((name, text)) => Ok(Runbook { name: name.into(), path: None, text: text.into(), embedded: true }),
            None => Err(usage(format!("there is no runbook {word}"), suggestions(path))),
        },
        Err(error) => Err(Error::new(Kind::Usage, format!("cannot read the runbook {word}")).source(error).into()),
    }
}

fn usage(title: String, hint: Option<String>) -> Failure {
    Failure::usage(Diagnostic { title, hint, ..Diagnostic::default() })
}

fn read(input: impl Read, name: &str) -> Result<String> {
    let cannot = |why: &str| Error::new(Kind::Usage, format!("cannot read the runbook {name}: {why}"));
    let mut bytes = Vec::new();
    let length =
        input.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| cannot("reading failed").source(error))?;
    if length as u64 > LIMIT {
        return Err(cannot("it is longer than 4 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| cannot("it is not a text in UTF-8"))
}

/// The runbooks beside the missing file, and those in the program, that have a similar name; else all beside it.
fn suggestions(missing: &Path) -> Option<String> {
    let folder = missing.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside: Vec<_> = fs::read_dir(folder.unwrap_or(Path::new(".")))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Path::new(&entry.file_name()).file_name()?.to_str().map(str::to_owned))
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == EXTENSION))
        .collect();
    let wanted = missing.file_name()?.to_str()?;
    let near = nearest(wanted, beside.iter().map(String::as_str));
    let near: Vec<_> =
        near.iter().map(|name| folder.map_or(name.into(), |f| f.join(name)).display().to_string()).collect();
    let inside = nearest(wanted, embedded_names());
    match (near.as_slice(), inside.as_slice()) {
        ([], []) => {
            let mut all = embedded_names();
            all.sort_unstable();
            (!all.is_empty()).then(|| format!("lhrun has these inside: {}", all.join(", ")))
        }
        ([], inside) => Some(format!("did you mean {}, which is inside lhrun?", inside.join(" or "))),
        (near, _) => Some(format!("did you mean {}?", near.join(" or "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        fs::write(&path, "log(1);").unwrap();
        let runbook = find(path.to_str().unwrap()).unwrap();
        assert_eq!((runbook.text.as_str(), runbook.path), ("log(1);", Some(path)));
    }

    #[test]
    fn a_missing_file_is_answered_with_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("restore.rhai"), "").unwrap();
        fs::write(folder.path().join("other.txt"), "").unwrap();
        let failure = find(folder.path().join("resotre.rhai").to_str().unwrap()).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.diagnostic.title.contains("resotre.rhai"));
        let near = folder.path().join("restore.rhai").display().to_string();
        assert_eq!(failure.diagnostic.hint.unwrap(), format!("did you mean {near}?"));
    }

    #[test]
    fn what_is_no_script_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(find(path.to_str().unwrap()).unwrap_err().diagnostic.title.contains("UTF-8"));
        fs::File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(find(path.to_str().unwrap()).unwrap_err().diagnostic.title.contains("4 MiB"));
        assert!(find(folder.path().to_str().unwrap()).unwrap_err().diagnostic.title.contains("is a folder"));
    }

    #[test]
    fn runbooks_are_told_from_subcommands() {
        assert!(looks_like_one("no/such.rhai") && looks_like_one("-") && looks_like_one("Cargo.toml"));
        assert!(!looks_like_one("sandbx") && !looks_like_one("src"));
    }
}
