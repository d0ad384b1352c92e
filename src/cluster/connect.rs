//! Finding a cluster as kubectl does, and saying where was looked when there is none.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::{Cluster, fault};
use crate::{Error, Kind, Result};

/// Where k3s writes the administrator's kubeconfig.
const K3S_KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// Time for the first answer of the API server.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Which cluster to connect to; what is `None` is found as kubectl finds it.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Kubeconfig file, instead of every other place.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of its current one.
    pub context: Option<String>,
    /// Namespace of objects named without one, instead of the context's.
    pub namespace: Option<String>,
}

/// What of the process's surroundings decides where a cluster is looked for.
pub(super) struct Surroundings {
    kubeconfig: Option<OsString>,
    home: Option<PathBuf>,
    k3s: PathBuf,
    in_cluster: bool,
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        Self {
            kubeconfig: env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            home: env::home_dir(),
            k3s: K3S_KUBECONFIG.into(),
            in_cluster: env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

/// A connection's configuration and where it came from.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) config: Config,
    /// For example `/root/.kube/config, context k3s`.
    pub(super) place: String,
    pub(super) context: Option<String>,
}

impl Cluster {
    /// Connects to a cluster and checks that it answers within five seconds and takes the credentials.
    ///
    /// Looks at, in this order: the named kubeconfig; the files of `$KUBECONFIG`; `~/.kube/config`; k3s's own
    /// kubeconfig; the service account of the pod this runs in. As in kubectl, a named file or `$KUBECONFIG` excludes
    /// the places after it.
    ///
    /// Errors: `unreachable` when no cluster is configured or it does not answer, `denied` when it refuses the
    /// credentials, `usage` for a kubeconfig or context that is not there. All say what was tried.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        Self::connect_from(options, &Surroundings::of_process()).await
    }

    /// The context that [`connect`](Self::connect) would use, found without connecting; `None` in a pod.
    ///
    /// Errors: as `connect`, when no cluster is configured or the configuration cannot be used.
    pub async fn context_of(options: &ConnectOptions) -> Result<Option<String>> {
        Ok(find(options, &Surroundings::of_process()).await?.context)
    }

    pub(super) async fn connect_from(options: &ConnectOptions, around: &Surroundings) -> Result<Self> {
        let mut found = find(options, around).await?;
        if let Some(namespace) = &options.namespace {
            found.config.default_namespace.clone_from(namespace);
        }
        found.config.connect_timeout = Some(FIRST_ANSWER);
        // Requests are repeated in one place, with a bound on the time; see `request`.
        found.config.default_retry = false;
        let server = found.config.cluster_url.to_string().trim_end_matches('/').to_string();
        let tried = format!("connecting to {server} ({})", found.place);
        let namespace = found.config.default_namespace.clone();
        let client = kube::Client::try_from(found.config).map_err(|error| fault::describe(error, &tried))?;
        let version = match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
            Ok(Ok(version)) => version.git_version,
            Ok(Err(error)) => return Err(fault::describe(error, &tried)),
            Err(_) => {
                let message = format!("{tried}: no answer within {} s", FIRST_ANSWER.as_secs());
                return Err(Error::new(Kind::Unreachable, message)
                    .hint("check that the server is up and reachable from here, or choose another --context"));
            }
        };
        let cluster = Self::new(client, server, found.context, namespace, version);
        // The version is told to everybody; the kinds, needed soon anyway, only to those whose credentials are right.
        cluster.kinds(true).await.map_err(|error| error.context(&tried))?;
        Ok(cluster)
    }
}

