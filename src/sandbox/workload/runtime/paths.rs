//! Where a container's mount paths really are.
//!
//! Pods run without mount namespaces, so that the sandbox needs no privileges and works inside other containers. A
//! volume mounted at `/data` is a folder somewhere else; the container's command, arguments and environment, and
//! commands run in it by exec, are rewritten: wherever `/data` stands as a path of its own (`/data`, `/data/x`,
//! `--dir=/data`, `cat /data/x`), the folder takes its place. Each mount's folder is also in the environment, as
//! `MOUNT_` and the volume's name in capitals (`MOUNT_DATA`). What a program opens by a path built into it is not
//! redirected.

use std::path::{Path, PathBuf};

/// The mounts of one container.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Mount path and folder, the longest mount path first, so that nested mounts find theirs.
    mounts: Vec<(String, PathBuf)>,
}

impl Paths {
    /// Mount paths with their folders.
    pub fn new(mounts: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let mut mounts: Vec<_> = mounts
            .into_iter()
            .map(|(path, folder)| (path.trim_end_matches('/').to_owned(), folder))
            .filter(|(path, _)| path.starts_with('/'))
            .collect();
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { mounts }
    }

    /// The text with every mount path replaced by its folder.
    pub fn localize(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before: Option<char> = None;
        while !rest.is_empty() {
            let mount = if before.is_some_and(continues_path) { None } else { self.at_start(rest) };
            if let Some((path, folder)) = mount {
                out.push_str(&folder.to_string_lossy());
                rest = &rest[path.len()..];
                before = path.chars().last();
                continue;
            }
            let Some(next) = rest.chars().next() else { break };
            out.push(next);
            rest = &rest[next.len_utf8()..];
            before = Some(next);
        }
        out
    }

    /// The folder of an absolute path inside a mount; `None` when it is in none.
    pub fn folder_of(&self, path: &str) -> Option<PathBuf> {
        let (mount, folder) = self.at_start(path)?;
        let rest = path[mount.len()..].trim_start_matches('/');
        Some(if rest.is_empty() { folder.clone() } else { folder.join(Path::new(rest)) })
    }

    fn at_start(&self, text: &str) -> Option<&(String, PathBuf)> {
        self.mounts.iter().find(|(path, _)| {
            text.strip_prefix(path.as_str())
                .is_some_and(|rest| rest.chars().next().is_none_or(|next| next == '/' || !continues_path(next)))
        })
    }
}

/// Whether a mount path beside this character is only a part of a longer path or word.
fn continues_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        Paths::new([
            ("/data".to_owned(), PathBuf::from("/x/vol")),
            ("/data/wal/".to_owned(), PathBuf::from("/x/wal")),
            ("relative".to_owned(), PathBuf::from("/never")),
        ])
    }

    #[test]
    fn mount_paths_are_replaced_where_they_stand_alone() {
        for (text, expected) in [
            ("/data", "/x/vol"),
            ("/data/", "/x/vol/"),
            ("/data/a/b", "/x/vol/a/b"),
            ("/data/wal/1", "/x/wal/1"),
            ("--dir=/data", "--dir=/x/vol"),
            ("cat /data/a '/data/b';cd /data", "cat /x/vol/a '/x/vol/b';cd /x/vol"),
            ("/database /data2 /data-old /data.bak", "/database /data2 /data-old /data.bak"),
            ("/mnt/data ./data a/data", "/mnt/data ./data a/data"),
            ("ähm /data/ü", "ähm /x/vol/ü"),
        ] {
            assert_eq!(paths().localize(text), expected, "{text}");
        }
    }

    #[test]
    fn the_folder_of_a_path_is_known_only_inside_mounts() {
        assert_eq!(paths().folder_of("/data/pg"), Some(PathBuf::from("/x/vol/pg")));
        assert_eq!(paths().folder_of("/data"), Some(PathBuf::from("/x/vol")));
        assert_eq!(paths().folder_of("/var/lib"), None);
    }
}
