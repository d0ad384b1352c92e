//! Where each expected volume stands, judged by what can be seen and never by what was reported.
//!
//! The same judgement is made before a restore (what is there to do), after Longhorn's own (what it left out or got
//! wrong), and at the end (what has come back).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Backup, Expected, Longhorn, VOLUME, Volume, fields, outcome, quantity, volume::handle};
use crate::{Result, cluster::ListOptions};

/// How far an expected volume is from being back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It holds what is expected, and its claim is bound to it.
    InPlace,
    /// It is not there, and there is a backup of it.
    Missing,
    /// Its restore is going on.
    Restoring,
    /// Its restore has failed; another may succeed.
    Failed,
    /// It is there, and its claim is not bound to it yet.
    Unbound,
    /// There is neither the volume nor a backup of it.
    Lost,
    /// Its claim is bound to another volume.
    Taken,
    /// A volume of its name was made empty after the backup was taken.
    Empty,
    /// It was restored from another backup than the expected one.
    OtherBackup,
    /// Its claim is bound to it with another class, size or mode.
    Differs,
}

impl State {
    /// Whether restoring and binding it can help. The others need a decision that only the operator can make.
    pub fn is_to_do(self) -> bool {
        matches!(self, Self::Missing | Self::Restoring | Self::Failed | Self::Unbound)
    }
}

/// Where one expected volume stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The volume.
    pub volume: String,
    /// `namespace/name` of its claim.
    pub claim: Option<String>,
    /// The backup it is to come from.
    pub backup: Option<String>,
    /// How far it is.
    pub state: State,
    /// Whether restoring and binding it can help.
    pub to_do: bool,
    /// What was seen.
    pub reason: String,
    /// What the operator can do about it; empty when it is in place or can be restored.
    pub next: String,
}

/// The objects the judgement is made from.
struct Seen {
    volumes: BTreeMap<String, Value>,
    persistent_volumes: BTreeMap<String, Value>,
    claims: BTreeMap<String, Value>,
    backups: Vec<Backup>,
}

/// State, reason, next step.
type Judgement = (State, String, String);

impl Longhorn {
    /// Where the expected volumes stand now, in their order.
    pub async fn standing(&self, expected: &[Expected]) -> Result<Vec<Standing>> {
        let everywhere = ListOptions::everywhere();
        let (volumes, persistent_volumes, claims, backups) = tokio::try_join!(
            async { self.cluster.list(VOLUME, &self.all()).await },
            self.cluster.list("persistentvolumes", &everywhere),
            self.cluster.list("persistentvolumeclaims", &everywhere),
            // A large future, among large ones.
            Box::pin(self.backups(None)),
        )?;
        let by_name = |objects: Vec<Value>| objects.into_iter().map(|o| (fields::name(&o).to_string(), o)).collect();
        let key = |claim: &Value| format!("{}/{}", fields::text(claim, "/metadata/namespace"), fields::name(claim));
        let seen = Seen {
            volumes: by_name(volumes),
            persistent_volumes: by_name(persistent_volumes),
            claims: claims.into_iter().map(|claim| (key(&claim), claim)).collect(),
            backups,
        };
        Ok(expected.iter().map(|expected| seen.stand(expected)).collect())
    }
}

impl Seen {
    fn stand(&self, expected: &Expected) -> Standing {
        let (state, reason, next) = self.judge(expected);
        Standing {
            volume: expected.volume.clone(),
            claim: expected.claim.clone(),
            backup: expected.backup.clone(),
            state,
            to_do: state.is_to_do(),
            reason,
            next,
        }
    }

    fn judge(&self, expected: &Expected) -> Judgement {
        if let Some(moved) = self.moved(expected) {
            return moved;
        }
        let found = self.volumes.get(&expected.volume);
        let Some(volume) = found.filter(|volume| !fields::is_going(volume)) else {
            let why = if found.is_some() { "the volume is being deleted" } else { "there is no such volume" };
            // Whoever holds the claim must be known before anything is restored beside it.
            return match (&expected.backup, self.taken(expected)) {
                (None, _) => lost(&format!("{why}, and no complete backup of it was found")),
                (_, Some(taken)) => taken,
                (Some(_), None) => (State::Missing, why.to_string(), String::new()),
            };
        };
        let original = match content(expected, volume) {
            Ok(original) => original,
            Err(judgement) => return judgement,
        };
        self.claim(expected, &Volume::read(volume), original)
    }

