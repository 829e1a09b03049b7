//! "Did you mean": the known name that a mistyped one is most like.

/// The known name that is most like a word, if its likeness (between 0 and 1) is greater than this.
pub(crate) fn nearest<T: AsRef<str>>(
    word: &str,
    known: impl IntoIterator<Item = T>,
    likeness: f64,
) -> Option<T> {
    let rated = known.into_iter().map(|one| (strsim::jaro_winkler(word, one.as_ref()), one));
    let best = rated.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(rated, _)| *rated > likeness).map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_unless_all_are_far() {
        let known = ["after", "retry", "mail"];
        assert_eq!(nearest("retires", known, 0.6), Some("retry"));
        assert_eq!(nearest("zzz", known, 0.6), None);
        assert_eq!(nearest("retires", [] as [&str; 0], 0.0), None);
    }
}
