//! The documentation says what is there: links lead somewhere, runbooks and their parameters exist, and every command that
//! is shown can be read by the program.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::lab::{RUNBOOKS, Said, lhrun};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Files that the reader of a guide makes.
const MADE_BY_THE_READER: [&str; 1] = ["runbooks/apps/notes.rhai"];

/// Every page, as its path below the root and its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut files = vec![Path::new(ROOT).join("README.md")];
    let mut folders = vec![Path::new(ROOT).join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                files.push(path);
            }
        }
    }
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("a text"))).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in pages() {
        for target in links(&text) {
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let found = file.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !found {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} links were found");
}

/// The targets of a page's links, those to other sites aside.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://"))
}

/// What its headings are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let name = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(name).collect()
}

#[test]
fn runbooks_that_are_named_exist() {
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        let words = text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
        for word in words.filter(|word| word.starts_with("runbooks/")) {
            let runbook = Path::new(word).extension().is_some_and(|kind| kind == "rhai");
            if runbook && !Path::new(ROOT).join(word).exists() && !MADE_BY_THE_READER.contains(&word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "runbooks that do not exist:\n{}", wrong.join("\n"));
}

#[test]
fn commands_that_are_shown_can_be_read() {
    let mut shown: Vec<(String, PathBuf)> = Vec::new();
    for (path, text) in pages() {
        for command in commands(&text) {
            if !shown.iter().any(|(known, _)| *known == command) {
                shown.push((command, path.clone()));
            }
        }
    }
    let wrong: Vec<String> = shown
        .iter()
        .filter_map(|(command, path)| Some(format!("{}: {command}\n  {}", path.display(), problem(command)?)))
        .collect();
    assert!(wrong.is_empty(), "commands that the program refuses:\n{}", wrong.join("\n"));
    assert!(shown.len() > 60, "only {} commands were found", shown.len());
}

#[test]
fn a_wrong_command_is_noticed() {
    for wrong in [
        "lhrun backups lss",
        "lhrun backups ls --stoer x",
        "lhrun backups verify --level deeper",
        "lhrun full-restored",
        "lhrun full-restore --set replica=1",
        "lhrun runbooks/restore-volume.rhai --set clam=a/b",
    ] {
        assert!(problem(wrong).is_some(), "{wrong}");
    }
    assert_eq!(problem("lhrun restore-volume --set claim=a/b --set as-of=2026-11-20T00:00:00Z"), None);
    let text = "Say `lhrun check x.rhai`:\n\n```sh\ncd /x && lhrun backups ls -o json >y 2>&1 || cat y\nlhrun full-restore # all\n```\n\n    lhrun backups du        what takes space\n";
    assert_eq!(
        commands(text),
        ["lhrun check x.rhai", "lhrun backups ls -o json", "lhrun full-restore", "lhrun backups du"]
    );
}

/// The commands of a page, in code blocks and in code within sentences, without comments, pipes and redirections.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let start = if line.trim_start().starts_with("lhrun ") {
                line.find("lhrun ")
            } else {
                line.find("&& lhrun ").map(|at| at + 3)
            };
            found.extend(start.map(|at| only_the_command(&line[at..])));
        } else {
            let code = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("lhrun "));
            found.extend(code.map(only_the_command));
        }
    }
    found.retain(|command| command != "lhrun");
    found
}

fn only_the_command(text: &str) -> String {
    let mut end = text.len();
    for stop in [" #", " >", " 2>", " &&", " ||", " | ", " <"] {
        end = end.min(text.find(stop).unwrap_or(end));
    }
    // What a command does may stand beside it, after a gap; options may stand there, too.
    for (at, _) in text.match_indices("  ") {
        let rest = text[at..].trim_start();
        if at < end && !rest.starts_with('-') {
            end = at;
        }
    }
    text[..end].trim_end().to_owned()
}

/// What the program has against a command, without running it: with `--help` it only reads the command line.
fn problem(command: &str) -> Option<String> {
    let words = words(command);
    for (number, word) in words.iter().enumerate() {
        let runbook = word.strip_prefix("runbooks/").unwrap_or(word);
        let runbook = runbook.strip_suffix(".rhai").unwrap_or(runbook);
        let Ok(text) = fs::read_to_string(Path::new(RUNBOOKS).join(format!("{runbook}.rhai"))) else { continue };
        for pair in words[number..].windows(2).filter(|pair| pair[0] == "--set") {
            let name = pair[1].split('=').next().unwrap_or_default();
            if !text.contains(&format!("param(\"{name}\"")) {
                return Some(format!("{runbook} has no parameter {name}"));
            }
        }
    }
    let mut program = lhrun();
    program.current_dir(ROOT).args(&words[1..]).arg("--help");
    let said = Said::of(program);
    (!said.ended_with(0)).then(|| said.stderr())
}

/// The words of a command, as a shell would pass them.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut escaped = false;
    for c in command.chars() {
        match c {
            _ if escaped => {
                words.last_mut().expect("a word").push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
