//! Whether Longhorn's own restore of a system backup would bring back what is expected.
//!
//! It takes the backups the system backup recorded, makes volumes without one empty, leaves out those whose backup is
//! gone, puts the manager, settings and jobs of then in place of those of now, and says `Completed` to all of it
//! (longhorn-manager `controller/system_rollout_controller.go`).

use std::collections::BTreeMap;

use super::{Backup, Bundle, Expected, Version, Volume, fields};

/// Every reason against it; none means that it would bring back exactly the expected volumes.
///
/// `present` are the volumes that exist now.
pub fn risks(
    bundle: &Bundle,
    expected: &[Expected],
    backups: &[Backup],
    version: &Version,
    present: &[Volume],
) -> Vec<String> {
    let mut risks = Vec::new();
    match Version::parse(&bundle.version) {
        Some(made_by) if !made_by.same_release(version) => {
            risks.push(format!(
                "it was made by Longhorn {made_by}, this is {version}: a restore across releases is not supported"
            ));
        }
        Some(made_by) if made_by != *version => {
            risks.push(format!("it would put Longhorn {made_by} in place of {version}"));
        }
        Some(_) => {}
        None => risks.push(format!("the version that made it cannot be told: {:?}", bundle.version)),
    }
    if !present.is_empty() {
        risks.push(format!(
            "there are {} volumes already, and it would put settings and recurring jobs back to what they were",
            present.len()
        ));
    }
    let recorded: BTreeMap<&str, &serde_json::Value> =
        bundle.volumes.iter().map(|volume| (fields::name(volume), volume)).collect();
    for (name, volume) in &recorded {
        match expected.iter().find(|expected| expected.volume == *name) {
            None => risks.push(format!("it would bring back {name}, which is not expected")),
            Some(expected) => risks.extend(risk_of(expected, fields::text(volume, "/status/lastBackup"), backups)),
        }
    }
    let unknown = expected.iter().filter(|expected| !recorded.contains_key(expected.volume.as_str()));
    risks.extend(unknown.map(|expected| format!("it does not know the volume {}", expected.volume)));
    risks
}

fn risk_of(expected: &Expected, recorded: &str, backups: &[Backup]) -> Option<String> {
    let name = &expected.volume;
    if recorded.is_empty() {
        return Some(format!("it knows no backup of {name} and would make it empty"));
    }
    let known = backups.iter().any(|backup| backup.name == recorded && backup.volume == *name && backup.complete);
    if !known {
        return Some(format!("the backup {recorded} of {name} that it recorded is gone: it would leave {name} out"));
    }
    if expected.backup.as_deref() != Some(recorded) {
        let chosen = expected.backup.as_deref().unwrap_or("none");
        return Some(format!("of {name} it would restore {recorded}, not {chosen}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bundle(volumes: &[(&str, &str)]) -> Bundle {
        let volumes =
            volumes.iter().map(|(name, last)| json!({"metadata": {"name": name}, "status": {"lastBackup": last}}));
        Bundle {
            name: "sb".to_string(),
            version: "v1.10.2".to_string(),
            volumes: volumes.collect(),
            ..Bundle::default()
        }
    }

    fn expected(volume: &str, backup: &str) -> Expected {
        Expected { volume: volume.to_string(), backup: Some(backup.to_string()), ..Expected::default() }
    }

    fn backup(volume: &str, name: &str) -> Backup {
        Backup::read(&json!({"metadata": {"name": name}, "status": {"state": "Completed", "url": "s3://b@r/?",
            "volumeName": volume, "lastSyncedAt": "2026-11-22T00:00:00Z"}}))
    }

    fn found(bundle: &Bundle, expected: &[Expected], backups: &[Backup], present: &[Value]) -> Vec<String> {
        let version = Version::parse("v1.10.2").unwrap();
        let present: Vec<_> = present.iter().map(Volume::read).collect();
        risks(bundle, expected, backups, &version, &present)
    }

    #[test]
    fn a_bundle_that_records_what_is_expected_has_none() {
        let backups = [backup("v", "b1")];
        assert!(found(&bundle(&[("v", "b1")]), &[expected("v", "b1")], &backups, &[]).is_empty());
    }

    #[test]
    fn each_way_it_would_go_wrong_is_named() {
        let backups = [backup("v", "b1"), backup("v", "b2")];
        let one = |bundle: &Bundle, expected: &[Expected], says: &str| {
            let risks = found(bundle, expected, &backups, &[]);
            assert!(risks.len() == 1 && risks[0].contains(says), "{says}: {risks:?}");
        };
        one(&bundle(&[("v", "b1")]), &[expected("v", "b2")], "of v it would restore b1, not b2");
        one(&bundle(&[("v", "b0")]), &[expected("v", "b2")], "the backup b0 of v that it recorded is gone");
        one(&bundle(&[("v", "")]), &[expected("v", "b2")], "would make it empty");
        one(&bundle(&[]), &[expected("v", "b2")], "does not know the volume v");
        one(&bundle(&[("v", "b2"), ("w", "b2")]), &[expected("v", "b2")], "bring back w, which is not expected");
        let mut other = bundle(&[("v", "b2")]);
        other.version = "v1.10.1".to_string();
        one(&other, &[expected("v", "b2")], "put Longhorn v1.10.1 in place of v1.10.2");
        other.version = "v1.9.2".to_string();
        one(&other, &[expected("v", "b2")], "made by Longhorn v1.9.2, this is v1.10.2");
        other.version = "latest".to_string();
        one(&other, &[expected("v", "b2")], "cannot be told");
        let present = [json!({"metadata": {"name": "x"}})];
        let risks = found(&bundle(&[("v", "b2")]), &[expected("v", "b2")], &backups, &present);
        assert!(risks.len() == 1 && risks[0].contains("there are 1 volumes already"), "{risks:?}");
    }

    #[test]
    fn a_backup_of_that_name_of_another_volume_does_not_count() {
        let risks = found(&bundle(&[("v", "b1")]), &[expected("v", "b1")], &[backup("w", "b1")], &[]);
        assert!(risks[0].contains("is gone"), "{risks:?}");
    }
}
