//! A restore while what was lost is still going: nothing is built upon what will be gone in a moment, and nothing that can be
//! kept is lost to it.

use std::time::Duration;

use crate::lab::Lab;

const FINALIZERS: &str = r#"
fn hold_back(volume, is_held) {
    let finalizers = kube::get("volumes.longhorn.io", `longhorn-system/${volume}`).metadata.finalizers.filter(|f| f != "lhrun.io/test");
    if is_held { finalizers.push("lhrun.io/test"); }
    kube::patch("volumes.longhorn.io", `longhorn-system/${volume}`, #{ metadata: #{ finalizers: finalizers } });
}
"#;

#[test]
fn a_volume_that_is_still_being_deleted_is_waited_for_and_its_claim_keeps_its_check() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let script = |text: &str| lab.script(&format!("{FINALIZERS}{text}")).success();
    let said = script(
        r#"let volume = longhorn::volume_of("files-test/data");
           hold_back(volume, true);
           print(volume);
           kube::delete("namespace", "files-test", #{ wait: true });"#,
    )
    .stdout();
    let volume = said.lines().find(|line| line.starts_with("pvc-")).expect("the volume's name").to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(4));
            script(&format!("hold_back(\"{volume}\", false);"));
        });
        lab.lhrun(["run", "full-restore"])
            .success()
            .says(&format!("volume {volume}"))
            .says("being deleted: ")
            .says("1 of 1 volumes are back");
    });
    lab.lhrun(["run", "full-restore"]).success().says("nothing to do").says("nothing was changed");
    // No system backup knew the claim; its backup did.
    script(
        r#"check::equal("its check", kube::get("pvc", "files-test/data").metadata.annotations["lhrun.io/check"], "apps/files");
           kube::apply(kube::manifest("apps/files-test.yaml"));
           kube::wait("deployment", "files-test/files-test", "rollout", "1m");"#,
    );
    lab.runbook("verify-restore", &[]).success().says("files-test/data: files: 3");
}

#[test]
fn a_claim_that_ends_with_its_last_pod_leaves_its_volume_and_what_was_written_since_the_backup() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let said = lab
        .script(
            r#"import "lib/pods" as pods;
               pods::shell("files-test/data", "echo since >$1/since", ["/data"]);
               print(longhorn::volume_of("files-test/data"));
               kube::delete("pvc", "files-test/data");
               check::that("a pod keeps it", kube::get("pvc", "files-test/data").metadata.deletionTimestamp != ());"#,
        )
        .success()
        .stdout();
    let volume = said.lines().find(|line| line.starts_with("pvc-")).expect("the volume's name");
    lab.lhrun(["run", "full-restore"]).success().says("1 of 1 volumes are back");
    lab.script(&format!(
        r#"import "lib/pods" as pods;
           kube::wait("deployment", "files-test/files-test", "rollout", "1m");
           check::equal("the volume", longhorn::volume_of("files-test/data"), "{volume}");
           check::equal("what was written since", pods::shell("files-test/data", "cat $1/since", ["/data"]), "since\n");
           let pv = kube::get("pv", kube::get("pvc", "files-test/data").spec.volumeName);
           check::equal("the policy it had", pv.spec.persistentVolumeReclaimPolicy, "Delete");"#
    ))
    .success();
}
