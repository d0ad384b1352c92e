//! System backups: the objects of a Longhorn installation as YAML in an archive. They hold no volume data.
//!
//! Layout as Longhorn 1.10 writes it: `<name>/metadata.yaml` and one list of objects in each
//! `<name>/yamls/{apiextensions,kubernetes,longhorn}/*.yaml`.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
};

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    Catalog,
    block::hex,
    config::{SystemBackupConfig, damaged},
    layout,
};
use crate::{Error, Kind, Result, objectstore::Store};

/// Largest archive read, in bytes; a cluster with a thousand volumes has about 1 MiB.
const MAX_ARCHIVE: u64 = 64 << 20;
/// Most text unpacked from an archive, in bytes.
const MAX_TEXT: u64 = 256 << 20;
/// Most files in an archive; Longhorn writes 21.
const MAX_FILES: usize = 1000;

/// Where each kind's list is, and its API version. Longhorn has the two cluster role files swapped.
const FILES: [(&str, &str, &str); 20] = [
    ("apiextensions/customresourcedefinitions.yaml", "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("kubernetes/clusterrolebindings.yaml", "rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("kubernetes/clusterroles.yaml", "rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("kubernetes/configmaps.yaml", "v1", "ConfigMap"),
    ("kubernetes/daemonsets.yaml", "apps/v1", "DaemonSet"),
    ("kubernetes/deployments.yaml", "apps/v1", "Deployment"),
    ("kubernetes/persistentvolumeclaims.yaml", "v1", "PersistentVolumeClaim"),
    ("kubernetes/persistentvolumes.yaml", "v1", "PersistentVolume"),
    ("kubernetes/rolebindings.yaml", "rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("kubernetes/roles.yaml", "rbac.authorization.k8s.io/v1", "Role"),
    ("kubernetes/serviceaccounts.yaml", "v1", "ServiceAccount"),
    ("kubernetes/services.yaml", "v1", "Service"),
    ("kubernetes/storageclasses.yaml", "storage.k8s.io/v1", "StorageClass"),
    ("longhorn/backingimages.yaml", "longhorn.io/v1beta2", "BackingImage"),
    ("longhorn/backuptargets.yaml", "longhorn.io/v1beta2", "BackupTarget"),
    ("longhorn/engineimages.yaml", "longhorn.io/v1beta2", "EngineImage"),
    ("longhorn/recurringjobs.yaml", "longhorn.io/v1beta2", "RecurringJob"),
    ("longhorn/setting.yaml", "longhorn.io/v1beta2", "Setting"),
    ("longhorn/volumes.yaml", "longhorn.io/v1beta2", "Volume"),
    ("kubernetes/podsecuritypolicies.yaml", "policy/v1beta1", "PodSecurityPolicy"),
];

/// Facts about the cluster, from `metadata.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The version of Longhorn.
    #[serde(rename = "longhornversion")]
    pub longhorn_version: String,
    /// That version's commit.
    #[serde(rename = "longhorngitcommit")]
    pub longhorn_git_commit: String,
    /// The version of Kubernetes.
    #[serde(rename = "kubernetesversion")]
    pub kubernetes_version: String,
    /// The identity of Longhorn's namespace.
    #[serde(rename = "longhornnamespaceuuid")]
    pub longhorn_namespace_uuid: String,
    /// Written, but not set, by Longhorn 1.10.
    #[serde(rename = "systembackupcreatedat")]
    pub created_at: String,
    /// The manager's image.
    #[serde(rename = "managerimage")]
    pub manager_image: String,
}

/// A system backup, read whole.
#[derive(Clone, Debug)]
pub struct SystemBundle {
    /// Its configuration in the store.
    pub config: SystemBackupConfig,
    /// Facts about the cluster it is of.
    pub metadata: Metadata,
    /// The YAML text of each file, by its path below the archive's top folder: `yamls/longhorn/volumes.yaml`.
    pub files: BTreeMap<String, String>,
}

impl SystemBundle {
    /// The objects of a kind (`Volume`, `PersistentVolumeClaim`, …), wherever they are; none when there are none.
    ///
    /// # Errors
    /// `damaged`, naming the file, when its YAML cannot be read.
    pub fn objects(&self, kind: &str) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        let line = format!("kind: {kind}List");
        // Only the files that may hold it are parsed: the definitions alone are most of the text.
        for (path, text) in self.files.iter().filter(|(_, text)| text.lines().any(|found| found.trim_end() == line)) {
            let list: List = parse_yaml(text).map_err(|why| damaged(&self.key(), format!("{path}: {why}")))?;
            if list.kind == format!("{kind}List") {
                objects.extend(
                    list.items.unwrap_or_default().into_iter().map(|item| list_item(item, &list.api_version, kind)),
                );
            }
        }
        Ok(objects)
    }

    fn key(&self) -> String {
        let folder = layout::system_backup(&self.config.longhorn_version, &self.config.name);
        folder.unwrap_or_default() + ARCHIVE
    }
}

pub(super) const CONFIG: &str = "system-backup.cfg";
pub(super) const ARCHIVE: &str = "system-backup.zip";

#[derive(Deserialize)]
struct List {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    kind: String,
    #[serde(default)]
    items: Option<Vec<Map<String, Value>>>,
}

/// Items of a list may lack what the list says for all of them.
fn list_item(mut item: Map<String, Value>, api_version: &str, kind: &str) -> Value {
    item.entry("apiVersion").or_insert_with(|| api_version.into());
    item.entry("kind").or_insert_with(|| kind.into());
    Value::Object(item)
}

fn parse_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    // Text and depth stay bounded; the counts must allow for thousands of volumes.
    let budget =
        serde_saphyr::budget! { max_events: 50_000_000, max_nodes: 20_000_000, max_total_scalar_bytes: 256 << 20 };
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { budget: budget })
}

