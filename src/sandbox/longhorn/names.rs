//! Labels, annotations, generated names and times as Longhorn writes them.

use jiff::{Timestamp, fmt::strtime};
use ring::digest;

pub(super) const GROUP: &str = "longhorn.io";
/// The Service the API server calls the webhooks at.
pub(super) const WEBHOOK_SERVICE: &str = "longhorn-admission-webhook";
/// Finalizer of everything Longhorn has to clean up after.
pub(super) const FINALIZER: &str = "longhorn.io";
pub(super) const DRIVER: &str = "driver.longhorn.io";

/// The one target that holds system backups, too.
pub(super) const DEFAULT_TARGET: &str = "default";

// These four have no prefix in real clusters either.
pub(super) const LABEL_TARGET: &str = "backup-target";
pub(super) const LABEL_BACKUP_VOLUME: &str = "backup-volume";
pub(super) const LABEL_VOLUME: &str = "longhornvolume";
pub(super) const LABEL_NODE: &str = "longhornnode";

pub(super) const LABEL_ONLY_OBJECT: &str = "longhorn.io/delete-custom-resource-only";
pub(super) const LABEL_VERSION: &str = "longhorn.io/version";
pub(super) const LABEL_SYSTEM_RESTORE: &str = "longhorn.io/system-restore";
pub(super) const LABEL_ACCESS_MODE: &str = "longhorn.io/volume-access-mode";
pub(super) const LABEL_JOB: &str = "recurring-job.longhorn.io/";
pub(super) const LABEL_JOB_GROUP: &str = "recurring-job-group.longhorn.io/";
pub(super) const LABEL_JOB_SOURCE: &str = "recurring-job.longhorn.io/source";

/// Key of a backup's labels whose value is the claim and pods that used the volume, as JSON.
pub(super) const KUBERNETES_STATUS: &str = "KubernetesStatus";
/// Key of a backup's labels that names the recurring job that made it.
pub(super) const RECURRING_JOB: &str = "RecurringJob";

pub(super) const TICKET_CSI: &str = "csi-attacher";
pub(super) const TICKET_RESTORE: &str = "volume-restore-controller";
pub(super) const TICKET_SNAPSHOT: &str = "snapshot-controller";
pub(super) const TICKET_BACKUP: &str = "backup-controller";

/// Which of several tickets decides the node: the larger number.
pub(super) fn ticket_priority(kind: &str) -> u32 {
    match kind {
        TICKET_RESTORE | "volume-expansion-controller" => 2000,
        "longhorn-api" => 1000,
        TICKET_CSI | "salvage-controller" | "share-manager-controller" => 900,
        _ => 800,
    }
}

/// Now, in UTC and whole seconds, which is all the API keeps.
pub(super) fn now() -> String {
    time_text(Timestamp::now())
}

pub(super) fn time_text(time: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", time).unwrap_or_default()
}

/// A time of the API in seconds; an absent or unreadable one is before all others.
pub(super) fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(i64::MIN, Timestamp::as_second)
}

/// `prefix-` and 16 random hexadecimal digits.
pub(super) fn generated(prefix: &str) -> String {
    format!("{prefix}-{}", random_hex(16))
}

pub(super) fn random_hex(digits: usize) -> String {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = vec![0; digits.div_ceil(2)];
    // Only uniqueness is asked for; the system's generator does not fail once it has been seeded.
    let _ = SystemRandom::new().fill(&mut bytes);
    let mut text = hex(&bytes);
    text.truncate(digits);
    text
}

/// Name of the BackupVolume object of a volume on a target (Longhorn 1.9 and later).
pub(super) fn backup_volume_name(volume: &str, target: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{volume}-{target}").as_bytes());
    format!("{volume}-{}", &hex(hash.as_ref())[..8])
}

/// A name cut to what Longhorn accepts: lower case, and over `max` characters a checksum instead of the end.
pub(super) fn corrected_name(name: &str, max: usize) -> String {
    let lower = name.to_lowercase();
    if name.len() <= max || !lower.is_ascii() {
        return lower;
    }
    let hash = hex(digest::digest(&digest::SHA512, name.as_bytes()).as_ref());
    format!("{}-{}", lower[..max - 9].trim_end_matches('-'), &hash[..8])
}

/// Names that are accepted for volumes, snapshots, backups and jobs: two characters or more of `a-z 0-9 _ . -`,
/// beginning with a letter or digit. Such a name is also safe as one component of a path.
pub(super) fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (2..=253).contains(&bytes.len())
        && (bytes[0].is_ascii_lowercase() || bytes[0].is_ascii_digit())
        && bytes[1..].iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(b))
}

/// A DNS label: what a volume and every object name made from it must be.
pub(super) fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|b| end(b) || *b == b'-')
        && bytes.first().is_some_and(end)
        && bytes.last().is_some_and(end)
}

/// Key of an attachment ticket.
pub(super) fn ticket_id(kind: &str, name: &str) -> String {
    let mut id = format!("{kind}-{name}");
    id.truncate(253);
    id
}

pub(super) fn engine_name(volume: &str) -> String {
    format!("{volume}-e-0")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_path_components_are_refused() {
        for bad in ["", "a", "..", "../x", "a/b", ".hidden", "-x", "UPPER", "a b", "a\0b", &"x".repeat(254)] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
        for good in ["a1", "pvc-0a", "snap_1.2"] {
            assert!(is_valid_name(good), "{good:?}");
        }
        assert!(is_dns_label("a"));
        assert!(!is_dns_label("a.b"));
        assert!(!is_dns_label("a-"));
    }

    /// Expected value: `printf %s vol-default | sha256sum`.
    #[test]
    fn the_backup_volume_is_named_after_a_hash() {
        assert_eq!(backup_volume_name("vol", "default"), "vol-c4eb6c05");
    }

    #[test]
    fn long_names_end_in_a_checksum() {
        let long = "A".repeat(60);
        let name = corrected_name(&long, 40);
        assert_eq!(name.len(), 40);
        assert!(name.starts_with(&"a".repeat(31)));
        assert_eq!(corrected_name("Short", 40), "short");
    }

    #[test]
    fn an_absent_time_is_before_all_others() {
        assert!(seconds("") < seconds("1970-01-01T00:00:00Z"));
        assert_eq!(seconds("2026-11-22T19:18:33Z"), seconds("2026-11-22T19:18:33.9Z"));
        assert_eq!(seconds(&now()).abs_diff(Timestamp::now().as_second()), 0);
    }
}
