//! Retention as Google tells of it, before a fake on loopback: no server of the tests has policies of buckets, nor keeps
//! anybody from anything.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::access::{Credentials, Secret};
use crate::bucket::Provider;
use crate::layers::RetryPolicy;
use crate::sinks::object::fake::fake;
use crate::sinks::{ObjectRetention, Prolong, RetentionReport, ShortReason, Wanted};

/// Somebody to whom a server without credentials listens.
const NOBODY: &str = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;

const PACK: &str = "data/00/0000000000000000000000000000000000000000000000000000000000000000";

/// A bucket with one object, and what it was asked to change.
struct Fake {
    retention: ObjectRetention,
    changes: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `object` is what is told of the object before anything is changed, `after` what is told then.
    fn new(bucket: Value, object: Option<Value>, after: Value) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&changes);
        let (address, _heard) = fake(move |request| {
            let mut changes = told.lock().unwrap();
            let document = match () {
                () if request.starts_with("patch ") => {
                    changes.push(request.to_owned());
                    Some(json!({}))
                }
                () if !request.contains("/b/b/o/") => Some(bucket.clone()),
                () if changes.is_empty() => object.clone(),
                () => Some(after.clone()),
            };
            match document {
                Some(document) => ("200 OK", document.to_string()),
                None => ("404 Not Found", json!({"error": {"message": "No such object", "errors": []}}).to_string()),
            }
        });
        let bucket = Bucket::parse(Provider::Gcs, &format!("//b/p?endpoint=http://{address}")).unwrap();
        let credentials = Some(Credentials::ServiceAccount(Secret::new(NOBODY)));
        let access = Access { credentials, environment: Default::default() };
        Self { retention: bucket.retention(&access, Patience::new(RetryPolicy::default())).unwrap(), changes }
    }

    fn ensure(&self, prolong: Prolong) -> Result<RetentionReport, SinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wanted = [Wanted { key: ObjectKey::new(PACK), bytes: Some(7) }];
        runtime.block_on(self.retention.ensure(&wanted, day(20), prolong))
    }
}

fn day(day: u8) -> Timestamp {
    format!("2026-01-{day:02}T00:00:00Z").parse().unwrap()
}

/// An object of seven bytes made on the first of the month, with what else is told of it.
fn object(generation: u32, retention: Option<(&str, u8)>, expires: Option<u8>) -> Value {
    json!({
        "size": "7", "generation": generation.to_string(), "timeCreated": day(1),
        "retention": retention.map(|(mode, until)| json!({"mode": mode, "retainUntilTime": day(until)})),
        "retentionExpirationTime": expires.map(day),
    })
}

fn by_object() -> Value {
    json!({"objectRetention": {"mode": "Enabled"}})
}

fn by_policy(days: u32, is_locked: bool) -> Value {
    json!({"retentionPolicy": {"retentionPeriod": (days * 86_400).to_string(), "isLocked": is_locked}})
}

