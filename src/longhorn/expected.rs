//! What a full restore must bring back: each volume, its claim, and the backup to take.
//!
//! Three sources tell of it. An export is the most precise, because it was made on purpose and is reviewed; a system
//! backup shows the cluster at its moment; a backup's own `KubernetesStatus` label is always there for backups made
//! through Longhorn's API and knows only the claim. For every fact the first source that tells wins, and it is said
//! which one that was. The backup is never the one a system backup recorded, but the newest complete one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Backup, Inventory, backups::newest, fields, quantity};

/// One volume that must come back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expected {
    /// The volume.
    pub volume: String,
    /// `namespace/name` of its claim, if it had one.
    pub claim: Option<String>,
    /// Namespace of the claim.
    pub namespace: Option<String>,
    /// Name of its PersistentVolume.
    pub pv: Option<String>,
    /// The backup to restore; `None` means that there is nothing to restore it from.
    pub backup: Option<String>,
    /// Moment of that backup's data, RFC 3339.
    pub taken: Option<String>,
    /// Which source told the claim: `exported`, `bundle` or `backup`.
    pub source: Option<String>,
    /// The backup a system restore would take.
    pub recorded_backup: Option<String>,
    /// How much newer the chosen backup's data are than those of the recorded one, in seconds.
    pub skew_seconds: Option<i64>,
    /// Storage class.
    pub class: Option<String>,
    /// Bytes the claim asks for.
    pub size: Option<u64>,
    /// `ReadWriteOnce`, …
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// File system.
    pub fs_type: Option<String>,
    /// Secrets its PersistentVolume names, as `namespace/name`: without them it cannot be mounted.
    pub secrets: Vec<String>,
    /// Which source told each fact: `exported`, `bundle` or `backup`.
    pub sources: BTreeMap<String, String>,
    /// Facts nobody told.
    pub unknown: Vec<String>,
    /// The former PersistentVolume, if a source has it.
    pub pv_object: Option<Value>,
    /// The former claim, if a source has it.
    pub claim_object: Option<Value>,
    /// Spec of the former volume, if a source has it.
    pub volume_spec: Option<Value>,
    /// Labels of the former volume that say which recurring jobs it has; a volume without any joins the group `default`.
    pub job_labels: BTreeMap<String, String>,
}

/// All volumes that must come back, and those that must not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExpectedSet {
    /// By claim, those without one at the end.
    pub volumes: Vec<Expected>,
    /// Volumes that have backups and were gone or replaced already, and why this is thought.
    pub retired: BTreeMap<String, String>,
}

/// How the labels begin that say which recurring jobs a volume has.
const JOB_LABELS: [&str; 2] = ["recurring-job.longhorn.io/", "recurring-job-group.longhorn.io/"];

/// Label of a backup that names the application's check, and annotation of a claim that does.
const CHECK: &str = "lhrun.io/check";

/// What the sources are called.
const EXPORTED: &str = "exported";
const BUNDLE: &str = "bundle";
const BACKUP: &str = "backup";

