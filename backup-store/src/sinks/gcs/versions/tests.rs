//! What is lost, by tables of generations; and soft delete, which no server of the tests has, before a fake on loopback
//! that answers as Google's pages have it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::access::Credentials;
use crate::access::Secret;
use crate::bucket::Provider;
use crate::layers::RetryPolicy;
use crate::sinks::Versions;
use crate::sinks::object::fake::fake;

/// Somebody to whom a server without credentials listens.
const NOBODY: &str = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn minute(minute: u8) -> String {
    format!("2026-01-01T00:{minute:02}:00.5Z")
}

/// A generation: its name, its number, its content, and from which minute to which it was live.
fn item(name: &str, generation: u32, content: &str, from: u8, to: Option<u8>) -> Value {
    json!({
        "name": name, "generation": generation.to_string(), "size": "7", "storageClass": "NEARLINE",
        "md5Hash": content, "crc32c": content, "timeCreated": minute(from), "timeDeleted": to.map(minute),
    })
}

/// The same where it was deleted softly.
fn soft(name: &str, generation: u32, content: &str, from: u8, to: u8) -> Value {
    let mut item = item(name, generation, content, from, Some(to));
    item["softDeleteTime"] = minute(to).into();
    item
}

fn lost(versions: &[Value], softly: &[Value]) -> Option<(LostKind, String, Way)> {
    let parsed = |items: &[Value]| -> Vec<Generation> {
        items.iter().map(|item| serde_json::from_value(item.clone()).unwrap()).collect()
    };
    let mut softly = parsed(softly).into_iter().map(|found| (found.name.clone(), found)).collect();
    let at = "2026-01-01T00:30:00Z".parse().unwrap();
    lost_of("p/", &parsed(versions), &mut softly, at).map(|lost| (lost.kind, lost.version, lost.way))
}

#[test]
fn what_was_live_and_is_not_any_more_is_lost() {
    let deleted = |version: &str| Some((LostKind::Deleted, version.to_owned(), Way::Copy));
    let replaced = |version: &str| Some((LostKind::Replaced, version.to_owned(), Way::Copy));
    let of = |versions: &[Value]| lost(versions, &[]);
    assert_eq!(of(&[item("p/a", 1, "x", 10, None)]), None);
    assert_eq!(of(&[item("p/a", 1, "x", 10, Some(40))]), deleted("1"));
    let both = [item("p/a", 1, "x", 10, Some(40)), item("p/a", 2, "y", 40, None)];
    assert_eq!(of(&both), replaced("1"));
    assert_eq!(of(&[both[1].clone(), both[0].clone()]), replaced("1"), "in whatever order they come");
    // Deleted before; made later; deleted and made anew; brought back already; the one of that time, and no older one.
    assert_eq!(of(&[item("p/a", 1, "x", 10, Some(20))]), None);
    assert_eq!(of(&[item("p/a", 1, "x", 40, None)]), None);
    assert_eq!(of(&[item("p/a", 1, "x", 10, Some(40)), item("p/a", 2, "z", 50, None)]), replaced("1"));
    assert_eq!(of(&[item("p/a", 1, "x", 10, Some(40)), item("p/a", 2, "x", 50, None)]), None);
    let three = [item("p/a", 1, "x", 5, Some(10)), item("p/a", 2, "y", 10, Some(40)), item("p/a", 3, "x", 40, None)];
    assert_eq!(of(&three), replaced("2"));
}

#[test]
fn what_is_deleted_softly_is_restored_and_not_copied() {
    let restored = |kind| Some((kind, String::from("1"), Way::Restore));
    let gone = soft("p/a", 1, "x", 10, 40);
    assert_eq!(lost(std::slice::from_ref(&gone), &[]), restored(LostKind::Deleted));
    assert_eq!(lost(&[item("p/a", 2, "y", 40, None)], std::slice::from_ref(&gone)), restored(LostKind::Replaced));
    assert_eq!(lost(&[item("p/a", 2, "x", 40, None)], &[gone]), None, "it is back");
}

#[test]
fn contents_are_compared_by_the_best_that_both_have_and_without_any_are_different() {
    let with = |md5: Option<&str>, crc: Option<&str>| {
        let mut item = item("p/a", 1, "", 10, None);
        (item["md5Hash"], item["crc32c"]) = (json!(md5), json!(crc));
        serde_json::from_value::<Generation>(item).unwrap()
    };
    for (one, other, is_same) in [
        ((Some("m"), Some("c")), (Some("m"), Some("c")), true),
        ((Some("m"), Some("c")), (Some("n"), Some("c")), false),
        ((None, Some("c")), (Some("m"), Some("c")), true),
        ((None, Some("c")), (None, Some("d")), false),
        ((None, None), (None, None), false),
    ] {
        assert_eq!(with(one.0, one.1).is_like(&with(other.0, other.1)), is_same, "{one:?} {other:?}");
    }
}

#[test]
fn locks_and_foreign_names_stay_where_they_are() {
    for name in ["p/locks/a", "q/a", "p/my file", "p/"] {
        assert_eq!(lost(&[item(name, 1, "x", 10, Some(40))], &[]), None, "{name}");
    }
}

