//! One server of the second tier as a process: started beside a log file, stopped by its pid, gone with the test.

use std::{
    fs::File,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a server may take to answer; the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Where the binaries are that `tests/real/build` made.
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The folder that `make test-real` names. There is no tier without it, so its absence is a failure.
    pub fn find() -> Self {
        let folder = std::env::var_os("LHRUN_REAL")
            .expect("LHRUN_REAL does not name the folder of the real servers: run `make test-real`");
        let folder = PathBuf::from(folder);
        assert!(
            folder.join("versions").is_file(),
            "{} holds no real servers: run `make real-servers`",
            folder.display()
        );
        Self::of(folder)
    }

    /// Those in the folder that `tests/real/build` printed.
    pub fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// etcd or a Kubernetes server; `KUBEBUILDER_ASSETS` goes before what was built.
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        let folder = std::env::var_os("KUBEBUILDER_ASSETS").map_or_else(|| self.folder.join("bin"), PathBuf::from);
        existing(folder.join(name))
    }

    pub fn minio(&self) -> PathBuf {
        existing(self.folder.join("bin/minio"))
    }

    pub fn weed(&self) -> PathBuf {
        existing(self.folder.join("python/bin/weed"))
    }

    /// The program on Longhorn's own backup library.
    pub fn longhorn_backup(&self) -> PathBuf {
        existing(self.folder.join("bin/longhorn-backup"))
    }

    /// Longhorn's published definitions, oldest first: version and file.
    pub fn definitions(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(self.folder.join("crds")).expect("the folder of definitions");
        let mut found: Vec<(String, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((name.strip_prefix("longhorn-")?.strip_suffix(".yaml")?.to_owned(), entry.path()))
            })
            .collect();
        found.sort_by_key(|(version, _)| {
            version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>()
        });
        found
    }

    /// The definitions of the line that is reproduced.
    pub fn reproduced(&self) -> PathBuf {
        let line = lhrun::sandbox::longhorn::VERSION.rsplit_once('.').expect("a version").0;
        let found = self.definitions().into_iter().find(|(version, _)| version.starts_with(&format!("{line}.")));
        found.unwrap_or_else(|| panic!("no definitions of Longhorn {line}")).1
    }
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `make real-servers`", path.display());
    path
}

/// A running server. Dropping it stops it; when the test itself is killed, the kernel does.
pub struct Server {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program whose output goes to `<name>.log` in the folder.
    pub fn start(name: &str, program: &Path, folder: &Path, setting: impl FnOnce(&mut Command)) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("a log file");
        // setpriv asks for the signal and becomes the program: the pid is the server's own.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.current_dir(folder).stdin(Stdio::null()).process_group(0);
        command.stdout(file.try_clone().expect("the log file")).stderr(file);
        setting(&mut command);
        let process = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), process, log }
    }

    /// Asks until the answer is yes. A server that ends meanwhile, or never says yes, fails the test with its log.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !ready() {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("{} ended with {status} before it was {what}:\n{}", self.name, self.tail());
            }
            assert!(begun.elapsed() < PATIENCE, "{} is still not {what}:\n{}", self.name, self.tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("a process id")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid());
        for (signal, patience) in [(Signal::SIGTERM, 5), (Signal::SIGKILL, 60)] {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            let _ = kill(pid, signal);
            let end = Instant::now() + Duration::from_secs(patience);
            while Instant::now() < end {
                if matches!(self.process.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Ports that were free a moment ago, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}

/// Whether an HTTP server says 200 to a GET without credentials.
pub fn answers(port: u16, path: &str) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut head = [0; 12];
    stream.write_all(request.as_bytes()).is_ok() && stream.read_exact(&mut head).is_ok() && head.ends_with(b" 200")
}
