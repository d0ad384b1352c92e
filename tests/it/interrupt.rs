//! Ctrl-C: everything the run started is stopped, and nothing is left behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    time::Duration,
};

use crate::lab::{Lab, Said, interrupt, lhrun, processes_in, wait};

#[test]
fn an_interrupted_run_leaves_no_process_and_no_folder() {
    let folder =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a temporary folder");
    let script = folder.path().join("endless.rhai");
    let text = r#"
        import "apps/postgres-test" as app;
        app::deploy();
        print("running");
        wait::sleep("10m");
    "#;
    fs::write(&script, text).expect("the script");
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).expect("a folder for temporary files");

    let mut run = lhrun()
        .args(["--sandbox", "run"])
        .arg(&script)
        .env("TMPDIR", &temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("lhrun starts");
    let mut line = String::new();
    BufReader::new(run.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), "running");
    assert!(processes_in(&temporary).iter().any(|p| p.contains("postgres")), "the database runs below {temporary:?}");

    interrupt(&run);
    assert_eq!(wait(&mut run, Duration::from_secs(30)), Some(130));
    assert_eq!(processes_in(&temporary), Vec::<String>::new());
    assert_eq!(fs::read_dir(&temporary).expect("the folder").count(), 0, "temporary files are gone");
}

#[test]
fn a_second_sandbox_on_the_same_folder_or_port_is_refused() {
    let lab = Lab::up();
    let kept = lab.folder().join("kept");
    let mut same_folder = lhrun();
    same_folder.args(["sandbox", "up", "--folder"]).arg(&kept);
    Said::of(same_folder).code(4).says(&kept.to_string_lossy());

    let port = lab.access.s3.endpoint.rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
    let mut same_port = lhrun();
    same_port.args(["sandbox", "up", "--s3-port", &port]);
    Said::of(same_port).code(4).says(&port);
}
