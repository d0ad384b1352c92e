//! Making the PersistentVolume and the claim of a restored volume, and having them bound quickly.
//!
//! The claim first, naming its volume, then the PersistentVolume with the claim's uid costs Kubernetes' binder half the
//! requests of the other order; a touch of the claim afterwards saves the wait for the binder's 15 s resync.

use std::{ops::ControlFlow, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BACKUP_VOLUME, Longhorn, VOLUME, Volume, fields, hold, persistent::Wishes, quantity, rest, volume::handle,
};
use crate::{
    Error, Kind, Result,
    cluster::{ApplyOptions, Change, ObjectRef, Observer},
};

/// Time after which a claim that is not bound is touched again.
const TOUCH_AFTER: Duration = Duration::from_secs(1);
/// Annotation a claim has until it is bound; setting and removing it makes the binder look at the claim.
const TOUCH: &str = "lhrun.io/binding";

/// What to bind.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// The volume.
    pub volume: String,
    /// The claim, in its namespace.
    pub claim: ObjectRef,
    /// What is known of the two objects.
    pub wishes: Wishes,
    /// Longest time until the claim is bound.
    pub limit: Duration,
}

/// A claim and its PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// `namespace/name`.
    pub claim: String,
    /// Name of the PersistentVolume.
    pub pv: String,
    /// Name of the volume.
    pub volume: String,
    /// False when everything was as wanted already.
    pub changed: bool,
}

impl Longhorn {
    /// Makes the claim and the PersistentVolume of a volume and waits until they are bound. What is there already and
    /// fits is left alone; a PersistentVolume released by an earlier claim of that name is taken again. A claim that had
    /// grown since the backup is bound at the backup's size and then expanded as claims are.
    ///
    /// Errors: `conflict` when claim or PersistentVolume exist and belong to something else, `timeout` with the
    /// claim's events.
    pub async fn bind(&self, request: &BindRequest) -> Result<Bound> {
        let start = Instant::now();
        let volume = self.volume(&request.volume).await?;
        if let Some(pv) = self.bound_pv(&request.claim, &volume.name).await? {
            return Ok(Bound { claim: place(&request.claim), pv, volume: volume.name, changed: false });
        }
        let asked = request.wishes.asked(&volume, &request.claim)?;
        let mut request = request.clone();
        request.wishes.size = Some(asked.min(volume.size));
        let request = &request;
        let pv = request.wishes.pv_name(&volume.name);
        let class = self.class_of(&volume, &request.wishes).await?;
        let former_pv = self.check_pv(&pv, &volume.name, Some(&request.claim)).await?;
        let (claim, claim_changed) = self.make_claim(request, &volume, &pv, &class).await?;
        let uid = fields::owned(&claim, "/metadata/uid");
        let pv_changed = if let Some(existing) = former_pv {
            self.adopt_pv(&existing, uid.as_deref()).await?
        } else {
            let object = request.wishes.pv_object(&volume, &class, Some(&request.claim), uid.as_deref());
            let forced = ApplyOptions { force: true, dry_run: false };
            self.cluster.apply(&object, forced).await?.change != Change::Unchanged
        };
        self.wait_bound(&request.claim, &pv, rest(request.limit, start)).await?;
        if asked > volume.size {
            self.expand(&request.claim, &volume, asked, rest(request.limit, start)).await?;
        }
        let changed = claim_changed || pv_changed;
        Ok(Bound { claim: place(&request.claim), pv, volume: volume.name, changed })
    }

    /// Makes only the PersistentVolume, reserved for a claim if one is named.
    pub async fn create_pv(
        &self,
        volume: &str,
        claim: Option<&ObjectRef>,
        wishes: &Wishes,
    ) -> Result<(String, Change)> {
        let volume = self.volume(volume).await?;
        let name = wishes.pv_name(&volume.name);
        if let Some(existing) = self.check_pv(&name, &volume.name, claim).await? {
            let changed = self.adopt_pv(&existing, None).await?;
            return Ok((name, if changed { Change::Configured } else { Change::Unchanged }));
        }
        let class = self.class_of(&volume, wishes).await?;
        let object = wishes.pv_object(&volume, &class, claim, None);
        let applied = self.cluster.apply(&object, ApplyOptions { force: true, dry_run: false }).await?;
        Ok((name, applied.change))
    }

