//! What runs pods on this machine: processes, their logs, commands beside them, and stopping all that use a volume.
//!
//! It knows nothing of the API; the kubelet stand-in tells it what to run, the API server asks it for logs and exec.

mod exec;
pub mod logs;
pub mod paths;
pub mod process;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{process::Command, sync::RwLock};

use self::{
    logs::Log,
    paths::Paths,
    process::{Processes, Running},
};
use crate::{
    Error, Kind, Result,
    sandbox::{
        api::pods::ContainerRef,
        longhorn::disk::Freezer,
        programs::{PodUser, Programs},
    },
};

/// How long a freeze waits for a pod that is just starting a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// All pods of one cluster on this machine.
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
    programs: Programs,
    processes: Arc<Processes>,
    pods: Mutex<HashMap<String, Arc<PodRecord>>>,
}

impl Runtime {
    /// Pods get their folders under `root`, which exists.
    pub fn new(root: PathBuf, programs: Programs, processes: Arc<Processes>) -> Self {
        Self { root, programs, processes, pods: Mutex::default() }
    }

    /// The programs of this machine.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Makes the pod's folder and registers it.
    pub fn add(&self, namespace: &str, name: &str, uid: &str) -> Result<Arc<PodRecord>> {
        // A Unix socket's path may have 107 bytes: the folder's name is a short part of the uid.
        let folder = self.root.join(uid.get(..13).unwrap_or(uid));
        let record = PodRecord {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            folder: folder.clone(),
            user: self.programs.user,
            processes: self.processes.clone(),
            gate: Arc::default(),
            inside: Mutex::default(),
        };
        record.make_folder("logs", false)?;
        record.make_folder("run", true)?;
        let record = Arc::new(record);
        self.pods().insert(uid.to_owned(), record.clone());
        Ok(record)
    }

    /// Forgets the pod and removes its folder; its processes are gone already.
    pub fn remove(&self, uid: &str) {
        if let Some(record) = self.pods().remove(uid)
            && let Err(error) = fs::remove_dir_all(&record.folder)
        {
            tracing::debug!(%error, pod = record.name, "removing a pod's folder");
        }
    }

    #[cfg(test)]
    pub(super) fn pod_uses(&self, name: &str, volume: &str) {
        self.pods().values().filter(|pod| pod.name == name).for_each(|pod| pod.uses(volume));
    }

