//! A pod's volumes: from what its spec names to folders.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, PersistentVolume, PersistentVolumeClaim, Secret, Volume};
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::{task::PodTask, wait::until};
use crate::{
    Error, Kind, Result,
    sandbox::{
        programs::PodUser,
        workload::{
            binder::SELECTED_NODE,
            objects::{api_error, if_found, merge},
        },
    },
};

/// How long an attachment may take before an event says that it has not happened yet.
const SLOW: Duration = Duration::from_secs(15);

impl PodTask {
    /// Waits until every claim of the pod is bound, saying meanwhile why the pod has no node.
    pub(super) async fn claims_bound(&self) -> Result<()> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        for name in self.volumes().iter().filter_map(claim_name) {
            let claim = if_found(api.get(name).await)?;
            if claim.as_ref().is_some_and(bound) {
                continue;
            }
            let why = match &claim {
                None => format!("0/1 nodes are available: persistentvolumeclaim {name:?} not found."),
                Some(_) => "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.".to_owned(),
            };
            self.kubelet.scheduler.warning(&*self.pod, "FailedScheduling", &why).await;
            self.change(|state| state.scheduled = Err(why)).await;
            until(&api, name, |_| true).await;
            // Classes that wait for a pod are told its node; the others do not mind.
            let selected = serde_json::json!({"metadata": {"annotations": {SELECTED_NODE: crate::sandbox::NODE}}});
            merge(&api, name, selected).await?;
            until(&api, name, bound).await;
        }
        Ok(())
    }

    /// Attaches and mounts everything; gives each volume's folder.
    pub(super) async fn mount_all(&self) -> Result<HashMap<String, PathBuf>> {
        let mut folders = HashMap::new();
        for volume in self.volumes() {
            let folder = match claim_name(volume) {
                Some(claim) => self.mount_claim(claim).await?,
                None => self.make_volume(volume).await?,
            };
            folders.insert(volume.name.clone(), folder);
        }
        Ok(folders)
    }

    fn volumes(&self) -> &[Volume] {
        self.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
    }

    async fn mount_claim(&self, name: &str) -> Result<PathBuf> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let claim = claims.get(name).await.map_err(api_error)?;
        let volume_name = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
        let volumes: Api<PersistentVolume> = Api::all(self.kubelet.client.clone());
        let volume = volumes.get(&volume_name).await.map_err(api_error)?;
        let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        let csi = csi.filter(|csi| csi.driver == "driver.longhorn.io").ok_or_else(|| {
            let text = format!("PersistentVolume {} is not of driver.longhorn.io", volume.name_any());
            Error::new(Kind::Invalid, text).hint("the sandbox knows no other storage")
        })?;
        self.attach(&volume, &csi.volume_handle).await?;
        self.record.uses(&csi.volume_handle);
        let folder = self.kubelet.attacher.mount(&csi.volume_handle).await?;
        let (tree, user) = (folder.clone(), self.record.user());
        let given = tokio::task::spawn_blocking(move || user.map_or(Ok(()), |user| give_tree(&tree, user))).await;
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Failed, format!("giving volume {} to the pod's user: {error}", csi.volume_handle))
        };
        given.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(folder)
    }

    async fn attach(&self, volume: &PersistentVolume, handle: &str) -> Result<()> {
        let (attacher, events) = (&self.kubelet.attacher, &self.kubelet.attach_detach);
        let failed = |why: String| async move {
            let text = format!("AttachVolume.Attach failed for volume {:?} : {why}", volume.name_any());
            events.warning(&*self.pod, "FailedAttachVolume", &text).await;
        };
        attacher
            .known_or(handle, || failed(format!("rpc error: code = NotFound desc = volume {handle} not found")))
            .await;
        while timeout(SLOW, attacher.usable(handle)).await.is_err() {
            failed(format!(
                "rpc error: code = Aborted desc = {} and not ready for workloads",
                attacher.describe(handle).await
            ))
            .await;
        }
        attacher.request(handle, &self.uid()).await?;
        while timeout(SLOW, attacher.attached(handle)).await.is_err() {
            failed(attacher.describe(handle).await).await;
        }
        let text = format!("AttachVolume.Attach succeeded for volume {:?}", volume.name_any());
        events.normal(&*self.pod, "SuccessfulAttachVolume", &text).await;
        Ok(())
    }

    async fn make_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let path = format!("volumes/{}", volume.name);
        if volume.empty_dir.is_some() {
            return self.record.make_folder(&path, true);
        }
        let content = if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            files(self.secret(name, source.optional).await?, source.items.as_deref())?
        } else if let Some(source) = &volume.config_map {
            files(self.config_map(&source.name, source.optional).await?, source.items.as_deref())?
        } else if let Some(source) = &volume.projected {
            self.projected(source).await?
        } else {
            let text = format!("volume {:?} is of a kind that the sandbox does not have", volume.name);
            let known = "it has persistentVolumeClaim, emptyDir, configMap, secret and projected";
            return Err(Error::new(Kind::Invalid, text).hint(known));
        };
        let folder = self.record.make_folder(&path, true)?;
        for (file, content) in content {
            let path = folder.join(&file);
            let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
            let given = written.and_then(|()| self.record.give(&path));
            given.map_err(|error| Error::new(Kind::Failed, format!("writing {}", file.display())).source(error))?;
        }
        Ok(folder)
    }

    pub(super) async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Data> {
        let api: Api<Secret> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let found = if_found(api.get(name).await)?;
        let data = found
            .map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect());
        present(data, "secret", name, optional)
    }

    pub(super) async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Data> {
        let api: Api<ConfigMap> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let found = if_found(api.get(name).await)?;
        let data = found.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
        });
        present(data, "configmap", name, optional)
    }
}