    /// Makes only the claim, and waits until it is bound when its PersistentVolume is there.
    pub async fn create_claim(&self, request: &BindRequest) -> Result<Change> {
        let start = Instant::now();
        let volume = self.volume(&request.volume).await?;
        let pv = request.wishes.pv_name(&volume.name);
        let class = self.class_of(&volume, &request.wishes).await?;
        let before = self.cluster.exists(&request.claim).await?;
        let (_, changed) = self.make_claim(request, &volume, &pv, &class).await?;
        if self.cluster.exists(&ObjectRef::new("persistentvolumes", &pv)?).await? {
            self.wait_bound(&request.claim, &pv, rest(request.limit, start)).await?;
        }
        Ok(match (before, changed) {
            (false, _) => Change::Created,
            (true, true) => Change::Configured,
            (true, false) => Change::Unchanged,
        })
    }

    /// The PersistentVolume of a claim that is bound to the volume already, whatever it is called.
    async fn bound_pv(&self, claim: &ObjectRef, volume: &str) -> Result<Option<String>> {
        let Some(object) = self.cluster.find(claim).await? else { return Ok(None) };
        let Some(name) = fields::owned(&object, "/spec/volumeName") else { return Ok(None) };
        if fields::text(&object, "/status/phase") != "Bound" {
            return Ok(None);
        }
        let pv = self.cluster.find(&ObjectRef::new("persistentvolumes", &name)?).await?;
        Ok(pv.filter(|pv| handle(pv) == Some(volume)).map(|_| name))
    }

    /// The class: a wish or a former object's, else the one recorded with the backups, else Longhorn's static one.
    async fn class_of(&self, volume: &Volume, wishes: &Wishes) -> Result<String> {
        if let Some(class) = wishes.class() {
            return Ok(class);
        }
        let recorded = if volume.from_volume.is_empty() {
            None
        } else {
            let selector = format!("backup-volume={}", volume.from_volume);
            let volumes = self.cluster.list(BACKUP_VOLUME, &self.all().selector(selector)).await?;
            volumes.iter().find_map(|volume| fields::owned(volume, "/status/storageClassName"))
        };
        match recorded {
            Some(class) => Ok(class),
            None => Ok(self
                .setting("default-longhorn-static-storage-class")
                .await?
                .filter(|class| !class.is_empty())
                .unwrap_or_else(|| "longhorn-static".to_string())),
        }
    }

    /// The PersistentVolume of that name, if it is there and fits; without a claim, whoever it belongs to.
    async fn check_pv(&self, name: &str, volume: &str, claim: Option<&ObjectRef>) -> Result<Option<Value>> {
        let reference = ObjectRef::new("persistentvolumes", name)?;
        let Some(pv) = self.cluster.find(&reference).await? else { return Ok(None) };
        let conflict =
            |why: String| Error::new(Kind::Conflict, format!("the PersistentVolume {name} exists and {why}"));
        if handle(&pv) != Some(volume) {
            let other =
                handle(&pv).map_or("is not Longhorn's".to_string(), |other| format!("is of the volume {other}"));
            return Err(conflict(other)
                .object(reference.to_string())
                .hint("give another name for the PersistentVolume"));
        }
        let owner = fields::some(&pv, "/spec/claimRef/namespace").zip(fields::some(&pv, "/spec/claimRef/name"));
        match (owner, claim) {
            (Some((namespace, name)), Some(claim))
                if (Some(namespace), name) != (claim.namespace.as_deref(), claim.name.as_str()) =>
            {
                Err(conflict(format!("belongs to the claim {namespace}/{name}")).object(reference.to_string()).hint(
                    "delete that claim first if it is no longer needed; the volume stays, its policy is to be Retain",
                ))
            }
            _ => Ok(Some(pv)),
        }
    }

    /// Has an existing PersistentVolume keep its data and belong to the claim with that uid, or to the next of its name.
    async fn adopt_pv(&self, pv: &Value, uid: Option<&str>) -> Result<bool> {
        let mut patch = json!({});
        let mut noted = json!({});
        if fields::text(pv, "/spec/persistentVolumeReclaimPolicy") != "Retain" {
            patch["persistentVolumeReclaimPolicy"] = "Retain".into();
            noted = json!({hold::POLICY: fields::text(pv, "/spec/persistentVolumeReclaimPolicy")});
        }
        let bound_to = fields::some(pv, "/spec/claimRef/uid");
        let released = fields::text(pv, "/status/phase") == "Released";
        if bound_to.is_some() && (released || uid.is_some_and(|uid| bound_to != Some(uid))) {
            // Kubernetes never gives a released volume to a new claim while the old one's uid is in it.
            patch["claimRef"] = json!({"uid": uid, "resourceVersion": null});
        }
        if patch == json!({}) {
            return Ok(false);
        }
        let patch = json!({"metadata": {"annotations": noted}, "spec": patch});
        self.cluster.merge(&ObjectRef::new("persistentvolumes", fields::name(pv))?, &patch).await?;
        Ok(true)
    }