/// Merges the sources.
///
/// `bundle_at` is the moment of the system backup: a volume it does not know and whose last backup is older was deleted
/// before. `as_of` limits the age of the backups' data from above.
pub fn expected(
    exported: Option<&Inventory>,
    bundle: Option<&Inventory>,
    bundle_at: Option<Timestamp>,
    backups: &[Backup],
    as_of: Option<Timestamp>,
) -> ExpectedSet {
    let sources: Vec<_> = [(EXPORTED, exported), (BUNDLE, bundle)]
        .into_iter()
        .filter_map(|(name, inventory)| inventory.map(|inventory| (name, inventory)))
        .collect();
    let (mut listed, mut left) = (BTreeSet::new(), BTreeMap::new());
    for (_, inventory) in &sources {
        let leftovers = inventory.leftovers();
        listed.extend(inventory.volume_names().filter(|volume| !leftovers.contains_key(volume)));
        left.extend(leftovers);
    }
    let backed_up: BTreeSet<&str> =
        backups.iter().filter(|backup| backup.complete).map(|b| b.volume.as_str()).collect();
    let mut set = ExpectedSet::default();
    for (volume, pv) in left {
        if !listed.contains(volume) && !backed_up.contains(volume) {
            let why = format!("only its PersistentVolume {pv} was left, without volume, claim or backup");
            set.retired.insert(volume.to_string(), why);
        }
    }
    for volume in listed.union(&backed_up) {
        let expected = merge(volume, &sources, backups, as_of);
        let last = newest(backups, volume, None).and_then(Backup::data_moment);
        let gone = !listed.contains(volume) && bundle_at.zip(last).is_some_and(|(bundle, last)| last < bundle);
        // As one that was kept aside when its claim got another: there is nothing to bring back, and nobody to miss it.
        let unused = expected.volume_spec.is_some()
            && expected.claim.is_none()
            && expected.recorded_backup.is_none()
            && !backups.iter().any(|backup| backup.volume == *volume);
        let why = if gone {
            "the system backup, made after its last backup, does not know it"
        } else if unused {
            "it had neither a claim nor a backup"
        } else {
            set.volumes.push(expected);
            continue;
        };
        set.retired.insert((*volume).to_string(), why.to_string());
    }
    retire_replaced(&mut set);
    set.volumes.sort_by_key(|expected| (expected.claim.is_none(), expected.claim.clone(), expected.volume.clone()));
    set
}

fn merge(volume: &str, sources: &[(&str, &Inventory)], backups: &[Backup], as_of: Option<Timestamp>) -> Expected {
    let mut expected = Expected { volume: volume.to_string(), ..Expected::default() };
    let chosen = newest(backups, volume, as_of);
    if let Some(backup) = chosen {
        expected.backup = Some(backup.name.clone());
        expected.taken.clone_from(&backup.snapshot_time);
    }
    for (source, inventory) in sources {
        learn(&mut expected, source, inventory, volume);
    }
    if let Some(backup) = chosen {
        learn_from_backup(&mut expected, backup, backups);
    }
    let recorded =
        expected.recorded_backup.as_ref().and_then(|name| backups.iter().find(|backup| backup.name == *name));
    let moments = chosen.and_then(Backup::data_moment).zip(recorded.and_then(Backup::data_moment));
    expected.skew_seconds = moments.map(|(chosen, recorded)| chosen.as_second() - recorded.as_second());
    expected.namespace =
        expected.claim.as_ref().and_then(|claim| claim.split_once('/')).map(|(namespace, _)| namespace.to_string());
    expected.source = expected.sources.get("claim").cloned();
    expected.secrets = secrets(expected.pv_object.as_ref());
    let facts = ["claim", "pv", "class", "size", "access_modes", "volume_mode", "fs_type", "volume_spec"];
    expected.unknown =
        facts.iter().filter(|fact| !expected.sources.contains_key(**fact)).map(|fact| (*fact).to_string()).collect();
    expected
}

