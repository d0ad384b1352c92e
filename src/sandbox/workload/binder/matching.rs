//! Which volume suits which claim.

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{ResourceExt, core::Selector, core::SelectorExt};

use super::{claim_ref, refers_to};
use crate::sandbox::workload::objects::deleting;

/// The volume the claim gets when it names none: the one reserved for it, else the smallest free one that fits.
pub fn best<'a>(claim: &PersistentVolumeClaim, volumes: &'a [PersistentVolume]) -> Option<&'a PersistentVolume> {
    let fitting = || volumes.iter().filter(|volume| !deleting(*volume) && misfit(claim, volume).is_none());
    if let Some(reserved) = fitting().find(|volume| claim_ref(volume).is_some_and(|owner| refers_to(owner, claim))) {
        return Some(reserved);
    }
    let free = fitting().filter(|volume| {
        let available = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
        claim_ref(volume).is_none() && available && selects(claim, volume)
    });
    free.min_by_key(|volume| capacity(volume))
}

/// Why the volume cannot serve the claim; `None` when it can.
pub fn misfit(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let (asked, offered) = (claim.spec.as_ref()?, volume.spec.as_ref()?);
    let request = asked.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage"));
    if request.and_then(bytes).unwrap_or(0) > capacity(volume) {
        return Some("requested PV is too small");
    }
    if asked.storage_class_name.as_deref().unwrap_or("") != offered.storage_class_name.as_deref().unwrap_or("") {
        return Some("storageClassName does not match");
    }
    let block = |mode: Option<&String>| mode.is_some_and(|mode| mode == "Block");
    if block(asked.volume_mode.as_ref()) != block(offered.volume_mode.as_ref()) {
        return Some("incompatible volumeMode");
    }
    let modes = offered.access_modes.as_deref().unwrap_or_default();
    if asked.access_modes.iter().flatten().any(|mode| !modes.contains(mode)) {
        return Some("incompatible accessMode");
    }
    None
}

fn selects(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(selector) = claim.spec.as_ref().and_then(|spec| spec.selector.clone()) else { return true };
    Selector::try_from(selector).is_ok_and(|selector| selector.matches(volume.labels()))
}

fn capacity(volume: &PersistentVolume) -> u128 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(bytes).unwrap_or(0)
}

/// A quantity of storage in bytes, rounded up; `None` when it cannot be read.
/// Format: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
fn bytes(quantity: &Quantity) -> Option<u128> {
    const UNITS: [(&str, u128); 14] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("m", 0),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    let text = quantity.0.trim();
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']).filter(|(_, exponent)| !exponent.is_empty()) {
        return decimal(mantissa)?.checked_mul(10_u128.checked_pow(exponent.parse().ok()?)?).map(thousandths_up);
    }
    let (number, unit) = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))?;
    let thousandths = decimal(number)?;
    if unit == 0 {
        return Some(thousandths_up(thousandths_up(thousandths)));
    }
    thousandths.checked_mul(unit).map(thousandths_up)
}

/// A decimal number in thousandths.
fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{:0<3}", fraction.get(..fraction.len().min(3))?);
    whole.parse::<u128>().ok()?.checked_mul(1000)?.checked_add(fraction.parse().ok()?)
}

fn thousandths_up(thousandths: u128) -> u128 {
    thousandths.div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim() -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
                "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .unwrap()
    }

    fn volume(name: &str, size: &str, claim_ref: &serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "storageClassName": "longhorn",
                "capacity": {"storage": size}, "claimRef": claim_ref},
            "status": {"phase": "Available"},
        }))
        .unwrap()
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let of = |text: &str| bytes(&Quantity(text.into()));
        assert_eq!(of("2Gi"), Some(2_147_483_648));
        assert_eq!(of("10737418240"), Some(10_737_418_240));
        assert_eq!(of("1.5G"), Some(1_500_000_000));
        assert_eq!(of("128974848000m"), Some(128_974_848));
        assert_eq!(of("129e6"), Some(129_000_000));
        assert_eq!(of("1E"), Some(1_000_000_000_000_000_000));
        assert_eq!(of("big"), None);
        assert_eq!(of("9e99"), None);
    }

    #[test]
    fn the_smallest_free_volume_wins_unless_one_is_reserved() {
        let free = [volume("big", "5Gi", &json!(null)), volume("fits", "2Gi", &json!(null))];
        assert_eq!(best(&claim(), &free).unwrap().name_any(), "fits");
        let reserved = volume("mine", "9Gi", &json!({"name": "data", "namespace": "shop"}));
        let all = [free[0].clone(), free[1].clone(), reserved];
        assert_eq!(best(&claim(), &all).unwrap().name_any(), "mine");
    }

    #[test]
    fn a_volume_of_another_claim_or_of_a_former_one_is_never_taken() {
        let other = volume("a", "2Gi", &json!({"name": "other", "namespace": "shop"}));
        let former = volume("b", "2Gi", &json!({"name": "data", "namespace": "shop", "uid": "old"}));
        assert!(best(&claim(), &[other, former]).is_none());
    }

    #[test]
    fn misfits_say_why() {
        assert_eq!(misfit(&claim(), &volume("v", "1023Mi", &json!(null))), Some("requested PV is too small"));
        let mut class = volume("v", "2Gi", &json!(null));
        class.spec.as_mut().unwrap().storage_class_name = None;
        assert_eq!(misfit(&claim(), &class), Some("storageClassName does not match"));
        let mut many = claim();
        many.spec.as_mut().unwrap().access_modes = Some(vec!["ReadOnlyMany".into()]);
        assert_eq!(misfit(&many, &volume("v", "2Gi", &json!(null))), Some("incompatible accessMode"));
    }
}
