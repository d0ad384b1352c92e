//! What can stand at the cursor: keywords, functions by namespace, variables, fields of maps, imports, commands.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Words of the language.
const KEYWORDS: [&str; 22] = [
    "as", "break", "catch", "const", "continue", "do", "else", "false", "fn", "for", "if", "import", "in", "let",
    "loop", "return", "switch", "throw", "true", "try", "until", "while",
];

/// What the session knows beside the language.
pub trait Known {
    /// Functions by namespace, the global ones under the empty name.
    fn functions(&self, namespace: &str) -> Vec<String>;
    /// Namespaces, of the program and of imports.
    fn namespaces(&self) -> Vec<String>;
    /// Variables.
    fn variables(&self) -> Vec<String>;
    /// The fields of the map that a variable, and fields of fields from there, lead to.
    fn fields(&self, path: &[&str]) -> Vec<String>;
    /// What can be imported, beside the files of the folder.
    fn imports(&self) -> Vec<String>;
}

/// Where the replaced word starts, and what may stand there, sorted.
pub fn complete(line: &str, known: &impl Known, folder: &Path, commands: &[&str]) -> (usize, Vec<String>) {
    if line.starts_with(':') && !line.contains(' ') {
        return (0, matching(commands.iter().map(|&command| command.to_owned()), line));
    }
    if let Some(start) = opened_string(line) {
        let typed = &line[start..];
        let before = line[..start - 1].trim_end();
        if before.ends_with("import") {
            let paths = files(folder, typed, false).into_iter().chain(known.imports());
            return (start, matching(paths, typed));
        }
        return (line.len(), Vec::new());
    }
    if let Some(path) = line.strip_prefix(":load ") {
        return (line.len() - path.len(), matching(files(folder, path, true).into_iter(), path));
    }
    let start = line
        .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '?')))
        .map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let word = &line[start..];
    if let Some(at) = word.rfind("::") {
        let (namespace, prefix) = (&word[..at], &word[at + 2..]);
        return (line.len() - prefix.len(), matching(known.functions(namespace).into_iter(), prefix));
    }
    if let Some(at) = word.rfind('.') {
        let path: Vec<_> = word[..at].split('.').map(|part| part.trim_end_matches('?')).collect();
        let prefix = &word[at + 1..];
        return (line.len() - prefix.len(), matching(known.fields(&path).into_iter(), prefix));
    }
    let namespaces = known.namespaces().into_iter().map(|name| format!("{name}::"));
    let keywords = KEYWORDS.iter().map(|&word| word.to_owned());
    let words = known.variables().into_iter().chain(known.functions("")).chain(namespaces).chain(keywords);
    // Nothing typed: everything would be no help.
    (start, if word.is_empty() { Vec::new() } else { matching(words, word) })
}

fn matching(words: impl Iterator<Item = String>, prefix: &str) -> Vec<String> {
    words.filter(|word| word.starts_with(prefix)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Where the text begins whose quote is still open at the end of the line.
fn opened_string(line: &str) -> Option<usize> {
    let mut opened = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (c, opened) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            ('"', None) => opened = Some(at + 1),
            ('"', Some(_)) => opened = None,
            _ => {}
        }
    }
    opened
}

/// The scripts and folders that a path beginning with `typed` may lead to; with or without the scripts' ending.
fn files(folder: &Path, typed: &str, ending: bool) -> Vec<String> {
    let parent = typed.rfind('/').map_or("", |at| &typed[..=at]);
    let searched: PathBuf = folder.join(parent);
    let entry = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        if entry.path().is_dir() {
            return (!name.starts_with('.')).then(|| format!("{parent}{name}/"));
        }
        let stem = name.strip_suffix(".rhai")?;
        Some(format!("{parent}{}", if ending { &name } else { stem }))
    };
    fs::read_dir(searched).into_iter().flatten().flatten().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Known for Fake {
        fn functions(&self, namespace: &str) -> Vec<String> {
            let names: &[&str] = match namespace {
                "" => &["step", "skip", "retry"],
                "kube" => &["get", "list", "logs"],
                _ => &[],
            };
            names.iter().map(|&name| name.to_owned()).collect()
        }

        fn namespaces(&self) -> Vec<String> {
            vec!["kube".into(), "s3".into()]
        }

        fn variables(&self) -> Vec<String> {
            vec!["backup".into(), "größe".into()]
        }

        fn fields(&self, path: &[&str]) -> Vec<String> {
            if path == ["backup", "status"] { vec!["state".into(), "size".into()] } else { Vec::new() }
        }

        fn imports(&self) -> Vec<String> {
            vec!["lib/apps".into(), "apps/postgres-test".into()]
        }
    }

    fn completed(line: &str) -> Vec<String> {
        let (start, words) = complete(line, &Fake, Path::new("/no/such"), &[":help", ":vars", ":load"]);
        words.into_iter().map(|word| format!("{}{word}", &line[..start])).collect()
    }

    #[test]
    fn words_of_all_sorts() {
        assert_eq!(completed("let x = s"), ["let x = s3::", "let x = skip", "let x = step", "let x = switch"]);
        assert_eq!(completed("ba"), ["backup"]);
        assert_eq!(completed("1+grö"), ["1+größe"]);
        assert_eq!(completed("ku"), ["kube::"]);
        assert_eq!(completed("wh"), ["while"]);
        assert!(completed("").is_empty());
        assert!(completed("nosuch").is_empty());
    }

    #[test]
    fn functions_of_a_namespace() {
        assert_eq!(completed("kube::l"), ["kube::list", "kube::logs"]);
        assert_eq!(completed("step(\"x\", || kube::g"), ["step(\"x\", || kube::get"]);
        assert!(completed("nosuch::").is_empty());
    }

    #[test]
    fn fields_of_maps() {
        assert_eq!(completed("backup.status.s"), ["backup.status.size", "backup.status.state"]);
        assert_eq!(completed("log(backup.status?.st"), ["log(backup.status?.state"]);
        assert!(completed("backup.").is_empty());
    }

    #[test]
    fn imports_and_commands() {
        assert_eq!(completed("import \"lib/"), ["import \"lib/apps"]);
        assert_eq!(completed(":l"), [":load"]);
        assert!(completed("log(\"ste").is_empty(), "nothing inside a text");
        assert_eq!(completed("log(\"x\"); ste"), ["log(\"x\"); step"]);
    }

    #[test]
    fn files_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        for name in ["drill.rhai", "notes.txt", "lib/apps.rhai"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(complete(":load ", &Fake, folder.path(), &[]).1, ["drill.rhai", "lib/"]);
        assert_eq!(complete(":load lib/a", &Fake, folder.path(), &[]), (6, vec!["lib/apps.rhai".to_owned()]));
        assert_eq!(complete("import \"d", &Fake, folder.path(), &[]).1, ["drill"]);
    }
}
