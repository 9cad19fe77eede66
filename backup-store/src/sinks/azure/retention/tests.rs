//! Immutability as Azure's reference tells of it, before a fake on loopback: the emulator has none.

use std::sync::{Arc, Mutex};

use super::*;
use crate::access::{Credentials, Secret};
use crate::bucket::Provider;
use crate::layers::RetryPolicy;
use crate::sinks::object::fake::served;
use crate::sinks::{ObjectRetention, Prolong, RetentionReport, ShortReason, Wanted};

const PACK: &str = "data/00/0000000000000000000000000000000000000000000000000000000000000000";

type Headers = Vec<(&'static str, String)>;

/// A container with one blob, and what it was asked to change.
struct Fake {
    retention: ObjectRetention,
    changes: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `blob` is what is told of the blob before anything is changed, `after` what is told then.
    fn new(has_immutability: &str, blob: Option<Headers>, after: Headers) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&changes);
        let container = vec![
            ("x-ms-has-immutability-policy", String::from("false")),
            ("x-ms-immutable-storage-with-versioning-enabled", has_immutability.to_owned()),
        ];
        let (address, _heard) = served(move |request| {
            let mut changes = told.lock().unwrap();
            let headers = match () {
                () if request.starts_with("put ") => {
                    changes.push(request.to_owned());
                    Some(Vec::new())
                }
                () if request.starts_with("head /c?restype=container ") && container[1].1 == "not told" => {
                    return ("403 Forbidden", Vec::new(), String::new());
                }
                () if request.starts_with("head /c?restype=container ") => Some(container.clone()),
                () if !request.starts_with(&format!("head /c/p/{PACK} ")) => {
                    return ("400 Bad", Vec::new(), request.into());
                }
                () if changes.is_empty() => blob.clone(),
                () => Some(after.clone()),
            };
            match headers {
                Some(headers) => ("200 OK", headers, String::new()),
                None => ("404 Not Found", vec![("x-ms-error-code", String::from("BlobNotFound"))], String::new()),
            }
        });
        let bucket = Bucket::parse(Provider::Azure, &format!("//c/p?account=a&endpoint=http://{address}")).unwrap();
        let credentials = Some(Credentials::AccountKey(Secret::new("c2VjcmV0")));
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

/// A blob of seven bytes with what its version and its policy are.
fn blob(version: &str, policy: Option<(&str, u8)>) -> Headers {
    let mut headers = vec![
        ("Content-Length", String::from("7")),
        ("x-ms-version-id", version.to_owned()),
        ("x-ms-is-current-version", String::from("true")),
    ];
    if let Some((mode, until)) = policy {
        headers.push((UNTIL, day(until).strftime(FORM).to_string()));
        headers.push((MODE, mode.to_owned()));
    }
    headers
}

#[test]
fn a_time_that_ends_too_early_is_moved_in_its_own_mode_and_read_back() {
    let version = "2026-01-01T00:00:00.1234567Z";
    for (is_enabled, own, mode, least) in [
        ("true", None, "unlocked", GOVERNANCE),
        ("true", Some(("unlocked", 5)), "unlocked", GOVERNANCE),
        ("not told", Some(("locked", 5)), "locked", COMPLIANCE),
    ] {
        let fake = Fake::new(is_enabled, Some(blob(version, own)), blob(version, Some((mode, 20))));
        let looked = fake.ensure(Prolong::DryRun).unwrap();
        assert_eq!((looked.short[0].why, fake.changes.lock().unwrap().len()), (ShortReason::TooEarly, 0));
        let done = fake.ensure(Prolong::Now).unwrap();
        assert_eq!((done.prolonged, done.uncompared), (1, 1), "only its size is known: {done:?}");
        assert_eq!(done.least, Some(Retention { until: day(20), mode: least.to_owned() }));
        let changes = fake.changes.lock().unwrap();
        let line =
            format!("put /c/p/{PACK}?comp=immutabilitypolicies&versionid=2026-01-01t00%3a00%3a00.1234567z http/1.1");
        assert!(changes[0].starts_with(&line), "{changes:?}");
        for header in [
            &format!("\r\n{MODE}: {mode}\r\n"),
            "\r\nx-ms-immutability-policy-until-date: tue, 20 jan 2026 00:00:00 gmt\r\n",
            "\r\nx-ms-version: 2",
            "\r\nauthorization: sharedkey a:",
            "\r\ncontent-length: 0\r\n",
        ] {
            assert!(changes[0].contains(header), "{header:?}: {changes:?}");
        }
        drop(changes);
        assert_eq!(fake.ensure(Prolong::Now).unwrap().enough, 1);
    }
}

#[test]
fn what_the_store_says_it_did_is_not_believed() {
    let before = blob("1", None);
    for (after, why) in
        [(before.clone(), ShortReason::TooEarly), (blob("2", Some(("locked", 20))), ShortReason::Replaced)]
    {
        let report = Fake::new("true", Some(before.clone()), after).ensure(Prolong::Now).unwrap();
        assert_eq!((report.short[0].why, report.prolonged), (why, 0));
    }
    let mut other = blob("1", Some(("locked", 25)));
    other[0].1 = String::from("8");
    let report = Fake::new("true", Some(other), Vec::new()).ensure(Prolong::Now).unwrap();
    assert_eq!(report.short[0].why, ShortReason::Replaced);
    let report = Fake::new("true", None, Vec::new()).ensure(Prolong::Now).unwrap();
    assert_eq!(report.short[0].why, ShortReason::Missing);
}

#[test]
fn a_container_without_it_is_refused_and_an_answer_that_is_not_understood_is_an_error() {
    let error = Fake::new("false", None, Vec::new()).ensure(Prolong::Now).unwrap_err();
    assert_eq!((error.kind, error.hint.is_some()), (SinkErrorKind::Unsupported, true));
    for (mode, until) in [("mutable", "Tue, 20 Jan 2026 00:00:00 GMT"), ("locked", "soon"), ("", "soon")] {
        let mut blob = blob("1", None);
        blob.push((UNTIL, until.to_owned()));
        if !mode.is_empty() {
            blob.push((MODE, mode.to_owned()));
        }
        let error = Fake::new("true", Some(blob), Vec::new()).ensure(Prolong::Now).unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Other);
    }
}
