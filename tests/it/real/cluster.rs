//! A whole place of the second tier: a control plane, a bucket, Longhorn and a node, and the commands that destroy and
//! rebuild the cluster.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use lhrun::sandbox::{Guest, GuestOptions, S3Access};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    buckets::Bucket,
    control_plane::{ControlPlane, install_definitions},
    server::Binaries,
};
use crate::{
    client::Client,
    lab::{Access, Place, S3},
};

/// A cluster with Longhorn on real servers. Everything of it ends with the value.
pub struct Cluster {
    place: Place,
    state: Arc<Mutex<State>>,
    orders: Option<JoinHandle<()>>,
    _bucket: Bucket,
    _folder: TempDir,
}

impl Deref for Cluster {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// What is torn down and rebuilt.
struct State {
    // The order matters when it is dropped: the node leaves before its cluster ends.
    guest: Option<Guest>,
    plane: ControlPlane,
    runtime: Runtime,
    binaries: Binaries,
    definitions: PathBuf,
    s3: S3Access,
}

impl State {
    fn build(&mut self) {
        self.plane.start(&self.binaries);
        install_definitions(&Client::new(&self.plane.kubeconfig()), &self.definitions);
        let options = GuestOptions {
            kubeconfig: self.plane.kubeconfig(),
            s3: self.s3.clone(),
            pki: self.plane.node.clone(),
            client_ca: self.plane.client_ca(),
        };
        self.guest = Some(self.runtime.block_on(Guest::join(options)).expect("the node and Longhorn join the cluster"));
    }

    fn destroy(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.runtime.block_on(guest.leave());
        }
        self.plane.wipe();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.runtime.block_on(guest.leave());
        }
    }
}

impl Cluster {
    /// Starts everything, with Longhorn of the line that is reproduced.
    pub fn up(binaries: Binaries) -> Self {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let bucket = Bucket::minio(&binaries, folder.path());
        let control = ControlPlane::prepare(folder.path());
        let access = Access { kubeconfig: control.kubeconfig(), s3: bucket.access.clone() };
        let place = Place::new(access, folder.path());
        let definitions = binaries.reproduced();
        let s3 = access_of(&bucket.access);
        let runtime = Runtime::new().expect("a runtime");
        let mut state = State { guest: None, plane: control, runtime, binaries, definitions, s3 };
        state.build();
        let state = Arc::new(Mutex::new(state));
        let orders = Some(take_orders(folder.path(), state.clone()));
        let this = Self { place, state, orders, _bucket: bucket, _folder: folder };
        this.configure();
        this
    }

    /// The configuration file, with the bucket and the commands that wipe etcd and start anew.
    pub fn configuration(&self) -> PathBuf {
        self.folder().join("lhrun.toml")
    }

    fn configure(&self) {
        let s3 = &self.access.s3;
        let order = |what: &str| {
            let folder = self.folder().display();
            format!(
                "echo {what} >{folder}/orders && read -r answer <{folder}/answers && echo $answer && test \"$answer\" = done"
            )
        };
        let text = format!(
            "[store]\nendpoint = {:?}\nregion = {:?}\nbucket = {:?}\n\n[site]\nteardown = '''{}'''\nrebuild = '''{}'''\n",
            s3.endpoint,
            s3.region,
            s3.bucket,
            order("teardown"),
            order("rebuild")
        );
        fs::write(self.configuration(), text).unwrap();
    }

    /// Process ids of the control plane's servers.
    pub fn pids(&self) -> Vec<i32> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).plane.pids()
    }

    /// Access of a user without any rights.
    pub fn limited_kubeconfig(&self) -> PathBuf {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).plane.limited_kubeconfig()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(orders) = self.orders.take() {
            // The thread waits for a writer.
            if let Ok(mut pipe) = OpenOptions::new().write(true).open(self.folder().join("orders")) {
                let _ = writeln!(pipe, "stop");
            }
            let _ = orders.join();
        }
    }
}

/// Carries out what the commands of the configuration file ask for, until told to stop.
///
/// The servers' parent is the thread that started them; this one lives as long as the cluster.
fn take_orders(folder: &Path, state: Arc<Mutex<State>>) -> JoinHandle<()> {
    let (orders, answers) = (folder.join("orders"), folder.join("answers"));
    for pipe in [&orders, &answers] {
        mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    }
    std::thread::spawn(move || {
        loop {
            let mut order = String::new();
            let read = File::open(&orders).map(|pipe| BufReader::new(pipe).read_line(&mut order));
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let state = &mut *state;
            let work = match (read.is_ok(), order.trim()) {
                (true, "teardown") => State::destroy,
                (true, "rebuild") => State::build,
                _ => return,
            };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(state)));
            let answer = if done.is_ok() { "done" } else { "failed" };
            if let Ok(mut pipe) = OpenOptions::new().write(true).open(&answers) {
                let _ = writeln!(pipe, "{answer}");
            }
        }
    })
}

fn access_of(s3: &S3) -> S3Access {
    S3Access {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        bucket: s3.bucket.clone(),
        access_key: s3.access_key.clone(),
        secret_key: s3.secret_key.clone().into(),
    }
}
