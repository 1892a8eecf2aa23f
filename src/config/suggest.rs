//! The nearest known key to a misspelt one.

/// The candidate that is nearest to `written`, if one is near enough to be meant: at most a third
/// of its letters may differ.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let names: Vec<&str> = written.split('.').collect();
    let letters = written.chars().count();
    let differ_max = |candidate: &str| (candidate.len() / 3).max(1);
    candidates
        .map(|pattern| fill(pattern, &names))
        // Whatever is too long or too short is too far away, and that is known at once.
        .filter(|it| it.chars().count().abs_diff(letters) <= differ_max(it))
        .map(|candidate| (distance(written, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= differ_max(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A pattern with the writer's own names where it leaves the name open, so that
/// `listener.tcp.1` is near to `listeners.tcp.$name`.
fn fill(pattern: &str, names: &[&str]) -> String {
    let filled = pattern.split('.').enumerate().map(|(i, name)| match names.get(i) {
        Some(own) if name.starts_with('$') => *own,
        _ => name,
    });
    filled.collect::<Vec<_>>().join(".")
}

/// How many letters must be added, dropped, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = last[j] + usize::from(a[i] != b[j]);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["heartbeat", "frame_max", "channel_max", "listeners.tcp.$name"];

    fn suggest(written: &str) -> Option<String> {
        nearest(written, KEYS.into_iter())
    }

    #[test]
    fn a_missing_a_doubled_a_wrong_and_swapped_letters_are_found() {
        for slip in ["hearbeat", "heartbeaat", "heartbeaf", "heratbeat"] {
            assert_eq!(suggest(slip).as_deref(), Some("heartbeat"), "{slip}");
        }
    }

    #[test]
    fn open_names_are_taken_from_the_writer() {
        assert_eq!(suggest("listener.tcp.default").as_deref(), Some("listeners.tcp.default"));
    }

    #[test]
    fn nothing_is_suggested_for_something_else_altogether() {
        assert_eq!(suggest("queue_colour"), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
