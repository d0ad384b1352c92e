//! The harness: an embedded cluster for a test, and what happens in it told in sentences.
//!
//! Everything goes through the `lhrun` binary and over HTTP, as for an operator.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tempfile::TempDir;

pub use crate::s3client::S3;

/// The repository's runbooks.
pub const RUNBOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks");

/// A cluster and a bucket, whoever runs them: what scenarios need of either tier.
pub struct Place {
    /// Where they are.
    pub access: Access,
    /// A folder of the test's own.
    folder: PathBuf,
}

/// `lhrun sandbox up`, kept for as long as the value lives.
pub struct Lab {
    place: Place,
    _folder: TempDir,
    process: Child,
}

impl std::ops::Deref for Lab {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Where the embedded cluster is, as `lhrun sandbox up -o json` prints it.
#[derive(Debug, Deserialize)]
pub struct Access {
    /// Path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// The bucket and its keys.
    pub s3: S3,
}

impl Place {
    /// A place that somebody else keeps running; scripts are written to the folder.
    pub fn new(access: Access, folder: &Path) -> Self {
        Self { access, folder: folder.to_owned() }
    }

    /// The folder everything of this cluster is below.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `lhrun` against this cluster and its bucket.
    pub fn lhrun<const N: usize>(&self, arguments: [&str; N]) -> Said {
        self.lhrun_with(&arguments)
    }

    /// [`lhrun`](Self::lhrun) with any number of arguments.
    pub fn lhrun_with(&self, arguments: &[&str]) -> Said {
        let mut command = lhrun();
        self.reach(&mut command);
        command.args(arguments);
        Said::of(command)
    }

    /// Has a command find this cluster and its bucket, as in an operator's shell.
    pub fn reach(&self, command: &mut Command) {
        command
            .env("KUBECONFIG", &self.access.kubeconfig)
            .env("AWS_ACCESS_KEY_ID", &self.access.s3.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.access.s3.secret_key);
    }

    /// A script of one's own against this cluster.
    pub fn script(&self, text: &str) -> Said {
        let file = self.folder.join("test.rhai");
        std::fs::write(&file, text).expect("the script is written");
        self.lhrun(["run", &file.to_string_lossy()])
    }

    /// A runbook of the repository with these parameters, in the lab's own folder.
    pub fn runbook(&self, name: &str, parameters: &[&str]) -> Said {
        self.runbook_with(name, parameters, &[])
    }

    /// A runbook with further environment variables.
    pub fn runbook_with(&self, name: &str, parameters: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = lhrun();
        command.arg("run").arg(format!("{RUNBOOKS}/{name}.rhai"));
        for parameter in parameters {
            command.args(["--set", parameter]);
        }
        self.reach(&mut command);
        command.current_dir(self.folder()).envs(variables.iter().copied());
        Said::of(command)
    }

    /// `kubectl` against this cluster.
    pub fn kubectl(&self, arguments: &str) -> Said {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.access.kubeconfig).args(arguments.split_whitespace());
        Said::of(command)
    }

    /// `kubectl` with a manifest on its standard input.
    pub fn kubectl_with(&self, arguments: &str, manifest: &str) -> Said {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.access.kubeconfig).args(arguments.split_whitespace());
        Said::with_input(command, manifest)
    }
}

impl Lab {
    /// Starts an embedded cluster and waits until it is up.
    pub fn up() -> Self {
        // The database's own user must be able to reach its files below.
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder for temporary files");
        let (access, process) = start(folder.path());
        Self { place: Place::new(access, folder.path()), _folder: folder, process }
    }

    /// Loses the cluster and has an empty one in its place; the bucket stays.
    pub fn rebuild(&mut self) {
        interrupt(&self.process);
        assert_eq!(wait(&mut self.process, Duration::from_secs(30)), Some(130), "the lost cluster ends");
        (self.place.access, self.process) = start(&self.place.folder);
    }

    /// The folder whose files are the bucket's objects.
    pub fn bucket(&self) -> PathBuf {
        self.folder().join("kept/s3").join(&self.access.s3.bucket)
    }

