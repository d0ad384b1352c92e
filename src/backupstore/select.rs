//! Which backup is meant: `VOLUME`, `VOLUME@BACKUP`, `VOLUME@latest`, or `VOLUME@` and a time. A volume is also named by
//! its claim, `namespace/claim`.

use jiff::{Span, SpanRelativeTo, Timestamp, civil::Date, tz::TimeZone};

use super::{
    Catalog,
    catalog::{BackupState, BackupSummary},
    layout::{BackupRef, VolumeKeys},
    rfc3339,
};
use crate::{
    Error, Kind, Result,
    objectstore::Store,
    terminal::{did_you_mean, nearest},
};

/// How many names a hint lists.
const LISTED: usize = 8;

/// A volume that may be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub volume: String,
    /// When its newest complete backup was begun; nothing when it has none, or the volume was named itself.
    pub newest: Option<Timestamp>,
}

/// The volume that was chosen.
#[derive(Clone, Debug)]
pub struct Meant {
    /// Its name.
    pub volume: String,
    /// What should be told: that the claim had other volumes, and their dates.
    pub note: Option<String>,
}

/// A backup that was chosen.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The backup.
    pub backup: BackupRef,
    /// What could not be chosen, as it is unfinished or damaged; its time is unknown, so it may be the newer one. Empty
    /// when the backup was named.
    pub passed_over: Vec<BackupSummary>,
    /// What should be told: that the claim had other volumes, and their dates.
    pub note: Option<String>,
}

/// The volumes somebody may mean, the one with the newest complete backup first: the one of that name, or all whose latest
/// backup was of the claim `namespace/claim`. A claim has several after a restore, which gives it another volume.
///
/// # Errors
/// `not-found`, naming similar ones, when no volume is of that claim; `invalid` when it can be the name of neither.
pub async fn volumes(catalog: &Catalog, given: &str) -> Result<Vec<Candidate>> {
    let Some((namespace, claim)) = given.split_once('/') else {
        return Ok(vec![Candidate { volume: given.to_owned(), newest: None }]);
    };
    let is_name = |name: &str| {
        let kubernetes = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(kubernetes)
    };
    if !is_name(namespace) || !is_name(claim) {
        let shown: String = given.chars().take(60).collect();
        return Err(Error::new(Kind::Invalid, format!("{shown:?} is neither a volume nor a claim"))
            .hint("a claim is written namespace/name"));
    }
    let views = catalog.overview().await?;
    let of_claim = views.iter().filter(|view| view.claim.as_deref() == Some(given));
    let mut found: Vec<_> = of_claim
        .map(|view| Candidate {
            volume: view.volume.clone(),
            newest: view.latest_at.as_deref().and_then(|time| time.parse().ok()),
        })
        .collect();
    if found.is_empty() {
        let error = Error::new(Kind::NotFound, format!("no volume in the store is of the claim {given}"));
        let claims = views.iter().filter_map(|view| view.claim.as_deref());
        return Err(match did_you_mean(given, claims) {
            Some(hint) => error.hint(hint),
            None => error.hint("`lhrun backups ls` lists volumes with their claims"),
        });
    }
    newest_first(&mut found);
    Ok(found)
}

fn newest_first(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| b.newest.cmp(&a.newest).then_with(|| a.volume.cmp(&b.volume)));
}

/// The volume somebody means: of several of a claim, the one with the newest complete backup.
///
/// # Errors
/// As [`volumes`].
pub async fn volume(catalog: &Catalog, given: &str) -> Result<Meant> {
    let mut found = volumes(catalog, given).await?;
    let taken = found.remove(0);
    Ok(Meant { note: several(given, &taken, &found), volume: taken.volume })
}

/// Which volume was taken for a claim, and which others it had; nothing when it had no other.
fn several(claim: &str, taken: &Candidate, others: &[Candidate]) -> Option<String> {
    let told = |of: &Candidate| match of.newest {
        Some(begun) => format!("{} (newest backup of {})", of.volume, rfc3339(begun)),
        None => format!("{} (no complete backup)", of.volume),
    };
    let text = listed(&others.iter().map(told).collect::<Vec<_>>());
    (!others.is_empty()).then(|| {
        format!(
            "several volumes are of the claim {claim}: {} is taken; name the volume to have another: {text}",
            told(taken)
        )
    })
}

