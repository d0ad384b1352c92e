//! Restores on a cluster that stays: what was lost comes back, and what is there is left alone.

use crate::{client::Client, lab::Place};

/// A volume is lost with its namespace, restored, and left alone by a second restore.
pub fn twice(lab: &Place) {
    lab.script(r#"import "apps/postgres-test" as app; app::deploy(); app::seed(1000);"#).success();
    lab.lhrun(["run", "backup-now"]).success().says("postgres-test/data-postgres-test-0");
    lab.lhrun(["run", "system-backup"]).success();

    // Nothing is lost yet, so there is nothing to bring back.
    lab.lhrun(["run", "full-restore"]).success().says("nothing to do").says("nothing was changed");

    lab.script(r#"kube::delete("namespace", "postgres-test", #{ wait: true, timeout: "60s" });"#).success();
    // The volume goes after its claim, and a restore into one that is going would be lost with it.
    let volumes = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes";
    Client::new(&lab.access.kubeconfig)
        .wait(volumes, "empty", |_, list| list["items"].as_array().is_some_and(Vec::is_empty));
    lab.lhrun(["run", "verify-restore"]).code(3).says("missing");
    lab.lhrun(["run", "full-restore"]).success().says("1 of 1 volumes are back");
    lab.lhrun(["run", "full-restore"]).success().says("nothing to do").says("nothing was changed");

    // The claim alone is lost: its volume is still there, and gets it back.
    lab.script(
        r#"
        let pv = kube::get("pvc", "postgres-test/data-postgres-test-0").spec.volumeName;
        kube::patch("pv", pv, #{ spec: #{ persistentVolumeReclaimPolicy: "Retain" } });
        kube::delete("pvc", "postgres-test/data-postgres-test-0", #{ wait: true, timeout: "60s" });
        "#,
    )
    .success();
    lab.lhrun(["run", "full-restore"]).success().says("1 of 1 volumes are back");

    // Without its application nobody can say what is in the volume, and that is not green.
    lab.lhrun(["run", "verify-restore"]).code(6).says("content");
    lab.script(r#"import "apps/postgres-test" as app; app::deploy();"#).success();
    lab.lhrun(["run", "verify-restore"]).success().says("rows in table orders: 1000");
}
