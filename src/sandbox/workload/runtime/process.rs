//! Child processes, none of which outlives lhrun.

use std::{
    collections::HashSet,
    fmt,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child as Watchdog, ChildStdin, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::process::{Child, Command};

use super::tree;
use crate::{Error, Kind, Result};

/// Every process group of one run, known to a watchdog that kills them when lhrun is gone.
pub struct Processes {
    groups: Mutex<HashSet<i32>>,
    /// Set under the lock of `groups`: nothing is started any more.
    ended: AtomicBool,
    watchdog: Mutex<Option<(Watchdog, ChildStdin)>>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}

impl Processes {
    /// Starts the watchdog, which removes `folder` at the end.
    pub fn start(folder: &Path) -> Result<Arc<Self>> {
        let started = std::process::Command::new("/bin/sh")
            .args(["-c", include_str!("watchdog.sh"), "lhrun-watchdog"])
            .arg(folder)
            .current_dir("/")
            // A Ctrl-C on the terminal is for lhrun, which then ends the pods in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let failed = |error| Error::new(Kind::Failed, "starting /bin/sh as watchdog of the sandbox").source(error);
        let mut watchdog = started.map_err(failed)?;
        let pipe = watchdog.stdin.take().ok_or_else(|| failed(io::Error::other("no pipe")))?;
        Ok(Arc::new(Self {
            groups: Mutex::default(),
            ended: AtomicBool::new(false),
            watchdog: Mutex::new(Some((watchdog, pipe))),
        }))
    }

    /// Starts the command as the leader of a new process group.
    pub fn spawn(self: &Arc<Self>, command: &mut Command) -> io::Result<Running> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::SeqCst) {
            return Err(io::Error::other("the sandbox has ended"));
        }
        let child = command.process_group(0).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| io::Error::other("no pid"))?;
        groups.insert(pid);
        drop(groups);
        self.tell('+', pid);
        Ok(Running { child, group: Group { pid, processes: self.clone() } })
    }

    /// Kills everything at once, and lets the watchdog remove the folder and go.
    pub fn end(&self) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::SeqCst);
        for pid in groups.drain() {
            tree::kill_tree(pid);
            self.tell('-', pid);
        }
        drop(groups);
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut watchdog, pipe)) = watchdog {
            drop(pipe);
            if let Err(error) = watchdog.wait() {
                tracing::debug!(%error, "waiting for the watchdog");
            }
        }
    }

    fn tell(&self, change: char, pid: i32) {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pipe)) = watchdog.as_mut()
            && let Err(error) = writeln!(pipe, "{change} {pid}")
        {
            tracing::warn!(%error, "the sandbox's watchdog is gone: pods may outlive a crash of lhrun");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process and what it started.
#[derive(Debug)]
pub struct Running {
    /// The leader.
    pub child: Child,
    /// Its tree.
    pub group: Group,
}

/// A process group; what is left of its tree is killed when this is dropped.
#[derive(Debug)]
pub struct Group {
    /// Process id of the leader, and number of the group.
    pub pid: i32,
    processes: Arc<Processes>,
}

impl Drop for Group {
    fn drop(&mut self) {
        tree::kill_tree(self.pid);
        self.processes.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
        self.processes.tell('-', self.pid);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::{sys::signal::kill, unistd::Pid};

    use super::*;

    fn alive(pid: i32) -> bool {
        kill(Pid::from_raw(pid), None).is_ok()
    }

    #[tokio::test]
    async fn the_watchdog_kills_and_cleans_up_when_the_pipe_closes() {
        let folder = tempfile::tempdir().unwrap().keep();
        let processes = Processes::start(&folder).unwrap();
        let notes = tempfile::tempdir().unwrap();
        let deaf = notes.path().join("deaf");
        let stubborn = "trap '' QUIT TERM; : >\"$0\"; sleep 60";
        let mut running = processes.spawn(Command::new("sh").args(["-c", stubborn]).arg(&deaf)).unwrap();
        while !deaf.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let gone = processes.spawn(Command::new("true").arg("")).unwrap();
        drop(gone);
        // As if lhrun had been killed: nothing but the pipe's end tells the watchdog.
        let (mut watchdog, pipe) = processes.watchdog.lock().unwrap().take().unwrap();
        drop(pipe);
        watchdog.wait().unwrap();
        let status = running.child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn the_end_kills_what_runs() {
        let folder = tempfile::tempdir().unwrap().keep();
        let processes = Processes::start(&folder).unwrap();
        let mut running = processes.spawn(Command::new("sh").args(["-c", "sleep 60 & wait"])).unwrap();
        processes.end();
        running.child.wait().await.unwrap();
        let begun = Instant::now();
        while alive(-running.group.pid) {
            assert!(begun.elapsed() < Duration::from_secs(10), "the group lives");
        }
        assert!(!folder.exists());
    }
}
