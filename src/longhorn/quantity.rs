//! Kubernetes quantities of bytes: `10Gi`, `500M`, `1.5Ti`, `1e9`.
//!
//! Format: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Bytes of a quantity, rounded up; `None` for text that is no quantity, negative or beyond `u64`.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // As a fraction of whole numbers: floating point would lose bytes of large volumes.
    let mut numerator: u128 = format!("{whole}{fraction}").parse().ok()?;
    let mut denominator: u128 = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    match suffix {
        "" => {}
        "m" => denominator = denominator.checked_mul(1000)?,
        _ => numerator = numerator.checked_mul(factor(suffix)?)?,
    }
    u64::try_from(numerator.div_ceil(denominator)).ok()
}

fn factor(suffix: &str) -> Option<u128> {
    let power = |unit: &str, letters: &str| letters.find(unit).map(|at| u32::try_from(at + 1).unwrap_or(0));
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty() && *rest != "i") {
        return 10_u128.checked_pow(exponent.trim_start_matches('+').parse().ok()?);
    }
    match suffix.strip_suffix('i') {
        Some(unit) if unit.len() == 1 => 1024_u128.checked_pow(power(unit, "KMGTPE")?),
        None if suffix.len() == 1 => 1000_u128.checked_pow(power(suffix, "kMGTPE")?),
        _ => None,
    }
}

/// Bytes as Kubernetes prints them: with the largest binary unit that leaves a whole number.
pub fn format(bytes: u64) -> String {
    let mut value = bytes;
    let mut unit = "";
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if value == 0 || !value.is_multiple_of(1024) {
            break;
        }
        value /= 1024;
        unit = next;
    }
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_reference_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("128974848000m", 128_974_848),
            ("123Mi", 128_974_848),
            ("10Gi", 10_737_418_240),
            ("1.5Gi", 1_610_612_736),
            ("1k", 1000),
            ("1Ki", 1024),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ei", 1_152_921_504_606_846_976),
            ("0.5", 1),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "Gi", "-1Gi", "1 Gi", "1GiB", "1K", "1..2", "1e", "99999999999999999999", "1e99", "16Ei", "1.2.3Gi"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_printed_as_kubectl_shows_them() {
        for (bytes, text) in [(10_737_418_240, "10Gi"), (33_554_432, "32Mi"), (1000, "1000"), (1536, "1536"), (0, "0")]
        {
            assert_eq!(format(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }
}
