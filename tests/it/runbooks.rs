//! The runbooks of the plan, each on an embedded cluster: what it does, that a second run changes nothing, and what it says
//! when something is wrong.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::lab::{Lab, RUNBOOKS, Said, has, lhrun};

#[test]
fn every_runbook_reads_well_and_says_what_it_is_for() {
    for folder in ["", "apps", "lib"] {
        for entry in std::fs::read_dir(Path::new(RUNBOOKS).join(folder)).expect("the runbooks").flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|kind| kind != "rhai") {
                continue;
            }
            let mut command = lhrun();
            command.arg("check").arg(&path);
            Said::of(command).success().says("no mistakes found");
            let text = std::fs::read_to_string(&path).expect("a text");
            let header: String = text.lines().take_while(|line| line.starts_with("//")).collect();
            let parts: &[&str] = if folder.is_empty() { &["lhrun ", "Needs:", "Changes:", "Says:"] } else { &["// "] };
            for part in parts {
                assert!(header.contains(part), "the header of {} lacks {part:?}", path.display());
            }
        }
    }
}

/// A server on 127.0.0.1 that gives every request the same answer.
fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

fn refusal(status: &str, headers: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_backup_target_is_configured_or_what_is_wrong_is_named() {
    let lab = Lab::up();
    let s3 = &lab.access.s3;
    let url = format!("url=s3://{}@{}/", s3.bucket, s3.region);
    let endpoint = format!("endpoint={}", s3.endpoint);
    let configure = |parameters: &[&str]| lab.runbook("configure-target", parameters);

    // Wrong before anything is asked.
    configure(&[]).code(2).says("no bucket is named");
    configure(&["url=s3://backups@us-east-1"])
        .code(2)
        .says("has no path after the region")
        .says("s3://backups@us-east-1/");
    configure(&["url=s3://backups/"]).code(2).says("names no region");
    let blank = [("AWS_SECRET_ACCESS_KEY", "hush-hush\n")];
    lab.runbook_with("configure-target", &[&url, &endpoint], &blank)
        .code(2)
        .says("AWS_SECRET_ACCESS_KEY begins or ends with a blank or a line break")
        .never_says("hush-hush");

    // Wrong at the server.
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    let region = refusal("400 Bad Request", "x-amz-bucket-region: eu-west-1\r\n", "AuthorizationHeaderMalformed");
    let clock = refusal("403 Forbidden", "", "RequestTimeTooSkewed");
    for (answer, code, said) in [
        (page.to_owned(), 6, "a console's or proxy's port"),
        (region, 2, "the bucket is in eu-west-1"),
        (clock, 6, "the clocks of this machine and of the server differ"),
    ] {
        configure(&[&url, &format!("endpoint={}", server(answer))])
            .code(code)
            .says(said)
            .never_says("have Longhorn use it");
    }
    configure(&[&url, "endpoint=http://127.0.0.1:1"]).code(6).says("cannot reach http://127.0.0.1:1");
    configure(&["url=s3://elsewhere@us-east-1/", &endpoint]).code(1).says("the bucket does not exist");
    lab.runbook_with("configure-target", &[&url, &endpoint], &[("AWS_SECRET_ACCESS_KEY", "hush-hush")])
        .code(6)
        .says("the secret key does not belong to key id")
        .never_says("hush-hush");
    lab.runbook_with("configure-target", &[&url, &endpoint], &[("AWS_ACCESS_KEY_ID", "nobody")])
        .code(6)
        .says("does not know the key id");

    // Right, and right again.
    // The probe is written and deleted each time; the target is changed once.
    configure(&[&url, &endpoint]).success().says(", available").says("3 changes");
    configure(&[&url, &endpoint]).success().says("2 changes");
    lab.script("let t = longhorn::target(); print(`${t.secret} ${t.available}`);").success().says("lhrun-s3 true");
    lab.script("print(s3::list(\"lhrun-probe\").len());").success().says("0\n");
}

#[test]
fn every_claim_gets_a_verdict_and_a_schedule() {
    let lab = Lab::up().with_files();
    // On storage that no backup knows.
    lab.script(
        "kube::apply(#{apiVersion: \"v1\", kind: \"PersistentVolumeClaim\", metadata: #{name: \"scratch\", namespace: \"files-test\"},
             spec: #{accessModes: [\"ReadWriteOnce\"], storageClassName: \"local-path\",
                     resources: #{requests: #{storage: \"1Mi\"}}}});",
    )
    .success();
    let check = |parameters: &[&str]| lab.runbook("check-backups", parameters);
    check(&[])
        .code(3)
        .says("files-test/data: never: no backup job applies")
        .says("files-test/scratch: not on Longhorn");
    lab.runbook("backup-now", &[]).success().says("MiB ");
    check(&["ignore=files-test/scratch"]).code(3).says("files-test/data: no schedule").never_says("scratch");

    lab.runbook("recurring-jobs", &["daily=0 25 * * *"]).code(2).says("no schedule").never_says("set up daily-backup");
    lab.runbook("recurring-jobs", &["system=0 1 * * *"]).code(2).says("does not follow the daily backup");
    lab.runbook("recurring-jobs", &["daily-keep=0"]).code(2).says("would keep 0");
    lab.runbook("recurring-jobs", &[]).success().says("T02:00:00Z").says("4 changes");
    lab.runbook("recurring-jobs", &[]).success().says("nothing was changed");
    check(&["ignore=files-test/scratch"]).success().says("its last backup is younger than 24h");
    lab.script(
        "for job in longhorn::recurring_jobs() { print(`${job.name} ${job.task} ${job.cron} ${job.retain} ${job.groups.len()}`); }",
    )
    .success()
    .says("daily-backup backup 0 2 * * * 7 1")
    .says("weekly-backup backup 0 3 * * 0 4 1")
    .says("snapshot-cleanup snapshot-cleanup 0 6 * * * 0 1")
    .says("system-backup system-backup 0 4 * * * 7 0");

    check(&["ignore=files-test/scratch"])
        .success()
        .says("files-test/data: protected")
        .says("daily-backup (backup by group default)");
    check(&["ignore=files-test/scratch", "rpo=1ms"]).code(3).says("files-test/data: stale (failing)");
    // The engine's word that nothing was written since.
    lab.script(
        "let volume = longhorn::volume_of(\"files-test/data\");
         let engine = kube::list(\"engines.longhorn.io\", #{all_namespaces: true, selector: `longhornvolume=${volume}`})[0];
         let head = #{name: \"volume-head\", size: \"0\", parent: longhorn::latest_backup(volume).snapshot};
         kube::patch(\"engines.longhorn.io\", `longhorn-system/${engine.metadata.name}`,
             #{status: #{snapshots: #{\"volume-head\": head}}}, #{subresource: \"status\"});",
    )
    .success();
    check(&["ignore=files-test/scratch", "rpo=1ms"]).success().says("files-test/data: stale (no change)");
    check(&["rpo=tomorrow"]).code(2).says("expected a length of time");
    // Recurring jobs pass over volumes that nobody uses.
    lab.script(
        "kube::scale(\"deployment\", \"files-test/files-test\", 0);
         wait::until(\"nobody\", \"1m\", || longhorn::volumes()[0].state == \"detached\");
         let engine = kube::list(\"engines.longhorn.io\", #{all_namespaces: true})[0].metadata.name;
         kube::patch(\"engines.longhorn.io\", `longhorn-system/${engine}`, #{status: #{snapshots: ()}}, #{subresource: \"status\"});",
    )
    .success();
    check(&["ignore=files-test/scratch", "rpo=1ms"]).code(3).says("files-test/data: stale (detached)");
    lab.script("longhorn::suspend_jobs();").success();
    check(&["ignore=files-test/scratch"]).code(3).says("no schedule").says("suspended");
}

#[test]
fn the_exported_state_is_applied_and_compared_without_a_difference() {
    let lab = Lab::up().with_files();
    lab.runbook("recurring-jobs", &[]).success();
    lab.script(
        "kube::apply(#{apiVersion: \"v1\", kind: \"Secret\", metadata: #{name: \"token\", namespace: \"files-test\"},
             stringData: #{key: \"hush-hush\"}});",
    )
    .success();
    let release = "{\"name\":\"web\",\"namespace\":\"files-test\",\"version\":2,\"config\":{\"password\":\"hush-hush\"},\
        \"chart\":{\"metadata\":{\"name\":\"nginx\",\"version\":\"15.1.0\"}}}";
    lab.script(&format!(
        "kube::apply(#{{apiVersion: \"v1\", kind: \"Secret\", type: \"helm.sh/release.v1\", stringData: #{{release: \"{}\"}},
             metadata: #{{name: \"sh.helm.release.v1.web.v2\", namespace: \"files-test\",
                 labels: #{{owner: \"helm\", name: \"web\", version: \"2\"}}}}}});",
        STANDARD.encode(release)
    ))
    .success();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(lab.folder().join("state")).expect("the export").flatten().collect();
        names.sort_by_key(std::fs::DirEntry::path);
        names.into_iter().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let texts = || names().iter().map(|path| std::fs::read_to_string(path).expect("a text")).collect::<Vec<_>>();
    lab.runbook("export-state", &["folder=state"]).success().says("inventory.yaml");
    let first = texts();
    // What happens between two exports and is no change of the state.
    lab.runbook("backup-now", &[]).success();
    lab.script("longhorn::sync();").success();
    lab.runbook("export-state", &["folder=state"]).success().says("nothing was changed");
    assert_eq!(first, texts());
    let all = first.concat();
    assert!(all.contains("files-test/token (Opaque)") && !all.contains("hush-hush") && !all.contains("uid:"), "{all}");
    assert!(
        all.contains("chart: nginx") && all.contains("version: \"15.1.0\"") && !all.contains("sh.helm.release"),
        "{all}"
    );

    if !has("kubectl") {
        return;
    }
    let fresh = Lab::up();
    let state = |name: &str| lab.folder().join("state").join(name).display().to_string();
    fresh.kubectl(&format!("apply -f {}", state("namespaces.yaml"))).success();
    for path in names() {
        fresh.kubectl(&format!("apply --dry-run=server -f {}", path.display())).success();
    }
}

#[test]
fn the_gate_refuses_for_each_of_its_reasons() {
    let lab = Lab::up().with_files();
    let gate = |parameters: &[&str]| lab.runbook("teardown-gate", parameters);
    // Nothing was done yet: all reasons at once.
    gate(&[])
        .code(4)
        .says("files-test/data would be lost: never")
        .says("backup-now.rhai --set claims=files-test/data")
        .says("there is no system backup")
        .says("persistentvolumeclaims are not exported: there is no cluster-state/claims.yaml")
        .says("not recorded: there is no cluster-state/inventory.yaml");

    for runbook in ["backup-now", "export-state", "system-backup"] {
        lab.runbook(runbook, &[]).success();
    }
    gate(&[]).success().says("the gate is open");

    gate(&["rpo=1ms"]).code(4).says("torn down, 1 reason: ").says("files-test/data would be lost: no schedule");
    gate(&["rpo=1ms", "accept=files-test/data"]).success();

    lab.script("wait::sleep(1.1); runbook(\"backup-now\");").success();
    gate(&[]).code(4).says("torn down, 1 reason: ").says("is older than 1 volume backups").says("system-backup.rhai");
    lab.runbook("system-backup", &[]).success();
    gate(&[]).success();

    lab.script("kube::label(\"pvc\", \"files-test/data\", #{tier: \"gold\"});").success();
    gate(&[])
        .code(4)
        .says("torn down, 1 reason: ")
        .says("persistentvolumeclaims have changed since they were exported");
    lab.runbook("export-state", &[]).success();

    let inventory = lab.folder().join("cluster-state/inventory.yaml");
    let recorded = std::fs::read_to_string(&inventory).expect("the inventory");
    std::fs::write(&inventory, recorded.replace("v1.10", "v1.9")).expect("it is written");
    gate(&[])
        .code(4)
        .says("torn down, 1 reason: ")
        .says("versions in cluster-state/inventory.yaml are not those of the cluster");
    std::fs::write(&inventory, recorded).expect("it is written");

    // A bucket that this machine cannot reach, and one that is not Longhorn's.
    let store = |endpoint: &str, bucket: &str| {
        let text = format!("[store]\nbucket = \"{bucket}\"\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\n");
        std::fs::write(lab.folder().join("lhrun.toml"), text).expect("the configuration");
    };
    store("http://127.0.0.1:1", &lab.access.s3.bucket);
    gate(&[]).code(4).says("could not reach the bucket from here").says("cannot reach http://127.0.0.1:1");
    store(&lab.access.s3.endpoint, "other");
    gate(&[]).code(4).says("could not reach the bucket from here").says("the bucket does not exist");
    store(&lab.access.s3.endpoint, &format!("{}\"\nprefix = \"elsewhere", lab.access.s3.bucket));
    gate(&[])
        .code(4)
        .says("the bucket of lhrun.toml (backups/elsewhere) is not that of Longhorn's backup target (backups)")
        .says("could not find the blocks of every backup");
    std::fs::remove_file(lab.folder().join("lhrun.toml")).expect("the configuration");

    let block = lab.script(
        "let backup = longhorn::backups()[0];
         let cfg = s3::list(\"backupstore/volumes/\").filter(|o| o.key.contains(`backup_${backup.name}.cfg`))[0].key;
         let sum = json::parse(s3::get(cfg)).Blocks[0].BlockChecksum;
         let key = s3::list(\"backupstore/volumes/\").filter(|o| o.key.contains(sum))[0].key;
         s3::copy(key, \"kept.blk\"); s3::delete(key); print(key);",
    );
    let block = block.success().stdout();
    gate(&[])
        .code(4)
        .says("torn down, 1 reason: ")
        .says("is damaged")
        .says(&format!("{}: it is missing", block.trim()));
    lab.script(&format!("s3::copy(\"kept.blk\", \"{}\");", block.trim())).success();
    gate(&[]).success();

    lab.script(
        "for o in s3::list(\"backupstore/system-backups/\") { if o.key.contains(\".zip\") { s3::put(o.key, \"broken\"); } }",
    )
    .success();
    gate(&[]).code(4).says("could not compare the system backup with the volume backups");
}