    /// The claim's part of the judgement; `original` is a volume that was never lost.
    fn claim(&self, expected: &Expected, volume: &Volume, original: bool) -> Judgement {
        let in_place = || {
            let from = if original {
                "the backed-up volume itself".to_string()
            } else {
                format!("restored from {}", volume.from_backup)
            };
            (State::InPlace, from, String::new())
        };
        let Some(key) = &expected.claim else { return in_place() };
        let unbound = |why: String| (State::Unbound, why, String::new());
        let Some(claim) = self.claims.get(key) else { return unbound(format!("the claim {key} is missing")) };
        if fields::is_going(claim) {
            return unbound(format!("the claim {key} is being deleted"));
        }
        if let Some(taken) = self.taken(expected) {
            return taken;
        }
        match fields::text(claim, "/status/phase") {
            "Lost" => (
                State::Differs,
                format!("the claim {key} is Lost: its PersistentVolume was deleted"),
                "delete the claim, the volume stays, and run this again".to_string(),
            ),
            "Bound" if original => in_place(),
            "Bound" => match difference(expected, claim, volume) {
                None => in_place(),
                Some(why) => (State::Differs, why, DIFFERS.to_string()),
            },
            phase => {
                unbound(format!("the claim {key} is {}", if phase.is_empty() { "not looked at yet" } else { phase }))
            }
        }
    }

    /// The claim, and the other volume than the expected one that it is on.
    fn elsewhere(&self, expected: &Expected) -> Option<(&Value, &str)> {
        let claim = self.claims.get(expected.claim.as_ref()?).filter(|claim| !fields::is_going(claim))?;
        let pv = self.persistent_volumes.get(fields::some(claim, "/spec/volumeName")?)?;
        handle(pv).filter(|volume| *volume != expected.volume).map(|volume| (claim, volume))
    }

    /// The claim when it is on another volume that was restored from its own backups: restoring one claim gives it a new
    /// volume, which has no backup of its own yet.
    fn moved(&self, expected: &Expected) -> Option<Judgement> {
        let (claim, other) = self.elsewhere(expected)?;
        let object = self.volumes.get(other)?;
        let volume = Volume::read(object);
        let (name, key) = (&volume.from_backup, expected.claim.as_deref().unwrap_or_default());
        let source = self.backups.iter().find(|backup| backup.name == *name);
        let is_own = volume.from_volume == expected.volume
            || source.is_some_and(|source| source.claim.is_some() && source.claim == expected.claim);
        let is_bound = fields::text(claim, "/status/phase") == "Bound";
        if name.is_empty() || !is_own || !is_bound || !outcome::is_restored(object) {
            return None;
        }
        let taken = moment(expected.taken.as_deref());
        let is_the_one = expected.backup.as_ref() == Some(name) && volume.from_volume == expected.volume;
        if is_the_one || source.and_then(Backup::data_moment).is_some_and(|of| taken.is_some_and(|taken| of >= taken)) {
            return Some(match difference(expected, claim, &volume) {
                None => (State::InPlace, format!("restored from {name}, as the volume {other}"), String::new()),
                Some(why) => (State::Differs, why, DIFFERS.to_string()),
            });
        }
        // Somebody chose an older backup, and may have written to it since. Both times are in whole seconds.
        moment(Some(&volume.created)).filter(|created| taken.is_some_and(|taken| *created >= taken)).map(|_| {
            let reason = format!(
                "the claim {key} was restored from the older backup {name} at {}, as the volume {other}",
                volume.created
            );
            let next = format!(
                "if that is the state that is wanted, back it up: lhrun backup-now --set claims={key}; if not, run this with \
                 --set replace=true, which keeps that volume aside"
            );
            (State::Taken, reason, next)
        })
    }

    /// The claim when it is on another volume than the expected one.
    fn taken(&self, expected: &Expected) -> Option<Judgement> {
        let key = expected.claim.as_ref()?;
        let (_, other) = self.elsewhere(expected)?;
        let made = self.volumes.get(other).map(Volume::read).map_or(String::new(), |volume| {
            let from = if volume.from_backup.is_empty() {
                "empty".to_string()
            } else {
                format!("from the backup {}", volume.from_backup)
            };
            format!(", which was made {from} at {}", volume.created)
        });
        let reason = format!("the claim {key} is bound to another volume, {other}{made}");
        let next = "something made the claim before its data were back, perhaps a GitOps tool: suspend it, then run this with \
                    --set replace=true, which keeps that volume aside"
            .to_string();
        Some((State::Taken, reason, next))
    }
}

const DIFFERS: &str = "change the claim or the export, whichever is wrong";