    /// The claim, made or found, and whether it had to be changed.
    async fn make_claim(&self, request: &BindRequest, volume: &Volume, pv: &str, class: &str) -> Result<(Value, bool)> {
        let claim = &request.claim;
        let Some(existing) = self.cluster.find(claim).await? else {
            let mut object = request.wishes.claim_object(volume, class, claim)?;
            object["metadata"]["annotations"][TOUCH] = "pending".into();
            let applied = self.cluster.apply(&object, ApplyOptions::default()).await.map_err(|error| {
                if error.kind() == Kind::NotFound {
                    return error.hint(
                        "create the namespace first: kube::apply(#{apiVersion: \"v1\", kind: \"Namespace\", …})",
                    );
                }
                error
            })?;
            return Ok((applied.object, true));
        };
        let conflict = |why: String| {
            Error::new(Kind::Conflict, format!("the claim {} exists and {why}", place(claim))).object(claim.to_string())
        };
        match fields::some(&existing, "/spec/volumeName") {
            _ if fields::text(&existing, "/status/phase") == "Lost" => {
                Err(conflict("is Lost: its PersistentVolume was deleted".to_string()).hint("delete the claim and run this again"))
            }
            Some(name) if name == pv => Ok((existing, false)),
            Some(other) => Err(conflict(format!("is bound to {other}, not to {pv} with the restored data")).hint(
                "something recreated the claim first, for example a GitOps tool: suspend it, scale the workload to 0, and \
                 delete the claim if it is empty",
            )),
            None => {
                // A claim's volume can be set once.
                let patched = self.cluster.merge(claim, &json!({"spec": {"volumeName": pv}})).await?;
                Ok((patched, true))
            }
        }
    }

    /// Has a bound claim ask for what it had grown to, and waits until its volume has that size.
    async fn expand(&self, claim: &ObjectRef, volume: &Volume, asked: u64, limit: Duration) -> Result<()> {
        let (had, asks) = (quantity::format(volume.size), quantity::format(asked));
        let what =
            format!("the claim {} is back with {had}, as its backup is; expanding it to {asks} again", place(claim));
        let advice = "its data are there: expand the claim yourself when its class allows it";
        let patch = json!({"spec": {"resources": {"requests": {"storage": asks}}}});
        self.cluster.merge(claim, &patch).await.map_err(|error| error.context(what.clone()).hint(advice))?;
        let reference = self.object(VOLUME, &volume.name)?;
        let check = |observer: &Observer| {
            let size = observer.object(0).and_then(|volume| fields::number(volume, "/spec/size")).unwrap_or(0);
            Ok(if size >= asked { ControlFlow::Break(()) } else { ControlFlow::Continue(format!("{size} bytes")) })
        };
        let queries = [self.cluster.query(&reference).await?];
        self.cluster.watch(&queries, limit, &what, check).await.map_err(|error| error.hint(advice))
    }

    async fn wait_bound(&self, claim: &ObjectRef, pv: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let mut observer = self.cluster.observe(&[self.cluster.query(claim).await?]).await?;
        // A claim that was just made is marked, so its first touch follows at once.
        let mut touch_at = start + TOUCH_AFTER;
        loop {
            let wake = touch_at.min(start + limit);
            match tokio::time::timeout_at(wake, observer.changed()).await {
                Ok(changed) => changed?,
                Err(_) if start.elapsed() >= limit => {
                    let phase = observer.object(0).map_or("not there", |claim| fields::text(claim, "/status/phase"));
                    let message =
                        format!("the claim {} is {phase} after {} s, not bound to {pv}", place(claim), limit.as_secs());
                    return Err(self.cluster.with_events(Error::new(Kind::Timeout, message), claim).await);
                }
                Err(_) => {}
            }
            let Some(object) = observer.object(0) else {
                touch_at = Instant::now() + TOUCH_AFTER;
                continue;
            };
            let marked = fields::map(object, "/metadata/annotations").contains_key(TOUCH);
            let bound =
                fields::text(object, "/status/phase") == "Bound" && fields::text(object, "/spec/volumeName") == pv;
            if marked || (!bound && Instant::now() >= touch_at) {
                let mark = if marked { Value::Null } else { "pending".into() };
                self.cluster.annotate(claim, &json!({TOUCH: mark})).await?;
                touch_at = Instant::now() + TOUCH_AFTER;
            }
            if bound {
                return Ok(());
            }
        }
    }
}

fn place(claim: &ObjectRef) -> String {
    format!("{}/{}", claim.namespace.as_deref().unwrap_or_default(), claim.name)
}
