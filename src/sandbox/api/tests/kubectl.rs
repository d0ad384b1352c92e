/// For trying things by hand: `LHRUN_SERVE=/tmp/some/kubeconfig cargo test --lib by_hand -- --ignored`, and remove that
/// file to stop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "serves until its kubeconfig is removed"]
async fn by_hand() {
    let Ok(path) = std::env::var("LHRUN_SERVE") else { return };
    let lab = super::streams::lab_with_pod().await;
    std::fs::copy(lab.folder.path().join("kubeconfig"), &path).unwrap();
    while std::fs::exists(&path).unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    lab.server.stop().await;
}
