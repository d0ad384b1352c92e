//! Numbers as people read them.

use std::time::Duration;

/// A number of bytes in binary units with one decimal: `512 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0, which belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time in its two largest units: `0.4s`, `12s`, `1m 12s`, `2h 5m`, `3d 4h`.
pub fn duration(length: Duration) -> String {
    if length < Duration::from_millis(9_950) {
        return format!("{:.1}s", length.as_secs_f64());
    }
    let seconds = length.as_secs() + u64::from(length.subsec_millis() >= 500);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_unit_at_1024() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_show_two_units() {
        let cases = [(0, "0.0s"), (400, "0.4s"), (9_960, "10s"), (72_000, "1m 12s"), (59_600, "1m 0s")];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(Duration::from_mins(125)), "2h 5m");
        assert_eq!(duration(Duration::from_hours(76)), "3d 4h");
    }
}