    fn container(&self, wanted: &ContainerRef) -> Result<(Arc<PodRecord>, Container)> {
        let pod = self.pods().values().find(|p| p.namespace == wanted.namespace && p.name == wanted.pod).cloned();
        let pod = pod.ok_or_else(|| {
            let text = format!("pod {} in namespace {} has not been started", wanted.pod, wanted.namespace);
            Error::new(Kind::NotFound, text).hint("kubectl describe pod says why")
        })?;
        let inside = pod.inside();
        let name = wanted.container.as_ref().or(inside.first.as_ref());
        let container = name.and_then(|name| inside.containers.get(name)).cloned().ok_or_else(|| {
            let name = name.map_or("", String::as_str);
            let text = format!("container {name:?} in pod {} is waiting to start", wanted.pod);
            Error::new(Kind::NotFound, text).hint("kubectl describe pod says why")
        })?;
        drop(inside);
        Ok((pod, container))
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<PodRecord>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pod on this machine.
#[derive(Debug)]
pub struct PodRecord {
    namespace: String,
    name: String,
    folder: PathBuf,
    user: Option<PodUser>,
    processes: Arc<Processes>,
    /// Held for writing while the pod is frozen: nothing new starts then.
    gate: Arc<RwLock<()>>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// The container that requests without a name mean.
    first: Option<String>,
    containers: BTreeMap<String, Container>,
    /// Longhorn volumes in use.
    volumes: BTreeSet<String>,
    /// Leaders of the process groups that run.
    leaders: BTreeSet<i32>,
}

#[derive(Clone, Debug)]
struct Container {
    environment: Arc<Environment>,
    log: Arc<Log>,
    previous: Option<Arc<Log>>,
    running: bool,
}

/// What a container's processes see.
#[derive(Debug)]
pub struct Environment {
    /// Environment variables, complete: nothing is inherited.
    pub variables: BTreeMap<String, String>,
    /// Mounts.
    pub paths: Paths,
    /// Working folder.
    pub folder: PathBuf,
}

impl PodRecord {
    /// A folder of the pod, made when it is missing; given to the pod's user when `theirs`.
    pub fn make_folder(&self, path: &str, theirs: bool) -> Result<PathBuf> {
        let folder = self.folder.join(path);
        let made = fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)))
            .and_then(|()| if theirs { self.give(&folder) } else { Ok(()) });
        made.map_err(|error| failed(&folder, error))?;
        Ok(folder)
    }

    /// Gives a path to the user that pods run as.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
            None => Ok(()),
        }
    }

    /// Whom the pod's processes run as; `None`: as ourselves.
    pub fn user(&self) -> Option<PodUser> {
        self.user
    }

    /// Names the container that requests without a container mean.
    pub fn set_first(&self, container: &str) {
        self.inside().first = Some(container.to_owned());
    }

    /// The pod's processes may write to this Longhorn volume from now on.
    pub fn uses(&self, volume: &str) {
        self.inside().volumes.insert(volume.to_owned());
    }

    /// A new log for a start of the container; the one before stays readable as `previous`.
    pub async fn begin(&self, container: &str, start: i32, environment: Arc<Environment>) -> Result<Arc<Log>> {
        let log = Log::create(&self.folder.join(format!("logs/{container}-{start}.log"))).await?;
        let mut inside = self.inside();
        let previous = inside.containers.get(container).map(|former| former.log.clone());
        let entry = Container { environment, log: log.clone(), previous, running: true };
        inside.containers.insert(container.to_owned(), entry);
        Ok(log)
    }

    /// The container's process has ended.
    pub fn ended(&self, container: &str) {
        if let Some(container) = self.inside().containers.get_mut(container) {
            container.running = false;
            container.log.close();
        }
    }

    /// Starts a command of the pod; it is counted as one of its writers until the guard is dropped.
    pub async fn spawn(
        self: &Arc<Self>,
        argv: &[String],
        environment: &Environment,
        stdin: Stdio,
    ) -> io::Result<Spawned> {
        let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&environment.variables).current_dir(&environment.folder);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            // Setting the user also drops root's supplementary groups.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let gate = self.gate.read().await;
        let running = self.processes.spawn(&mut command)?;
        let leader = running.group.pid;
        self.inside().leaders.insert(leader);
        drop(gate);
        Ok(Spawned { running, _count: Counted { pod: self.clone(), leader } })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process of a pod; killed with all it started when dropped.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub running: Running,
    // Dropped after the process: it counts as a writer as long as it lives.
    _count: Counted,
}

#[derive(Debug)]
struct Counted {
    pod: Arc<PodRecord>,
    leader: i32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.pod.inside().leaders.remove(&self.leader);
    }
}

impl Freezer for Runtime {
    fn freeze(&self, volume: &str) -> Result<Box<dyn Send>> {
        let pods: Vec<_> = self.pods().values().filter(|pod| pod.inside().volumes.contains(volume)).cloned().collect();
        let begun = Instant::now();
        let mut gates = Vec::new();
        let mut leaders = Vec::new();
        for pod in pods {
            // A gate is held for reading only for the moment of a start.
            let gate = loop {
                match pod.gate.clone().try_write_owned() {
                    Ok(gate) => break gate,
                    Err(error) if begun.elapsed() > PATIENCE => {
                        return Err(
                            Error::new(Kind::Timeout, format!("pod {} cannot be frozen", pod.name)).source(error)
                        );
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            gates.push(gate);
            leaders.extend(pod.inside().leaders.iter().copied());
        }
        let stopped = tree::stop_trees(leaders)?;
        Ok(Box::new((stopped, gates)))
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("preparing {}", path.display())).source(error)
}
