//! Names that a person may have meant.

/// How many are offered.
const OFFERED: usize = 5;

/// A sentence with the names nearest to `wanted`, nearest first, or nothing when there are none.
pub(crate) fn offer(wanted: &str, names: &[String]) -> String {
    let mut ranked: Vec<(usize, &String)> = names.iter().map(|n| (distance(wanted, n), n)).collect();
    ranked.sort();
    let shown: Vec<&str> = ranked.iter().take(OFFERED).map(|(_, n)| n.as_str()).collect();
    match (shown.len(), names.len()) {
        (0, _) => String::new(),
        (shown_count, all) if shown_count == all => format!("; there is {}", shown.join(", ")),
        (_, all) => format!("; near it are {} ({all} branches in all)", shown.join(", ")),
    }
}

/// Edits between two names; a name that contains the other, case aside, is nearer than any edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    if !a.is_empty() && (b.contains(&a) || a.contains(&b)) {
        return 0;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_no_more_than_five() {
        let names: Vec<String> =
            ["main", "develop", "feature/a", "feature/b", "release", "x", "mian2"].map(Into::into).into();
        assert_eq!(offer("mian", &names).split(' ').nth(4), Some("mian2,"), "{}", offer("mian", &names));
        assert!(offer("mian", &names).contains("main"));
        assert!(offer("mian", &names).ends_with("(7 branches in all)"));
        assert_eq!(offer("Main", &names[..1]), "; there is main");
        assert_eq!(offer("x", &[]), "");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