/// Finds the backup a reference means. Before the `@` stands a volume, or the claim its latest backup was of, as
/// `namespace/claim`; after it
///
/// * nothing, or `latest`: the newest complete backup;
/// * the name of a backup, in whatever state it is; it counts before a time that is written alike;
/// * a time, in RFC 3339 (`2026-11-22T18:38:57Z`), as a day in UTC (`2026-11-22`), or as long ago (`2h`, `3d`): the
///   newest complete backup begun at or before it; with a day, before its end.
///
/// When several volumes are of the claim, the backups of all of them count, and it is told whose was taken.
///
/// # Errors
/// `not-found` when there is no such volume or backup, with what there is as its hint; `invalid` for impossible names.
pub async fn backup(store: &Store, reference: &str, now: Timestamp) -> Result<Selected> {
    let (given, which) = reference.split_once('@').unwrap_or((reference, "latest"));
    let catalog = Catalog::new(store.clone());
    let mut candidates = volumes(&catalog, given).await?;
    let first = candidates[0].volume.clone();
    check_volume(store, &catalog, &first).await?;
    let at = if which == "latest" || which.is_empty() {
        None
    } else {
        for Candidate { volume, .. } in &candidates {
            if catalog.backup_names(volume).await?.iter().any(|name| name == which) {
                let backup = BackupRef::new(volume, which)?;
                return Ok(Selected { backup, passed_over: Vec::new(), note: None });
            }
        }
        let Some(time) = moment(which, now) else { return Err(no_backup(&catalog, &first, which).await) };
        Some(time)
    };
    let mut best: Option<(Option<Timestamp>, Selected)> = None;
    let mut failed = None;
    for Candidate { volume, .. } in &candidates {
        match newest(&catalog, volume, at).await {
            Ok(found) if best.as_ref().is_none_or(|best| found.0 > best.0) => best = Some(found),
            Err(error) if error.kind() == Kind::NotFound => failed = failed.or(Some(error)),
            found => drop(found?),
        }
    }
    let Some((begun, mut selected)) = best else {
        return Err(failed.unwrap_or_else(|| Error::new(Kind::NotFound, format!("there is no volume {given}"))));
    };
    candidates.retain(|candidate| candidate.volume != selected.backup.volume);
    let taken = Candidate { volume: selected.backup.volume.clone(), newest: begun };
    selected.note = several(given, &taken, &candidates);
    Ok(selected)
}

async fn check_volume(store: &Store, catalog: &Catalog, volume: &str) -> Result<()> {
    let found = match catalog.volume(volume).await {
        Err(error) if error.kind() == Kind::NotFound => error,
        // A damaged one is told by whoever needs its content.
        Err(error) if error.kind() != Kind::Damaged => return Err(error),
        _ => return Ok(()),
    };
    let names = catalog.volume_names().await?;
    if names.iter().any(|name| name == volume) {
        return Err(found.hint("Longhorn restores no volume without it; a crash may have left only the folder"));
    }
    let text = format!("there is no volume {volume} in {}", store.describe());
    let error = Error::new(Kind::NotFound, text).object(VolumeKeys::new(volume)?.config());
    Err(error.hint(match nearest(volume, names.iter().map(String::as_str)).as_slice() {
        [] if names.is_empty() => "there is no volume at all: is it the folder above backupstore/?".to_owned(),
        [] => format!("there is {}", listed(&names)),
        near => format!("did you mean {}?", near.join(" or ")),
    }))
}

/// The newest complete backup of the volume with its time.
async fn newest(catalog: &Catalog, volume: &str, at: Option<Timestamp>) -> Result<(Option<Timestamp>, Selected)> {
    let (complete, passed_over): (Vec<_>, Vec<_>) =
        catalog.backups(volume).await?.into_iter().partition(|backup| matches!(backup.state, BackupState::Complete));
    // Oldest first; one whose time cannot be read is before them, and before no time.
    let fits = |backup: &&BackupSummary| at.is_none_or(|at| backup.begun().is_some_and(|begun| begun <= at));
    if let Some(found) = complete.iter().rev().find(fits) {
        return Ok((found.begun(), Selected { backup: found.backup.clone(), passed_over, note: None }));
    }
    let before = at.map(|at| format!(" begun at or before {}", rfc3339(at))).unwrap_or_default();
    let error = Error::new(Kind::NotFound, format!("volume {volume} has no complete backup{before}"));
    let error = error.object(VolumeKeys::new(volume)?.backups());
    Err(error.hint(match (complete.first(), passed_over.is_empty()) {
        (Some(oldest), _) => format!("the oldest one is {}", described(oldest)),
        (None, true) => "it has no backup at all".to_owned(),
        (None, false) => format!("there is {}", listed(&passed_over.iter().map(described).collect::<Vec<_>>())),
    }))
}

