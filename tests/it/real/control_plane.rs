//! etcd, kube-apiserver and kube-controller-manager as Kubernetes' own project builds them.
//!
//! TLS, RBAC, token authentication and the default admission plugins are on. The node's part is played by the sandbox,
//! so no controller here attaches volumes, and none waits for the node's heartbeat.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use lhrun::sandbox::api::Pki;
use serde_json::{Value, json};

use super::{
    pki,
    server::{Binaries, Server, answers, free_ports},
};
use crate::client::Client;

/// A control plane at an address that stays the same when it is wiped and started again.
pub struct ControlPlane {
    folder: PathBuf,
    ports: [u16; 4],
    /// In the order of their start; stopped the other way round.
    servers: Vec<Server>,
    /// The node's own certificates, whose authority the API server trusts.
    pub node: Pki,
}

impl ControlPlane {
    /// Makes certificates and kubeconfigs in the folder; nothing runs yet.
    pub fn prepare(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("pki")).unwrap();
        pki::generate(&folder.join("pki"));
        let ports = free_ports();
        let node = Pki::generate().unwrap();
        fs::write(folder.join("pki/node-ca.crt"), &node.ca).unwrap();
        let this = Self { folder: folder.to_owned(), ports, servers: Vec::new(), node };
        let tokens = format!("{TOKEN},lhrun-test,1,system:masters\n{LIMITED_TOKEN},limited,2,nobodies\n");
        fs::write(folder.join("pki/tokens.csv"), tokens).unwrap();
        let token = |token: &str| json!({"token": token});
        for (file, user) in [
            ("kubeconfig", token(TOKEN)),
            ("limited.kubeconfig", token(LIMITED_TOKEN)),
            ("controllers.kubeconfig", this.certificate("controllers")),
        ] {
            fs::write(folder.join(file), this.kubeconfig_of(&user)).unwrap();
        }
        this
    }

    /// With all rights, by token.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// With the rights of a user whom no role mentions.
    pub fn limited_kubeconfig(&self) -> PathBuf {
        self.folder.join("limited.kubeconfig")
    }

    /// The authority of the certificate that the API server shows to kubelets.
    pub fn client_ca(&self) -> String {
        fs::read_to_string(self.pki("ca.crt")).unwrap()
    }

    /// Starts all three on an empty etcd and waits until the controllers work.
    pub fn start(&mut self, binaries: &Binaries) {
        self.start_with(binaries, &[]);
    }

    /// As [`ControlPlane::start`], with further arguments for the controllers.
    pub fn start_with(&mut self, binaries: &Binaries, controllers_too: &[&str]) {
        assert!(self.servers.is_empty(), "it runs already");
        let [client_port, peer_port, api_port, controllers_port] = self.ports;
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let mut etcd = Server::start("etcd", &binaries.kubernetes("etcd"), &self.folder, |command| {
            command.arg("--data-dir=etcd").args(["--log-level=warn", "--unsafe-no-fsync"]);
            command.arg(format!("--listen-client-urls={}", local(client_port)));
            command.arg(format!("--advertise-client-urls={}", local(client_port)));
            command.arg(format!("--listen-peer-urls={}", local(peer_port)));
            command.arg(format!("--initial-advertise-peer-urls={}", local(peer_port)));
            command.arg(format!("--initial-cluster=default={}", local(peer_port)));
        });
        etcd.wait_until("healthy", || answers(client_port, "/health"));
        self.servers.push(etcd);

        let mut api =
            Server::start("kube-apiserver", &binaries.kubernetes("kube-apiserver"), &self.folder, |command| {
                command.arg(format!("--etcd-servers={}", local(client_port)));
                command.arg(format!("--secure-port={api_port}"));
                command.args([
                    "--bind-address=127.0.0.1",
                    // Nothing in the cluster connects to it, and loopback is refused; this is an address of documentation.
                    "--advertise-address=192.0.2.1",
                    "--endpoint-reconciler-type=none",
                    "--service-cluster-ip-range=10.0.0.0/24",
                    "--allow-privileged=true",
                    "--authorization-mode=Node,RBAC",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--requestheader-allowed-names=front-proxy",
                    "--requestheader-username-headers=X-Remote-User",
                    "--requestheader-group-headers=X-Remote-Group",
                    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                    "--kubelet-preferred-address-types=InternalIP",
                    // The node speaks WebSocket as clients do, not the protocol that this would translate to.
                    "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
                    "--cert-dir=certificates",
                ]);
                for (flag, file) in [
                    ("tls-cert-file", "apiserver.crt"),
                    ("tls-private-key-file", "apiserver.key"),
                    ("client-ca-file", "ca.crt"),
                    ("token-auth-file", "tokens.csv"),
                    ("service-account-key-file", "service-accounts.pub"),
                    ("service-account-signing-key-file", "service-accounts.key"),
                    ("requestheader-client-ca-file", "ca.crt"),
                    ("proxy-client-cert-file", "front-proxy.crt"),
                    ("proxy-client-key-file", "front-proxy.key"),
                    ("kubelet-certificate-authority", "node-ca.crt"),
                    ("kubelet-client-certificate", "kubelet-client.crt"),
                    ("kubelet-client-key", "kubelet-client.key"),
                ] {
                    command.arg(format!("--{flag}={}", self.pki(file).display()));
                }
            });
        let client = Client::new(&self.kubeconfig());
        api.wait_until("ready", || client.text("/readyz").is_some_and(|text| text == "ok"));
        self.servers.push(api);

        let program = binaries.kubernetes("kube-controller-manager");
        let mut controllers = Server::start("kube-controller-manager", &program, &self.folder, |command| {
            for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
                command.arg(format!("--{flag}=controllers.kubeconfig"));
            }
            command.arg(format!("--secure-port={controllers_port}"));
            command.args([
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                "--use-service-account-credentials=true",
                "--controllers=*,-persistentvolume-attach-detach-controller",
                "--node-monitor-grace-period=24h",
                "--cert-dir=certificates",
            ]);
            command.args(controllers_too);
            for (flag, file) in [
                ("service-account-private-key-file", "service-accounts.key"),
                ("root-ca-file", "ca.crt"),
                ("cluster-signing-cert-file", "ca.crt"),
                ("cluster-signing-key-file", "ca.key"),
            ] {
                command.arg(format!("--{flag}={}", self.pki(file).display()));
            }
        });
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        controllers.wait_until("at work", || client.get(account).0 == 200);
        self.servers.push(controllers);
    }

    /// Stops everything and deletes what etcd kept.
    pub fn wipe(&mut self) {
        while let Some(server) = self.servers.pop() {
            drop(server);
        }
        let data = self.folder.join("etcd");
        if data.exists() {
            fs::remove_dir_all(data).unwrap();
        }
    }

    /// Process ids of what runs.
    pub fn pids(&self) -> Vec<i32> {
        self.servers.iter().map(Server::pid).collect()
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.folder.join("pki").join(file)
    }

    fn certificate(&self, of: &str) -> Value {
        let encoded = |file: String| BASE64.encode(fs::read(self.pki(&file)).unwrap());
        json!({
            "client-certificate-data": encoded(format!("{of}.crt")),
            "client-key-data": encoded(format!("{of}.key")),
        })
    }

    fn kubeconfig_of(&self, user: &Value) -> String {
        let name = "lhrun-test";
        let cluster = json!({
            "server": format!("https://127.0.0.1:{}", self.ports[2]),
            "certificate-authority-data": BASE64.encode(fs::read(self.pki("ca.crt")).unwrap()),
        });
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        })
        .to_string()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        while let Some(server) = self.servers.pop() {
            drop(server);
        }
    }
}

/// Installs the custom resource definitions of a file and waits until the server serves them.
pub fn install_definitions(client: &Client, file: &Path) {
    let text = fs::read_to_string(file).expect("the definitions");
    // Longhorn keeps them as a Helm template, for the sake of two labels and a namespace.
    let text = text.replace("{{- include \"longhorn.labels\" . | nindent 4 }}", "");
    let text = text.replace("{{ include \"release_namespace\" . }}", "longhorn-system");
    let documents = text.split("\n---").filter(|document| document.contains("kind: CustomResourceDefinition"));
    let collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut names = Vec::new();
    for document in documents {
        let definition: Value = serde_saphyr::from_str(document).expect("YAML");
        let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
        let (code, answer) = client.post(collection, &definition);
        assert_eq!(code, 201, "{name}: {answer:#}");
        names.push(name);
    }
    assert!(names.len() > 20, "{} has only {names:?}", file.display());
    for name in names {
        client.wait(&format!("{collection}/{name}"), "established", |_, definition| {
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
        });
    }
}

const TOKEN: &str = "all-rights-of-a-test";
const LIMITED_TOKEN: &str = "no-rights-of-a-test";
