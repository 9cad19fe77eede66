//! `retention = { local = { within = "30d" }, offsite = { within = "90d", monthly = 12 } }`: the rules of
//! [`backup_core::retention`], for each repository.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use backup_core::contracts::Proof;
use backup_core::retention::{Count, Rules, Span, TagSet};

use super::section::{Section, Value, nearest};

/// The rules of each repository that has some.
pub(super) fn read(section: &Section<'_>, repositories: &[&str]) -> BTreeMap<String, Rules> {
    let mut all = BTreeMap::new();
    for (name, value) in section.entries() {
        if !repositories.contains(&name.as_str()) {
            let hint = match RULES.contains(&name.as_str()) {
                true => format!(
                    "rules stand below a repository: {{ {} = {{ {name} = … }} }}",
                    repositories.first().unwrap_or(&"local")
                ),
                false => nearest(&name, repositories),
            };
            value.fault("no repository is called so", Some(hint));
            continue;
        }
        let Some(rules_section) = value.section() else { continue };
        let rules = rules(&rules_section);
        rules_section.finish();
        if rules.is_empty() {
            value.fault(
                "no rule keeps anything",
                Some(String::from("write { within = \"30d\" }, or leave it away to keep everything")),
            );
        }
        all.insert(name, rules);
    }
    all
}

/// The names of rules.
pub(super) const RULES: [&str; 14] = [
    "last",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "within",
    "within_hourly",
    "within_daily",
    "within_weekly",
    "within_monthly",
    "within_yearly",
    "tags",
    "require",
];

fn rules(section: &Section<'_>) -> Rules {
    let count = |key| section.value(key).and_then(|value| count(&value));
    let span = |key| section.parsed(key, Span::from_str);
    let tags = section.value("tags").map(|value| value.items()).unwrap_or_default();
    let proofs = [("present", Proof::Present), ("verified", Proof::Verified), ("restored", Proof::Restored)];
    Rules {
        last: count("last"),
        hourly: count("hourly"),
        daily: count("daily"),
        weekly: count("weekly"),
        monthly: count("monthly"),
        yearly: count("yearly"),
        within: span("within"),
        within_hourly: span("within_hourly"),
        within_daily: span("within_daily"),
        within_weekly: span("within_weekly"),
        within_monthly: span("within_monthly"),
        within_yearly: span("within_yearly"),
        tags: tags.iter().filter_map(|tag| tag.parsed(TagSet::from_str)).collect(),
        require: section.word("require", &proofs).unwrap_or(Proof::Present),
    }
}

fn count(value: &Value<'_>) -> Option<Count> {
    if value.is_text() {
        return value.parsed(Count::from_str);
    }
    match value.integer().and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Some(Count::AtMost(number)),
        None => value.wrong("a number of snapshots, or \"unlimited\","),
    }
}
