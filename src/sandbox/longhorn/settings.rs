//! Longhorn's settings and their default values in 1.10.

use serde_json::{Value, json};

use super::options::LonghornOptions;

/// Settings whose default does not depend on the version. Two differ from Longhorn's own defaults because there is
/// one node: volumes have one replica unless more are asked for, and those may share the node.
const DEFAULTS: &[(&str, &str)] = &[
    ("allow-collecting-longhorn-usage-metrics", "false"),
    ("allow-empty-disk-selector-volume", "true"),
    ("allow-empty-node-selector-volume", "true"),
    ("allow-recurring-job-while-volume-detached", "false"),
    ("allow-volume-creation-with-degraded-availability", "true"),
    ("auto-cleanup-recurring-job-backup-snapshot", "true"),
    ("auto-cleanup-snapshot-after-on-demand-backup-completed", "false"),
    ("auto-cleanup-system-generated-snapshot", "true"),
    ("auto-cleanup-when-delete-backup", "false"),
    ("auto-delete-pod-when-volume-detached-unexpectedly", "true"),
    ("auto-salvage", "true"),
    ("backing-image-cleanup-wait-interval", "60"),
    ("backing-image-recovery-wait-interval", "300"),
    ("backup-compression-method", "lz4"),
    ("backup-concurrent-limit", "2"),
    ("backup-execution-timeout", "1"),
    ("concurrent-automatic-engine-upgrade-per-node-limit", "0"),
    ("concurrent-backing-image-replenish-per-node-limit", "5"),
    ("concurrent-replica-rebuild-per-node-limit", "5"),
    (RESTORE_LIMIT, "5"),
    ("crd-api-version", "longhorn.io/v1beta2"),
    ("create-default-disk-labeled-nodes", "false"),
    ("default-backup-block-size", "2"),
    ("default-data-locality", "disabled"),
    ("default-data-path", "/var/lib/longhorn/"),
    ("default-longhorn-static-storage-class", "longhorn-static"),
    ("default-min-number-of-backing-image-copies", "3"),
    ("default-replica-count", r#"{"v1":"1","v2":"1"}"#),
    ("deleting-confirmation-flag", "false"),
    ("detach-manually-attached-volumes-when-cordoned", "false"),
    ("disable-revision-counter", r#"{"v1":"true"}"#),
    ("disable-scheduling-on-cordoned-node", "true"),
    ("disable-snapshot-purge", "false"),
    ("engine-replica-timeout", r#"{"v1":"8","v2":"8"}"#),
    ("failed-backup-ttl", "1440"),
    ("fast-replica-rebuild-enabled", r#"{"v1":"true","v2":"true"}"#),
    ("freeze-filesystem-for-snapshot", r#"{"v1":"false"}"#),
    ("guaranteed-instance-manager-cpu", r#"{"v1":"12","v2":"12"}"#),
    ("kubernetes-cluster-autoscaler-enabled", "false"),
    ("log-level", "Info"),
    ("long-grpc-timeout", "86400"),
    ("node-down-pod-deletion-policy", "do-nothing"),
    ("node-drain-policy", "block-if-contains-last-replica"),
    ("offline-replica-rebuilding", r#"{"v1":"false","v2":"false"}"#),
    ("orphan-resource-auto-deletion", ""),
    ("orphan-resource-auto-deletion-grace-period", "300"),
    ("priority-class", "longhorn-critical"),
    ("recurring-failed-jobs-history-limit", "1"),
    ("recurring-job-max-retention", "100"),
    ("recurring-successful-jobs-history-limit", "1"),
    ("registry-secret", ""),
    ("remove-snapshots-during-filesystem-trim", "false"),
    ("replica-auto-balance", "disabled"),
    ("replica-disk-soft-anti-affinity", "true"),
    ("replica-file-sync-http-client-timeout", "30"),
    ("replica-replenishment-wait-interval", "600"),
    ("replica-soft-anti-affinity", "true"),
    ("replica-zone-soft-anti-affinity", "true"),
    ("restore-concurrent-limit", "2"),
    ("restore-volume-recurring-jobs", "false"),
    ("rwx-volume-fast-failover", "false"),
    ("snapshot-data-integrity", r#"{"v1":"fast-check","v2":"fast-check"}"#),
    ("snapshot-data-integrity-cronjob", r#"{"v1":"0 0 */7 * *","v2":"0 0 */7 * *"}"#),
    ("snapshot-max-count", "250"),
    ("storage-minimal-available-percentage", "25"),
    ("storage-network", ""),
    ("storage-over-provisioning-percentage", "100"),
    ("storage-reserved-percentage-for-default-disk", "30"),
    ("system-managed-components-node-selector", ""),
    ("system-managed-pods-image-pull-policy", "if-not-present"),
    ("taint-toleration", ""),
    ("upgrade-checker", "false"),
    ("v1-data-engine", "true"),
    ("v2-data-engine", "false"),
];

/// How many restores may run at once on a node; 0 stops them all.
pub(super) const RESTORE_LIMIT: &str = "concurrent-volume-backup-restore-per-node-limit";

/// Settings a system restore leaves as they are.
pub(super) const NOT_RESTORED: [&str; 5] = [
    RESTORE_LIMIT,
    "concurrent-replica-rebuild-per-node-limit",
    "concurrent-backing-image-replenish-per-node-limit",
    "backup-target",
    "backup-target-credential-secret",
];

/// Settings that only Longhorn itself writes.
pub(super) const READ_ONLY: [&str; 4] =
    ["current-longhorn-version", "crd-api-version", "default-engine-image", "default-instance-manager-image"];

/// All settings as objects.
pub(super) fn objects(options: &LonghornOptions) -> Vec<Value> {
    let version = &options.version;
    let images = [
        ("current-longhorn-version", version.clone()),
        ("default-backing-image-manager-image", format!("longhornio/backing-image-manager:{version}")),
        ("default-engine-image", options.engine_image()),
        ("default-instance-manager-image", format!("longhornio/longhorn-instance-manager:{version}")),
    ];
    let fixed = DEFAULTS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    images.into_iter().chain(fixed).map(|(name, value)| json!({"metadata": {"name": name}, "value": value})).collect()
}

/// A setting's value for the v1 data engine: since 1.10 some are JSON objects with a value per engine.
pub(super) fn for_v1(value: &str) -> String {
    serde_json::from_str::<Value>(value)
        .ok()
        .and_then(|parsed| parsed.get("v1")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_value_are_read() {
        assert_eq!(for_v1(r#"{"v1":"3","v2":"2"}"#), "3");
        assert_eq!(for_v1("3"), "3");
        assert_eq!(for_v1(""), "");
    }
}