/// Reads a system backup and verifies its checksum.
///
/// # Errors
/// `not-found` when it is not there; `damaged`, naming the object, when the archive is not the one that was written, is
/// no archive, or holds what no system backup holds: paths that lead elsewhere, far too much, or no text.
pub async fn read(store: &Store, version: &str, name: &str) -> Result<SystemBundle> {
    let (config, body) = archive(store, version, name).await?;
    let key = layout::system_backup(version, name)? + ARCHIVE;
    super::blocking(move || {
        let files = unpack(&key, &body)?;
        let metadata = match files.get("metadata.yaml") {
            Some(text) => parse_yaml(text).map_err(|why| damaged(&key, format!("metadata.yaml: {why}")))?,
            None => Metadata::default(),
        };
        Ok(SystemBundle { config, metadata, files })
    })
    .await
}

/// The configuration and the archive of a system backup, whose checksum is verified.
///
/// # Errors
/// `not-found` when it is not there; `damaged`, naming the object, when the archive is not the one that was written.
pub(super) async fn archive(store: &Store, version: &str, name: &str) -> Result<(SystemBackupConfig, Bytes)> {
    let config = Catalog::new(store.clone()).system_backup(version, name).await?;
    let key = layout::system_backup(version, name)? + ARCHIVE;
    let body = store.get_limited(&key, MAX_ARCHIVE).await?;
    super::blocking(move || {
        let checksum = hex(digest(&SHA256, &body).as_ref());
        if checksum.eq_ignore_ascii_case(&config.checksum) {
            return Ok((config, body));
        }
        Err(damaged(&key, format!("its SHA-256 is {checksum}, its configuration says {}", config.checksum)))
    })
    .await
}

/// The text files of the archive at that key by path, without its top folder.
///
/// # Errors
/// `damaged`, naming the key, as [`read`].
pub fn unpack(key: &str, body: &[u8]) -> Result<BTreeMap<String, String>> {
    text_files(body).map_err(|why| damaged(key, why))
}