/// The secrets a PersistentVolume names.
fn secrets(pv: Option<&Value>) -> Vec<String> {
    let csi = pv.and_then(|pv| pv.pointer("/spec/csi")?.as_object());
    let references = csi.into_iter().flatten().filter(|(key, _)| key.ends_with("SecretRef"));
    let names = references.filter_map(|(_, secret)| {
        Some(format!("{}/{}", fields::some(secret, "/namespace")?, fields::some(secret, "/name")?))
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Takes every fact the inventory knows and no source before it knew.
fn learn(expected: &mut Expected, source: &str, inventory: &Inventory, volume: &str) {
    let claim = inventory.claim_of(volume);
    let claim_object = claim.as_ref().and_then(|key| inventory.claims.get(key)).cloned();
    let pv_object = inventory.persistent_volumes.get(volume).cloned();
    let volume_object = inventory.volumes.get(volume);
    let both = [&claim_object, &pv_object];
    let first = |pointer: &str| both.iter().find_map(|object| fields::owned(object.as_ref()?, pointer));
    let modes = both.iter().find_map(|object| {
        let modes: Vec<_> =
            fields::list(object.as_ref()?, "/spec/accessModes").iter().filter_map(Value::as_str).collect();
        (!modes.is_empty()).then(|| modes.into_iter().map(str::to_string).collect::<Vec<_>>())
    });
    let size = claim_object
        .as_ref()
        .and_then(|claim| fields::owned(claim, "/spec/resources/requests/storage"))
        .or_else(|| fields::owned(pv_object.as_ref()?, "/spec/capacity/storage"))
        .and_then(|text| quantity::parse(&text));
    let sources = &mut expected.sources;
    take(
        sources,
        source,
        "pv",
        &mut expected.pv,
        pv_object.as_ref().and_then(|pv| fields::owned(pv, "/metadata/name")),
    );
    take(sources, source, "class", &mut expected.class, first("/spec/storageClassName"));
    take(sources, source, "size", &mut expected.size, size);
    take(sources, source, "volume_mode", &mut expected.volume_mode, first("/spec/volumeMode"));
    let fs_type = pv_object.as_ref().and_then(|pv| fields::owned(pv, "/spec/csi/fsType"));
    take(sources, source, "fs_type", &mut expected.fs_type, fs_type);
    let spec = volume_object.and_then(|object| object.pointer("/spec").cloned());
    let is_new = expected.volume_spec.is_none() && spec.is_some();
    if let Some(object) = volume_object.filter(|_| is_new) {
        expected.job_labels = fields::map(object, "/metadata/labels");
        expected.job_labels.retain(|key, _| JOB_LABELS.iter().any(|prefix| key.starts_with(prefix)));
    }
    take(sources, source, "volume_spec", &mut expected.volume_spec, spec);
    take(sources, source, "claim_object", &mut expected.claim_object, claim_object);
    take(sources, source, "pv_object", &mut expected.pv_object, pv_object);
    take(sources, source, "claim", &mut expected.claim, claim);
    let mut known = Some(std::mem::take(&mut expected.access_modes)).filter(|modes| !modes.is_empty());
    take(sources, source, "access_modes", &mut known, modes);
    expected.access_modes = known.unwrap_or_default();
    let recorded = volume_object.and_then(|object| fields::owned(object, "/status/lastBackup"));
    take(sources, source, "recorded_backup", &mut expected.recorded_backup, recorded);
}

fn learn_from_backup(expected: &mut Expected, backup: &Backup, backups: &[Backup]) {
    // An older backup may know the claim that the chosen one, made without the label, does not.
    let older = || {
        let mut all: Vec<_> =
            backups.iter().filter(|other| other.volume == backup.volume && other.claim_info.is_some()).collect();
        all.sort_by_key(|other| other.data_moment());
        all.last().and_then(|other| other.claim_info.clone())
    };
    let info = backup.claim_info.clone().or_else(older);
    let sources = &mut expected.sources;
    let claim = info.as_ref().map(|info| format!("{}/{}", info.namespace, info.name));
    take(sources, BACKUP, "claim", &mut expected.claim, claim);
    take(sources, BACKUP, "claim_object", &mut expected.claim_object, claim_with_check(backup, backups));
    take(sources, BACKUP, "pv", &mut expected.pv, info.and_then(|info| info.pv));
    take(sources, BACKUP, "size", &mut expected.size, Some(backup.volume_size).filter(|size| *size > 0));
    if expected.access_modes.is_empty()
        && let Some(mode) = &backup.access_mode
    {
        expected.access_modes = vec![
            match mode.as_str() {
                "rwx" => "ReadWriteMany",
                "rwop" => "ReadWriteOncePod",
                _ => "ReadWriteOnce",
            }
            .to_string(),
        ];
        sources.insert("access_modes".to_string(), BACKUP.to_string());
    }
}

/// All that is known of the claim itself when no other source has it: its application's check, as the backup recorded it, or
/// an older one that does.
fn claim_with_check(backup: &Backup, backups: &[Backup]) -> Option<Value> {
    let of_volume = backups.iter().filter(|other| other.volume == backup.volume && other.labels.contains_key(CHECK));
    let older = of_volume.max_by_key(|other| other.data_moment()).map(|other| &other.labels[CHECK]);
    let check = backup.labels.get(CHECK).or(older)?;
    Some(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"annotations": {CHECK: check}}}))
}

fn take<T>(sources: &mut BTreeMap<String, String>, source: &str, fact: &str, known: &mut Option<T>, told: Option<T>) {
    if known.is_none() && told.is_some() {
        *known = told;
        sources.insert(fact.to_string(), source.to_string());
    }
}