#[test]
fn a_time_that_ends_too_early_is_moved_in_its_own_mode_and_read_back() {
    for (own, mode, least) in [
        (None, "unlocked", GOVERNANCE),
        (Some(("Unlocked", 5)), "unlocked", GOVERNANCE),
        (Some(("Locked", 5)), "locked", COMPLIANCE),
    ] {
        let after = object(3, Some((if mode == "locked" { "Locked" } else { "Unlocked" }, 20)), Some(20));
        let fake = Fake::new(by_object(), Some(object(3, own, own.map(|(_, until)| until))), after);
        let looked = fake.ensure(Prolong::DryRun).unwrap();
        assert_eq!((looked.short[0].why, fake.changes.lock().unwrap().len()), (ShortReason::TooEarly, 0));
        let done = fake.ensure(Prolong::Now).unwrap();
        assert_eq!((done.prolonged, done.uncompared), (1, 1), "only its size is known: {done:?}");
        assert_eq!(done.least, Some(Retention { until: day(20), mode: least.to_owned() }));
        let changes = fake.changes.lock().unwrap();
        assert!(
            changes[0].contains("?generation=3&") && changes[0].contains(&format!(r#""mode":"{mode}""#)),
            "{changes:?}"
        );
        assert!(changes[0].contains(r#""retainuntiltime":"2026-01-20t00:00:00z""#), "{changes:?}");
        drop(changes);
        assert_eq!(fake.ensure(Prolong::Now).unwrap().enough, 1);
    }
}

#[test]
fn what_the_store_says_it_did_is_not_believed() {
    let before = object(3, None, None);
    for (after, why) in
        [(before.clone(), ShortReason::TooEarly), (object(4, Some(("Locked", 20)), Some(20)), ShortReason::Replaced)]
    {
        let report = Fake::new(by_object(), Some(before.clone()), after).ensure(Prolong::Now).unwrap();
        assert_eq!((report.short[0].why, report.prolonged), (why, 0));
    }
    let mut other = object(3, Some(("Locked", 25)), Some(25));
    other["size"] = "8".into();
    let report = Fake::new(by_object(), Some(other), Value::Null).ensure(Prolong::Now).unwrap();
    assert_eq!(report.short[0].why, ShortReason::Replaced);
    let report = Fake::new(by_object(), None, Value::Null).ensure(Prolong::Now).unwrap();
    assert_eq!(report.short[0].why, ShortReason::Missing);
}

#[test]
fn a_policy_of_the_bucket_counts_from_the_upload_and_only_while_the_store_names_an_end() {
    let ends = |bucket: Value, own, expires| {
        let fake = Fake::new(bucket, Some(object(3, own, expires)), object(3, own, expires));
        let report = fake.ensure(Prolong::Now).unwrap();
        assert_eq!(fake.changes.lock().unwrap().len(), 0, "there is nothing to move");
        report.least.or_else(|| report.short[0].retention.clone()).map(|found| (found.until, found.mode))
    };
    let until = |last, mode: &str| Some((day(last), mode.to_owned()));
    assert_eq!(ends(by_policy(29, true), None, Some(30)), until(30, COMPLIANCE));
    assert_eq!(ends(by_policy(29, false), None, Some(30)), until(30, GOVERNANCE));
    assert_eq!(ends(by_policy(9, true), None, Some(10)), until(10, COMPLIANCE), "it is told that it is too short");
    assert_eq!(ends(by_policy(29, true), None, None), None, "an object that is held has no end that is known");
    // The store names the later of both ends: what the object has by itself is not the bucket's.
    assert_eq!(ends(by_policy(9, true), Some(("Unlocked", 25)), Some(25)), until(25, GOVERNANCE));
    assert_eq!(ends(by_policy(29, true), Some(("Unlocked", 31)), Some(31)), until(30, COMPLIANCE));
}

#[test]
fn where_the_bucket_allows_it_an_object_outlives_the_policy() {
    let mut bucket = by_policy(9, true);
    bucket["objectRetention"] = by_object()["objectRetention"].clone();
    let fake = Fake::new(bucket, Some(object(3, None, Some(10))), object(3, Some(("Unlocked", 20)), Some(20)));
    let report = fake.ensure(Prolong::Now).unwrap();
    assert_eq!(report.least, Some(Retention { until: day(20), mode: GOVERNANCE.to_owned() }));
    assert!(fake.changes.lock().unwrap()[0].contains(r#""mode":"unlocked""#), "a policy's lock is not the object's");
}

#[test]
fn a_bucket_without_either_is_refused_and_an_answer_that_is_not_understood_is_an_error() {
    let error = Fake::new(json!({}), None, Value::Null).ensure(Prolong::Now).unwrap_err();
    assert_eq!((error.kind, error.hint.is_some()), (SinkErrorKind::Unsupported, true));
    for wrong in
        [json!({"mode": "Frozen", "retainUntilTime": day(5)}), json!({"mode": "Locked", "retainUntilTime": "soon"})]
    {
        let mut object = object(3, None, None);
        object["retention"] = wrong;
        let error = Fake::new(by_object(), Some(object), Value::Null).ensure(Prolong::Now).unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Other);
    }
}