/// What a bucket answers: its document, and what it lists as versions and as deleted softly, a page each.
fn opened(answer: impl Fn(&str) -> (&'static str, Value) + Send + 'static) -> (Versions, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&asked);
    let (address, _heard) = fake(move |request| {
        told.lock().unwrap().push(request.to_owned());
        let (status, document) = answer(request);
        (status, document.to_string())
    });
    let bucket = Bucket::parse(Provider::Gcs, &format!("//b/p?endpoint=http://{address}")).unwrap();
    let credentials = Some(Credentials::ServiceAccount(Secret::new(NOBODY)));
    let access = Access { credentials, environment: Default::default() };
    (bucket.versions(&access, Patience::new(RetryPolicy::default())).unwrap(), asked)
}

fn at() -> Timestamp {
    "2026-01-01T00:30:00Z".parse().unwrap()
}

#[test]
fn softly_deleted_objects_are_found_beside_the_versions_page_by_page_and_restored() {
    let (versions, asked) = opened(|request| {
        let is = |part: &str| request.contains(part);
        let page = match () {
            () if is("softdeleted=true") && is("pagetoken=t%2f2") => json!({"items": [soft("p/c", 3, "x", 10, 40)]}),
            () if is("softdeleted=true") => {
                let items =
                    [soft("p/a", 1, "x", 10, 40), soft("p/b", 2, "x", 10, 20), soft("p/locks/l", 9, "x", 10, 40)];
                json!({"items": items, "nextPageToken": "T/2"})
            }
            () if is("versions=true") => {
                json!({"items": [item("p/a", 4, "ransom", 40, None), item("p/d", 5, "x", 10, None)]})
            }
            () if is("/restore?generation=") => json!({"generation": "7"}),
            () => return ("400 Bad Request", json!({"error": {"message": "unexpected", "errors": []}})),
        };
        ("200 OK", page)
    });
    let lost = block_on(versions.lost_since(at())).unwrap();
    let found: Vec<_> = lost.iter().map(|lost| (lost.key.as_str(), lost.kind)).collect();
    assert_eq!(found, [("a", LostKind::Replaced), ("c", LostKind::Deleted)]);
    block_on(versions.bring_back(&lost)).unwrap();
    let asked = asked.lock().unwrap();
    for (name, generation) in [("p%2fa", 1), ("p%2fc", 3)] {
        let wanted = format!("post /storage/v1/b/b/o/{name}/restore?generation={generation}&");
        assert!(asked.iter().any(|request| request.starts_with(&wanted)), "{wanted}: {asked:#?}");
    }
}

#[test]
fn a_copy_between_classes_goes_on_until_it_is_done_and_one_that_never_says_so_is_an_error() {
    for (second, is_done) in [(json!({"done": true, "resource": {}}), true), (json!({"kind": "storage#x"}), false)] {
        let (versions, asked) = opened(move |request| {
            let page = match () {
                () if request.contains("softdeleted=true") => json!({}),
                () if request.contains("versions=true") => json!({"items": [item("p/a", 1, "x", 10, Some(40))]}),
                () if request.contains("&rewritetoken=go%20on") => second.clone(),
                () => json!({"done": false, "rewriteToken": "go on"}),
            };
            ("200 OK", page)
        });
        let lost = block_on(versions.lost_since(at())).unwrap();
        assert_eq!(block_on(versions.bring_back(&lost)).is_ok(), is_done);
        let asked = asked.lock().unwrap();
        let copies: Vec<_> = asked.iter().filter(|request| request.contains("/rewriteto/b/b/o/p%2fa")).collect();
        assert!(
            copies.len() == 2 && copies.iter().all(|copy| copy.contains(r#"{"storageclass":"nearline"}"#)),
            "{copies:?}"
        );
    }
}

#[test]
fn a_bucket_that_keeps_nothing_says_so_and_one_that_has_lost_nothing_does_not() {
    for (bucket, is_kept) in [
        (json!({}), false),
        (json!({"versioning": {"enabled": false}, "softDeletePolicy": {"retentionDurationSeconds": "0"}}), false),
        (json!({"versioning": {"enabled": true}}), true),
        (json!({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}), true),
    ] {
        let told = bucket.clone();
        let (versions, _asked) = opened(move |request| match request.contains("/b/b/o?") {
            true => ("200 OK", json!({"items": [item("p/a", 1, "x", 10, None)]})),
            false => ("200 OK", bucket.clone()),
        });
        match block_on(versions.lost_since(at())) {
            Ok(lost) => assert!(is_kept && lost.is_empty(), "{told}"),
            Err(error) => assert!(!is_kept && error.kind == SinkErrorKind::Unsupported, "{told}: {error:?}"),
        }
    }
}

#[test]
fn a_bucket_that_is_not_there_and_a_right_that_is_missing_are_told_and_a_list_that_goes_in_circles_ends() {
    let refused = |status: &'static str, reason: &'static str| {
        let (versions, _asked) =
            opened(move |_| (status, json!({"error": {"message": "Told", "errors": [{"reason": reason}]}})));
        block_on(versions.lost_since(at())).unwrap_err()
    };
    let missing = refused("404 Not Found", "notFound");
    assert_eq!((missing.kind, missing.hint.is_some()), (SinkErrorKind::NotFound, true));
    let forbidden = refused("403 Forbidden", "forbidden");
    assert_eq!(forbidden.kind, SinkErrorKind::PermissionDenied);
    assert!(forbidden.source.unwrap().to_string().contains("may not list it: the store says 403 forbidden (Told)"));
    let (versions, _asked) = opened(|_| ("200 OK", json!({"items": [], "nextPageToken": "again"})));
    assert_eq!(block_on(versions.lost_since(at())).unwrap_err().kind, SinkErrorKind::Other);
}
