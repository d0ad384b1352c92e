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
fn an_interrupted_restore_of_a_claim_says_what_is_left_and_goes_on_when_it_is_repeated() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let moments = [
        "restore the data into a new volume",
        "stop what uses the claim",
        "give the claim the new volume",
        "start what was stopped",
    ];
    for (number, moment) in moments.into_iter().enumerate() {
        lab.script("import \"lib/pods\" as pods; pods::shell(\"files-test/data\", \"echo other >$1/a\", [\"/data\"]);")
            .success();
        let parameters = ["claim=files-test/data", "again=true"];
        let mut command = lhrun();
        lab.reach(&mut command);
        command.args(["run", "restore-volume", "--set", parameters[0], "--set", parameters[1]]);
        let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lhrun starts");
        let mut lines = BufReader::new(run.stderr.take().expect("its talk")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == format!("▸ {moment}")), "the step {moment} is never begun");
        interrupt(&run);
        let rest: Vec<_> = lines.collect();
        let output = run.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(130), "{moment}: {said}\n{}", rest.join("\n"));
        // Stopped before it had made anything, it has nothing to say.
        let count = lab.script("print(`volumes: ${longhorn::volumes().len()}`);").success().stdout();
        let untouched = count.contains(&format!("volumes: {}\n", number + 1));
        let told = said.contains("unfinished:") && said.contains("the same command goes on");
        assert!(told || (untouched && number == 0), "{moment}: {count}{said}");

        lab.runbook("restore-volume", &parameters).success().never_says("undo").never_says("unfinished");
        lab.script(
            "import \"lib/pods\" as pods;
             check::equal(\"content\", pods::shell(\"files-test/data\", \"cat $1/a\", [\"/data\"]), \"one\\n\");
             for pv in kube::list(\"pv\") { check::equal(\"no note is left\", pv.metadata.annotations[\"lhrun.io/exchanged-claim\"], ()); }",
        )
        .success();
    }
    // One new volume for each restore: the repetition went on with that of the interrupted run.
    lab.script("check::equal(\"volumes\", longhorn::volumes().len(), 5);").success();
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
