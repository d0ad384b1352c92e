//! Columns that `kubectl get` shows for Longhorn's kinds, as their definitions of version 1.10 declare them.

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// Where the value is, in the JSON path subset of column definitions.
    pub path: &'static str,
}

const fn text(name: &'static str, path: &'static str) -> Column {
    Column { name, kind: "string", path }
}

const fn number(name: &'static str, path: &'static str) -> Column {
    Column { name, kind: "integer", path }
}

const fn boolean(name: &'static str, path: &'static str) -> Column {
    Column { name, kind: "boolean", path }
}

const fn date(name: &'static str, path: &'static str) -> Column {
    Column { name, kind: "date", path }
}

const AGE: Column = date("Age", ".metadata.creationTimestamp");

pub(super) const BACKING_IMAGE: &[Column] = &[
    text("UUID", ".status.uuid"),
    text("SourceType", ".spec.sourceType"),
    text("Size", ".status.size"),
    text("VirtualSize", ".status.virtualSize"),
    AGE,
];
pub(super) const BACKING_IMAGE_DATA_SOURCE: &[Column] = &[
    text("UUID", ".spec.uuid"),
    text("State", ".status.currentState"),
    text("SourceType", ".spec.sourceType"),
    text("Size", ".status.size"),
    text("Node", ".spec.nodeID"),
    text("DiskUUID", ".spec.diskUUID"),
    AGE,
];
pub(super) const BACKING_IMAGE_MANAGER: &[Column] = &[
    text("State", ".status.currentState"),
    text("Image", ".spec.image"),
    text("Node", ".spec.nodeID"),
    text("DiskUUID", ".spec.diskUUID"),
    text("DiskPath", ".spec.diskPath"),
    AGE,
];
pub(super) const BACKUP: &[Column] = &[
    text("SnapshotName", ".status.snapshotName"),
    text("SnapshotSize", ".status.size"),
    text("SnapshotCreatedAt", ".status.snapshotCreatedAt"),
    text("BackupTarget", ".status.backupTargetName"),
    text("State", ".status.state"),
    text("LastSyncedAt", ".status.lastSyncedAt"),
];
pub(super) const BACKUP_BACKING_IMAGE: &[Column] = &[
    text("BackingImage", ".status.backingImage"),
    text("Size", ".status.size"),
    text("BackupCreatedAt", ".status.backupCreatedAt"),
    text("State", ".status.state"),
    text("LastSyncedAt", ".status.lastSyncedAt"),
];
pub(super) const BACKUP_TARGET: &[Column] = &[
    text("URL", ".spec.backupTargetURL"),
    text("Credential", ".spec.credentialSecret"),
    text("LastBackupAt", ".spec.pollInterval"),
    boolean("Available", ".status.available"),
    text("LastSyncedAt", ".status.lastSyncedAt"),
];
pub(super) const BACKUP_VOLUME: &[Column] = &[
    text("BackupTarget", ".spec.backupTargetName"),
    text("CreatedAt", ".status.createdAt"),
    text("LastBackupName", ".status.lastBackupName"),
    text("LastBackupAt", ".status.lastBackupAt"),
    text("LastSyncedAt", ".status.lastSyncedAt"),
];
pub(super) const ENGINE: &[Column] = &[
    text("Data Engine", ".spec.dataEngine"),
    text("State", ".status.currentState"),
    text("Node", ".spec.nodeID"),
    text("InstanceManager", ".status.instanceManagerName"),
    text("Image", ".status.currentImage"),
    AGE,
];
pub(super) const ENGINE_IMAGE: &[Column] = &[
    boolean("Incompatible", ".status.incompatible"),
    text("State", ".status.state"),
    text("Image", ".spec.image"),
    number("RefCount", ".status.refCount"),
    date("BuildDate", ".status.buildDate"),
    AGE,
];
pub(super) const INSTANCE_MANAGER: &[Column] = &[
    text("Data Engine", ".spec.dataEngine"),
    text("State", ".status.currentState"),
    text("Type", ".spec.type"),
    text("Node", ".spec.nodeID"),
    AGE,
];
pub(super) const NODE: &[Column] = &[
    text("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    boolean("AllowScheduling", ".spec.allowScheduling"),
    text("Schedulable", ".status.conditions[?(@.type=='Schedulable')].status"),
    AGE,
];
pub(super) const ORPHAN: &[Column] = &[text("Type", ".spec.orphanType"), text("Node", ".spec.nodeID")];
pub(super) const RECURRING_JOB: &[Column] = &[
    text("Groups", ".spec.groups"),
    text("Task", ".spec.task"),
    text("Cron", ".spec.cron"),
    number("Retain", ".spec.retain"),
    number("Concurrency", ".spec.concurrency"),
    AGE,
    text("Labels", ".spec.labels"),
];
pub(super) const REPLICA: &[Column] = &[
    text("Data Engine", ".spec.dataEngine"),
    text("State", ".status.currentState"),
    text("Node", ".spec.nodeID"),
    text("Disk", ".spec.diskID"),
    text("InstanceManager", ".status.instanceManagerName"),
    text("Image", ".status.currentImage"),
    AGE,
];
pub(super) const SETTING: &[Column] = &[text("Value", ".value"), boolean("Applied", ".status.applied"), AGE];
pub(super) const SHARE_MANAGER: &[Column] = &[text("State", ".status.state"), text("Node", ".status.ownerID"), AGE];
pub(super) const SNAPSHOT: &[Column] = &[
    text("Volume", ".spec.volume"),
    text("CreationTime", ".status.creationTime"),
    boolean("ReadyToUse", ".status.readyToUse"),
    text("RestoreSize", ".status.restoreSize"),
    text("Size", ".status.size"),
    AGE,
];
pub(super) const SUPPORT_BUNDLE: &[Column] =
    &[text("State", ".status.state"), text("Issue", ".spec.issueURL"), text("Description", ".spec.description"), AGE];
pub(super) const SYSTEM_BACKUP: &[Column] = &[
    text("Version", ".status.version"),
    text("State", ".status.state"),
    text("Created", ".status.createdAt"),
    text("LastSyncedAt", ".status.lastSyncedAt"),
];
pub(super) const SYSTEM_RESTORE: &[Column] = &[text("State", ".status.state"), AGE];
pub(super) const VOLUME: &[Column] = &[
    text("Data Engine", ".spec.dataEngine"),
    text("State", ".status.state"),
    text("Robustness", ".status.robustness"),
    text("Scheduled", ".status.conditions[?(@.type=='Schedulable')].status"),
    text("Size", ".spec.size"),
    text("Node", ".status.currentNodeID"),
    AGE,
];
pub(super) const VOLUME_ATTACHMENT: &[Column] = &[AGE];