pub(super) async fn find(options: &ConnectOptions, around: &Surroundings) -> Result<Found> {
    if let Some(path) = &options.kubeconfig {
        let config = read(path).map_err(|error| unreadable(path, &error))?;
        return choose(config, options, &path.display().to_string()).await;
    }
    let mut looked = Vec::new();
    if let Some(value) = &around.kubeconfig {
        return from_variable(value, options).await;
    }
    looked.push("$KUBECONFIG (not set)".to_string());
    let home = around.home.as_ref().map(|home| home.join(".kube/config"));
    for path in home.iter().chain([&around.k3s]) {
        match read(path) {
            Ok(config)
                if config.current_context.as_deref().unwrap_or_default().is_empty() && options.context.is_none() =>
            {
                looked.push(format!("{} (has no current context)", path.display()));
            }
            Ok(config) => return choose(config, options, &path.display().to_string()).await,
            Err(KubeconfigError::ReadConfig(error, _)) => {
                looked.push(format!("{} ({})", path.display(), reason(&error)));
            }
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
    if around.in_cluster {
        match Config::incluster() {
            Ok(config) => {
                let place = "the pod's service account".to_string();
                return Ok(Found { config, place, context: None });
            }
            Err(error) => looked.push(format!("the pod's service account ({error})")),
        }
    } else {
        looked.push("a pod's service account (not in a pod)".to_string());
    }
    Err(Error::new(Kind::Unreachable, format!("no Kubernetes cluster is configured; looked at {}", looked.join(", ")))
        .hint("name a kubeconfig with --kubeconfig or $KUBECONFIG, or use --sandbox for an embedded cluster"))
}

/// `$KUBECONFIG` may list several files; as in kubectl those that are missing are passed over and the first to set
/// something wins.
async fn from_variable(value: &OsString, options: &ConnectOptions) -> Result<Found> {
    let mut merged: Option<Kubeconfig> = None;
    let mut used = Vec::new();
    let mut looked = Vec::new();
    for path in env::split_paths(value).filter(|path| !path.as_os_str().is_empty()) {
        match read(&path) {
            Ok(config) => {
                let so_far = merged.take().unwrap_or_default();
                merged = Some(so_far.merge(config).map_err(|error| unreadable(&path, &error))?);
                used.push(path.display().to_string());
            }
            Err(KubeconfigError::ReadConfig(error, _)) => {
                looked.push(format!("{} ({})", path.display(), reason(&error)));
            }
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    if let Some(config) = merged {
        return choose(config, options, &format!("$KUBECONFIG: {}", used.join(", "))).await;
    }
    let message = format!("no Kubernetes cluster is configured; looked at $KUBECONFIG: {}", looked.join(", "));
    Err(Error::new(Kind::Unreachable, message)
        .hint("correct or unset $KUBECONFIG; while it is set, no other place is looked at"))
}

fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    Kubeconfig::read_from(path)
}

async fn choose(config: Kubeconfig, options: &ConnectOptions, place: &str) -> Result<Found> {
    let names: Vec<String> = config.contexts.iter().map(|context| context.name.clone()).collect();
    let context = options.context.clone().or_else(|| config.current_context.clone()).filter(|name| !name.is_empty());
    let Some(context) = context else {
        return Err(Error::new(Kind::Usage, format!("{place} has no current context")).hint(contexts_hint(&names)));
    };
    if !names.contains(&context) {
        let message = format!("{place} has no context {context:?}");
        return Err(Error::new(Kind::Usage, message).hint(contexts_hint(&names)));
    }
    let chosen = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(config, &chosen).await.map_err(|error| {
        Error::new(Kind::Usage, format!("context {context} of {place} cannot be used")).source(error)
    })?;
    Ok(Found { config, place: format!("{place}, context {context}"), context: Some(context) })
}

fn contexts_hint(names: &[String]) -> String {
    if names.is_empty() {
        return "the file has no contexts; fetch a kubeconfig from the cluster's administrator".to_string();
    }
    format!("choose one with --context: {}", names.join(", "))
}

fn unreadable(path: &Path, error: &KubeconfigError) -> Error {
    let message = match error {
        KubeconfigError::ReadConfig(cause, _) => format!("kubeconfig {}: {}", path.display(), reason(cause)),
        // The parser's own text shows the lines around the mistake, and those may hold a token or a key.
        KubeconfigError::Parse(cause) => match cause.location() {
            Some(at) => {
                format!("kubeconfig {}: line {}, column {}: not valid YAML", path.display(), at.line(), at.column())
            }
            None => format!("kubeconfig {}: not a kubeconfig", path.display()),
        },
        other => format!("kubeconfig {}: {other}", path.display()),
    };
    Error::new(Kind::Usage, message).object(path.display().to_string())
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not there".to_string(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn around(home: &Path) -> Surroundings {
        Surroundings { kubeconfig: None, home: Some(home.into()), k3s: home.join("k3s.yaml"), in_cluster: false }
    }

    fn kubeconfig(name: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster: \
             {{server: 'http://127.0.0.1:{port}'}}\ncontexts:\n- name: {name}\n  context: {{cluster: {name}, user: u, \
             namespace: ns-{name}}}\nusers:\n- name: u\n  user: {{token: hidden-token}}\n"
        )
    }

    #[tokio::test]
    async fn with_nothing_configured_every_place_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = find(&ConnectOptions::default(), &around(home.path())).await.unwrap_err();
        assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Unreachable, 6));
        for place in ["$KUBECONFIG (not set)", ".kube/config (not there)", "k3s.yaml (not there)", "not in a pod"] {
            assert!(error.message().contains(place), "{place}: {error}");
        }
        assert!(error.hint_text().unwrap().contains("--sandbox"));
    }

    #[tokio::test]
    async fn files_are_tried_in_order_and_the_variable_excludes_the_rest() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".kube")).unwrap();
        fs::write(home.path().join("k3s.yaml"), kubeconfig("k3s", 1)).unwrap();
        let mut around = around(home.path());
        let found = find(&ConnectOptions::default(), &around).await.unwrap();
        assert_eq!(found.context.as_deref(), Some("k3s"));
        fs::write(home.path().join(".kube/config"), kubeconfig("mine", 2)).unwrap();
        let found = find(&ConnectOptions::default(), &around).await.unwrap();
        assert_eq!((found.context.as_deref(), found.config.default_namespace.as_str()), (Some("mine"), "ns-mine"));
        around.kubeconfig = Some("/no/such/file".into());
        let error = find(&ConnectOptions::default(), &around).await.unwrap_err();
        assert!(error.message().contains("/no/such/file (not there)"), "{error}");
    }

    #[tokio::test]
    async fn the_variable_lists_files_that_are_merged() {
        let home = tempfile::tempdir().unwrap();
        let (a, b) = (home.path().join("a"), home.path().join("b"));
        fs::write(&a, kubeconfig("first", 1)).unwrap();
        fs::write(&b, kubeconfig("second", 2)).unwrap();
        let mut around = around(home.path());
        around.kubeconfig = Some(env::join_paths([&home.path().join("gone"), &a, &b]).unwrap());
        let found = find(&ConnectOptions::default(), &around).await.unwrap();
        assert_eq!(found.context.as_deref(), Some("first"));
        let options = ConnectOptions { context: Some("second".into()), ..ConnectOptions::default() };
        let found = find(&options, &around).await.unwrap();
        assert_eq!(found.config.cluster_url.to_string(), "http://127.0.0.1:2/");
        let options = ConnectOptions { context: Some("third".into()), ..ConnectOptions::default() };
        let error = find(&options, &around).await.unwrap_err();
        assert_eq!((error.kind(), error.hint_text()), (Kind::Usage, Some("choose one with --context: first, second")));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unreachable_and_its_token_stays_hidden() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config");
        // Port 1 is never listened on.
        fs::write(&path, kubeconfig("down", 1)).unwrap();
        let options = ConnectOptions { kubeconfig: Some(path), ..ConnectOptions::default() };
        let error = Cluster::connect_from(&options, &around(home.path())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.message().contains("http://127.0.0.1:1"), "{error}");
        assert!(!format!("{error:?}").contains("hidden-token"));
    }

    #[tokio::test]
    async fn a_named_file_must_be_there_and_be_a_kubeconfig() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("broken");
        let options = ConnectOptions { kubeconfig: Some(path.clone()), ..ConnectOptions::default() };
        let error = find(&options, &around(home.path())).await.unwrap_err();
        assert!(error.message().ends_with("broken: not there"), "{error}");
        fs::write(&path, "clusters: [").unwrap();
        let error = find(&options, &around(home.path())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }
}
