//! S3 servers that nobody here wrote: `MinIO` and `SeaweedFS`.

use std::{fs, path::Path};

use futures::{StreamExt, TryStreamExt, stream};
use lhrun::objectstore::{Store, StoreConfig};

use super::server::{Binaries, Server, free_ports};
use crate::s3client::{self, S3};

const ACCESS_KEY: &str = "lhrun-test";
const SECRET_KEY: &str = "lhrun-test-secret";

/// A running S3 server with an empty bucket.
pub struct Bucket {
    pub access: S3,
    #[allow(dead_code, reason = "a benchmark asks for its process id")]
    pub server: Server,
}

impl Bucket {
    pub fn minio(binaries: &Binaries, folder: &Path) -> Self {
        let [port, console] = free_ports();
        let data = folder.join("minio");
        fs::create_dir_all(&data).unwrap();
        let server = Server::start("minio", &binaries.minio(), folder, |command| {
            command.arg("server").arg(&data);
            command.args(["--address", &format!("127.0.0.1:{port}")]);
            command.args(["--console-address", &format!("127.0.0.1:{console}")]);
            command.envs([("MINIO_ROOT_USER", ACCESS_KEY), ("MINIO_ROOT_PASSWORD", SECRET_KEY)]);
            // Nothing is asked of the internet.
            command.envs([("MINIO_UPDATE", "off"), ("MINIO_BROWSER", "off"), ("MINIO_CALLHOME_ENABLE", "off")]);
        });
        Self::new(server, port)
    }

    pub fn seaweedfs(binaries: &Binaries, folder: &Path) -> Self {
        let ports: [u16; 8] = free_ports();
        let data = folder.join("seaweedfs");
        fs::create_dir_all(&data).unwrap();
        let keys = serde_json::json!({"identities": [{
            "name": "test", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        }]});
        let config = folder.join("seaweedfs.json");
        fs::write(&config, keys.to_string()).unwrap();
        let server = Server::start("seaweedfs", &binaries.weed(), folder, |command| {
            command.arg("server").arg(format!("-dir={}", data.display()));
            command.args([
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                // Each bucket takes seven.
                "-volume.max=200",
            ]);
            command.args(["-master.volumeSizeLimitMB=64", "-master.telemetry=false"]);
            command.arg(format!("-s3.config={}", config.display()));
            for (name, port) in ["master", "volume", "filer", "s3"].iter().zip(ports.chunks(2)) {
                command.arg(format!("-{name}.port={}", port[0]));
                command.arg(format!("-{name}.port.grpc={}", port[1]));
            }
        });
        let port = ports[6];
        Self::new(server, port)
    }

    /// The bucket as `lhrun` itself reaches it.
    pub fn store(&self) -> Store {
        let s3 = &self.access;
        let config = StoreConfig::from_variables(&s3.bucket, "", |name| match name {
            "AWS_ACCESS_KEY_ID" => Some(s3.access_key.clone()),
            "AWS_SECRET_ACCESS_KEY" => Some(s3.secret_key.clone()),
            "AWS_REGION" => Some(s3.region.clone()),
            "AWS_ENDPOINT_URL" => Some(s3.endpoint.clone()),
            _ => None,
        });
        Store::connect(&config.unwrap()).unwrap()
    }

    /// Puts every file of a folder, with its path below it as its key.
    pub async fn fill(&self, folder: &Path) {
        let (from, to) = (Store::folder(folder).unwrap(), self.store());
        let objects = from.list("").await.unwrap();
        stream::iter(objects)
            .map(|object| {
                let (from, to) = (&from, &to);
                async move { to.put(&object.key, from.get(&object.key).await?).await }
            })
            .buffer_unordered(8)
            .try_collect::<()>()
            .await
            .unwrap();
    }

    fn new(mut server: Server, port: u16) -> Self {
        let access = S3 {
            endpoint: format!("http://127.0.0.1:{port}"),
            region: "us-east-1".to_owned(),
            bucket: "backups".to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        };
        server.wait_until("able to make a bucket", || s3client::create_bucket(&access));
        Self { access, server }
    }
}
