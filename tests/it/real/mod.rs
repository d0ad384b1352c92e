//! The second tier: the scenarios of the first on servers that nobody here wrote. `make test-real` runs it.

mod buckets;
mod cluster;
mod control_plane;
mod exchange;
mod pki;
mod schemas;
mod server;

use std::{path::Path, time::Instant};

use nix::{sys::signal::kill, unistd::Pid};

use self::{buckets::Bucket, cluster::Cluster, control_plane::ControlPlane, server::Binaries};
use crate::{
    client::Client,
    lab::{Access, Place, Said, lhrun},
    scenarios,
};

#[test]
#[ignore = "needs the real servers: make test-real"]
fn every_scenario_holds_on_real_servers() {
    let begun = Instant::now();
    let cluster = Cluster::up(Binaries::find());
    println!("etcd, kube-apiserver, kube-controller-manager, MinIO and Longhorn are up in {:.1?}", begun.elapsed());
    let lists = [scenarios::ALL, scenarios::SCHEMAS].concat();
    scenarios::run(&cluster, "real", &lists).check();
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn the_bucket_scenarios_hold_on_seaweedfs() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::seaweedfs(&Binaries::find(), folder.path());
    let access = Access { kubeconfig: folder.path().join("none"), s3: bucket.access.clone() };
    scenarios::run(&Place::new(access, folder.path()), "seaweedfs", scenarios::BUCKET).check_but(&[
        scenarios::bucket::IN_ORDER,
        scenarios::versions::NO_CONTENT,
        scenarios::versions::BACK,
        scenarios::versions::NO_LOCK,
    ]);
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn a_lost_real_cluster_comes_back_with_every_row() {
    let cluster = Cluster::up(Binaries::find());
    let before = cluster.pids();
    drill(&cluster, &cluster.access.kubeconfig, "rows=1000")
        .success()
        .says("rows in table orders")
        .says("checksum over table orders")
        .says("recovery time (RTO)")
        .says("data age at the disaster (RPO)");
    let after = cluster.pids();
    assert!(before.iter().all(|pid| !after.contains(pid)), "the servers are those of before: {before:?} {after:?}");
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn a_drill_on_real_servers_finds_what_was_damaged() {
    for (damage, signs) in [
        ("flip-bit", ["pvc-", ".blk", "damaged"]),
        ("delete-block", ["pvc-", ".blk", "missing"]),
        ("lose-row", ["rows in table orders", "999", "1000"]),
    ] {
        let cluster = Cluster::up(Binaries::find());
        // Damage is only allowed to a cluster of that name.
        let (from, kubeconfig) = (&cluster.access.kubeconfig, cluster.folder().join("damaged.kubeconfig"));
        std::fs::write(&kubeconfig, std::fs::read_to_string(from).unwrap().replace("\"lhrun-test\"", "\"sandbox\""))
            .unwrap();
        drill(&cluster, from, &format!("damage={damage}")).code(4).says("embedded cluster only");
        let said = drill(&cluster, &kubeconfig, &format!("damage={damage}")).failure();
        signs.into_iter().fold(said, Said::says);
    }
}

fn drill(cluster: &Cluster, kubeconfig: &Path, setting: &str) -> Said {
    let mut command = lhrun();
    command.args(["--yes", "--config"]).arg(cluster.configuration());
    command.args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/dr-drill.rhai"), "--set", setting]);
    command.current_dir(cluster.folder()).env("KUBECONFIG", kubeconfig);
    command.env("AWS_ACCESS_KEY_ID", &cluster.access.s3.access_key);
    command.env("AWS_SECRET_ACCESS_KEY", &cluster.access.s3.secret_key);
    let said = Said::of(command);
    println!("{said}");
    said
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn who_has_no_rights_is_told_so() {
    let cluster = Cluster::up(Binaries::find());
    let limited = Client::new(&cluster.limited_kubeconfig());
    let (code, answer) = limited.get("/api/v1/namespaces/default/secrets");
    assert_eq!((code, answer["reason"].as_str()), (403, Some("Forbidden")), "{answer:#}");
    let mut command = lhrun();
    command.args(["run", "backup-now"]).env("KUBECONFIG", cluster.limited_kubeconfig());
    Said::of(command).code(6).says("forbidden");
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn servers_end_with_their_test_even_when_it_fails() {
    let binaries = Binaries::find();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let failed = std::thread::spawn(move || {
        let mut plane = ControlPlane::prepare(&path);
        plane.start(&binaries);
        std::panic::panic_any(plane.pids());
    });
    let pids = failed.join().unwrap_err();
    let pids = pids.downcast_ref::<Vec<i32>>().expect("the process ids");
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(!runs(*pid), "process {pid} still runs");
    }
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && kill(Pid::from_raw(pid), None).is_ok()
}
