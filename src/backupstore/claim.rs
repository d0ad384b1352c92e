//! What a backup knows of the claim it is of: the label `KubernetesStatus`.

use serde::{Deserialize, Serialize};

use super::config::Labels;

/// The label that holds it, as JSON.
pub const KUBERNETES_STATUS: &str = "KubernetesStatus";

/// Who used the volume when it was backed up. Backups made as plain `Backup` objects carry none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesStatus {
    /// The persistent volume.
    pub pv_name: String,
    /// Its phase: `Bound`, `Released`, …
    pub pv_status: String,
    /// The claim's namespace, empty when there was none.
    pub namespace: String,
    /// The claim, empty when there was none.
    pub pvc_name: String,
    /// When the claim was last seen, RFC 3339; empty while it is bound.
    #[serde(rename = "lastPVCRefAt")]
    pub last_pvc_ref_at: String,
    /// The pods that used the claim.
    pub workloads_status: Vec<Workload>,
    /// When a pod was last seen, RFC 3339; empty while there is one.
    pub last_pod_ref_at: String,
}

/// One pod that used a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// The pod.
    pub pod_name: String,
    /// Its phase.
    pub pod_status: String,
    /// What made the pod.
    pub workload_name: String,
    /// Its kind: `StatefulSet`, `ReplicaSet`, …
    pub workload_type: String,
}

impl KubernetesStatus {
    /// Reads the label; nothing when it is missing or is not what Longhorn writes.
    pub fn from_labels(labels: &Labels) -> Option<Self> {
        serde_json::from_str(labels.get(KUBERNETES_STATUS)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_longhorn_writes_is_read() {
        let label = r#"{"pvName":"pvc-0001","pvStatus":"Bound","namespace":"prod","pvcName":"data-postgres-0","lastPVCRefAt":"","workloadsStatus":[{"podName":"postgres-0","podStatus":"Running","workloadName":"postgres","workloadType":"StatefulSet"}],"lastPodRefAt":""}"#;
        let status = KubernetesStatus::from_labels(&Labels::from([(KUBERNETES_STATUS.into(), label.into())])).unwrap();
        assert_eq!((status.namespace.as_str(), status.pvc_name.as_str()), ("prod", "data-postgres-0"));
        assert_eq!(status.workloads_status[0].workload_type, "StatefulSet");
        assert_eq!(serde_json::to_string(&status).unwrap(), label);
        assert_eq!(KubernetesStatus::from_labels(&Labels::from([(KUBERNETES_STATUS.into(), "[".into())])), None);
        assert_eq!(KubernetesStatus::from_labels(&Labels::new()), None);
    }
}
