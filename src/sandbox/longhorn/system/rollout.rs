//! Putting a bundle's objects into the cluster, kind by kind, with every quirk that decides what comes back
//! (`system_rollout_controller`).

use std::time::Duration;

use kube::{
    api::{Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BACKING_IMAGES, BACKUP_TARGETS, BundleKind, CLAIMS, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, DAEMON_SETS,
    DEPLOYMENTS, ENGINE_IMAGES, RECURRING_JOBS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS, SERVICES, SETTINGS,
    STORAGE_CLASSES, VOLUMES, VOLUMES_OF_CLUSTER, restore,
};
use crate::{
    Error, Kind, Result,
    backupstore::{BackupRef, system::SystemBundle},
    sandbox::longhorn::{
        cache::Object,
        context::{Context, api_error},
        names,
        resource::{Fields, Resource, condition},
        settings,
        store::Target,
    },
};

const RESTORED: &str = "longhorn.io/last-system-restored";
const RESTORED_AT: &str = "longhorn.io/last-system-restored-at";
const RESTORED_BACKUP: &str = "longhorn.io/last-system-restored-backup";
const SKIPPED: &str = "longhorn.io/last-skipped-system-restored";
const SKIPPED_AT: &str = "longhorn.io/last-skipped-system-restored-at";

/// A kind is tried again that often, and that long, before it is given up.
const RETRY: Duration = Duration::from_millis(250);
const LIMIT: Duration = Duration::from_hours(24);

/// Kinds whose objects are overwritten when they exist.
const REPLACED: [&BundleKind; 8] = [
    &SERVICES,
    &CLUSTER_ROLES,
    &CLUSTER_ROLE_BINDINGS,
    &ROLES,
    &ROLE_BINDINGS,
    &CONFIG_MAPS,
    &DEPLOYMENTS,
    &RECURRING_JOBS,
];
/// Kinds whose objects are left alone when they exist.
const KEPT: [&BundleKind; 4] = [&SERVICE_ACCOUNTS, &STORAGE_CLASSES, &BACKUP_TARGETS, &BACKING_IMAGES];

pub(super) struct Rollout<'a> {
    context: &'a Context,
    restore: Object,
    target: &'a Target,
    source: String,
    at: String,
    engine_images: Vec<String>,
    items: Items,
}

