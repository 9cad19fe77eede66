//! How what a database shows differs from what it must show.

use std::collections::BTreeMap;

use backup_core::contracts::Expectation;

/// What `observed` lacks of `expected`, or has otherwise: a line each. What it has besides is no difference.
pub fn differences(expected: &[Expectation], observed: &[Expectation]) -> Vec<String> {
    let key = |expectation: &Expectation| (expectation.kind.clone(), expectation.object.clone());
    let observed: BTreeMap<_, _> = observed.iter().map(|expectation| (key(expectation), expectation)).collect();
    let mut differences = Vec::new();
    for expected in expected {
        let (kind, object) = (&expected.kind, &expected.object);
        let Some(found) = observed.get(&key(expected)) else {
            differences.push(format!("{kind} {object}: it is missing"));
            continue;
        };
        if let Some(wanted) = expected.count
            && found.count != expected.count
        {
            let found = found.count.map_or_else(|| "not counted".to_owned(), |count| count.to_string());
            differences.push(format!("{kind} {object}: {wanted} were backed up, {found} are there"));
        } else if expected.hash.is_some() && found.hash != expected.hash {
            differences.push(format!("{kind} {object}: its content is another"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(object: &str, count: u64, hash: &str) -> Expectation {
        Expectation { kind: "table".into(), object: object.into(), count: Some(count), hash: Some(hash.into()) }
    }

    #[test]
    fn each_difference_is_told_once() {
        let expected =
            [table("same", 1, "x:1"), table("gone", 1, "x:1"), table("fewer", 2, "x:1"), table("other", 1, "x:1")];
        let observed =
            [table("same", 1, "x:1"), table("fewer", 1, "x:2"), table("other", 1, "x:2"), table("more", 9, "")];
        let told = differences(&expected, &observed);
        assert_eq!(
            told,
            [
                "table gone: it is missing",
                "table fewer: 2 were backed up, 1 are there",
                "table other: its content is another"
            ]
        );
    }
}