    /// The raw image of a volume that no pod has used.
    pub fn image(&self, volume: &str) -> PathBuf {
        let temporary = std::fs::read_dir(self.folder().join("tmp")).expect("the folder for temporary files");
        temporary
            .flatten()
            .map(|entry| entry.path().join("volumes").join(volume).join("volume.img"))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("volume {volume} has no image"))
    }

    /// Deploys the file application and writes three files.
    pub fn with_files(self) -> Self {
        self.script(
            "import \"lib/pods\" as pods;
             kube::apply(kube::manifest(\"apps/files-test.yaml\"));
             kube::wait(\"deployment\", \"files-test/files-test\", \"rollout\", \"1m\");
             pods::shell(\"files-test/data\", \"cd $1; echo one >a; echo two >'b c'; mkdir d; echo three >d/e\", [\"/data\"]);",
        )
        .success();
        self
    }

    /// Interrupts the cluster as Ctrl-C does and waits for its end.
    pub fn down(mut self) -> Option<i32> {
        interrupt(&self.process);
        wait(&mut self.process, Duration::from_secs(30))
    }
}

/// `lhrun sandbox up` in that folder, and where it is.
fn start(folder: &Path) -> (Access, Child) {
    let mut process = lhrun()
        .args(["sandbox", "up", "-o", "json", "--folder"])
        .arg(folder.join("kept"))
        .env("TMPDIR", folder.join("tmp"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("lhrun starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("a line of output");
    let access = serde_json::from_str(&line).unwrap_or_else(|e| panic!("sandbox up printed {line:?}: {e}"));
    (access, process)
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            interrupt(&self.process);
            if wait(&mut self.process, Duration::from_secs(20)).is_none() {
                let _ = self.process.kill();
                let _ = self.process.wait();
            }
        }
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    line: String,
    output: Output,
}

impl Said {
    /// Runs it to the end without input.
    pub fn of(mut command: Command) -> Self {
        let line = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{line}: {e}"));
        Self { line, output }
    }

    /// Runs it to the end with that input.
    pub fn with_input(mut command: Command, input: &str) -> Self {
        use std::io::Write;
        let line = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads its input");
        let output = child.wait_with_output().expect("it ends");
        Self { line, output }
    }

    /// It must have ended well.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// It must have ended with that exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{self}");
        self
    }

    /// Whether it ended with that exit code.
    pub fn ended_with(&self, code: i32) -> bool {
        self.output.status.code() == Some(code)
    }

    /// It must have ended with any other code than 0.
    #[track_caller]
    pub fn failure(self) -> Self {
        assert!(!self.output.status.success(), "{self}");
        self
    }

    /// It must have said that, on either stream.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout().contains(text) || self.stderr().contains(text), "{text:?} is not in {self}");
        self
    }

    /// It must not have said that.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.stdout().contains(text) && !self.stderr().contains(text), "{text:?} is in {self}");
        self
    }

    /// Its standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Its standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}\n{}{}", self.line, self.output.status, self.stdout(), self.stderr())
    }
}

/// The binary under test, in an environment of its own: no cluster, bucket or history of the machine's user.
pub fn lhrun() -> Command {
    alone(env!("CARGO_BIN_EXE_lhrun"))
}

/// Any program in such an environment; a `make` in it knows nothing of one around it.
pub fn alone(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if ["AWS_", "KUBE", "LHRUN", "MAKE", "MFLAGS"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
    command
}

/// Sends Ctrl-C's signal.
pub fn interrupt(process: &Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).expect("a process id"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
}

/// Waits for the end of a process; `None` when it does not come in time or a signal ended it.
pub fn wait(process: &mut Child, limit: Duration) -> Option<i32> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Ok(Some(status)) = process.try_wait() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Whether a program is installed; says loudly when the test has to do without it.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|folder| folder.join(program).is_file()));
    if !found {
        eprintln!("NOT CHECKED: {program} is not installed");
    }
    found
}

/// Processes whose command line names that folder.
pub fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}