fn text_files(body: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let mut archive = ZipArchive::new(Cursor::new(body)).map_err(|error| format!("it is no archive: {error}"))?;
    if archive.len() > MAX_FILES {
        return Err(format!("it has {} files", archive.len()));
    }
    let mut files = BTreeMap::new();
    let mut room = MAX_TEXT;
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|error| format!("file {index} of the archive: {error}"))?;
        let name = file.name().map_err(|error| format!("file {index} of the archive: {error}"))?.into_owned();
        let inner = inner_path(&name).ok_or_else(|| format!("it has a file named {name:?}"))?;
        if file.is_dir() {
            continue;
        }
        let mut text = String::new();
        // What is announced is not believed: reading stops one byte after what is allowed.
        let read = file.take(room + 1).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))? as u64;
        room = room.checked_sub(read).ok_or_else(|| format!("it unpacks to more than {MAX_TEXT} bytes"))?;
        if files.insert(inner.to_owned(), text).is_some() {
            return Err(format!("it has {name} twice"));
        }
    }
    Ok(files)
}

/// The path below the top folder, if every part of it is an ordinary name.
fn inner_path(name: &str) -> Option<&str> {
    let path = name.trim_end_matches('/');
    let ordinary = |part: &str| {
        part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    path.split('/').all(ordinary).then(|| path.split_once('/').map_or("", |(_, inner)| inner))
}

/// Writes a system backup, the archive before its configuration. Objects are by kind; each kind Longhorn saves gets its
/// file, with an empty list where there are none. The configuration's checksum is filled in.
///
/// # Errors
/// `conflict` when one of that version and name exists; `invalid` for a kind that system backups do not have.
pub async fn write(
    store: &Store,
    mut config: SystemBackupConfig,
    metadata: Metadata,
    objects: BTreeMap<String, Vec<Value>>,
) -> Result<SystemBackupConfig> {
    let folder = layout::system_backup(&config.longhorn_version, &config.name)?;
    let key = folder.clone() + CONFIG;
    if store.head(&key).await?.is_some() {
        let text = format!("a system backup {} of {} exists already", config.name, config.longhorn_version);
        return Err(Error::new(Kind::Conflict, text).object(key));
    }
    let name = config.name.clone();
    let archive = super::blocking(move || pack(&name, &metadata, &objects)).await?;
    config.checksum = hex(digest(&SHA256, &archive).as_ref());
    store.put(&(folder + ARCHIVE), Bytes::from(archive)).await?;
    store.put(&key, config.to_bytes()?.into()).await?;
    Ok(config)
}

fn pack(name: &str, metadata: &Metadata, objects: &BTreeMap<String, Vec<Value>>) -> Result<Vec<u8>> {
    if let Some(kind) = objects.keys().find(|kind| FILES.iter().all(|(_, _, known)| known != kind)) {
        return Err(Error::new(Kind::Invalid, format!("system backups have no objects of kind {kind}")));
    }
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut add = |path: String, text: String| {
        archive.start_file(path, options).map_err(failed)?;
        archive.write_all(text.as_bytes()).map_err(failed)
    };
    add(format!("{name}/metadata.yaml"), serde_saphyr::to_string(metadata).map_err(failed)?)?;
    for (path, api_version, kind) in FILES {
        let items = objects.get(kind);
        // Longhorn writes the file of this kind only up to 1.6.
        if items.is_none() && kind == "PodSecurityPolicy" {
            continue;
        }
        let list = serde_json::json!({
            "apiVersion": api_version,
            "items": items.map_or(&[][..], Vec::as_slice),
            "kind": format!("{kind}List"),
            "metadata": {},
        });
        add(format!("{name}/yamls/{path}"), serde_saphyr::to_string(&list).map_err(failed)?)?;
    }
    Ok(archive.finish().map_err(failed)?.into_inner())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Failed, "writing the archive of a system backup").source(error)
}

/// Deletes a system backup, its configuration first.
///
/// # Errors
/// `not-found` when it is not there.
pub async fn delete(store: &Store, version: &str, name: &str) -> Result<()> {
    let folder = layout::system_backup(version, name)?;
    let key = folder.clone() + CONFIG;
    if store.head(&key).await?.is_none() {
        return Err(Error::new(Kind::NotFound, format!("there is no system backup {name} of {version}")).object(key));
    }
    store.delete(&key).await?;
    store.delete(&(folder + ARCHIVE)).await
}

#[cfg(test)]
mod tests;
