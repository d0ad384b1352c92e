//! Claims of Longhorn's storage classes: a volume and a PersistentVolume for each, and growth when a claim grows, as the
//! CSI provisioner and resizer do.

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::{
    cache::Object,
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
};
use crate::{Error, Kind, Result};

/// Set on a claim by the binder once no volume fits it: only then a new one is wanted.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
const MIB: u64 = 1 << 20;

pub(super) async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Again> {
    let Some(claim) = context.cache.get(Resource::Claim, namespace, name) else { return Ok(None) };
    if claim.deleting() {
        return Ok(None);
    }
    if claim.text("/spec/volumeName").is_empty() {
        if claim.annotation(PROVISIONER) == names::DRIVER {
            provision(context, &claim).await?;
        }
    } else {
        grow(context, &claim).await?;
    }
    Ok(None)
}

async fn provision(context: &Context, claim: &DynamicObject) -> Result<()> {
    let volume_name = format!("pvc-{}", claim.uid().unwrap_or_default());
    if context.get(Resource::PersistentVolume, &volume_name).is_some() {
        return Ok(());
    }
    let class_name = claim.text("/spec/storageClassName");
    let Some(class) = context.get(Resource::StorageClass, class_name) else { return Ok(()) };
    let size = volume_size(claim)?;
    let Some(volume) = context.get(Resource::Volume, &volume_name) else {
        context
            .event(
                (Resource::Claim, claim),
                false,
                "Provisioning",
                &format!(
                    "External provisioner is provisioning volume for claim \"{}/{}\"",
                    claim.namespace().unwrap_or_default(),
                    claim.name_any()
                ),
            )
            .await;
        return match context.create(Resource::Volume, new_volume(claim, &class, &volume_name, size)).await {
            // The new volume's own changes bring us back.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            Err(error) => {
                let message = format!("failed to provision volume with StorageClass \"{class_name}\": {error}");
                context.event((Resource::Claim, claim), true, "ProvisioningFailed", &message).await;
                Err(error)
            }
        };
    };
    let restored = !volume.flag("/status/restoreRequired")
        && (volume.text("/spec/fromBackup").is_empty() || volume.flag("/status/restoreInitiated"));
    if volume.text("/status/state") != "detached" || volume.text("/status/robustness") == "faulted" || !restored {
        return Ok(());
    }
    context.ensure(Resource::PersistentVolume, persistent_volume(claim, &class, &volume)).await?;
    let message = format!("Successfully provisioned volume {volume_name}");
    context.event((Resource::Claim, claim), false, "ProvisioningSucceeded", &message).await;
    Ok(())
}

fn new_volume(claim: &DynamicObject, class: &DynamicObject, name: &str, size: u64) -> Value {
    let parameter = |key: &str| class.field("/parameters").get(key).and_then(Value::as_str).unwrap_or_default();
    let or = |key: &str, default: &str| {
        if parameter(key).is_empty() { default.to_owned() } else { parameter(key).to_owned() }
    };
    let shared =
        claim.field("/spec/accessModes").as_array().is_some_and(|modes| modes.iter().any(|m| m == "ReadWriteMany"));
    let replicas = parameter("numberOfReplicas").parse::<u32>().unwrap_or_default();
    let list =
        |key: &str| parameter(key).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    json!({
        "metadata": {"name": name, "labels": job_labels(parameter("recurringJobSelector"))},
        "spec": {
            "size": size.to_string(), "frontend": "blockdev", "numberOfReplicas": replicas,
            "staleReplicaTimeout": parameter("staleReplicaTimeout").parse::<u32>().unwrap_or(2880),
            "accessMode": if shared { "rwx" } else { "rwo" }, "dataEngine": or("dataEngine", "v1"),
            "dataLocality": parameter("dataLocality"), "fromBackup": parameter("fromBackup"),
            "backupTargetName": or("backupTargetName", names::DEFAULT_TARGET),
            "encrypted": parameter("encrypted") == "true", "migratable": parameter("migratable") == "true",
            "backingImage": parameter("backingImage"), "diskSelector": list("diskSelector"),
            "nodeSelector": list("nodeSelector"), "Standby": false,
        },
    })
}

/// Labels from the class parameter `recurringJobSelector`: `[{"name":"backup","isGroup":false}]`.
fn job_labels(selector: &str) -> Value {
    let jobs: Vec<Value> = serde_json::from_str(selector).unwrap_or_default();
    let mut labels = serde_json::Map::new();
    for job in &jobs {
        let prefix = if job.flag("/isGroup") { names::LABEL_JOB_GROUP } else { names::LABEL_JOB };
        if !job.text("/name").is_empty() {
            labels.insert(format!("{prefix}{}", job.text("/name")), "enabled".into());
        }
    }
    Value::Object(labels)
}