/// One claim has one volume: of several, the one a better source names stays, else the one backed up last.
fn retire_replaced(set: &mut ExpectedSet) {
    let rank = |expected: &Expected| {
        let source = match expected.sources.get("claim").map(String::as_str) {
            Some(EXPORTED) => 2,
            Some(BUNDLE) => 1,
            _ => 0,
        };
        (source, expected.taken.clone())
    };
    let mut best: BTreeMap<String, (_, String)> = BTreeMap::new();
    for expected in &set.volumes {
        let Some(claim) = &expected.claim else { continue };
        let candidate = (rank(expected), expected.volume.clone());
        best.entry(claim.clone()).and_modify(|kept| *kept = candidate.clone().max(kept.clone())).or_insert(candidate);
    }
    let winner = |expected: &Expected| {
        let claim = expected.claim.as_ref()?;
        best.get(claim).map(|(_, volume)| volume.clone()).filter(|volume| *volume != expected.volume)
    };
    let mut retired = BTreeMap::new();
    set.volumes.retain(|expected| match winner(expected) {
        Some(other) => {
            let claim = expected.claim.as_deref().unwrap_or_default();
            retired.insert(expected.volume.clone(), format!("the claim {claim} is now on the volume {other}"));
            false
        }
        None => true,
    });
    set.retired.extend(retired);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(volume: &str, name: &str, at: &str, claim: Option<&str>) -> Backup {
        let mut labels = json!({"longhorn.io/volume-access-mode": "rwo"});
        if let Some((namespace, pvc)) = claim.and_then(|claim| claim.split_once('/')) {
            let status = json!({"namespace": namespace, "pvcName": pvc, "pvName": volume, "lastPVCRefAt": ""});
            labels["KubernetesStatus"] = status.to_string().into();
        }
        Backup::read(
            &json!({"metadata": {"name": name}, "status": {"state": "Completed", "url": "s3://b@r/?", "volumeName": volume,
            "lastSyncedAt": at, "snapshotCreatedAt": at, "volumeSize": "1073741824", "labels": labels}}),
        )
    }

    fn inventory(volume: &str, claim: &str, class: &str, last_backup: &str) -> Inventory {
        let (namespace, name) = claim.split_once('/').unwrap();
        Inventory::of(&[
            json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": volume},
                "spec": {"numberOfReplicas": 2}, "status": {"lastBackup": last_backup}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("pv-{volume}")}, "spec": {
                "storageClassName": class, "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "driver.longhorn.io", "volumeHandle": volume, "fsType": "xfs"}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
                "spec": {"volumeName": format!("pv-{volume}"), "storageClassName": class, "accessModes": ["ReadWriteMany"],
                    "resources": {"requests": {"storage": "1Gi"}}}}),
        ])
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_export_wins_over_the_bundle_and_the_bundle_over_the_backup() {
        let backups = [backup("v", "b1", "2026-11-20T02:00:00Z", Some("old/claim"))];
        let exported = inventory("v", "app/data", "fast", "");
        let bundle = inventory("v", "app/former", "slow", "b1");
        let set = expected(Some(&exported), Some(&bundle), None, &backups, None);
        let [only] = set.volumes.as_slice() else { panic!("{set:?}") };
        assert_eq!((only.claim.as_deref(), only.class.as_deref()), (Some("app/data"), Some("fast")));
        assert_eq!((only.namespace.as_deref(), only.pv.as_deref()), (Some("app"), Some("pv-v")));
        assert_eq!((only.sources["claim"].as_str(), only.sources["recorded_backup"].as_str()), ("exported", "bundle"));
        assert_eq!(only.access_modes, ["ReadWriteMany"]);
        assert_eq!(only.unknown, ["volume_mode"]);
        let set = expected(None, Some(&bundle), None, &backups, None);
        assert_eq!(set.volumes[0].claim.as_deref(), Some("app/former"));
        let set = expected(None, None, None, &backups, None);
        let only = &set.volumes[0];
        assert_eq!((only.claim.as_deref(), only.sources["claim"].as_str()), (Some("old/claim"), "backup"));
        assert_eq!(
            (only.size, only.access_modes.as_slice()),
            (Some(1 << 30), ["ReadWriteOnce".to_string()].as_slice())
        );
        assert_eq!(only.unknown, ["class", "volume_mode", "fs_type", "volume_spec"]);
    }

    #[test]
    fn the_newest_backup_is_taken_and_the_skew_to_the_recorded_one_told() {
        let backups =
            [backup("v", "b1", "2026-11-20T02:00:00Z", None), backup("v", "b2", "2026-11-21T03:00:00Z", None)];
        let bundle = inventory("v", "app/data", "fast", "b1");
        let set = expected(None, Some(&bundle), None, &backups, None);
        assert_eq!((set.volumes[0].backup.as_deref(), set.volumes[0].skew_seconds), (Some("b2"), Some(90_000)));
        let set = expected(None, Some(&bundle), None, &backups, Some(moment("2026-11-20T12:00:00Z")));
        assert_eq!((set.volumes[0].backup.as_deref(), set.volumes[0].skew_seconds), (Some("b1"), Some(0)));
        // Pruned since: the system restore would skip the volume without a word.
        let set = expected(None, Some(&bundle), None, &backups[1..], None);
        assert_eq!((set.volumes[0].recorded_backup.as_deref(), set.volumes[0].skew_seconds), (Some("b1"), None));
    }

    #[test]
    fn a_volume_keeps_the_recurring_jobs_it_had() {
        let mut bundle = inventory("v", "app/data", "fast", "");
        bundle.volumes.get_mut("v").unwrap()["metadata"]["labels"] =
            json!({"recurring-job-group.longhorn.io/weekly": "enabled", "longhornvolume": "v"});
        let set = expected(None, Some(&bundle), None, &[], None);
        let labels: Vec<_> = set.volumes[0].job_labels.keys().collect();
        assert_eq!(labels, ["recurring-job-group.longhorn.io/weekly"]);
    }

    #[test]
    fn the_secrets_a_volume_needs_are_named_once() {
        let secret = json!({"name": "longhorn-crypto", "namespace": "longhorn-system"});
        let pv =
            json!({"spec": {"csi": {"nodeStageSecretRef": secret, "nodePublishSecretRef": secret, "driver": "d"}}});
        assert_eq!(secrets(Some(&pv)), ["longhorn-system/longhorn-crypto"]);
        assert!(secrets(None).is_empty());
    }

    #[test]
    fn a_volume_without_any_backup_is_expected_and_cannot_be_restored() {
        let bundle = inventory("v", "app/data", "fast", "");
        let set = expected(None, Some(&bundle), None, &[], None);
        assert_eq!((set.volumes.len(), set.volumes[0].backup.as_deref()), (1, None));
    }

    #[test]
    fn deleted_and_replaced_volumes_are_retired_with_a_reason() {
        let bundle = inventory("new", "app/data", "fast", "");
        let backups = [
            backup("gone", "g", "2026-11-01T00:00:00Z", Some("app/other")),
            backup("later", "l", "2026-11-22T00:00:00Z", Some("app/young")),
            backup("old", "o", "2026-11-22T00:00:00Z", Some("app/data")),
            backup("new", "n", "2026-11-19T00:00:00Z", Some("app/data")),
        ];
        let set = expected(None, Some(&bundle), Some(moment("2026-11-20T00:00:00Z")), &backups, None);
        let names: Vec<_> = set.volumes.iter().map(|expected| expected.volume.as_str()).collect();
        assert_eq!(names, ["new", "later"]);
        assert!(set.retired["gone"].contains("does not know it"));
        assert!(set.retired["old"].contains("now on the volume new"));
    }

    #[test]
    fn a_volume_with_neither_claim_nor_backup_is_not_missed() {
        let volume = json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "aside"}, "spec": {},
            "status": {"lastBackup": "", "kubernetesStatus": {"namespace": "app", "pvcName": "data",
                "lastPVCRefAt": "2026-11-20T00:00:00Z"}}});
        let mut bundle = Inventory::of(&[volume]);
        let set = expected(None, Some(&bundle), None, &[], None);
        assert!(set.volumes.is_empty() && set.retired["aside"].contains("neither a claim nor a backup"), "{set:?}");
        let backups = [backup("aside", "b", "2026-11-20T02:00:00Z", None)];
        assert_eq!(expected(None, Some(&bundle), None, &backups, None).volumes.len(), 1);
        // It had one, and that is lost: somebody will miss it.
        bundle.volumes.get_mut("aside").unwrap()["status"]["lastBackup"] = "b".into();
        assert_eq!(expected(None, Some(&bundle), None, &[], None).volumes.len(), 1);
    }

    #[test]
    fn the_check_of_a_claim_that_no_source_has_comes_from_its_backups() {
        let mut backups = [
            backup("v", "b1", "2026-11-20T02:00:00Z", Some("app/data")),
            backup("v", "b2", "2026-11-21T02:00:00Z", Some("app/data")),
        ];
        assert_eq!(expected(None, None, None, &backups, None).volumes[0].claim_object, None);
        backups[0].labels.insert(CHECK.to_string(), "apps/files".to_string());
        let check = |set: &ExpectedSet| {
            let claim = set.volumes[0].claim_object.clone().unwrap();
            fields::map(&claim, "/metadata/annotations").remove(CHECK)
        };
        assert_eq!(check(&expected(None, None, None, &backups, None)).as_deref(), Some("apps/files"));
        backups[1].labels.insert(CHECK.to_string(), "apps/postgres".to_string());
        assert_eq!(check(&expected(None, None, None, &backups, None)).as_deref(), Some("apps/postgres"));
        // A claim that is known is as it is known.
        let bundle = inventory("v", "app/data", "fast", "b2");
        assert_eq!(check(&expected(None, Some(&bundle), None, &backups, None)), None);
    }

    #[test]
    fn a_persistent_volume_that_was_left_over_is_told_and_not_expected() {
        let mut bundle = inventory("v", "app/data", "fast", "");
        let left = inventory("old", "app/copy", "fast", "").persistent_volumes.remove("old").unwrap();
        bundle.persistent_volumes.insert("old".into(), left.clone());
        let volumes = |set: &ExpectedSet| set.volumes.iter().map(|e| e.volume.clone()).collect::<Vec<_>>();
        let set = expected(None, Some(&bundle), None, &[], None);
        assert_eq!(volumes(&set), ["v"]);
        assert!(set.retired["old"].contains("PersistentVolume pv-old was left"), "{:?}", set.retired);
        // With its volume, or with a backup of it, it is no mere left-over.
        let mut with = bundle.clone();
        with.volumes.insert(
            "old".into(),
            json!({"kind": "Volume", "metadata": {"name": "old"}, "status": {"lastBackup": "o"}}),
        );
        assert_eq!(volumes(&expected(None, Some(&with), None, &[], None)).len(), 2);
        let backups = [backup("old", "o", "2026-11-22T00:00:00Z", Some("app/copy"))];
        assert_eq!(volumes(&expected(None, Some(&bundle), None, &backups, None)).len(), 2);
        // A claim that lost its volume is missed.
        let lost = inventory("lost", "app/lost", "fast", "");
        with.claims.extend(lost.claims);
        with.persistent_volumes.extend(lost.persistent_volumes);
        assert_eq!(volumes(&expected(None, Some(&with), None, &[], None)).len(), 3);
        // An export of nothing but PersistentVolumes says nothing of volumes and claims.
        let alone = Inventory::of([&left]);
        assert_eq!(volumes(&expected(Some(&alone), None, None, &[], None)), ["old"]);
        let mut released = left;
        released["status"] = json!({"phase": "Released"});
        assert!(expected(Some(&Inventory::of([&released])), None, None, &[], None).volumes.is_empty());
    }

    #[test]
    fn the_claim_is_found_in_an_older_backup() {
        let backups = [
            backup("v", "b1", "2026-11-20T02:00:00Z", Some("app/data")),
            backup("v", "b2", "2026-11-21T02:00:00Z", None),
        ];
        let set = expected(None, None, None, &backups, None);
        assert_eq!((set.volumes[0].backup.as_deref(), set.volumes[0].claim.as_deref()), (Some("b2"), Some("app/data")));
    }
}