fn claim_name(volume: &Volume) -> Option<&str> {
    volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str())
}

fn bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Content by key.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

fn present(data: Option<Data>, kind: &str, name: &str, optional: Option<bool>) -> Result<Data> {
    match data {
        Some(data) => Ok(data),
        None if optional == Some(true) => Ok(Data::new()),
        None => Err(Error::new(Kind::NotFound, format!("{kind} {name:?} not found"))),
    }
}

/// The files of a Secret or `ConfigMap` volume: all keys, or the chosen ones under the paths given for them.
pub(super) fn files(mut data: Data, items: Option<&[KeyToPath]>) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let chosen: Vec<_> = match items {
        None => data.into_iter().map(|(key, content)| (PathBuf::from(key), content)).collect(),
        Some(items) => {
            items.iter().filter_map(|item| Some((PathBuf::from(&item.path), data.remove(&item.key)?))).collect()
        }
    };
    for (path, _) in &chosen {
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::new(Kind::Invalid, format!("path {} leaves its volume", path.display())));
        }
    }
    Ok(chosen)
}

/// Gives a folder and everything in it to the user, as `fsGroup` would.
fn give_tree(path: &Path, user: PodUser) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.uid() != user.uid.as_raw() || meta.gid() != user.gid.as_raw() {
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give_tree(&entry?.path(), user)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, path: &str) -> KeyToPath {
        KeyToPath { key: key.into(), path: path.into(), mode: None }
    }

    #[test]
    fn keys_become_files_and_none_leaves_the_volume() {
        let data = || Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        assert_eq!(files(data(), None).unwrap().len(), 2);
        let one = files(data(), Some(&[item("b", "sub/file"), item("missing", "x")])).unwrap();
        assert_eq!(one, [(PathBuf::from("sub/file"), b"2".to_vec())]);
        assert!(files(data(), Some(&[item("a", "../x")])).is_err());
        assert!(files(data(), Some(&[item("a", "/etc/x")])).is_err());
    }
}
