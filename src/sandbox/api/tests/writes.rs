use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

#[tokio::test]
async fn apply_creates_changes_and_leaves_alone() {
    let lab = Lab::start().await;
    let api: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "default");
    let apply = |manager: &str, data: Value| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let (api, params) = (api.clone(), PatchParams::apply(manager));
        async move { api.patch("a", &params, &Patch::Apply(object)).await }
    };
    let first = apply("one", json!({"x": "1", "y": "2"})).await.unwrap();
    let again = apply("one", json!({"x": "1", "y": "2"})).await.unwrap();
    assert_eq!(first.metadata.resource_version, again.metadata.resource_version);
    let entry = &first.metadata.managed_fields.as_ref().unwrap()[0];
    assert_eq!((entry.manager.as_deref(), entry.operation.as_deref()), (Some("one"), Some("Apply")));
    let less = apply("one", json!({"x": "1"})).await.unwrap();
    assert_eq!(less.data.unwrap().len(), 1);
    let conflict = apply("two", json!({"x": "9"})).await.unwrap_err();
    assert!(
        matches!(&conflict, kube::Error::Api(status) if status.code == 409 && status.message.contains(".data.x")),
        "{conflict}"
    );
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "9"}});
    let forced = api.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(wanted)).await.unwrap();
    assert_eq!(forced.data.unwrap()["x"], "9");
}

#[tokio::test]
async fn updates_and_status_writes_are_recorded_apart() {
    let lab = Lab::start().await;
    let (_, created) = lab.post(&format!("{DEPLOYMENTS}?fieldManager=me"), deployment(1)).await;
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "me");
    let status = format!("{DEPLOYMENTS}/web/status?fieldManager=controller");
    let (_, written) = lab.merge(&status, json!({"status": {"readyReplicas": 1}})).await;
    let entry = &written["metadata"]["managedFields"][1];
    assert_eq!((&entry["manager"], &entry["subresource"]), (&json!("controller"), &json!("status")));
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:readyReplicas": {}}}));
    // An empty entry forgets all managers, as kubectl's documentation says.
    let (_, forgotten) = lab.merge(&format!("{DEPLOYMENTS}/web"), json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(forgotten["metadata"]["managedFields"], json!(null));
}

#[tokio::test]
async fn strategic_patches_are_for_built_in_kinds() {
    let lab = Lab::start().await;
    lab.post(DEPLOYMENTS, deployment(1)).await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}}).to_string();
    let strategic = "application/strategic-merge-patch+json";
    let (code, patched) = lab.send("PATCH", &format!("{DEPLOYMENTS}/web"), strategic, &patch).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    assert_eq!(patched["metadata"]["generation"], 2);
    let (code, _) = lab.send("PATCH", &format!("{VOLUMES}/v"), strategic, "{}").await;
    assert_eq!(code, 415);
}

#[tokio::test]
async fn scale_counts_replicas() {
    let lab = Lab::start().await;
    lab.post(DEPLOYMENTS, deployment(2)).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let (_, scale) = lab.get(&path).await;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(2), &json!("app=web"))
    );
    let api: Api<Deployment> = Api::namespaced(lab.client.clone(), "default");
    let five = Patch::Merge(json!({"spec": {"replicas": 5}}));
    api.patch_scale("web", &PatchParams::default(), &five).await.unwrap();
    let mut old = scale.clone();
    old["spec"]["replicas"] = json!(7);
    assert_eq!(lab.put(&path, &old).await.0, 409);
    assert_eq!(lab.get(&path).await.1["spec"]["replicas"], 5);
    assert_eq!(lab.merge(&path, json!({"spec": {"replicas": -1}})).await.0, 422);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/a/scale")).await.0, 404);
}

fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    let mut object = config_map(name);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks,
    }]);
    object
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner() {
    let lab = Lab::start().await;
    for (policy, names) in [("Background", ["a", "aa"]), ("Foreground", ["b", "bb"])] {
        let (_, owner) = lab.post(CONFIG_MAPS, config_map("owner")).await;
        let (_, child) = lab.post(CONFIG_MAPS, owned(names[0], &owner, true)).await;
        lab.post(CONFIG_MAPS, owned(names[1], &child, true)).await;
        lab.delete(&format!("{CONFIG_MAPS}/owner?propagationPolicy={policy}")).await;
        for name in ["owner", names[0], names[1]] {
            lab.gone(&format!("{CONFIG_MAPS}/{name}")).await;
        }
    }
    // An owner that is gone before its dependent came.
    let ghost = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}});
    lab.post(CONFIG_MAPS, owned("late", &ghost, false)).await;
    lab.gone(&format!("{CONFIG_MAPS}/late")).await;
}

