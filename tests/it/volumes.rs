//! One volume at a time: what each application says of its data, a restore in place and beside, and its undoing.

use crate::lab::{Lab, has};

/// What the five applications are filled with, and a lie about each of them.
const SEED: &str = r#"
import "lib/pods" as pods;
import "apps/mariadb" as mariadb;
import "apps/postgres-test" as postgres;
import "apps/redis" as redis;
for app in ["mariadb", "redis", "sqlite", "files"] { kube::apply(kube::manifest(`apps/${app}-test.yaml`)); }
postgres::deploy();
postgres::seed(100);
// The generic check instead of the one that knows the table.
kube::annotate("pvc", "postgres-test/data-postgres-test-0", #{ "lhrun.io/check": "apps/postgres" });
kube::wait("statefulset", "mariadb-test/mariadb-test", "rollout", "1m");
kube::wait("statefulset", "redis-test/redis-test", "rollout", "1m");
kube::wait("deployment", "sqlite-test/sqlite-test", "rollout", "1m");
kube::wait("deployment", "files-test/files-test", "rollout", "1m");
mariadb::query("mariadb-test/data-mariadb-test-0", "USE app; CREATE TABLE `odd ``name` (id INT PRIMARY KEY, body TEXT); INSERT INTO `odd ``name` SELECT seq, CONCAT('note ', seq) FROM seq_1_to_100");
for n in 0..20 { redis::ask("redis-test/data-redis-test-0", "0", ["SET", `key:${n}`, `value ${n}`]); }
redis::ask("redis-test/data-redis-test-0", "3", ["RPUSH", "list", "a", "b"]);
pods::shell("sqlite-test/data", "sqlite3 $1/app.db 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO notes VALUES (1, \"x\"), (2, \"y\")'", ["/data"]);
pods::shell("files-test/data", "cd $1; for i in $(seq 1 300); do echo $i >\"a file $i\"; done", ["/data"]);
"#;

const CHANGE: &str = r#"
import "lib/pods" as pods;
import "apps/mariadb" as mariadb;
import "apps/postgres-test" as postgres;
import "apps/redis" as redis;
postgres::query("DELETE FROM orders WHERE id = 7");
mariadb::query("mariadb-test/data-mariadb-test-0", "UPDATE app.`odd ``name` SET body = 'other' WHERE id = 7");
redis::ask("redis-test/data-redis-test-0", "0", ["SET", "key:7", "other"]);
pods::shell("sqlite-test/data", "sqlite3 $1/app.db 'DELETE FROM notes WHERE id = 2'", ["/data"]);
// Of two neighbours by name one is in the sample.
pods::shell("files-test/data", "echo 9 >\"$1/a file 8\"; echo 90 >\"$1/a file 80\"", ["/data"]);
"#;

const VERIFY: &str = r#"
import "lib/apps" as apps;
for v in longhorn::volumes() { if v.claim != () { apps::verify(v.claim, longhorn::backups().filter(|b| b.claim == v.claim)[0]); } }
"#;

const CLAIMS: [&str; 5] = [
    "files-test/data",
    "mariadb-test/data-mariadb-test-0",
    "postgres-test/data-postgres-test-0",
    "redis-test/data-redis-test-0",
    "sqlite-test/data",
];

#[test]
fn each_application_proves_its_data_and_gets_them_back() {
    for program in ["mariadb-install-db", "redis-server", "sqlite3"] {
        if !has(program) {
            return;
        }
    }
    let lab = Lab::up();
    lab.script(SEED).success();
    lab.runbook("backup-now", &["quiesce=true", "at-once=5"]).success();
    // All applications write again.
    lab.script(VERIFY).success().says("rows in table app.odd name").says("keys in db3").says("files: 300");
    lab.script(CHANGE).success();
    let said = lab.script(VERIFY).code(3);
    for part in [
        "✗ files-test/data: checksum over a sample of files",
        "✗ mariadb-test/data-mariadb-test-0: checksum over table app.odd name",
        "✗ postgres-test/data-postgres-test-0: rows in table app.public.orders: expected \"100\", found \"99\"",
        "✗ redis-test/data-redis-test-0: checksum over db0",
        "✗ sqlite-test/data: rows in table app.db",
        "✓ mariadb-test/data-mariadb-test-0: rows in table app.odd name",
    ] {
        assert!(said.stdout().contains(part) || said.stderr().contains(part), "no {part:?} in {said}");
    }
    for claim in CLAIMS {
        lab.runbook("restore-volume", &[&format!("claim={claim}")]).success().says("stop what uses the claim");
    }
    lab.script(VERIFY).success();
    let claim = format!("claim={}", CLAIMS[3]);
    lab.runbook("restore-volume", &[&claim]).success().says("nothing to do").says("nothing was changed");
}

#[test]
fn a_volume_is_restored_beside_or_in_place_and_a_failure_is_undone() {
    let lab = Lab::up().with_files();
    lab.runbook("restore-volume", &["claim=files-test/data"]).code(1).says("has no complete backup");
    lab.runbook("restore-volume", &["claim=files-test/nothing"]).code(1).says("has no complete backup");
    lab.runbook("restore-volume", &[]).code(2).says("no claim is named");
    lab.runbook("backup-now", &["claims=files-test/data"]).success();
    lab.runbook("backup-now", &["claims=files-test/none"]).code(1).says("files-test/none is no claim");
    lab.runbook("backup-now", &["selector=a=b"]).code(1).says("no claim on Longhorn has the labels a=b");

    // Beside it, twice.
    lab.runbook("restore-volume", &["claim=files-test/data", "beside=copy"])
        .success()
        .says("mount the claim files-test/copy");
    let again =
        lab.runbook("restore-volume", &["claim=files-test/data", "beside=copy"]).success().says("nothing was changed");
    again.says("kubectl delete pvc -n files-test copy; kubectl delete pv restored-");
    lab.script(
        "let c = kube::get(\"pvc\", \"files-test/copy\"); print(`${c.status.phase} ${c.spec.storageClassName}`);",
    )
    .success()
    .says("Bound longhorn");

    // It is deleted, but for its PersistentVolume: that is no volume to be missed.
    lab.script(
        "let volume = longhorn::volume_of(\"files-test/copy\");
         kube::delete(\"pvc\", \"files-test/copy\", #{wait: true});
         kube::delete(\"volumes.longhorn.io\", `longhorn-system/${volume}`, #{wait: true});
         if kube::get(\"pv\", volume).status.phase != \"Released\" { fail(\"failed\", \"it is not released\"); }
         runbook(\"system-backup\");",
    )
    .success();
    lab.runbook("export-state", &["folder=state"]).success();
    for parameters in [&[][..], &["state=state"]] {
        lab.runbook("full-restore", parameters)
            .success()
            .says("nothing to do: all 1 volumes")
            .says("was left, without volume");
    }

    // A backup whose data are not what it says of them: everything is as it was before.
    let before = lab.script("print(longhorn::volume_of(\"files-test/data\"));").success().stdout();
    lab.script(&format!(
        "longhorn::backup(\"{}\", #{{labels: #{{\"lhrun.io/check\": \"apps/files\",
             \"lhrun.io/baseline\": json::text(#{{files: 4, bytes: 14, checksum: \"x\"}})}}}});",
        before.trim()
    ))
    .success();
    lab.runbook("restore-volume", &["claim=files-test/data"])
        .code(3)
        .says("files: expected 4, found 3")
        .says("undo: give the claim its old volume back")
        .says(&format!("has its old volume {} again", before.trim()));
    lab.script(&format!(
        "import \"apps/files\" as files;
         if longhorn::volume_of(\"files-test/data\") != \"{0}\" {{ fail(\"failed\", \"another volume\"); }}
         let pv = kube::get(\"pv\", \"{0}\");
         if pv.spec.persistentVolumeReclaimPolicy != \"Delete\" {{ fail(\"failed\", \"another policy\"); }}
         if pv.metadata.annotations[\"lhrun.io/exchanged-claim\"] != () {{ fail(\"failed\", \"a note is left\"); }}
         kube::wait(\"deployment\", \"files-test/files-test\", \"rollout\", \"1m\");
         print(`files: ${{files::baseline(\"files-test/data\").files}}`);",
        before.trim()
    ))
    .success()
    .says("files: 3");

    // A backup without a word about its data: restored, and not called proven.
    lab.script(&format!("longhorn::backup(\"{}\");", before.trim())).success();
    lab.runbook("restore-volume", &["claim=files-test/data", "delete-old=true"])
        .code(6)
        .says("NOT CHECKED")
        .says(&format!("{} is kept", before.trim()));

    // A claim that is gone, with its namespace.
    lab.script("kube::delete(\"namespace\", \"files-test\", #{wait: true});").success();
    lab.runbook("restore-volume", &["claim=files-test/data"]).code(6).says("is on the volume");
    lab.script("print(kube::get(\"pvc\", \"files-test/data\").status.phase);").success().says("Bound");
}

#[test]
fn a_claim_whose_pod_nobody_can_scale_down_is_refused_before_anything_is_restored() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    lab.script(
        "kube::apply(#{apiVersion: \"v1\", kind: \"Pod\", metadata: #{name: \"alone\", namespace: \"files-test\"}, spec: #{
             containers: [#{name: \"c\", image: \"busybox:1\", command: [\"sleep\", \"3600\"], volumeMounts: [#{name: \"data\", mountPath: \"/data\"}]}],
             volumes: [#{name: \"data\", persistentVolumeClaim: #{claimName: \"data\"}}]}});
         kube::wait(\"pod\", \"files-test/alone\", \"condition=Ready\", \"1m\");",
    )
    .success();
    lab.runbook("restore-volume", &["claim=files-test/data", "again=true"])
        .code(4)
        .says("the pod files-test/alone uses files-test/data and belongs to no controller")
        .says("nothing was changed");
    lab.script(
        "check::equal(\"volumes\", longhorn::volumes().len(), 1);
         check::equal(\"replicas\", kube::get(\"deployment\", \"files-test/files-test\").spec.replicas, 1);",
    )
    .success();
}

#[test]
fn a_volume_under_a_new_name_is_compared_with_the_backup_it_came_from() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    lab.runbook("restore-volume", &["claim=files-test/data"]).success().says("is on the volume restored-");
    // It is what is expected, though under another name.
    lab.runbook("full-restore", &["replace=true"]).success().says("nothing to do").says("nothing was changed");
    // Now the claim is expected back with the new volume, whose own backups know nothing of the former one's.
    lab.runbook("backup-now", &[]).success();
    lab.runbook("verify-restore", &[]).success().says("files-test/data: files: 3");

    // From an older one, which may be what is wanted, and may not.
    let older = "print(longhorn::backups().filter(|b| b.claim == \"files-test/data\")[1].name);";
    let older = lab.script(older).success().stdout();
    lab.runbook("restore-volume", &["claim=files-test/data", &format!("backup={}", older.trim()), "again=true"])
        .success();
    lab.runbook("full-restore", &[])
        .code(1)
        .says("the claim files-test/data was restored from the older backup")
        .says("lhrun backup-now --set claims=files-test/data");
    lab.runbook("backup-now", &[]).success();
    lab.runbook("full-restore", &[]).success().says("nothing to do");
}

#[test]
fn what_cannot_be_looked_at_is_not_called_proven() {
    let lab = Lab::up().with_files();
    std::fs::create_dir_all(lab.folder().join("apps")).expect("a folder");
    std::fs::write(
        lab.folder().join("apps/mine.rhai"),
        "import \"lib/pods\" as pods;\nfn baseline(claim) { pods::shell(claim, \"no-such-program || exit 127\", []); #{} }\n",
    )
    .expect("a check");
    lab.script(
        "kube::annotate(\"pvc\", \"files-test/data\", #{\"lhrun.io/check\": \"apps/mine\"}); runbook(\"backup-now\");",
    )
    .code(6)
    .says("NOT CHECKED: apps/mine could not look at the data: a program is missing in files-test/files-test-");
}

#[test]
fn a_database_is_validated_from_its_first_row_to_its_restore() {
    let lab = Lab::up();
    lab.runbook("validate-postgres", &["rows=1000", "tidy=true"])
        .success()
        .says("rows in table orders: 1000")
        .says("1000 before, 1000 after")
        .says("recovery time");
    lab.script("print(kube::list(\"pvc\", #{all_namespaces: true}).len() + longhorn::volumes().len());")
        .success()
        .says("0\n");
}
