//! The copies of the runbooks, their library and their manifests inside the binary.

/// Path below `runbooks/`, with `/` on every system, and text.
pub(super) const FILES: &[(&str, &str)] = &[
    ("apps/postgres-test.rhai", include_str!("../../runbooks/apps/postgres-test.rhai")),
    ("apps/postgres-test.yaml", include_str!("../../runbooks/apps/postgres-test.yaml")),
    ("backup-now.rhai", include_str!("../../runbooks/backup-now.rhai")),
    ("dr-drill.rhai", include_str!("../../runbooks/dr-drill.rhai")),
    ("export-state.rhai", include_str!("../../runbooks/export-state.rhai")),
    ("full-restore.rhai", include_str!("../../runbooks/full-restore.rhai")),
    ("lib/apps.rhai", include_str!("../../runbooks/lib/apps.rhai")),
    ("lib/damage.rhai", include_str!("../../runbooks/lib/damage.rhai")),
    ("lib/export.rhai", include_str!("../../runbooks/lib/export.rhai")),
    ("lib/restore.rhai", include_str!("../../runbooks/lib/restore.rhai")),
    ("system-backup.rhai", include_str!("../../runbooks/system-backup.rhai")),
    ("verify-restore.rhai", include_str!("../../runbooks/verify-restore.rhai")),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_runbook_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
        let mut found = Vec::new();
        collect(&root, &root, &mut found);
        let mut embedded: Vec<_> = super::FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        found.sort_unstable();
        embedded.sort_unstable();
        assert_eq!(embedded, found);
    }

    fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(root, &path, found);
            } else if path.extension().is_some_and(|kind| kind == "rhai" || kind == "yaml") {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
}