#[tokio::test]
async fn orphans_stay() {
    let lab = Lab::start().await;
    let (_, owner) = lab.post(CONFIG_MAPS, config_map("owner")).await;
    lab.post(CONFIG_MAPS, owned("a", &owner, true)).await;
    lab.delete(&format!("{CONFIG_MAPS}/owner?propagationPolicy=Orphan")).await;
    lab.gone(&format!("{CONFIG_MAPS}/owner")).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let (code, orphan) = lab.get(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!((code, &orphan["metadata"]["ownerReferences"]), (200, &json!(null)));
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_what_blocks_it() {
    let lab = Lab::start().await;
    let (_, owner) = lab.post(CONFIG_MAPS, config_map("owner")).await;
    let mut child = owned("a", &owner, true);
    child["metadata"]["finalizers"] = json!(["test/hold"]);
    lab.post(CONFIG_MAPS, child).await;
    lab.delete(&format!("{CONFIG_MAPS}/owner?propagationPolicy=Foreground")).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/owner")).await.0, 200);
    lab.merge(&format!("{CONFIG_MAPS}/a"), json!({"metadata": {"finalizers": null}})).await;
    lab.gone(&format!("{CONFIG_MAPS}/owner")).await;
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_empty() {
    let lab = Lab::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    lab.post("/api/v1/namespaces", namespace.clone()).await;
    let inside = "/api/v1/namespaces/n/configmaps";
    lab.post(inside, config_map("a")).await;
    let mut held = config_map("b");
    held["metadata"]["finalizers"] = json!(["test/hold"]);
    lab.post(inside, held).await;
    let (_, dying) = lab.delete("/api/v1/namespaces/n").await;
    assert_eq!(dying["status"]["phase"], "Terminating");
    lab.gone(&format!("{inside}/a")).await;
    let (code, refused) = lab.post(inside, config_map("c")).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
    assert_eq!(lab.get("/api/v1/namespaces/n").await.0, 200);
    lab.merge(&format!("{inside}/b"), json!({"metadata": {"finalizers": []}})).await;
    lab.gone("/api/v1/namespaces/n").await;
    assert_eq!(lab.post("/api/v1/namespaces", namespace).await.0, 201);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let lab = Lab::start().await;
    for name in ["a", "b"] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({"name": name});
        lab.post(CONFIG_MAPS, object).await;
    }
    let (code, gone) = lab.delete(&format!("{CONFIG_MAPS}?labelSelector=name%3Da")).await;
    assert_eq!((code, gone["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/a")).await.0, 404);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/b")).await.0, 200);
}

#[tokio::test]
async fn classes_and_secrets_get_their_defaults() {
    let lab = Lab::start().await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "x", "metadata": {
        "name": "longhorn", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    lab.post("/apis/storage.k8s.io/v1/storageclasses", class).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let (_, claim) = lab.post("/api/v1/namespaces/default/persistentvolumeclaims", claim).await;
    assert_eq!(
        (&claim["spec"]["storageClassName"], &claim["status"]["phase"]),
        (&json!("longhorn"), &json!("Pending"))
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "value"}});
    let (_, secret) = lab.post("/api/v1/namespaces/default/secrets", secret).await;
    assert_eq!(
        (&secret["data"]["k"], &secret["type"], &secret["stringData"]),
        (&json!("dmFsdWU="), &json!("Opaque"), &json!(null))
    );
}

#[tokio::test]
async fn what_the_server_adds_is_nobodys() {
    let lab = Lab::start().await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/apis/batch/v1/namespaces/default/jobs";
    let (_, created) = lab.post(path, job.clone()).await;
    assert!(created["spec"]["selector"].is_object());
    assert_eq!(created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:selector"], json!(null));
    let apply = "application/apply-patch+yaml";
    let (code, applied) =
        lab.send("PATCH", &format!("{path}/j?fieldManager=a&force=true"), apply, &job.to_string()).await;
    assert_eq!((code, &applied["spec"]["selector"]), (200, &created["spec"]["selector"]), "{applied}");
}

#[tokio::test]
async fn some_fields_stay_as_they_were_created() {
    let lab = Lab::start().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    lab.post(claims, claim).await;
    let path = format!("{claims}/c");
    for (change, code) in [
        (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), 422),
        (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), 200),
        (json!({"spec": {"volumeName": "pv-1"}}), 200),
        (json!({"spec": {"volumeName": "pv-2"}}), 422),
    ] {
        let (is, answer) = lab.merge(&path, change.clone()).await;
        assert_eq!(is, code, "{change}: {answer}");
    }
    let services = "/api/v1/namespaces/default/services";
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (_, first) = lab.post(services, service.clone()).await;
    let (code, second) = lab.put(&format!("{services}/s"), &service).await;
    assert_eq!((code, &second["spec"]["clusterIP"]), (200, &first["spec"]["clusterIP"]));
    assert!(second["spec"]["clusterIP"].as_str().unwrap().starts_with("10.43."));
}

#[tokio::test]
async fn objects_that_controllers_could_not_use_are_refused() {
    let lab = Lab::start().await;
    let mut unmatched = deployment(1);
    unmatched["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    let mut negative = deployment(1);
    negative["spec"]["replicas"] = json!(-1);
    let mut empty = deployment(1);
    empty["spec"]["template"]["spec"]["containers"] = json!([]);
    for (wrong, field) in [
        (unmatched, "spec.template.metadata.labels"),
        (negative, "spec.replicas"),
        (empty, "spec.template.spec.containers"),
    ] {
        let (code, status) = lab.post(DEPLOYMENTS, wrong).await;
        assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!(field)), "{status}");
    }
}
