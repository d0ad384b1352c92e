//! Making one claim and its PersistentVolume, or taking those that are there.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::{BindRequest, PV, place};
use crate::{
    Error, Kind, Result,
    cluster::{ObjectRef, Observer},
    longhorn::{BACKUP_VOLUME, Longhorn, VOLUME, Volume, Wishes, fields, hold, quantity, volume::handle},
};

/// Annotation a claim has until it is bound; setting and removing it makes the binder look at the claim.
pub const TOUCH: &str = "lhrun.io/binding";

/// Claim and PersistentVolume, there and not bound yet.
pub struct Made {
    pub volume: Volume,
    /// Name of the PersistentVolume.
    pub pv: String,
    /// Bytes the claim is to ask for in the end.
    pub asked: u64,
    /// Whether anything had to be done.
    pub changed: bool,
    /// Whether the claim has the annotation [`TOUCH`].
    pub marked: bool,
}

impl Made {
    /// Of a claim that asks for what its volume has.
    pub fn of(volume: Volume, pv: String, claim: &Value, changed: bool) -> Self {
        let marked = fields::map(claim, "/metadata/annotations").contains_key(TOUCH);
        Self { asked: volume.size, volume, pv, changed, marked }
    }
}

impl Longhorn {
    /// Makes both. What is known of the volume, the claim and the PersistentVolume may be given.
    pub(super) async fn make(
        &self,
        request: &BindRequest,
        volume: Option<Volume>,
        claim: Option<Value>,
        pv: Option<Value>,
    ) -> Result<Made> {
        let volume = match volume {
            Some(volume) => volume,
            None => self.volume(&request.volume).await?,
        };
        if let Some(claim) = &claim
            && let Some(pv) = self.bound_pv(claim, &volume.name).await?
        {
            return Ok(Made::of(volume, pv, claim, false));
        }
        let asked = request.wishes.asked(&volume, &request.claim)?;
        let wishes = Wishes { size: Some(asked.min(volume.size)), ..request.wishes.clone() };
        if let Some(pv) = &pv {
            fits(pv, &volume.name, Some(&request.claim))?;
        }
        let class = self.class_of(&volume, &wishes, pv.as_ref()).await?;
        let (claim, claim_changed) = self.make_claim(claim, request, &wishes, &volume, &class).await?;
        let uid = fields::some(&claim, "/metadata/uid");
        let pv_changed = self.make_pv(pv, &wishes, &volume, &class, Some(&request.claim), uid).await?;
        let name = wishes.pv_name(&volume.name);
        Ok(Made { asked, ..Made::of(volume, name, &claim, claim_changed || pv_changed) })
    }

    /// The PersistentVolume of a claim that is bound to the volume already, whatever it is called.
    async fn bound_pv(&self, claim: &Value, volume: &str) -> Result<Option<String>> {
        let Some(name) = fields::owned(claim, "/spec/volumeName") else { return Ok(None) };
        if fields::text(claim, "/status/phase") != "Bound" {
            return Ok(None);
        }
        let pv = self.cluster.find(&ObjectRef::new(PV, &name)?).await?;
        Ok(pv.filter(|pv| handle(pv) == Some(volume)).map(|_| name))
    }

