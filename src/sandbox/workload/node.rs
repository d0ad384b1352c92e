//! The one node.

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSystemInfo};
use kube::{Api, Client, api::ObjectMeta};
use serde_json::json;

use super::objects::{api_error, create, now, write_status};
use crate::{Result, sandbox::NODE};

/// Registers the node as ready. Nobody judges its heartbeat, so it stays ready as long as the cluster lives. At the
/// port, if any, it serves logs and exec to an API server that does not have them in its own process.
pub async fn register(client: &Client, kubelet_port: Option<u16>) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let labels = [
        ("kubernetes.io/hostname", NODE),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", std::env::consts::ARCH),
        ("node-role.kubernetes.io/control-plane", "true"),
    ];
    let node = Node {
        metadata: ObjectMeta {
            name: Some(NODE.into()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: None,
    };
    create(&api, &node).await?;
    let node = api.get(NODE).await.map_err(api_error)?;
    let time = now();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": time, "lastTransitionTime": time,
        })
    };
    let info = NodeSystemInfo {
        architecture: std::env::consts::ARCH.into(),
        container_runtime_version: "processes://1".into(),
        kubelet_version: concat!("v1.33.0+lhrun-", env!("CARGO_PKG_VERSION")).into(),
        operating_system: "linux".into(),
        os_image: "lhrun sandbox".into(),
        ..NodeSystemInfo::default()
    };
    let size = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    let status = json!({
        "capacity": size,
        "allocatable": size,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the sandbox does not measure it"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the sandbox does not measure it"),
            condition("Ready", "True", "KubeletReady", "pods run as local processes"),
        ],
        "nodeInfo": info,
        "daemonEndpoints": kubelet_port.map(|port| json!({"kubeletEndpoint": {"Port": port}})),
    });
    write_status(&api, &node, status).await
}
