//! A container's environment: its variables with their references resolved, its mounts, its working folder.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::{Api, Client, ResourceExt};

use super::images::Image;
use crate::{
    Error, Kind, Result,
    sandbox::{
        NODE,
        workload::{
            objects::if_found,
            runtime::{Environment, PodRecord, paths::Paths},
        },
    },
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the environment. Errors: `not-found` for a Secret or `ConfigMap` (or a key of one) that must exist, `invalid`
/// for a mount that leaves its volume.
pub async fn build(
    client: &Client,
    pod: &Pod,
    record: &PodRecord,
    container: &Container,
    image: Image,
    volumes: &HashMap<String, PathBuf>,
    postgres: &Path,
) -> Result<Environment> {
    let paths = mounts(container, volumes, record)?;
    let folder = record.make_folder(&format!("root/{}", container.name), true)?;
    // As in a container of its own: a MariaDB that starts removes from there what it takes for left over by an earlier one.
    let temporary = record.make_folder(&format!("tmp/{}", container.name), true)?;
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), format!("{}:{PATH}", postgres.display())),
        ("HOME".to_owned(), folder.display().to_string()),
        ("TMPDIR".to_owned(), temporary.display().to_string()),
        ("HOSTNAME".to_owned(), pod.name_any()),
    ]);
    for mount in container.volume_mounts.iter().flatten() {
        if let Some(folder) = paths.folder_of(&mount.mount_path) {
            let name = mount.name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            variables.insert(format!("MOUNT_{name}"), folder.display().to_string());
        }
    }
    let declared = declared(client, pod, container).await?;
    for (name, value) in &declared {
        variables.insert(name.clone(), paths.localize(value));
    }
    match image {
        Image::Postgres => postgres_variables(&mut variables, &declared, &paths, &folder, record)?,
        Image::Mariadb => {
            let data = data_folder("/var/lib/mysql", &paths, &folder);
            variables.insert("MARIADB_DATA".into(), data.display().to_string());
            // Server and clients meet at this socket.
            let socket = record.make_folder("run", true)?.join("mariadb.sock");
            variables.insert("MYSQL_UNIX_PORT".into(), socket.display().to_string());
        }
        Image::Redis => {
            let data = data_folder("/data", &paths, &folder);
            variables.insert("REDIS_DATA".into(), data.display().to_string());
            let run = record.make_folder("run", true)?.display().to_string();
            // The entrypoint puts a redis-cli there that knows the pod's own socket.
            variables.entry("PATH".into()).and_modify(|path| *path = format!("{run}:{path}"));
            variables.insert("REDIS_RUN".into(), run);
        }
        Image::Shell | Image::Longhorn => {}
    }
    let folder = match container.working_dir.as_deref().and_then(|path| paths.folder_of(path)) {
        Some(working) => working,
        None => folder,
    };
    Ok(Environment { variables, paths, folder })
}

/// Data outside every volume live and die with the container, not in a folder of this machine.
fn data_folder(path: &str, paths: &Paths, root: &Path) -> PathBuf {
    paths.folder_of(path).unwrap_or_else(|| root.join(path.trim_start_matches('/')))
}

/// What `psql` and the entrypoint need to meet at the pod's own socket.
fn postgres_variables(
    variables: &mut BTreeMap<String, String>,
    declared: &BTreeMap<String, String>,
    paths: &Paths,
    root: &Path,
    record: &PodRecord,
) -> Result<()> {
    let data = declared.get("PGDATA").map_or("/var/lib/postgresql/data", String::as_str);
    let data = data_folder(data, paths, root);
    variables.insert("PGDATA".into(), data.display().to_string());
    variables.insert("PGHOST".into(), record.make_folder("run", true)?.display().to_string());
    let user = declared.get("POSTGRES_USER").map_or("postgres", String::as_str).to_owned();
    let database = declared.get("POSTGRES_DB").cloned().unwrap_or_else(|| user.clone());
    variables.entry("PGUSER".into()).or_insert(user);
    variables.entry("PGDATABASE".into()).or_insert(database);
    Ok(())
}

