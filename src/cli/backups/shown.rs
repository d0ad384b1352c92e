//! How facts of a store are shown to people.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    backupstore::config::Labels,
    terminal::{escape, human},
};

/// A number of bytes, or nothing.
pub fn bytes(count: Option<u64>) -> String {
    count.map(human::bytes).unwrap_or_default()
}

/// How long ago an RFC 3339 time was, by this machine's clock; nothing when it is none.
pub fn age(time: Option<&str>) -> String {
    let Some(then) = time.and_then(|time| time.parse::<Timestamp>().ok()) else { return String::new() };
    human::duration(Duration::try_from(Timestamp::now().duration_since(then)).unwrap_or_default())
}

/// The labels an operator set, on one short line: Longhorn's own long ones are left out.
pub fn brief(labels: &Labels) -> String {
    const SHOWN: usize = 60;
    let own = |key: &str| key == "VolumeRecurringJobInfo" || key.starts_with("longhorn.io/");
    let labels = labels.iter().filter(|(key, _)| !own(key)).map(|(key, value)| format!("{key}={value}"));
    let text = labels.collect::<Vec<_>>().join(",");
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// The names of backups, or how many there are when that would be a long line.
pub fn several(names: &[&str]) -> String {
    if names.len() > 3 { format!("{} backups", names.len()) } else { names.join(", ") }
}

/// Facts under each other, as `kubectl describe` has them. Those that are empty are left out; values are escaped.
pub fn facts(facts: &[(&str, String)]) -> String {
    let facts: Vec<_> = facts.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
    let line = |(name, value): &&(&str, String)| format!("{:width$}  {}", format!("{name}:"), escape(value));
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_aligned_escaped_and_never_empty() {
        let shown = facts(&[("Volume", "a\x1b[2J".into()), ("Error", String::new()), ("Backing image", "b".into())]);
        assert_eq!(shown, "Volume:         a\\u{1b}[2J\nBacking image:  b");
    }

    #[test]
    fn long_labels_are_cut_between_characters() {
        let labels = Labels::from([("longhorn.io/x".into(), "y".into()), ("note".into(), "ü".repeat(99))]);
        assert_eq!(brief(&labels).chars().count(), 61);
        assert_eq!(brief(&Labels::from([("a".into(), "b".into()), ("c".into(), "d".into())])), "a=b,c=d");
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(several(&["b-1", "b-2"]), "b-1, b-2");
        assert_eq!(several(&["b"; 50]), "50 backups");
    }

    #[test]
    fn an_age_is_of_a_time_that_is_one() {
        assert_eq!((age(None).as_str(), age(Some("yesterday")).as_str()), ("", ""));
        assert!(age(Some("2020-01-01T00:00:00Z")).contains('d'));
        assert_eq!(age(Some("9999-01-01T00:00:00Z")), "0.0s", "a clock ahead of this one");
    }
}
