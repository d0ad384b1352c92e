//! The copies of the runbooks, their library and their manifests inside the binary.

/// Path below `runbooks/`, with `/` on every system, and text.
pub(super) const FILES: &[(&str, &str)] = &[
    ("apps/_template.rhai", include_str!("../../runbooks/apps/_template.rhai")),
    ("apps/files-test.yaml", include_str!("../../runbooks/apps/files-test.yaml")),
    ("apps/files.rhai", include_str!("../../runbooks/apps/files.rhai")),
    ("apps/mariadb-test.yaml", include_str!("../../runbooks/apps/mariadb-test.yaml")),
    ("apps/mariadb.rhai", include_str!("../../runbooks/apps/mariadb.rhai")),
    ("apps/postgres-test.rhai", include_str!("../../runbooks/apps/postgres-test.rhai")),
    ("apps/postgres-test.yaml", include_str!("../../runbooks/apps/postgres-test.yaml")),
    ("apps/postgres.rhai", include_str!("../../runbooks/apps/postgres.rhai")),
    ("apps/redis-test.yaml", include_str!("../../runbooks/apps/redis-test.yaml")),
    ("apps/redis.rhai", include_str!("../../runbooks/apps/redis.rhai")),
    ("apps/sqlite-test.yaml", include_str!("../../runbooks/apps/sqlite-test.yaml")),
    ("apps/sqlite.rhai", include_str!("../../runbooks/apps/sqlite.rhai")),
    ("backup-now.rhai", include_str!("../../runbooks/backup-now.rhai")),
    ("capacity.rhai", include_str!("../../runbooks/capacity.rhai")),
    ("check-backups.rhai", include_str!("../../runbooks/check-backups.rhai")),
    ("configure-target.rhai", include_str!("../../runbooks/configure-target.rhai")),
    ("dr-drill.rhai", include_str!("../../runbooks/dr-drill.rhai")),
    ("export-state.rhai", include_str!("../../runbooks/export-state.rhai")),
    ("full-restore.rhai", include_str!("../../runbooks/full-restore.rhai")),
    ("lib/apps.rhai", include_str!("../../runbooks/lib/apps.rhai")),
    ("lib/backup.rhai", include_str!("../../runbooks/lib/backup.rhai")),
    ("lib/damage.rhai", include_str!("../../runbooks/lib/damage.rhai")),
    ("lib/exchange.rhai", include_str!("../../runbooks/lib/exchange.rhai")),
    ("lib/export.rhai", include_str!("../../runbooks/lib/export.rhai")),
    ("lib/growth.rhai", include_str!("../../runbooks/lib/growth.rhai")),
    ("lib/offsite.rhai", include_str!("../../runbooks/lib/offsite.rhai")),
    ("lib/pods.rhai", include_str!("../../runbooks/lib/pods.rhai")),
    ("lib/protection.rhai", include_str!("../../runbooks/lib/protection.rhai")),
    ("lib/restore.rhai", include_str!("../../runbooks/lib/restore.rhai")),
    ("lib/sizes.rhai", include_str!("../../runbooks/lib/sizes.rhai")),
    ("lib/store.rhai", include_str!("../../runbooks/lib/store.rhai")),
    ("lib/tables.rhai", include_str!("../../runbooks/lib/tables.rhai")),
    ("lib/workloads.rhai", include_str!("../../runbooks/lib/workloads.rhai")),
    ("lock-report.rhai", include_str!("../../runbooks/lock-report.rhai")),
    ("offsite-copy.rhai", include_str!("../../runbooks/offsite-copy.rhai")),
    ("offsite-verify.rhai", include_str!("../../runbooks/offsite-verify.rhai")),
    ("recurring-jobs.rhai", include_str!("../../runbooks/recurring-jobs.rhai")),
    ("restore-from-offsite.rhai", include_str!("../../runbooks/restore-from-offsite.rhai")),
    ("restore-volume.rhai", include_str!("../../runbooks/restore-volume.rhai")),
    ("system-backup.rhai", include_str!("../../runbooks/system-backup.rhai")),
    ("teardown-gate.rhai", include_str!("../../runbooks/teardown-gate.rhai")),
    ("validate-postgres.rhai", include_str!("../../runbooks/validate-postgres.rhai")),
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
