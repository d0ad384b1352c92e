//! "Did you mean …?": the known names nearest to an unknown one.

/// The known names that may have been meant, best first, at most three.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut near: Vec<_> = known
        .into_iter()
        .filter_map(|candidate| distance(&name, &candidate.to_lowercase()).map(|distance| (distance, candidate)))
        .collect();
    near.sort_unstable();
    near.dedup();
    // Beside a clear slip, what is much farther away was not meant.
    let clearly = near.first().map_or(0, |(best, _)| best + 1);
    near.retain(|(distance, _)| *distance <= clearly);
    near.into_iter().map(|(_, candidate)| candidate).take(3).collect()
}

/// How the hint reads: ``did you mean `a` or `b`?``; nothing if no known name is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near: Vec<_> = nearest(name, known).into_iter().map(|name| format!("`{}`", super::escape(name))).collect();
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// Edits between the two, or nothing when that is too many for a slip: a third of the letters.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    let allowed = name.chars().count().max(candidate.chars().count()).div_ceil(3);
    let distance = strsim::damerau_levenshtein(name, candidate);
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["get", "list", "delete", "wait_until"];

    #[test]
    fn slips_are_recognised() {
        assert_eq!(nearest("gte", KNOWN), ["get"]);
        assert_eq!(nearest("LIST", KNOWN), ["list"]);
        assert_eq!(nearest("wait_untli", KNOWN), ["wait_until"]);
        assert_eq!(nearest("check::equl", ["check::equal", "check::that"]), ["check::equal"]);
        assert_eq!(did_you_mean("delet", KNOWN).unwrap(), "did you mean `delete`?");
    }

    #[test]
    fn other_words_are_not_suggested() {
        assert!(nearest("backup", KNOWN).is_empty());
        assert_eq!(did_you_mean("backup", KNOWN), None);
    }
}