async fn no_backup(catalog: &Catalog, volume: &str, which: &str) -> Error {
    let which: String = which.chars().take(60).collect();
    let text = format!("volume {volume} has no backup {which:?}, and that is no time either");
    let error = Error::new(Kind::NotFound, text);
    let backups = match catalog.backups(volume).await {
        Ok(backups) => backups,
        Err(other) => return other,
    };
    let near = nearest(&which, backups.iter().map(|backup| backup.backup.backup.as_str()));
    let times = "a time is written 2026-11-22T18:38:57Z, 2026-11-22, 2h or 3d";
    error.hint(match near.as_slice() {
        [] if backups.is_empty() => "it has no backup at all".to_owned(),
        [] => format!("there is {}; {times}", listed(&backups.iter().rev().map(described).collect::<Vec<_>>())),
        near => format!("did you mean {}?", near.join(" or ")),
    })
}

/// `backup-0123, begun 2026-…`, or with its state when it is not complete.
fn described(backup: &BackupSummary) -> String {
    let name = &backup.backup.backup;
    match (&backup.state, backup.begun()) {
        (BackupState::Complete, Some(begun)) => format!("{name} (begun {})", rfc3339(begun)),
        (BackupState::Complete, None) => name.clone(),
        (state, _) => format!("{name} ({})", state.as_str()),
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The moment a text means; nothing when it is no time.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(day) = Date::strptime("%Y-%m-%d", text) {
        let next = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        return next.checked_sub(jiff::SignedDuration::from_nanos(1)).ok();
    }
    let ago = text.parse::<Span>().ok()?.abs().to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    now.checked_sub(ago).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backupstore::{Mode, config::BackupConfig, testing};

    /// When the three backups of `pvc-legacy` were begun: 18:38:46, :51 and :57.
    const NOON_AFTER: &str = "2026-11-23T12:00:00Z";

    async fn chosen(store: &Store, reference: &str) -> Result<String> {
        backup(store, reference, NOON_AFTER.parse().unwrap()).await.map(|found| found.backup.backup)
    }

    #[test]
    fn times_are_moments_days_and_distances() {
        let now: Timestamp = NOON_AFTER.parse().unwrap();
        for (text, moment_of) in [
            ("2026-11-22T18:38:57Z", "2026-11-22T18:38:57Z"),
            ("2026-11-22T18:38:57+02:00", "2026-11-22T16:38:57Z"),
            ("2026-11-22", "2026-11-22T23:59:59.999999999Z"),
            ("2h", "2026-11-23T10:00:00Z"),
            ("3d", "2026-11-20T12:00:00Z"),
            ("1d12h", "2026-11-22T00:00:00Z"),
            ("90m", "2026-11-23T10:30:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap().to_string(), moment_of, "{text}");
        }
        for text in ["", "yesterday", "2026-11-22T18:38", "2026-13-01", "1mo", "999999999999999d", "backup-1"] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }

    #[tokio::test]
    async fn the_newest_complete_backup_at_a_time_is_chosen() {
        let store = testing::fixtures();
        let config = Catalog::new(store.clone()).backup("pvc-legacy", "backup-0000000000001402").await.unwrap();
        let second: Timestamp = config.snapshot_created_at.parse().unwrap();
        let before = second.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap();
        for (reference, name) in [
            ("pvc-legacy".to_owned(), "1403"),
            ("pvc-legacy@".to_owned(), "1403"),
            ("pvc-legacy@latest".to_owned(), "1403"),
            ("pvc-legacy@backup-0000000000001401".to_owned(), "1401"),
            (format!("pvc-legacy@{second}"), "1402"),
            (format!("pvc-legacy@{before}"), "1401"),
            ("pvc-legacy@2026-11-22".to_owned(), "1403"),
            ("pvc-legacy@2h".to_owned(), "1403"),
        ] {
            assert!(chosen(&store, &reference).await.unwrap().ends_with(name), "{reference}");
        }
    }

    /// The fixtures with two volumes of one claim: the backups of `pvc-legacy` are of 18:38:46, :51 and :57, that of
    /// `pvc-restored` of a day later.
    async fn of_one_claim() -> testing::Scratch {
        let place = testing::copy_of_fixtures();
        let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
        let status = serde_json::json!({"namespace": "wiki", "pvcName": "files", "lastPVCRefAt": ""}).to_string();
        let mut config = Catalog::new(store.clone()).volume("pvc-legacy").await.unwrap();
        config.labels.insert("KubernetesStatus".into(), status);
        store.put(&keys.config(), config.to_bytes().unwrap().into()).await.unwrap();
        let restored = VolumeKeys::new("pvc-restored").unwrap();
        let mut backup = Catalog::new(store.clone()).backup("pvc-legacy", "backup-0000000000001401").await.unwrap();
        backup.name = "b-later".into();
        backup.volume_name = "pvc-restored".into();
        backup.snapshot_created_at = "2026-11-23T10:00:00Z".into();
        store.put(&restored.backup("b-later").unwrap(), backup.to_bytes().unwrap().into()).await.unwrap();
        config.name = "pvc-restored".into();
        config.last_backup_name = "b-later".into();
        config.last_backup_at = "2026-11-23T10:00:00Z".into();
        store.put(&restored.config(), config.to_bytes().unwrap().into()).await.unwrap();
        place
    }

    #[tokio::test]
    async fn of_the_volumes_of_a_claim_the_one_backed_up_last_is_taken_and_the_others_told() {
        let place = of_one_claim().await;
        let catalog = Catalog::new(place.store());
        let names: Vec<_> = volumes(&catalog, "wiki/files").await.unwrap().into_iter().map(|v| v.volume).collect();
        assert_eq!(names, ["pvc-restored", "pvc-legacy"]);
        let meant = volume(&catalog, "wiki/files").await.unwrap();
        assert_eq!(meant.volume, "pvc-restored");
        let note = meant.note.unwrap();
        assert!(note.contains("pvc-restored (newest backup of 2026-11-23T10:00:00Z) is taken"), "{note}");
        assert!(note.contains("pvc-legacy (newest backup of 2026-11-22T18:38:57Z)"), "{note}");
        assert_eq!(volume(&catalog, "pvc-legacy").await.unwrap().note, None);
        let error = volume(&catalog, "wiki/flies").await.unwrap_err();
        assert!(error.kind() == Kind::NotFound && error.hint_text().unwrap().contains("wiki/files"), "{error}");

        // A time before the restore is a time of the former volume.
        for (reference, volume, name, told) in [
            ("wiki/files", "pvc-restored", "b-later", true),
            ("wiki/files@1h", "pvc-restored", "b-later", true),
            ("wiki/files@2026-11-22", "pvc-legacy", "backup-0000000000001403", true),
            ("wiki/files@backup-0000000000001401", "pvc-legacy", "backup-0000000000001401", false),
            ("pvc-restored", "pvc-restored", "b-later", false),
        ] {
            let found = backup(&place.store(), reference, NOON_AFTER.parse().unwrap()).await.unwrap();
            assert_eq!((found.backup.volume.as_str(), found.backup.backup.as_str()), (volume, name), "{reference}");
            assert_eq!(found.note.is_some(), told, "{reference}: {:?}", found.note);
        }
        let error = chosen(&place.store(), "wiki/files@30d").await.unwrap_err();
        assert!(error.kind() == Kind::NotFound && error.hint_text().unwrap().contains("the oldest one is"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_answered_with_what_is() {
        let store = testing::fixtures();
        for (reference, said) in [
            ("pvc-legcay", "did you mean pvc-legacy?"),
            ("wholly-else", "there is pvc-backed, pvc-empty, pvc-legacy"),
            ("pvc-legacy@backup-0000000000001409", "did you mean backup-000000000000140"),
            ("pvc-legacy@yesterday", "backup-0000000000001403 (begun 2026-11-22T18:38:57Z), backup-"),
            ("pvc-legacy@3d", "the oldest one is backup-0000000000001401 (begun "),
        ] {
            let error = chosen(&store, reference).await.unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
            assert!(error.hint_text().unwrap().contains(said), "{reference}: {:?}", error.hint_text());
        }
        for reference in ["../x", "\u{1b}[2J@latest", ""] {
            let error = chosen(&store, reference).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(!error.to_string().contains('\u{1b}'));
        }
        let error = chosen(&store, "pvc-legacy@\u{1b}[2J").await.unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }

    #[tokio::test]
    async fn unfinished_and_damaged_backups_are_passed_over_and_told() {
        let place = testing::copy_of_fixtures();
        let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
        let begun = BackupConfig::begin(&BackupRef::new("pvc-legacy", "b-begun").unwrap(), Mode::Full, 2 << 20);
        store.put(&keys.backup("b-begun").unwrap(), begun.to_bytes().unwrap().into()).await.unwrap();
        store.put(&keys.backup("backup-0000000000001403").unwrap(), "{".into()).await.unwrap();
        let found = backup(&store, "pvc-legacy", Timestamp::now()).await.unwrap();
        assert_eq!(found.backup.backup, "backup-0000000000001402");
        let mut passed: Vec<_> =
            found.passed_over.iter().map(|b| (b.backup.backup.as_str(), b.state.as_str())).collect();
        passed.sort_unstable();
        assert_eq!(passed, [("b-begun", "crashed"), ("backup-0000000000001403", "damaged")]);

        for name in ["backup-0000000000001401", "backup-0000000000001402"] {
            store.delete(&keys.backup(name).unwrap()).await.unwrap();
        }
        let error = chosen(&store, "pvc-legacy").await.unwrap_err();
        assert!(error.hint_text().unwrap().contains("b-begun (crashed)"), "{:?}", error.hint_text());
    }
}