fn persistent_volume(claim: &DynamicObject, class: &DynamicObject, volume: &DynamicObject) -> Value {
    let name = volume.name_any();
    let mut attributes = class.field("/parameters").clone();
    if !attributes.is_object() {
        attributes = json!({});
    }
    let file_system = attributes.as_object_mut().and_then(|map| map.remove("fsType"));
    attributes["storage.kubernetes.io/csiProvisionerIdentity"] = names::DRIVER.into();
    json!({
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: names::DRIVER,
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": ""},
            "finalizers": [PROVISIONER_FINALIZER, "kubernetes.io/pv-protection"],
        },
        "spec": {
            "capacity": {"storage": quantity(volume.number("/spec/size"))},
            "accessModes": claim.field("/spec/accessModes"),
            "persistentVolumeReclaimPolicy": class.field("/reclaimPolicy").as_str().unwrap_or("Delete"),
            "storageClassName": class.name_any(),
            "volumeMode": claim.field("/spec/volumeMode").as_str().unwrap_or("Filesystem"),
            "mountOptions": class.field("/mountOptions"),
            "csi": {"driver": names::DRIVER, "fsType": file_system.unwrap_or_else(|| "ext4".into()),
                "volumeHandle": name, "volumeAttributes": attributes},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
                "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version()},
        },
    })
}

/// Follows a bound claim that asks for more than it has.
async fn grow(context: &Context, claim: &DynamicObject) -> Result<()> {
    let Some(bound) = context.get(Resource::PersistentVolume, claim.text("/spec/volumeName")) else { return Ok(()) };
    let ours = bound.text("/spec/csi/driver") == names::DRIVER
        && bound.text("/spec/claimRef/uid") == claim.uid().unwrap_or_default();
    let asked = volume_size(claim)?;
    if !ours || asked <= bytes(bound.text("/spec/capacity/storage"))? {
        return Ok(());
    }
    let Some(class) = context.get(Resource::StorageClass, claim.text("/spec/storageClassName")) else { return Ok(()) };
    let Some(volume) = context.get(Resource::Volume, bound.text("/spec/csi/volumeHandle")) else { return Ok(()) };
    if !class.flag("/allowVolumeExpansion") {
        return Ok(());
    }
    let volume: Object = context.merge(Resource::Volume, &volume, json!({"spec": {"size": asked.to_string()}})).await?;
    let size = json!({"storage": quantity(volume.number("/spec/size"))});
    context.merge(Resource::PersistentVolume, &bound, json!({"spec": {"capacity": size}})).await?;
    context.set_status(Resource::Claim, claim, json!({"capacity": size})).await.map(drop)
}

/// What a claim asks for, rounded up to whole 2 MiB, which is what Longhorn's volumes are made of.
fn volume_size(claim: &DynamicObject) -> Result<u64> {
    let asked = bytes(claim.text("/spec/resources/requests/storage"))?;
    Ok(asked.max(1).div_ceil(2 * MIB) * 2 * MIB)
}

/// A Kubernetes quantity in bytes, rounded up.
fn bytes(quantity: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 10] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| quantity.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((quantity, 1.0));
    let size = number.parse::<f64>().ok().map(|number| (number * factor).ceil());
    match size {
        // Within what a double holds exactly.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by the guard")]
        Some(size) if (0.0..9e15).contains(&size) => Ok(size as u64),
        _ => Err(Error::new(Kind::Invalid, format!("{quantity:?} is not a size"))),
    }
}

/// The shortest quantity of that many bytes.
fn quantity(bytes: u64) -> String {
    let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (MIB, "Mi")];
    units
        .iter()
        .find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| bytes.to_string(), |(factor, unit)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        assert_eq!(bytes("10Gi").ok(), Some(10 << 30));
        assert_eq!(bytes("1.5Mi").ok(), Some(1_572_864));
        assert_eq!(bytes("2G").ok(), Some(2_000_000_000));
        assert_eq!(bytes("1024").ok(), Some(1024));
        for bad in ["", "x", "-1Gi", "1Xi", "NaN", "inf", "1e30Pi"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
        assert_eq!(quantity(10 << 30), "10Gi");
        assert_eq!(quantity(34 << 20), "34Mi");
        assert_eq!(quantity(1000), "1000");
    }

    #[test]
    fn the_class_chooses_the_jobs() {
        let labels = job_labels(r#"[{"name":"nightly","isGroup":false},{"name":"db","isGroup":true}]"#);
        assert_eq!(
            labels,
            json!({"recurring-job.longhorn.io/nightly": "enabled", "recurring-job-group.longhorn.io/db": "enabled"})
        );
        assert_eq!(job_labels("not json"), json!({}));
    }
}