    /// The class: that of the PersistentVolume if it is there, because with another no claim would bind; a wish or a former
    /// object's; the one recorded with the backups; Longhorn's static one.
    pub(super) async fn class_of(&self, volume: &Volume, wishes: &Wishes, pv: Option<&Value>) -> Result<String> {
        if let Some(pv) = pv {
            return Ok(fields::text(pv, "/spec/storageClassName").to_string());
        }
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

    /// The claim, made or found, and whether it had to be changed.
    pub(super) async fn make_claim(
        &self,
        existing: Option<Value>,
        request: &BindRequest,
        wishes: &Wishes,
        volume: &Volume,
        class: &str,
    ) -> Result<(Value, bool)> {
        let claim = &request.claim;
        let existing = if let Some(existing) = existing {
            existing
        } else {
            let mut object = wishes.claim_object(volume, class, claim)?;
            object["metadata"]["annotations"][TOUCH] = "pending".into();
            let made = self.cluster.create_or_find(&object).await.map_err(|error| match error.kind() {
                Kind::NotFound => {
                    error.hint("create the namespace first: kube::apply(#{apiVersion: \"v1\", kind: \"Namespace\", …})")
                }
                _ => error,
            })?;
            match made {
                (object, true) => return Ok((object, true)),
                (object, false) => object,
            }
        };
        let pv = wishes.pv_name(&volume.name);
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

    /// Makes the PersistentVolume for the claim with that uid, or has the existing one belong to it. Tells whether
    /// anything had to be changed.
    pub(super) async fn make_pv(
        &self,
        existing: Option<Value>,
        wishes: &Wishes,
        volume: &Volume,
        class: &str,
        claim: Option<&ObjectRef>,
        uid: Option<&str>,
    ) -> Result<bool> {
        let existing = match existing {
            Some(existing) => existing,
            None => match self.cluster.create_or_find(&wishes.pv_object(volume, class, claim, uid)).await? {
                (_, true) => return Ok(true),
                (object, false) => object,
            },
        };
        fits(&existing, &volume.name, claim)?;
        self.adopt_pv(&existing, uid).await
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
        self.cluster.merge(&ObjectRef::new(PV, fields::name(pv))?, &patch).await?;
        Ok(true)
    }

    /// Has a bound claim ask for what it had grown to, and waits until its volume has that size.
    pub(super) async fn expand(&self, request: &BindRequest, volume: &str, had: u64, asked: u64) -> Result<()> {
        let (had, asks) = (quantity::format(had), quantity::format(asked));
        let claim = &request.claim;
        let what =
            format!("the claim {} is back with {had}, as its backup is; expanding it to {asks} again", place(claim));
        let advice = "its data are there: expand the claim yourself when its class allows it";
        let patch = json!({"spec": {"resources": {"requests": {"storage": asks}}}});
        self.cluster.merge(claim, &patch).await.map_err(|error| error.context(what.clone()).hint(advice))?;
        let reference = self.object(VOLUME, volume)?;
        let check = |observer: &Observer| {
            let size = observer.object(0).and_then(|volume| fields::number(volume, "/spec/size")).unwrap_or(0);
            Ok(if size >= asked { ControlFlow::Break(()) } else { ControlFlow::Continue(format!("{size} bytes")) })
        };
        let queries = [self.cluster.query(&reference).await?];
        self.cluster.watch(&queries, request.limit, &what, check).await.map_err(|error| error.hint(advice))
    }
}

/// Whether an existing PersistentVolume may serve the claim; without a claim, whoever it belongs to.
fn fits(pv: &Value, volume: &str, claim: Option<&ObjectRef>) -> Result<()> {
    let reference = ObjectRef::new(PV, fields::name(pv))?;
    let conflict = |why: String| {
        let message = format!("the PersistentVolume {} exists and {why}", reference.name);
        Error::new(Kind::Conflict, message).object(reference.to_string())
    };
    if handle(pv) != Some(volume) {
        let other = handle(pv).map_or("is not Longhorn's".to_string(), |other| format!("is of the volume {other}"));
        return Err(conflict(other).hint("give another name for the PersistentVolume"));
    }
    let owner = fields::some(pv, "/spec/claimRef/namespace").zip(fields::some(pv, "/spec/claimRef/name"));
    match (owner, claim) {
        (Some((namespace, name)), Some(claim))
            if (Some(namespace), name) != (claim.namespace.as_deref(), claim.name.as_str()) =>
        {
            Err(conflict(format!("belongs to the claim {namespace}/{name}")).hint(
                "delete that claim first if it is no longer needed; the volume stays, its policy is to be Retain",
            ))
        }
        _ => Ok(()),
    }
}
