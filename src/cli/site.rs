//! The site's own life cycle: the commands of `[site]` in the configuration file.

use std::{
    path::PathBuf,
    pin::pin,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, join},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{Setting, config, interrupt::Interrupts};
use crate::{
    Error, Kind, Result,
    cluster::{Cluster, ConnectOptions},
    script::Site,
    terminal::Terminal,
};

/// Time for an interrupted command to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// Time for what a command wrote at its very end.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Runs the configured commands; what they write goes to standard error line by line.
pub struct Commands {
    name: String,
    folder: PathBuf,
    configured: config::Site,
    terminal: Terminal,
    interrupts: Interrupts,
}

impl Site for Commands {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    fn teardown(&self) -> BoxFuture<'_, Result<()>> {
        self.run("teardown", &self.configured.teardown).boxed()
    }

    fn rebuild(&self) -> BoxFuture<'_, Result<()>> {
        self.run("rebuild", &self.configured.rebuild).boxed()
    }

    fn deploy(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            match &self.configured.deploy {
                Some(command) => self.run("deploy", command).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}

impl Commands {
    /// The commands for that cluster; the site is named as the cluster's context.
    pub fn new(setting: &Setting, cluster: &ConnectOptions, configured: config::Site) -> Self {
        let context = setting.runtime.block_on(Cluster::context_of(cluster)).ok().flatten();
        Self {
            name: context.unwrap_or_else(|| "the cluster of lhrun.toml".to_owned()),
            folder: setting.config.folder().to_owned(),
            configured,
            terminal: setting.terminal.clone(),
            interrupts: setting.interrupts.clone(),
        }
    }

    async fn run(&self, what: &str, command: &str) -> Result<()> {
        let failed = |message: String| Error::new(Kind::Failed, format!("[site] {what} {message}: {command}"));
        let child = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed("could not be started".into()).source(error))?;
        let mut group = Group::new(child, self.interrupts.clone());
        let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
        let mut showing = pin!(join(self.show(out), self.show(err)));
        let status = tokio::select! {
            biased;
            _ = &mut showing => group.child.wait().await,
            // A server that the command left behind may hold its output open for ever.
            status = group.child.wait() => {
                let _ = timeout(LAST_LINES, showing).await;
                status
            }
        };
        group.ended();
        let status = status.map_err(|error| failed("was lost".into()).source(error))?;
        if status.success() { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
    }

    async fn show(&self, output: Option<impl AsyncRead + Unpin>) {
        let Some(output) = output else { return };
        let mut lines = BufReader::new(output).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            self.terminal.note(&format!("  | {}", String::from_utf8_lossy(&line).trim_end()));
        }
    }
}

/// The embedded cluster's own life cycle.
#[cfg(feature = "sandbox")]
pub struct Embedded(pub std::sync::Arc<crate::sandbox::Sandbox>);

#[cfg(feature = "sandbox")]
impl Site for Embedded {
    fn name(&self) -> String {
        "sandbox".to_owned()
    }

    fn folder(&self) -> PathBuf {
        self.0.kubeconfig().parent().map(PathBuf::from).unwrap_or_default()
    }

    fn teardown(&self) -> BoxFuture<'_, Result<()>> {
        self.0.teardown().boxed()
    }

    fn rebuild(&self) -> BoxFuture<'_, Result<()>> {
        self.0.rebuild().boxed()
    }

    fn deploy(&self) -> BoxFuture<'_, Result<()>> {
        // Nothing belongs on it that the runbooks do not deploy themselves.
        async { Ok(()) }.boxed()
    }
}

/// A command with all the processes it started; dropped before its end, it is stopped with them.
struct Group {
    child: Child,
    id: Option<Pid>,
    interrupts: Interrupts,
}

impl Group {
    fn new(child: Child, interrupts: Interrupts) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        if let Some(id) = id {
            interrupts.kill_on_exit(id);
        }
        Self { child, id, interrupts }
    }

    /// The command has ended by itself; servers it started stay.
    fn ended(&mut self) {
        if let Some(id) = self.id.take() {
            self.interrupts.no_kill_on_exit(id);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        // An interrupted `make k3s` gets the chance to clean up that it has at the shell.
        let _ = killpg(id, Signal::SIGTERM);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(id, Signal::SIGKILL);
        let _ = self.child.try_wait();
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::runtime;

    use super::*;
    use crate::terminal::screen::fake::Captured;

    fn commands(folder: &std::path::Path, rebuild: &str) -> (Commands, Captured) {
        let (terminal, captured) = Terminal::captured();
        let configured = config::Site { teardown: "exit 3".into(), rebuild: rebuild.into(), deploy: None };
        let (folder, interrupts) = (folder.to_owned(), Interrupts::default());
        (Commands { name: "test".into(), folder, configured, terminal, interrupts }, captured)
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_command_runs_in_the_folder_and_its_lines_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (site, captured) = commands(folder.path(), "echo up > made; echo one; printf 'two\\033' >&2");
        block_on(site.rebuild()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("made")).unwrap(), "up\n");
        let shown = captured.err();
        assert!(shown.contains("  | one\n") && shown.contains("  | two\\u{1b}\n"), "{shown}");
        block_on(site.deploy()).unwrap();
    }

    #[test]
    fn a_failing_command_is_named_with_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let (site, _) = commands(folder.path(), "");
        let error = block_on(site.teardown()).unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert_eq!(error.message(), "[site] teardown ended with exit status: 3: exit 3");
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (site, _) = commands(folder.path(), "sleep 5 & echo $! > server");
        let begun = Instant::now();
        block_on(site.rebuild()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
        let server = fs::read_to_string(folder.path().join("server")).unwrap();
        nix::sys::signal::kill(Pid::from_raw(server.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    #[test]
    fn an_interrupted_command_is_stopped_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (site, _) = commands(folder.path(), "sleep 60 & echo $! > child; wait");
        block_on(async { timeout(Duration::from_millis(300), site.rebuild()).await }).unwrap_err();
        let child = fs::read_to_string(folder.path().join("child")).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}