fn moment(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn lost(reason: &str) -> Judgement {
    let next = "look for its data elsewhere: an older bucket, an offsite copy, a dump";
    (State::Lost, reason.to_string(), next.to_string())
}

/// Whether what is in the volume is what is expected; true for the very volume that was backed up.
fn content(expected: &Expected, object: &Value) -> Result<bool, Judgement> {
    let volume = Volume::read(object);
    let Some(backup) = &expected.backup else {
        // A system restore makes a volume that had no backup anew, empty; any other is simply there.
        let made_anew = fields::map(object, "/metadata/annotations").contains_key("longhorn.io/last-system-restored");
        return if made_anew && volume.from_backup.is_empty() {
            Err(lost("it was made empty by a system restore, and no complete backup of it was found"))
        } else {
            Ok(true)
        };
    };
    let taken = moment(expected.taken.as_deref());
    let older = moment(Some(&volume.created)).zip(taken).is_some_and(|(created, taken)| created <= taken);
    if older && !volume.restoring {
        return Ok(true);
    }
    let is_source = volume.from_backup == *backup && volume.from_volume == expected.volume;
    let data = expected.taken.as_deref().unwrap_or("an unknown moment");
    if volume.from_backup.is_empty() {
        let reason = format!("the volume was made empty at {}, after its backup {backup} of {data}", volume.created);
        return Err((
            State::Empty,
            reason,
            "if nothing of worth was written to it, delete its claim and the volume, and run this again".to_string(),
        ));
    }
    if outcome::has_failed(object) && volume.from_volume == expected.volume {
        return Err((State::Failed, "its restore has failed".to_string(), String::new()));
    }
    if !is_source {
        let reason =
            format!("the volume was restored from the backup {}, not from {backup} of {data}", volume.from_backup);
        return Err((
            State::OtherBackup,
            reason,
            "if nothing of worth was written to it, delete its claim and the volume, and run this again".to_string(),
        ));
    }
    if !outcome::is_restored(object) {
        return Err((State::Restoring, "its restore has not ended".to_string(), String::new()));
    }
    Ok(false)
}

/// The first fact of a bound claim that is not as expected.
fn difference(expected: &Expected, claim: &Value, volume: &Volume) -> Option<String> {
    let found = |pointer: &str, usual: &str| fields::some(claim, pointer).unwrap_or(usual).to_string();
    let class = found("/spec/storageClassName", "");
    if let Some(wanted) = expected.class.as_ref().filter(|wanted| **wanted != class) {
        return Some(format!("its claim is of the class {class:?}, not {wanted:?}"));
    }
    let mode = found("/spec/volumeMode", "Filesystem");
    if let Some(wanted) = expected.volume_mode.as_ref().filter(|wanted| **wanted != mode) {
        return Some(format!("its claim has the volume mode {mode}, not {wanted}"));
    }
    if let Some(wanted) = expected.size.filter(|wanted| *wanted > volume.size) {
        return Some(format!(
            "the volume has {}, the claim had {}",
            quantity::format(volume.size),
            quantity::format(wanted)
        ));
    }
    let modes = fields::list(claim, "/spec/accessModes");
    let missing =
        expected.access_modes.iter().find(|wanted| !modes.iter().any(|mode| mode.as_str() == Some(wanted)))?;
    Some(format!("its claim lacks the access mode {missing}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected() -> Expected {
        Expected {
            volume: "vol".to_string(),
            claim: Some("app/data".to_string()),
            backup: Some("b2".to_string()),
            taken: Some("2026-11-20T02:00:00Z".to_string()),
            class: Some("longhorn".to_string()),
            size: Some(1 << 30),
            access_modes: vec!["ReadWriteOnce".to_string()],
            ..Expected::default()
        }
    }

    fn volume(name: &str, created: &str, backup: &str) -> Value {
        let url = if backup.is_empty() {
            String::new()
        } else {
            format!("s3://backups@us-east-1/?backup={backup}&volume=vol")
        };
        json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": {"size": "1073741824", "fromBackup": url},
            "status": {"state": "detached", "robustness": "unknown", "restoreInitiated": !backup.is_empty()}})
    }

    fn backup(name: &str, at: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"state": "Completed", "url": "s3://b@r/?", "volumeName": "vol",
            "lastSyncedAt": at, "snapshotCreatedAt": at, "volumeSize": "1073741824"}})
    }

    fn pv(name: &str, volume: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "driver.longhorn.io", "volumeHandle": volume}}})
    }

    fn claim(pv: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "data", "namespace": "app"}, "spec": {"volumeName": pv, "storageClassName": "longhorn",
            "accessModes": ["ReadWriteOnce"]}, "status": {"phase": phase}})
    }

    fn judge(expected: &Expected, volumes: &[Value], pvs: &[Value], claims: &[Value]) -> (State, String) {
        let by_name = |objects: &[Value]| objects.iter().map(|o| (fields::name(o).to_string(), o.clone())).collect();
        let seen = Seen {
            volumes: by_name(volumes),
            persistent_volumes: by_name(pvs),
            claims: claims.iter().map(|claim| ("app/data".to_string(), claim.clone())).collect(),
            backups: [("b1", "2026-11-19T02:00:00Z"), ("b2", "2026-11-20T02:00:00Z"), ("b3", "2026-11-20T03:00:00Z")]
                .map(|(name, at)| Backup::read(&backup(name, at)))
                .into(),
        };
        let standing = seen.stand(expected);
        assert_eq!(standing.to_do || standing.state == State::InPlace, standing.next.is_empty(), "{standing:?}");
        (standing.state, standing.reason)
    }

    const LATER: &str = "2026-11-21T00:00:00Z";

    #[test]
    fn a_restored_and_bound_volume_is_in_place() {
        let (volumes, pvs) = ([volume("vol", LATER, "b2")], [pv("p", "vol")]);
        assert_eq!(judge(&expected(), &volumes, &pvs, &[claim("p", "Bound")]).0, State::InPlace);
        assert_eq!(judge(&expected(), &volumes, &pvs, &[claim("p", "Pending")]).0, State::Unbound);
        assert_eq!(judge(&expected(), &volumes, &pvs, &[claim("p", "Lost")]).0, State::Differs);
        assert_eq!(judge(&expected(), &volumes, &[], &[]).0, State::Unbound);
        assert_eq!(judge(&expected(), &[], &[], &[]).0, State::Missing);
    }

    #[test]
    fn what_is_being_deleted_is_not_in_place() {
        let going = |mut object: Value| {
            object["metadata"]["deletionTimestamp"] = LATER.into();
            object
        };
        let (volumes, pvs) = ([volume("vol", "2026-11-01T00:00:00Z", "")], [pv("p", "vol")]);
        let (state, reason) = judge(&expected(), &volumes, &pvs, &[going(claim("p", "Bound"))]);
        assert_eq!((state, reason.as_str()), (State::Unbound, "the claim app/data is being deleted"));
        let [volume] = volumes.map(going);
        let (state, reason) = judge(&expected(), std::slice::from_ref(&volume), &pvs, &[claim("p", "Bound")]);
        assert_eq!((state, reason.as_str()), (State::Missing, "the volume is being deleted"));
        let nothing = Expected { backup: None, taken: None, ..expected() };
        assert_eq!(judge(&nothing, &[volume], &pvs, &[]).0, State::Lost);
        // The claim of another volume makes room by itself.
        let other = [pv("p", "other")];
        assert_eq!(judge(&expected(), &[], &other, &[going(claim("p", "Bound"))]).0, State::Missing);
    }

    #[test]
    fn a_volume_that_was_never_lost_is_left_alone() {
        let before = volume("vol", "2026-11-01T00:00:00Z", "");
        assert_eq!(judge(&expected(), &[before], &[pv("p", "vol")], &[claim("p", "Bound")]).0, State::InPlace);
        // Restored long ago from an older backup, and backed up since.
        let since = volume("vol", "2026-11-01T00:00:00Z", "b1");
        assert_eq!(judge(&expected(), &[since], &[pv("p", "vol")], &[claim("p", "Bound")]).0, State::InPlace);
    }

    #[test]
    fn empty_and_older_data_are_seen_whatever_was_reported() {
        let bound = ([pv("p", "vol")], [claim("p", "Bound")]);
        let (state, reason) = judge(&expected(), &[volume("vol", LATER, "")], &bound.0, &bound.1);
        assert_eq!(state, State::Empty);
        assert!(reason.contains("made empty at 2026-11-21T00:00:00Z"), "{reason}");
        let (state, reason) = judge(&expected(), &[volume("vol", LATER, "b1")], &bound.0, &bound.1);
        assert_eq!(state, State::OtherBackup);
        assert!(reason.contains("from the backup b1, not from b2"), "{reason}");
        let nothing = Expected { backup: None, taken: None, ..expected() };
        assert_eq!(judge(&nothing, &[], &[], &[]).0, State::Lost);
        let mut anew = volume("vol", LATER, "");
        assert_eq!(judge(&nothing, &[anew.clone()], &bound.0, &bound.1).0, State::InPlace);
        anew["metadata"]["annotations"] = json!({"longhorn.io/last-system-restored": "s3://b@r/x"});
        assert_eq!(judge(&nothing, &[anew], &bound.0, &bound.1).0, State::Lost);
    }

    #[test]
    fn a_claim_on_another_volume_is_named() {
        let squatter = volume("pvc-new", LATER, "");
        for volumes in [vec![squatter.clone()], vec![squatter, volume("vol", LATER, "b2")]] {
            let (state, reason) =
                judge(&expected(), &volumes, &[pv("pvc-new", "pvc-new")], &[claim("pvc-new", "Bound")]);
            assert_eq!(state, State::Taken);
            assert!(reason.contains("pvc-new, which was made empty at 2026-11-21T00:00:00Z"), "{reason}");
        }
    }

    #[test]
    fn a_claim_on_a_volume_restored_from_its_own_backup_is_there() {
        let on = |from: &str, before: &[Value]| {
            let volumes: Vec<_> = before.iter().cloned().chain([volume("restored-1", LATER, from)]).collect();
            judge(&expected(), &volumes, &[pv("p", "restored-1")], &[claim("p", "Bound")])
        };
        // The former volume is kept, or deleted.
        for before in [vec![], vec![volume("vol", "2026-11-01T00:00:00Z", "")]] {
            let (state, reason) = on("b2", &before);
            assert_eq!(state, State::InPlace, "{reason}");
            assert!(reason.contains("restored from b2, as the volume restored-1"), "{reason}");
            assert_eq!(on("b3", &before).0, State::InPlace, "newer than what is expected, as with as-of");
            let (state, reason) = on("b1", &before);
            assert_eq!(state, State::Taken);
            assert!(reason.contains("restored from the older backup b1"), "{reason}");
            let (state, reason) = on("", &before);
            assert_eq!(state, State::Taken);
            assert!(reason.contains("made empty"), "{reason}");
        }
        let seen = |object: Value, wanted: &Expected, phase: &str| {
            judge(wanted, &[object], &[pv("p", "restored-1")], &[claim("p", phase)]).0
        };
        let mut other = expected();
        other.size = Some(2 << 30);
        assert_eq!(seen(volume("restored-1", LATER, "b2"), &other, "Bound"), State::Differs);
        assert_eq!(seen(volume("restored-1", LATER, "b2"), &expected(), "Lost"), State::Taken);
        let mut object = volume("restored-1", LATER, "b2");
        object["status"]["restoreRequired"] = true.into();
        assert_eq!(seen(object, &expected(), "Bound"), State::Taken, "its data are not there yet");
        // A backup of the same name of another volume.
        let mut foreign = volume("restored-1", LATER, "b9");
        foreign["spec"]["fromBackup"] = "s3://backups@us-east-1/?backup=b9&volume=other".into();
        assert_eq!(seen(foreign, &expected(), "Bound"), State::Taken);
    }

    #[test]
    fn a_restore_under_way_and_a_failed_one_are_told_apart() {
        let mut object = volume("vol", LATER, "b2");
        object["status"]["restoreRequired"] = true.into();
        assert_eq!(judge(&expected(), &[object.clone()], &[], &[]).0, State::Restoring);
        object["status"]["robustness"] = "faulted".into();
        assert_eq!(judge(&expected(), &[object], &[], &[]).0, State::Failed);
    }

    #[test]
    fn class_size_and_mode_must_be_as_they_were() {
        let seen = |change: &dyn Fn(&mut Expected)| {
            let mut wanted = expected();
            change(&mut wanted);
            judge(&wanted, &[volume("vol", LATER, "b2")], &[pv("p", "vol")], &[claim("p", "Bound")])
        };
        assert!(seen(&|e| e.class = Some("fast".to_string())).1.contains("class \"longhorn\", not \"fast\""));
        assert!(seen(&|e| e.volume_mode = Some("Block".to_string())).1.contains("volume mode Filesystem, not Block"));
        assert!(seen(&|e| e.size = Some(2 << 30)).1.contains("the volume has 1Gi, the claim had 2Gi"));
        assert!(seen(&|e| e.access_modes = vec!["ReadWriteMany".to_string()]).1.contains("ReadWriteMany"));
        assert_eq!(seen(&|e| e.class = None).0, State::InPlace, "what nobody knows cannot differ");
    }
}
