//! Making the PersistentVolumes and the claims of restored volumes, and having them bound quickly.
//!
//! The claim first, naming its volume, then the PersistentVolume with the claim's uid costs Kubernetes' binder half the
//! requests of the other order: 3 a volume. But nothing makes the binder look at such a claim again before its resync, 15 s
//! later, except a change of the claim. So each is touched once the binder has taken up its PersistentVolume, which the
//! phase of that shows; before, it would look and go away. The touch also says that the binding is decided, once it is:
//! then the binder has only the claim's status left to write, 2 requests a volume.
//!
//! Source: Kubernetes, `pkg/controller/volume/persistentvolume/pv_controller.go` (`syncVolume`, `syncUnboundClaim`, `syncBoundClaim`).

mod following;
mod making;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use self::{following::Binding, making::Made};
use super::{Longhorn, OnProgress, Volume, persistent::Wishes};
use crate::{
    Error, Kind, Result,
    cluster::{Change, ListOptions, ObjectRef, Query},
};

/// Kinds that are followed.
const CLAIM: &str = "persistentvolumeclaims";
const PV: &str = "persistentvolumes";

/// What to bind.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// The volume.
    pub volume: String,
    /// The claim, in its namespace.
    pub claim: ObjectRef,
    /// What is known of the two objects.
    pub wishes: Wishes,
    /// Longest time until the claim is bound; of several that are bound together, since one of them last was.
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
        let mut results = self.bind_all(std::slice::from_ref(request), &mut |_| {}).await?;
        results.pop().unwrap_or_else(|| Err(Error::new(Kind::Failed, "nothing was bound")))
    }

    /// [`Longhorn::bind`] for many at the same time, with one watch for all. Every request has a result, in their order:
    /// one that fails keeps none of the others from being bound.
    ///
    /// Errors: what cannot be seen at all, such as `denied` and `unreachable`.
    pub async fn bind_all(&self, requests: &[BindRequest], on_progress: OnProgress<'_>) -> Result<Vec<Result<Bound>>> {
        let requests: Vec<_> = requests.iter().map(|request| self.placed(request)).collect();
        // One asks for its own objects, many list them all at once.
        let known: BTreeMap<String, Volume> = match requests.as_slice() {
            [] => return Ok(Vec::new()),
            [_] => BTreeMap::new(),
            _ => self.volumes().await?.into_iter().map(|volume| (volume.name.clone(), volume)).collect(),
        };
        let observer = self.cluster.observe(&queries(&requests)?).await?;
        Binding::new(self, observer, known, &requests).run(on_progress).await
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
        let existing = self.cluster.find(&ObjectRef::new(PV, &name)?).await?;
        let class = self.class_of(&volume, wishes, existing.as_ref()).await?;
        let was_there = existing.is_some();
        let changed = self.make_pv(existing, wishes, &volume, &class, claim, None).await?;
        Ok((name, Change::of(was_there, changed)))
    }

    /// Makes only the claim, and waits until it is bound when its PersistentVolume is there.
    pub async fn create_claim(&self, request: &BindRequest) -> Result<Change> {
        let request = &self.placed(request);
        let volume = self.volume(&request.volume).await?;
        let pv = request.wishes.pv_name(&volume.name);
        let there = self.cluster.find(&ObjectRef::new(PV, &pv)?).await?;
        let class = self.class_of(&volume, &request.wishes, there.as_ref()).await?;
        let existing = self.cluster.find(&request.claim).await?;
        let was_there = existing.is_some();
        let (claim, changed) = self.make_claim(existing, request, &request.wishes, &volume, &class).await?;
        if there.is_some() {
            let requests = std::slice::from_ref(request);
            let observer = self.cluster.observe(&queries(requests)?).await?;
            let made = Made::of(volume, pv, &claim, changed);
            let mut binding = Binding::new(self, observer, BTreeMap::new(), requests);
            binding.is_made(0, made);
            binding.run(&mut |_| {}).await?.into_iter().collect::<Result<Vec<_>>>()?;
        }
        Ok(Change::of(was_there, changed))
    }

    /// The request with the namespace of its claim filled in, which the PersistentVolume must name.
    fn placed(&self, request: &BindRequest) -> BindRequest {
        let mut request = request.clone();
        request.claim.namespace.get_or_insert_with(|| self.cluster.namespace().to_string());
        request
    }
}

/// What to follow: the claims, then the PersistentVolumes.
fn queries(requests: &[BindRequest]) -> Result<[Query; 2]> {
    if let [one] = requests {
        let pv = ObjectRef::new(PV, &one.wishes.pv_name(&one.volume))?;
        return Ok([Query::object(&one.claim), Query::object(&pv)]);
    }
    let first = requests.first().and_then(|request| request.claim.namespace.as_deref());
    let claims = match first {
        Some(namespace) if requests.iter().all(|request| request.claim.namespace.as_deref() == first) => {
            ListOptions::namespace(namespace)
        }
        _ => ListOptions::everywhere(),
    };
    Ok([Query::list(CLAIM, claims), Query::list(PV, ListOptions::everywhere())])
}

fn place(claim: &ObjectRef) -> String {
    format!("{}/{}", claim.namespace.as_deref().unwrap_or_default(), claim.name)
}
