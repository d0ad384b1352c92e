//! The traps of a restore: what Longhorn alone leaves behind, and what our run does or says. `docs/traps.md` has them in
//! one table.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    folders::{below, copy},
    lab::{Lab, Said},
};

/// Applications that are folders with a file each: one Deployment in a namespace, mounting its claims at `/mnt`.
const APPS: &str = r#"
const NS = "longhorn-system";

fn namespace(ns) { kube::apply(#{ apiVersion: "v1", kind: "Namespace", metadata: #{ name: ns } }); }

fn claim(ns, name, size) {
    kube::apply(#{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: #{ name: name, namespace: ns },
        spec: #{ accessModes: ["ReadWriteOnce"], storageClassName: "longhorn", resources: #{ requests: #{ storage: size } } } });
}

fn start(ns, claims) {
    kube::apply(#{ apiVersion: "apps/v1", kind: "Deployment", metadata: #{ name: "app", namespace: ns }, spec: #{
        replicas: 1, selector: #{ matchLabels: #{ app: "app" } }, template: #{ metadata: #{ labels: #{ app: "app" } }, spec: #{
            terminationGracePeriodSeconds: 1,
            containers: [#{ name: "app", image: "busybox:1", command: ["sleep", "3600"],
                volumeMounts: claims.map(|c| #{ name: c, mountPath: `/mnt/${c}` }) }],
            volumes: claims.map(|c| #{ name: c, persistentVolumeClaim: #{ claimName: c } }) } } } });
    kube::wait("deployment", `${ns}/app`, "rollout", "5m");
}

fn deploy(ns, claims) {
    namespace(ns);
    for c in claims { claim(ns, c, "32Mi"); }
    start(ns, claims);
}

fn in_app(ns, command) {
    let pod = kube::list("pods", #{ namespace: ns }).filter(|p| p.status.phase == "Running" && p.metadata.deletionTimestamp == ())[0].metadata.name;
    let answer = kube::exec(`${ns}/${pod}`, ["sh", "-c", command]);
    if answer.code != 0 { fail("failed", `${command}: ${answer.stderr}`); }
    let said = answer.stdout;
    said.trim();
    said
}

fn write(ns, claims, text) {
    for c in claims { in_app(ns, `echo '${text} of ${ns}/${c}' > /mnt/${c}/file && cd /mnt/${c} && sha256sum file > SUM`); }
}

fn proven(ns, claims, text) {
    for c in claims {
        let is_whole = in_app(ns, `cd /mnt/${c} && sha256sum -c SUM && cat file`);
        check::that(`${ns}/${c}: content`, is_whole.contains(`file: OK`) && is_whole.contains(`${text} of ${ns}/${c}`), is_whole);
    }
}

fn system_restore(name, bundle) {
    kube::apply(#{ apiVersion: "longhorn.io/v1beta2", kind: "SystemRestore", metadata: #{ name: name, namespace: "longhorn-system" }, spec: #{ systemBackup: bundle } });
}

fn state_of_restore(name) { kube::get("systemrestores.longhorn.io", `longhorn-system/${name}`).status?.state }
"#;

impl Lab {
    fn run(&self, script: &str) -> Said {
        self.script(&format!("{APPS}\n{script}"))
    }

    fn full_restore(&self, settings: &[&str]) -> Said {
        let mut arguments = vec!["run", "full-restore"];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        self.lhrun_with(&arguments)
    }

    fn take_system_backup(&self) {
        self.lhrun(["run", "system-backup"]).success();
    }

    /// Names of the volumes behind these claims.
    fn volumes_of(&self, claims: &[&str]) -> Vec<String> {
        let script = format!("for claim in {claims:?} {{ print(longhorn::volume_of(claim)); }}");
        let said = self.run(&script).success().stdout();
        let names: Vec<_> =
            said.lines().map(|line| line.trim().to_owned()).filter(|line| line.starts_with("pvc-")).collect();
        assert_eq!(names.len(), claims.len(), "{said}");
        names
    }

    /// Paths of all objects in the bucket whose path contains all these parts, in order of their names.
    fn objects(&self, parts: &[&str]) -> Vec<PathBuf> {
        let mut found = below(&self.bucket());
        found.retain(|path| parts.iter().all(|part| path.to_string_lossy().contains(part)));
        found
    }
}

/// The bundle's recorded backup is older, or pruned; a volume had none; the namespaces are not there; the volume of another
/// name; a label of its own keeps a volume out of the group `default`.
#[test]
fn a_system_backup_that_has_aged_brings_back_too_little_and_too_old() {
    let mut lab = Lab::up();
    lab.run(
        r#"
        deploy("shop", ["aged", "late", "pruned"]);
        write("shop", ["aged", "pruned"], "first state");
        let aged = longhorn::volume_of("shop/aged");
        kube::label("volumes.longhorn.io", `${NS}/${aged}`, #{ "recurring-job-group.longhorn.io/weekly": "enabled", "recurring-job-group.longhorn.io/default": () });
        longhorn::backup(aged, #{ name: "aged-old" });
        longhorn::backup(longhorn::volume_of("shop/pruned"), #{ name: "pruned-old" });
        wait::until("the last backups to be known", "30s", || longhorn::volumes().filter(|v| v.last_backup != ()).len() == 2);
        longhorn::system_backup("weekly");
        wait::sleep("1s");
        write("shop", ["aged", "late", "pruned"], "last state");
        for name in ["aged", "late", "pruned"] { longhorn::backup(longhorn::volume_of(`shop/${name}`), #{ name: `${name}-new` }); }
        kube::delete("backups.longhorn.io", `${NS}/pruned-old`, #{ wait: true, timeout: "30s" });
        "#,
    )
    .success();

    // Longhorn alone.
    lab.rebuild();
    lab.run(
        r#"
        longhorn::sync();
        system_restore("alone", "weekly");
        wait::until("the system restore to end", "60s", || state_of_restore("alone") == "Completed");
        let volumes = longhorn::volumes();
        check::equal("volumes that came back", volumes.len(), 2);
        check::equal("the aged one is", volumes.filter(|v| v.from_backup != "").map(|v| v.from_backup), ["aged-old"]);
        check::equal("the late one is empty", volumes.filter(|v| v.from_backup == "").len(), 1);
        check::equal("claims that came back", kube::list("pvc", #{ all_namespaces: true }).len(), 0);
        "#,
    )
    .success();

    lab.rebuild();
    lab.full_restore(&["strategy=system"]).code(4).says("aged-old, not aged-new").says("strategy=auto");
    lab.full_restore(&[])
        .success()
        .says("against Longhorn's system restore")
        .says("left out: pruned-old is gone")
        .says("would make it empty")
        .says("older")
        .says("made namespace shop")
        .says("3 of 3 volumes are back");
    lab.run(
        r#"
        start("shop", ["aged", "late", "pruned"]);
        proven("shop", ["aged", "late", "pruned"], "last state");
        let labels = kube::get("volumes.longhorn.io", `${NS}/${longhorn::volume_of("shop/aged")}`).metadata.labels;
        check::equal("its group", labels["recurring-job-group.longhorn.io/weekly"], "enabled");
        check::equal("no other group", labels["recurring-job-group.longhorn.io/default"], ());
        let pv = kube::get("pv", kube::get("pvc", "shop/aged").spec.volumeName);
        check::equal("the policy it had", pv.spec.persistentVolumeReclaimPolicy, "Delete");
        "#,
    )
    .success();
    lab.full_restore(&[]).success().says("nothing to do").says("nothing was changed");
    lab.full_restore(&["strategy=system"]).success().says("nothing was changed");
}

/// A volume that cannot be restored keeps Longhorn's own restore waiting for a day; the jobs it brought back run.
#[test]
fn a_system_restore_that_cannot_end_is_stopped_and_repaired() {
    let mut lab = Lab::up();
    lab.run(
        r#"
        deploy("shop", ["bad", "good", "fine"]);
        write("shop", ["bad", "good", "fine"], "last state");
        longhorn::set_recurring_job(#{ name: "daily", task: "backup", cron: "0 2 * * *", groups: ["weekly"], retain: 7 });
        "#,
    )
    .success();
    lab.lhrun(["run", "backup-now"]).success();
    lab.take_system_backup();
    let bad = lab.volumes_of(&["shop/bad"]).remove(0);
    let blocks = lab.objects(&[&bad, ".blk"]);
    let kept: Vec<_> = blocks.iter().map(|block| fs::read(block).expect("a block")).collect();
    for block in &blocks {
        fs::remove_file(block).expect("the block goes");
    }

    // Longhorn alone: it waits, and the claims of the other volumes wait with it.
    lab.rebuild();
    lab.run(
        r#"
        longhorn::sync();
        namespace("shop");
        let bundle = longhorn::system_backups()[0].name;
        system_restore("alone", bundle);
        wait::until("a volume to fail", "60s", || longhorn::volumes().some(|v| v.robustness == "faulted"));
        wait::sleep("3s");
        check::equal("it still says", state_of_restore("alone"), "Restoring");
        check::equal("claims that came back", kube::list("pvc", #{ all_namespaces: true }).len(), 0);
        check::equal("its jobs run", longhorn::recurring_jobs().map(|j| j.suspended), [false]);
        "#,
    )
    .success();

    lab.rebuild();
    lab.full_restore(&[])
        .code(5)
        .says("it recorded exactly the expected backups")
        .says("it would wait for ever for the volumes whose restore has failed")
        .says("2 of 3 volumes are back")
        .says("not restored: shop/bad")
        .says(".blk")
        .says("recurring jobs stay suspended");
    let held = r#"
        check::equal("suspended", longhorn::recurring_jobs().map(|j| j.suspended), [true]);
        for name in ["good", "fine"] {
            let pv = kube::get("pv", kube::get("pvc", `shop/${name}`).spec.volumeName);
            check::equal("policy", pv.spec.persistentVolumeReclaimPolicy, "Retain");
        }
        "#;
    lab.run(held).success();

    // The blocks are found again: a second run restores what was missing, and lets go.
    for (block, content) in blocks.iter().zip(kept) {
        fs::write(block, content).expect("the block comes back");
    }
    lab.full_restore(&[]).success().says("3 of 3 volumes are back").says("let go of the recurring job daily");
    lab.run(
        r#"
        check::equal("suspended", longhorn::recurring_jobs().map(|j| j.suspended), [false]);
        start("shop", ["bad", "good", "fine"]);
        proven("shop", ["bad", "good", "fine"], "last state");
        "#,
    )
    .success();
    lab.full_restore(&[]).success().says("nothing to do").says("nothing was changed");
}

/// Only the claims are lost, and of one of them the volume was given away.
#[test]
fn claims_without_their_volumes_come_back_together_but_for_the_one_that_was_given_away() {
    let lab = Lab::up();
    lab.run(
        r#"
        deploy("shop", ["left", "kept", "given"]);
        write("shop", ["left", "kept", "given"], "last state");
        "#,
    )
    .success();
    lab.lhrun(["run", "backup-now"]).success();
    lab.run(
        r#"
        kube::delete("deployment", "shop/app", #{ wait: true });
        for name in ["left", "kept", "given"] {
            let pv = kube::get("pvc", `shop/${name}`).spec.volumeName;
            kube::patch("pv", pv, #{ spec: #{ persistentVolumeReclaimPolicy: "Retain" } });
            kube::delete("pvc", `shop/${name}`, #{ wait: true, timeout: "60s" });
            if name == "given" { kube::patch("pv", pv, #{ spec: #{ claimRef: #{ name: "other", uid: () } } }); }
        }
        "#,
    )
    .success();
    lab.full_restore(&[])
        .code(5)
        .says("2 of 3 volumes are back")
        .says("not restored: shop/given")
        .says("belongs to the claim shop/other");
    lab.run(
        r#"
        let pv = kube::list("pv").filter(|p| p.spec.claimRef.name == "other")[0].metadata.name;
        kube::patch("pv", pv, #{ spec: #{ claimRef: () } });
        "#,
    )
    .success();
    lab.full_restore(&[]).success().says("3 of 3 volumes are back");
    lab.run(
        r#"
        start("shop", ["left", "kept", "given"]);
        proven("shop", ["left", "kept", "given"], "last state");
        "#,
    )
    .success();
}

/// A tool makes the claim before its data are back, an attached volume refuses the system restore, a claim had grown since its
/// backup, and the backup comes from another release.
#[test]
fn a_claim_that_was_made_anew_first_is_refused_and_replaced_on_request() {
    let mut lab = Lab::up();
    lab.run(
        r#"
        deploy("shop", ["data", "grown"]);
        write("shop", ["data", "grown"], "last state");
        "#,
    )
    .success();
    lab.lhrun(["run", "backup-now"]).success();
    lab.run(
        r#"
        kube::patch("pvc", "shop/grown", #{ spec: #{ resources: #{ requests: #{ storage: "64Mi" } } } });
        wait::until("the claim to grow", "30s", || longhorn::volume(longhorn::volume_of("shop/grown")).size == 64 * 1024 * 1024);
        "#,
    )
    .success();
    lab.take_system_backup();
    // Made by another release.
    let [config] = lab.objects(&["system-backup.cfg"]).try_into().expect("one system backup");
    let text = fs::read_to_string(&config).expect("its configuration").replace("v1.10.2", "v1.9.2");
    let old = PathBuf::from(config.parent().expect("its folder").to_string_lossy().replace("v1.10.2", "v1.9.2"));
    fs::create_dir_all(old.parent().expect("its version")).expect("a folder");
    fs::rename(config.parent().expect("its folder"), &old).expect("it moves");
    fs::write(old.join("system-backup.cfg"), text).expect("its configuration");

    lab.rebuild();
    lab.run(
        r#"
        deploy("shop", ["data", "grown"]);
        longhorn::sync();
        system_restore("alone", longhorn::system_backups()[0].name);
        "#,
    )
    .failure()
    .says("all volumes need to be detached before creating SystemRestore");
    lab.full_restore(&["strategy=system"]).code(4).says("made by Longhorn v1.9.2, this is v1.10.2");
    lab.full_restore(&[])
        .code(1)
        .says("made by Longhorn v1.9.2, this is v1.10.2")
        .never_says("held Deployment shop/app")
        .says("the claim shop/data is bound to another volume")
        .says("which was made empty")
        .says("--set replace=true");
    let untouched = r#"
        check::equal("what runs on it is left alone", kube::get("deployment", "shop/app").spec.replicas, 1);
        "#;
    lab.run(untouched).success();
    let squatter = lab.volumes_of(&["shop/data"]).remove(0);

    lab.full_restore(&["replace=true"])
        .success()
        .says(&format!("the volume it had, {squatter}, is kept"))
        .says("held Deployment shop/app")
        .says("let go of Deployment shop/app")
        .says("2 of 2 volumes are back");
    lab.run(&format!(
        r#"
        kube::wait("deployment", "shop/app", "rollout", "5m");
        wait::until("the application to run", "30s", || kube::list("pods", #{{ namespace: "shop" }}).some(|p| p.status.phase == "Running"));
        proven("shop", ["data", "grown"], "last state");
        check::equal("the size it had grown to", longhorn::volume(longhorn::volume_of("shop/grown")).size, 64 * 1024 * 1024);
        check::equal("what was made meanwhile is kept", longhorn::volume("{squatter}").from_backup, "");
        "#
    ))
    .success();
    lab.full_restore(&[]).success().says("nothing to do").says("nothing was changed");

    // What was kept aside has no backup, and nobody asked for one; a claim without a backup is another matter.
    lab.lhrun(["run", "system-backup"]).success().says(&format!("{squatter} has no claim and no backup"));
    lab.full_restore(&[]).success().says("nothing to do");
    lab.run(
        r#"claim("shop", "young", "32Mi"); kube::wait("pvc", "shop/young", "jsonpath={.status.phase}=Bound", "30s");"#,
    )
    .success();
    // System backups are named after the second in which they are made.
    std::thread::sleep(std::time::Duration::from_secs(1));
    lab.lhrun(["run", "system-backup"]).code(3).says("it has no backup: a restore would bring it back empty");
}

/// What the cluster itself refuses or lacks: restores switched off, a target that never gets available, a webhook that cannot be
/// called, a lock, and backups of the real Longhorn that say little of themselves.
#[test]
fn what_stands_in_the_way_is_named_before_or_while_it_does() {
    let lab = Lab::up();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn/backupstore/volumes");
    copy(&fixtures, &lab.bucket().join("backupstore/volumes"));

    let limit = |value: &str| {
        format!(
            r#"kube::patch("settings.longhorn.io", `${{NS}}/concurrent-volume-backup-restore-per-node-limit`, #{{ value: "{value}" }});"#
        )
    };
    lab.run(&limit("0")).success();
    lab.full_restore(&[]).code(4).says("restores are switched off").says("set it to 5");
    lab.run(&limit("5")).success();

    let bucket = |name: &str| {
        let url = format!("s3://{name}@us-east-1/");
        format!(
            r#"kube::patch("backuptargets.longhorn.io", `${{NS}}/default`, #{{ spec: #{{ backupTargetURL: "{url}" }} }});"#
        )
    };
    lab.run(&bucket("absent")).success();
    lab.full_restore(&[]).code(1).says("cannot use the backup target default").says("the bucket does not exist");
    lab.run(&bucket(&lab.access.s3.bucket)).success();

    // The block size of a backup without labels is none; Longhorn's own schema refuses it.
    lab.run(
        r#"
        longhorn::sync();
        let backup = longhorn::latest_backup("pvc-legacy");
        check::equal("its block size", backup.block_size, "-1");
        kube::apply(#{ apiVersion: "longhorn.io/v1beta2", kind: "Volume", metadata: #{ name: "alone", namespace: NS },
            spec: #{ size: "1", fromBackup: backup.url, frontend: "blockdev", backupBlockSize: backup.block_size } });
        "#,
    )
    .failure()
    .says("Unsupported value: \"-1\"");

    // A deletion holds the lock; whoever waits is told.
    let locks = lab.objects(&["pvc-legacy", "volume.cfg"])[0].parent().expect("the volume's folder").join("locks");
    fs::create_dir_all(&locks).expect("a folder for locks");
    let lock = locks.join("lock-0123456789abcdef.lck");
    fs::write(&lock, br#"{"Name":"lock-0123456789abcdef","Type":2,"Acquired":true}"#).expect("a lock");
    lab.full_restore(&["timeout=5s"])
        .code(1)
        .says("0 of 2 volumes are back")
        .says("not restored: volume pvc-legacy")
        .says("failed lock")
        .says("pvc-backed")
        .says("backing image")
        .says("pvc-legacy: its claim")
        .says("no source tells which claim it had");
    fs::remove_file(&lock).expect("the lock goes");

    // The webhook is away for a moment: Longhorn's own restore would leave out what it cannot create just then.
    lab.run(r#"kube::delete("service", `${NS}/longhorn-admission-webhook`, #{ wait: true });"#).success();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            lab.run(
                r#"
                kube::apply(#{ apiVersion: "v1", kind: "Service", metadata: #{ name: "longhorn-admission-webhook", namespace: NS },
                    spec: #{ ports: [#{ name: "admission-webhook", port: 9502 }] } });
                "#,
            )
            .success();
        });
        lab.full_restore(&[])
            .code(5)
            .says("1 of 2 volumes are back")
            .says("pvc-backed")
            .never_says("failed calling webhook");
    });
}

/// Twenty volumes in six namespaces, two of which nobody can restore: one has lost a block, one its only backup.
#[test]
fn two_bad_volumes_of_twenty_stop_none_of_the_others() {
    let mut lab = Lab::up();
    let apps: [(&str, &[&str]); 6] = [
        ("auth", &["a", "b", "c"]),
        ("blog", &["a", "b", "c"]),
        ("mail", &["a", "b", "c", "d"]),
        ("photos", &["a", "b", "c", "d"]),
        ("shop", &["a", "b", "c"]),
        ("wiki", &["a", "b", "c"]),
    ];
    let each = |call: &dyn Fn(&str, &[&str]) -> String| {
        apps.iter().map(|(namespace, claims)| call(namespace, claims)).collect::<String>()
    };
    let filled = each(&|namespace, claims| {
        format!("deploy({namespace:?}, {claims:?}); write({namespace:?}, {claims:?}, \"last state\");\n")
    });
    lab.run(&filled).success();
    lab.lhrun(["run", "backup-now", "--set", "at-once=4"]).success();
    lab.take_system_backup();
    let volumes = lab.volumes_of(&["mail/b", "wiki/c"]);
    for block in lab.objects(&[&volumes[0], ".blk"]) {
        fs::remove_file(block).expect("a block goes");
    }
    for config in lab.objects(&[&volumes[1], "/backups/"]) {
        fs::write(config, "{\"Name\":").expect("a configuration is cut off");
    }

    lab.rebuild();
    lab.full_restore(&["at-once=8"])
        .code(5)
        .says("18 of 20 volumes are back")
        .says(&format!("not restored: mail/b (volume {})", volumes[0]))
        .says(".blk")
        .says(&format!("not restored: wiki/c (volume {})", volumes[1]))
        .says("no complete backup of it was found")
        .says("look for its data elsewhere")
        .says("restore an older one")
        .says("the next steps differ");
    let proven = each(&|namespace, claims| {
        let back: Vec<_> =
            claims.iter().filter(|claim| !matches!((namespace, **claim), ("mail", "b") | ("wiki", "c"))).collect();
        format!("start({namespace:?}, {back:?}); proven({namespace:?}, {back:?}, \"last state\");\n")
    });
    lab.run(&format!("{proven} check::equal(\"proven\", check::results().len(), 18);")).success();
    lab.full_restore(&[]).code(5).says("18 of 20 volumes are back");
}