fn mounts(container: &Container, volumes: &HashMap<String, PathBuf>, record: &PodRecord) -> Result<Paths> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| {
            let text = format!("container {} mounts {:?}, which is no volume of the pod", container.name, mount.name);
            Error::new(Kind::Invalid, text)
        })?;
        let folder = match mount.sub_path.as_deref() {
            None | Some("") => volume.clone(),
            Some(inside) => sub_folder(volume, inside, record)?,
        };
        mounts.push((mount.mount_path.clone(), folder));
    }
    Ok(Paths::new(mounts))
}

/// A `subPath`: a file of the volume, or a folder that is made when it is missing.
fn sub_folder(volume: &Path, inside: &str, record: &PodRecord) -> Result<PathBuf> {
    let inside = Path::new(inside);
    if !inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::new(Kind::Invalid, format!("subPath {} leaves its volume", inside.display())));
    }
    let path = volume.join(inside);
    if !path.exists() {
        let made = fs::create_dir_all(&path).and_then(|()| record.give(&path));
        made.map_err(|error| Error::new(Kind::Failed, format!("making subPath {}", inside.display())).source(error))?;
    }
    Ok(path)
}

/// The variables the container declares: first `envFrom`, then `env`, each of which may refer to those before it.
async fn declared(client: &Client, pod: &Pod, container: &Container) -> Result<BTreeMap<String, String>> {
    let sources = Sources { client, pod };
    let mut variables = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let mut data = BTreeMap::new();
        if let Some(secret) = &from.secret_ref {
            data = sources.secret(&secret.name, secret.optional).await?.unwrap_or_default();
        }
        if let Some(map) = &from.config_map_ref {
            data.extend(sources.config_map(&map.name, map.optional).await?.unwrap_or_default());
        }
        variables.extend(data.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(source)) => sources.value(source).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

struct Sources<'a> {
    client: &'a Client,
    pod: &'a Pod,
}

impl Sources<'_> {
    async fn value(&self, source: &EnvVarSource) -> Result<Option<String>> {
        let (kind, name, key, optional, data) = if let Some(from) = &source.secret_key_ref {
            ("Secret", &from.name, &from.key, from.optional, self.secret(&from.name, from.optional).await?)
        } else if let Some(from) = &source.config_map_key_ref {
            ("ConfigMap", &from.name, &from.key, from.optional, self.config_map(&from.name, from.optional).await?)
        } else if let Some(from) = &source.field_ref {
            return Ok(Some(field(self.pod, &from.field_path)));
        } else {
            return Ok(Some(String::new()));
        };
        match data.and_then(|mut data| data.remove(key)) {
            None if optional != Some(true) => Err(Error::new(
                Kind::NotFound,
                format!("couldn't find key {key} in {kind} {}/{name}", self.namespace()),
            )),
            value => Ok(value),
        }
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<BTreeMap<String, String>>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace());
        let found = if_found(secrets.get(name).await)?.map(|secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()
        });
        required(found, "secret", name, optional)
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<BTreeMap<String, String>>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace());
        let found = if_found(maps.get(name).await)?.map(|map| map.data.unwrap_or_default());
        required(found, "configmap", name, optional)
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }
}

/// The downward API's fields; an unknown one is empty.
pub(super) fn field(pod: &Pod, path: &str) -> String {
    let metadata = &pod.metadata;
    let quoted = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    let of = |map: &Option<BTreeMap<String, String>>, key| map.as_ref().and_then(|map| map.get(key)).cloned();
    match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => Some(NODE.into()),
        "spec.serviceAccountName" => pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.hostIP" => Some("127.0.0.1".into()),
        _ => quoted("metadata.labels")
            .and_then(|key| of(&metadata.labels, key))
            .or_else(|| quoted("metadata.annotations").and_then(|key| of(&metadata.annotations, key))),
    }
    .unwrap_or_default()
}

fn required<T>(found: Option<T>, kind: &str, name: &str, optional: Option<bool>) -> Result<Option<T>> {
    if found.is_none() && optional != Some(true) {
        return Err(Error::new(Kind::NotFound, format!("{kind} {name:?} not found")));
    }
    Ok(found)
}

/// Replaces `$(NAME)` by the variable of that name; `$$(NAME)` stays as `$(NAME)`, an unknown name as it is.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in
            [("x$(A)y", "x1y"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$(A", "$(A"), ("100%$", "100%$"), ("$A", "$A")]
        {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