/// The objects of a bundle, and which of them are done with.
#[derive(Default)]
struct Items {
    daemon_sets: Vec<Item>,
    engine_images: Vec<Item>,
    settings: Vec<Item>,
    replaced: Vec<(&'static BundleKind, Vec<Item>)>,
    kept: Vec<(&'static BundleKind, Vec<Item>)>,
    volumes: Vec<Item>,
    persistent_volumes: Vec<Item>,
    claims: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    object: Value,
    /// Marked as restored or skipped: it is not looked at again.
    done: bool,
    /// It could not be created.
    missing: bool,
}

impl Item {
    fn name(&self) -> &str {
        self.object.text("/metadata/name")
    }

    fn namespace(&self) -> &str {
        self.object.text("/metadata/namespace")
    }

    /// The object to create, marked. The real code marks a copy of what it has in memory, whose annotations are the same
    /// ones when there are any: an object that has some counts as done from then on, even if creating it fails, and one
    /// that has none is tried again for ever.
    fn tagged(&mut self, at: (&str, &str), keys: [&str; 2]) -> Value {
        let mut object = self.object.clone();
        let had_any = object["metadata"]["annotations"].as_object().is_some_and(|all| !all.is_empty());
        if !had_any {
            object["metadata"]["annotations"] = json!({});
        }
        object["metadata"]["annotations"][keys[0]] = at.0.into();
        object["metadata"]["annotations"][keys[1]] = at.1.into();
        self.done = had_any;
        object
    }
}

impl<'a> Rollout<'a> {
    pub(super) fn unpack(
        context: &'a Context,
        restore: Object,
        bundle: &SystemBundle,
        target: &'a Target,
    ) -> Result<Self> {
        let items = |kind: &BundleKind| -> Result<Vec<Item>> {
            Ok(bundle
                .objects(kind.kind)?
                .into_iter()
                .map(|object| Item { object, done: false, missing: false })
                .collect())
        };
        let of = |kinds: &[&'static BundleKind]| -> Result<Vec<_>> {
            kinds.iter().map(|kind| Ok((*kind, items(kind)?))).collect()
        };
        Ok(Self {
            context,
            source: restore.text("/status/sourceURL").to_owned(),
            restore,
            target,
            at: names::now(),
            engine_images: Vec::new(),
            items: Items {
                daemon_sets: items(&DAEMON_SETS)?,
                engine_images: items(&ENGINE_IMAGES)?,
                settings: items(&SETTINGS)?,
                replaced: of(&REPLACED)?,
                kept: of(&KEPT)?,
                volumes: items(&VOLUMES)?,
                persistent_volumes: items(&VOLUMES_OF_CLUSTER)?,
                claims: items(&CLAIMS)?,
            },
        })
    }

    /// Goes through the kinds in Longhorn's order. The definitions are left as the server has them.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut items = std::mem::take(&mut self.items);
        self.kind("DaemonSet", &mut items.daemon_sets, Step::Replace(&DAEMON_SETS)).await?;
        self.kind("EngineImage", &mut items.engine_images, Step::EngineImages).await?;
        self.kind("Setting", &mut items.settings, Step::Settings).await?;
        for (kind, list) in &mut items.replaced {
            self.kind(kind.kind, list, Step::Replace(kind)).await?;
        }
        for (kind, list) in &mut items.kept {
            self.kind(kind.kind, list, Step::Keep(kind)).await?;
        }
        self.engine_images = items.engine_images.iter().map(|item| item.name().to_owned()).collect();
        self.kind("Volume", &mut items.volumes, Step::Volumes).await?;
        for volume in items.volumes.iter().filter(|item| item.missing) {
            self.skip_dependents(volume.name(), &mut items.persistent_volumes, &mut items.claims).await;
        }
        self.kind("PersistentVolume", &mut items.persistent_volumes, Step::PersistentVolumes).await?;
        self.kind("PersistentVolumeClaim", &mut items.claims, Step::Claims).await
    }

    /// One kind, repeated until all its objects are done with. Errors: what the last try said, after 24 hours;
    /// `cancelled` when the restore is deleted.
    async fn kind(&self, kind: &str, items: &mut [Item], step: Step) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.pass(items, step).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            tracing::debug!(kind, %error, "system restore: tried again");
            tokio::time::sleep(RETRY).await;
            if restore::is_over(self.context, &self.restore) {
                return Err(Error::new(Kind::Cancelled, "the system restore was deleted"));
            }
        }
        let about = (Resource::SystemRestore, &*self.restore);
        let message = format!("Restored {kind}List");
        self.context.event(about, false, &message, &message).await;
        Ok(())
    }

    /// The objects in order, up to the first that fails.
    async fn pass(&self, items: &mut [Item], step: Step) -> Result<()> {
        if matches!(step, Step::Volumes) {
            self.check_engine_images()?;
        }
        for item in items.iter_mut().filter(|item| !item.done) {
            match step {
                Step::Replace(kind) => self.replace(kind, item).await?,
                Step::Keep(kind) => self.keep(kind, item).await?,
                Step::EngineImages => self.engine_image(item).await?,
                Step::Settings => self.setting(item).await?,
                Step::Volumes => self.volume(item).await?,
                Step::PersistentVolumes => self.persistent_volume(item).await?,
                Step::Claims => self.claim(item).await?,
            }
        }
        Ok(())
    }

    fn mark(&self) -> (&str, &str) {
        (&self.source, &self.at)
    }

    async fn find(&self, kind: &BundleKind, item: &Item) -> Result<Option<DynamicObject>> {
        let api = kind.api(self.context, item.namespace());
        api.get_opt(item.name()).await.map_err(|error| api_error(&error, item.name()))
    }

    async fn create(&self, kind: &BundleKind, item: &mut Item) -> Result<()> {
        let mut object = item.tagged(self.mark(), [RESTORED, RESTORED_AT]);
        for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
            object["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        object.as_object_mut().map(|object| object.remove("status"));
        let object: DynamicObject = serde_json::from_value(object)
            .map_err(|error| Error::new(Kind::Invalid, item.name().to_owned()).source(error))?;
        let api = kind.api(self.context, item.namespace());
        match api.create(&PostParams::default(), &object).await.map_err(|error| api_error(&error, item.name())) {
            Err(error) if error.kind() == Kind::Conflict => {}
            other => drop(other?),
        }
        item.done = true;
        Ok(())
    }

    async fn patch(&self, kind: &BundleKind, item: &mut Item, change: Value) -> Result<()> {
        let api = kind.api(self.context, item.namespace());
        let patched = api.patch(item.name(), &PatchParams::default(), &Patch::Merge(change)).await;
        patched.map_err(|error| api_error(&error, item.name()))?;
        item.done = true;
        Ok(())
    }

    /// What exists stays as it is and only gets a note.
    async fn note_skipped(&self, kind: &BundleKind, item: &mut Item) -> Result<()> {
        let note = json!({"metadata": {"annotations": {SKIPPED: self.source, SKIPPED_AT: self.at}}});
        self.patch(kind, item, note).await
    }

    async fn keep(&self, kind: &BundleKind, item: &mut Item) -> Result<()> {
        match self.find(kind, item).await? {
            Some(_) => self.note_skipped(kind, item).await,
            None => self.create(kind, item).await,
        }
    }

    /// What exists and is different is overwritten.
    async fn replace(&self, kind: &BundleKind, item: &mut Item) -> Result<()> {
        if item.name() == "longhorn-default-setting" {
            item.done = true;
            return Ok(());
        }
        if self.find(kind, item).await?.is_none() {
            return self.create(kind, item).await;
        }
        let mut change = json!({"metadata": {"annotations": {RESTORED: self.source, RESTORED_AT: self.at}}});
        for field in ["spec", "data", "rules", "roleRef", "subjects"] {
            if !item.object[field].is_null() {
                change[field] = item.object[field].clone();
            }
        }
        // Addresses are the server's to give.
        if let Some(spec) = change["spec"].as_object_mut() {
            spec.retain(|field, _| !matches!(field.as_str(), "clusterIP" | "clusterIPs" | "selector"));
        }
        self.patch(kind, item, change).await
    }

    async fn engine_image(&self, item: &mut Item) -> Result<()> {
        if self.find(&ENGINE_IMAGES, item).await?.is_some() {
            return self.note_skipped(&ENGINE_IMAGES, item).await;
        }
        self.create(&ENGINE_IMAGES, item).await?;
        // An image that can be had is deployed soon after.
        let mut status = item.object["status"].clone();
        status["state"] = "deployed".into();
        status["nodeDeploymentMap"] = json!({&self.context.options.node: true});
        let api = ENGINE_IMAGES.api(self.context, item.namespace());
        let change = Patch::Merge(json!({"status": status}));
        let patched = api.patch_status(item.name(), &PatchParams::default(), &change).await;
        patched.map(drop).map_err(|error| api_error(&error, item.name()))
    }

    async fn setting(&self, item: &mut Item) -> Result<()> {
        let name = item.name();
        if settings::NOT_RESTORED.contains(&name) || settings::READ_ONLY.contains(&name) {
            item.done = true;
            return Ok(());
        }
        if self.find(&SETTINGS, item).await?.is_none() {
            return self.create(&SETTINGS, item).await;
        }
        let change = json!({"value": item.object["value"],
            "metadata": {"annotations": {RESTORED: self.source, RESTORED_AT: self.at}}});
        self.patch(&SETTINGS, item, change).await
    }

    fn check_engine_images(&self) -> Result<()> {
        for name in &self.engine_images {
            let image = self.context.get(Resource::EngineImage, name);
            let state = image.map(|image| image.text("/status/state").to_owned()).unwrap_or_default();
            if state != "deployed" {
                return Err(Error::new(Kind::Timeout, format!("engine image {name} is in {state} state")));
            }
        }
        Ok(())
    }

    /// Creates a volume from the backup that was its last when the bundle was made; a volume that had none comes back
    /// empty, and one that is refused is left out.
    async fn volume(&self, item: &mut Item) -> Result<()> {
        if let Some(found) = self.find(&VOLUMES, item).await? {
            if found.text("/spec/nodeID").is_empty() {
                self.note_skipped(&VOLUMES, item).await?;
            }
            item.done = true;
            return Ok(());
        }
        item.object["spec"]["nodeID"] = "".into();
        let last = item.object.text("/status/lastBackup").to_owned();
        if !last.is_empty() && !item.object.flag("/status/isStandby") {
            let url = BackupRef::new(item.name(), last)?.encode(&self.target.url);
            item.object["spec"]["fromBackup"] = url.into();
        }
        if !item.object["metadata"]["annotations"].is_object() {
            item.object["metadata"]["annotations"] = json!({});
        }
        item.object["metadata"]["annotations"][RESTORED_BACKUP] =
            item.object.text("/spec/fromBackup").to_owned().into();
        let Err(error) = self.create(&VOLUMES, item).await else { return Ok(()) };
        (item.done, item.missing) = (true, true);
        let about = (Resource::SystemRestore, &*self.restore);
        let reason = format!("FailedCreating: Volume {}", item.name());
        let message = format!("Failed to create Volume {}: {error}", item.name());
        self.context.event(about, true, &reason, &message).await;
        Ok(())
    }

    /// `PersistentVolume`s of a volume that could not be created are left out; of the claims only those whose volume has
    /// the same name as Longhorn's, because that is what is compared.
    async fn skip_dependents(&self, volume: &str, persistent_volumes: &mut [Item], claims: &mut [Item]) {
        let of_volume =
            persistent_volumes.iter_mut().filter(|item| item.object.text("/spec/csi/volumeHandle") == volume);
        let of_claims = claims.iter_mut().filter(|item| item.object.text("/spec/volumeName") == volume);
        let dependents = of_volume.map(|item| ("PersistentVolume", item));
        for (kind, item) in dependents.chain(of_claims.map(|item| ("PersistentVolumeClaim", item))) {
            item.done = true;
            let about = (Resource::SystemRestore, &*self.restore);
            let message = format!("Ignoring {kind} {} due to missing Volume {volume}", item.name());
            self.context.event(about, true, &format!("RolloutSkipped: {kind} {}", item.name()), &message).await;
        }
    }

    /// Waits for the data, one volume after the other; the claim's reference is taken off.
    async fn persistent_volume(&self, item: &mut Item) -> Result<()> {
        if self.find(&VOLUMES_OF_CLUSTER, item).await?.is_some() {
            return self.note_skipped(&VOLUMES_OF_CLUSTER, item).await;
        }
        let handle = item.object.text("/spec/csi/volumeHandle");
        let missing = || Error::new(Kind::NotFound, format!("volume.longhorn.io \"{handle}\" not found"));
        let volume = self.context.get(Resource::Volume, handle).ok_or_else(missing)?;
        let begun = volume.text("/spec/fromBackup").is_empty() || volume.flag("/status/restoreInitiated");
        if condition(&*volume, "Restore") == "True" || !begun {
            return Err(Error::new(Kind::Timeout, "volume is restoring data"));
        }
        if volume.flag("/status/restoreRequired") {
            return Err(Error::new(Kind::Timeout, "volume is waiting to restore data"));
        }
        item.object["spec"].as_object_mut().map(|spec| spec.remove("claimRef"));
        self.create(&VOLUMES_OF_CLUSTER, item).await
    }

    async fn claim(&self, item: &mut Item) -> Result<()> {
        if self.find(&CLAIMS, item).await?.is_some() {
            return self.note_skipped(&CLAIMS, item).await;
        }
        let volume = item.object.text("/spec/volumeName");
        let api = VOLUMES_OF_CLUSTER.api(self.context, "");
        let found = api.get_opt(volume).await.map_err(|error| api_error(&error, volume))?;
        if found.is_none() {
            return Err(Error::new(Kind::NotFound, format!("persistentvolume \"{volume}\" not found")));
        }
        self.create(&CLAIMS, item).await
    }
}

/// What is done with the objects of a kind.
#[derive(Clone, Copy)]
enum Step {
    Replace(&'static BundleKind),
    Keep(&'static BundleKind),
    EngineImages,
    Settings,
    Volumes,
    PersistentVolumes,
    Claims,
}
