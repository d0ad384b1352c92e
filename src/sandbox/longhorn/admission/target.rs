//! Backup targets, and the objects that stand for what they hold.

use serde_json::Value;

use super::{Cluster, invalid, name_of};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{
        names,
        resource::{Fields, Resource},
        store::decoded,
    },
};

/// Keys of a credential Secret that must not have blanks around their values.
const KEYS: [&str; 9] = [
    "AWS_IAM_ROLE_ARN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINTS",
    "AWS_CERT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "VIRTUAL_HOSTED_STYLE",
];

pub(super) fn create(target: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    if !names::is_valid_name(name_of(target)) {
        return Err(invalid(format!("invalid name {}", name_of(target))));
    }
    check_url(target, cluster)?;
    check_secret(target, cluster)
}

pub(super) fn update(old: &Value, target: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let changed = |field: &str| old.text(field) != target.text(field);
    if changed("/spec/backupTargetURL") {
        check_url(target, cluster)?;
    }
    if changed("/spec/credentialSecret") {
        check_secret(target, cluster)?;
    }
    if changed("/spec/backupTargetURL") || changed("/spec/credentialSecret") {
        check_standby(cluster)?;
    }
    Ok(())
}

pub(super) fn delete(target: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let internal = target["metadata"]["annotations"].get("longhorn.io/delete-backup-target-from-longhorn").is_some();
    if name_of(target) == names::DEFAULT_TARGET && !internal {
        return Err(invalid("deleting default backup target is not allowed"));
    }
    check_standby(cluster)
}

pub(super) fn create_volume(volume: &Value) -> Result<(), Refusal> {
    if volume.text("/spec/backupTargetName").is_empty() || volume.text("/spec/volumeName").is_empty() {
        return Err(invalid("spec.backupTargetName and spec.volumeName of a backup volume are required"));
    }
    Ok(())
}

/// A duration needs a unit, which the schema's type asks for; and no two targets may share a place.
fn check_url(target: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let url = target.text("/spec/backupTargetURL");
    if url.is_empty() {
        return Ok(());
    }
    let Some((scheme, place)) = url.split_once("://") else {
        return Err(invalid(format!("failed to parse {url} as url")));
    };
    let path = place.split_once('/').map_or("", |(_, path)| path);
    let found: Vec<&str> = ["$", ","].into_iter().filter(|bad| path.contains(bad)).collect();
    if !found.is_empty() {
        return Err(invalid(format!("url {url}, contains {}", found.join(" or "))));
    }
    for other in cluster.list(Resource::BackupTarget) {
        let same = other.text("/spec/backupTargetURL").split_once("://").is_some_and(|(its_scheme, its_place)| {
            its_scheme.eq_ignore_ascii_case(scheme)
                && its_place.trim_end_matches('/').eq_ignore_ascii_case(place.trim_end_matches('/'))
        });
        if same && name_of(&other) != name_of(target) {
            return Err(invalid(format!("url {url} is the same to backup target {}", name_of(&other))));
        }
    }
    Ok(())
}

/// A missing Secret is accepted; one with blanks or newlines around a value is not.
fn check_secret(target: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let Ok(secret) = cluster.get(Resource::Secret, target.text("/spec/credentialSecret")) else { return Ok(()) };
    let mut faults = Vec::new();
    for key in KEYS {
        let Some(value) = decoded(secret["data"].get(key)) else { continue };
        for (at_start, place) in [(true, "leading"), (false, "trailing")] {
            for (blank, what) in [(' ', "whitespace"), ('\n', "newline")] {
                if if at_start { value.starts_with(blank) } else { value.ends_with(blank) } {
                    faults.push(format!("invalid {place} {what} in {key}"));
                }
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(invalid(format!("credential validation error(s): {}", faults.join("; "))))
}

fn check_standby(cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let volumes = cluster.list(Resource::Volume);
    let standby: Vec<&str> = volumes.iter().filter(|volume| volume.flag("/spec/Standby")).map(name_of).collect();
    if standby.is_empty() {
        return Ok(());
    }
    let list = standby.join(" ");
    Err(invalid(format!("cannot modify BackupTarget since there are existing standby volumes: map[{list}:{{}}]")))
}
