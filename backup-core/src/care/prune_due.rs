//! Whether it is time to prune, from what a repository records of itself.

use jiff::{SignedDuration, Timestamp};

use crate::repository::{Record, RecordBody};

/// The verb of a prune's record.
pub const PRUNE: &str = "prune";

/// The figure that says when what a prune has marked may be deleted.
pub const NEXT_DELETION: &str = "next_deletion";

/// Whether a prune is due at `now`: none ended within `every`, or the last one has marked what may be deleted by now.
///
/// A repository without any record of a prune is due when its oldest record is that old: a new one has nothing to remove.
/// What was recorded by a clock that was ahead counts as of now.
pub fn prune_is_due<'a>(records: impl IntoIterator<Item = &'a Record>, every: SignedDuration, now: Timestamp) -> bool {
    let mut last = None::<(Timestamp, Option<Timestamp>)>;
    let mut oldest = None::<Timestamp>;
    for record in records {
        oldest = Some(oldest.map_or(record.time, |oldest| oldest.min(record.time)));
        if let RecordBody::Run { verb, outcome, figures, .. } = &record.body
            && verb == PRUNE
            && outcome == "done"
            && last.is_none_or(|(time, _)| time <= record.time)
        {
            let deletion = figures.get(NEXT_DELETION).and_then(|text| text.as_str()?.parse().ok());
            last = Some((record.time, deletion));
        }
    }
    match (last, oldest) {
        (Some((_, Some(deletion))), _) if deletion <= now => true,
        (Some((time, _)), _) | (None, Some(time)) => now.duration_since(time) >= every,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn record(day: i64, verb: &str, outcome: &str, deletion: Option<i64>) -> Record {
        let figures = deletion.map(|day| (NEXT_DELETION.to_owned(), json!(at(day).to_string())));
        let figures: Map<_, _> = figures.into_iter().collect();
        let body = RecordBody::Run { verb: verb.into(), outcome: outcome.into(), snapshot: None, figures };
        Record { time: at(day), hostname: "here".into(), body }
    }

    #[test]
    fn a_prune_is_due_by_its_age_by_what_waits_and_not_in_a_new_repository() {
        let week = SignedDuration::from_hours(7 * 24);
        for (records, day, is_due) in [
            (vec![], 100, false),
            (vec![record(10, "run", "done", None)], 16, false),
            (vec![record(10, "run", "done", None)], 17, true),
            (vec![record(10, "run", "done", None), record(20, PRUNE, "done", None)], 26, false),
            (vec![record(20, PRUNE, "done", None), record(10, PRUNE, "done", None)], 27, true),
            (vec![record(20, PRUNE, "done", Some(21))], 20, false),
            (vec![record(20, PRUNE, "done", Some(21))], 21, true),
            (vec![record(10, PRUNE, "done", None), record(20, PRUNE, "failed", None)], 21, true),
            // A clock that was ahead.
            (vec![record(90, PRUNE, "done", None)], 20, false),
        ] {
            assert_eq!(prune_is_due(&records, week, at(day)), is_due, "{records:?} on day {day}");
        }
    }
}
