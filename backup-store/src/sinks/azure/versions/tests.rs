//! What is lost, by tables of entries; and the way back, before a fake on loopback that lists and answers as Azure's
//! reference has it: the emulator has neither versions nor soft delete.

use std::sync::{Arc, Mutex};

use super::*;
use crate::access::{Credentials, Secret};
use crate::bucket::Provider;
use crate::layers::RetryPolicy;
use crate::sinks::Versions;
use crate::sinks::object::fake::served;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn version(minute: u8) -> String {
    format!("2026-01-01T00:{minute:02}:00.1234567Z")
}

/// An entry as the store lists it: what stands between its name and its properties, its content, since when it is what it
/// is, and what else stands in its properties.
fn entry(name: &str, about: &str, content: &str, minute: u8, rest: &str) -> String {
    format!(
        "<Blob><Name>{name}</Name>{about}<Properties><Creation-Time>Thu, 01 Jan 2026 00:{minute:02}:00 GMT</Creation-Time>\
         <Last-Modified>Thu, 01 Jan 2026 00:{minute:02}:00 GMT</Last-Modified><Etag>0x8D810D231641AF1</Etag>\
         <Content-Length>7</Content-Length><Content-Type>application/octet-stream</Content-Type><Content-Encoding />\
         <Content-CRC64 /><Content-MD5>{content}</Content-MD5><BlobType>BlockBlob</BlobType><AccessTier>Cool</AccessTier>\
         {rest}<ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>"
    )
}

fn current(name: &str, content: &str, minute: u8) -> String {
    let about = format!("<VersionId>{}</VersionId><IsCurrentVersion>true</IsCurrentVersion>", version(minute));
    entry(name, &about, content, minute, "")
}

fn former(name: &str, content: &str, minute: u8) -> String {
    entry(name, &format!("<VersionId>{}</VersionId>", version(minute)), content, minute, "")
}

/// The mark of a blob that is deleted, which has the time of the deletion as its version and that of the version before as
/// all others.
fn mark(name: &str, minute: u8, before: u8) -> String {
    let about = format!("<VersionId>{}</VersionId><HasVersionsOnly>true</HasVersionsOnly>", version(minute));
    entry(name, &about, "x", before, "")
}

/// What is deleted softly: the blob itself, or with what `about` has, a snapshot or a version of it.
fn soft(name: &str, about: &str, content: &str, minute: u8, gone: u8) -> String {
    let rest = format!(
        "<DeletedTime>Thu, 01 Jan 2026 00:{gone:02}:00 GMT</DeletedTime><RemainingRetentionDays>6</RemainingRetentionDays>"
    );
    entry(name, &format!("{about}<Deleted>true</Deleted>"), content, minute, &rest)
}

/// A current blob where no versions are kept.
fn plain(name: &str, content: &str, minute: u8) -> String {
    entry(name, "", content, minute, "")
}

fn page(entries: &[String], next: &str) -> String {
    let next =
        if next.is_empty() { String::from("<NextMarker />") } else { format!("<NextMarker>{next}</NextMarker>") };
    format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://x/\" \
         ContainerName=\"c\"><Prefix>p/</Prefix><Blobs>{}</Blobs>{next}</EnumerationResults>",
        entries.concat()
    )
}

fn at() -> Timestamp {
    "2026-01-01T00:30:00Z".parse().unwrap()
}

fn lost(entries: &[String]) -> Option<(LostKind, String, Way)> {
    let entries = entries_in(&page(entries, "")).unwrap();
    lost_of("p/", &entries, at()).map(|lost| (lost.kind, lost.version.replace("%3A", ":"), lost.way))
}

#[test]
fn what_was_current_and_is_not_any_more_is_lost() {
    let of = |kind, minute| Some((kind, format!("versionid={}", version(minute)), Way::Copy));
    let (deleted, replaced) = (|minute| of(LostKind::Deleted, minute), |minute| of(LostKind::Replaced, minute));
    assert_eq!(lost(&[current("p/a", "x", 10)]), None);
    assert_eq!(lost(&[former("p/a", "x", 10), mark("p/a", 40, 10)]), deleted(10));
    assert_eq!(lost(&[former("p/a", "x", 10), current("p/a", "y", 40)]), replaced(10));
    assert_eq!(lost(&[current("p/a", "y", 40), former("p/a", "x", 10)]), replaced(10), "in whatever order they come");
    // Deleted before; made later; brought back already; the one of that time, and no older one.
    assert_eq!(lost(&[former("p/a", "x", 10), mark("p/a", 20, 10)]), None);
    assert_eq!(lost(&[current("p/a", "x", 40)]), None);
    assert_eq!(lost(&[former("p/a", "x", 10), former("p/a", "y", 40), current("p/a", "x", 50)]), None);
    assert_eq!(lost(&[former("p/a", "x", 5), former("p/a", "y", 10), current("p/a", "x", 40)]), replaced(10));
    // Made before versions were switched on.
    assert_eq!(lost(&[plain("p/a", "x", 10)]), None);
}

#[test]
fn what_is_deleted_softly_is_restored_and_what_is_not_the_blob_itself_is_copied_then() {
    let restored = |kind, query: String| Some((kind, query, Way::Restore));
    assert_eq!(lost(&[soft("p/a", "", "x", 10, 40)]), restored(LostKind::Deleted, String::new()));
    assert_eq!(lost(&[soft("p/a", "", "x", 10, 20)]), None, "it was deleted already");
    // Written over where no versions are kept: what was there is a snapshot that is deleted softly.
    let about = format!("<Snapshot>{}</Snapshot>", version(40));
    let both = [soft("p/a", &about, "x", 10, 40), plain("p/a", "y", 40)];
    assert_eq!(lost(&both), restored(LostKind::Replaced, format!("snapshot={}", version(40))));
    // A version that somebody has deleted too.
    let about = format!("<VersionId>{}</VersionId>", version(10));
    let both = [soft("p/a", &about, "x", 10, 50), mark("p/a", 40, 10)];
    assert_eq!(lost(&both), restored(LostKind::Deleted, format!("versionid={}", version(10))));
    let back = [soft("p/a", &about, "x", 10, 50), current("p/a", "x", 55)];
    assert_eq!(lost(&back), None, "it is back");
}

#[test]
fn without_an_md5_a_blob_is_the_same_by_its_tag_alone() {
    let untold = |text: String| text.replace("<Content-MD5>x</Content-MD5>", "<Content-MD5 />");
    let of = |now: String| lost(&[untold(former("p/a", "x", 10)), untold(now)]).is_some();
    assert!(!of(current("p/a", "x", 40)));
    assert!(of(current("p/a", "x", 40).replace("0x8D81", "0x9D81")));
    assert!(of(current("p/a", "x", 40).replace(">7<", ">8<")));
}

#[test]
fn locks_and_foreign_names_stay_where_they_are() {
    for name in ["p/locks/a", "q/a", "p/my file", "p/"] {
        assert_eq!(lost(&[former(name, "x", 10), mark(name, 40, 10)]), None, "{name}");
    }
    let odd = current("p/a", "x", 10).replace("<Name>p/a", "<Name Encoded=\"true\">p/a%EF%BF%BE");
    assert_eq!(entries_in(&page(&[odd], "")), Some(Vec::new()));
}

#[test]
fn a_page_that_is_cut_or_something_else_is_an_error() {
    let whole = page(&[former("p/a", "x", 10), mark("p/a", 40, 10)], "");
    assert_eq!(entries_in(&whole).unwrap().len(), 2);
    assert_eq!(entries_in("<html>"), None);
    for wrong in [
        whole[..whole.len() - 60].to_owned(),
        whole.replace("<VersionId>2026-01-01T", "<VersionId>yesterday"),
        whole.replace("<Content-Length>7", "<Content-Length>seven"),
        page(&[soft("p/a", "", "x", 10, 40).replace("DeletedTime", "Deleted-Time")], ""),
    ] {
        assert_eq!(entries_in(&wrong), None, "{wrong}");
    }
}

type Answer = (&'static str, Vec<(&'static str, String)>, String);

fn opened(
    credentials: Credentials,
    answer: impl Fn(&str) -> Answer + Send + 'static,
) -> (Versions, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&asked);
    let (address, _heard) = served(move |request| {
        told.lock().unwrap().push(request.to_owned());
        answer(request)
    });
    let bucket = Bucket::parse(Provider::Azure, &format!("//c/p?account=a&endpoint=http://{address}")).unwrap();
    let access = Access { credentials: Some(credentials), environment: Default::default() };
    (bucket.versions(&access, Patience::new(RetryPolicy::default())).unwrap(), asked)
}

fn key() -> Credentials {
    Credentials::AccountKey(Secret::new("c2VjcmV0"))
}

fn status(status: &str) -> Vec<(&'static str, String)> {
    vec![("x-ms-copy-id", String::from("1")), ("x-ms-copy-status", status.to_owned())]
}

#[test]
fn the_list_is_read_page_by_page_and_each_comes_back_in_its_way() {
    for (credentials, signature) in
        [(key(), ""), (Credentials::SharedAccessSignature(Secret::new("sv=1&sig=a/b")), "&sv=1&sig=a%2fb")]
    {
        let (versions, asked) = opened(credentials, |request| {
            let is = |part: &str| request.contains(part);
            let body = match () {
                () if is("comp=list") && is("marker=go%20on") => {
                    page(&[mark("p/b", 40, 10), soft("p/c", "", "x", 10, 40), former("p/locks/l", "x", 10)], "")
                }
                () if is("comp=list") => {
                    page(&[former("p/a", "x", 10), current("p/a", "ransom", 40), former("p/b", "x", 10)], "go on")
                }
                () if is("put /c/p/c?comp=undelete") => String::new(),
                () if is("put /c/p/a") => return ("202 Accepted", status("success"), String::new()),
                () if is("put /c/p/b") => return ("202 Accepted", status("pending"), String::new()),
                () if is("head /c/p/b") => return ("200 OK", status("success"), String::new()),
                () => return ("400 Bad Request", Vec::new(), String::from("unexpected")),
            };
            ("200 OK", Vec::new(), body)
        });
        let lost = block_on(versions.lost_since(at())).unwrap();
        let found: Vec<_> = lost.iter().map(|lost| (lost.key.as_str(), lost.kind)).collect();
        assert_eq!(found, [("a", LostKind::Replaced), ("b", LostKind::Deleted), ("c", LostKind::Deleted)]);
        block_on(versions.bring_back(&lost)).unwrap();
        let asked = asked.lock().unwrap();
        let listed = "get /c?restype=container&comp=list&include=deleted%2cdeletedwithversions%2csnapshots%2cversions&prefix=p%2f";
        assert!(
            asked[0].starts_with(listed) && asked[1].starts_with(&format!("{listed}&marker=go%20on")),
            "{asked:#?}"
        );
        for name in ["a", "b"] {
            let copy = asked.iter().find(|request| request.starts_with(&format!("put /c/p/{name}"))).unwrap();
            let source = format!("/c/p/{name}?versionid=2026-01-01t00%3a10%3a00.1234567z{signature}\r\n");
            assert!(copy.contains("\r\nx-ms-copy-source: http://127.0.0.1:") && copy.contains(&source), "{copy}");
            assert!(copy.contains("\r\nx-ms-access-tier: cool\r\n"), "{copy}");
        }
    }
}

#[test]
fn a_copy_that_fails_is_an_error() {
    let (versions, _asked) = opened(key(), |request| match request.contains("comp=list") {
        true => ("200 OK", Vec::new(), page(&[former("p/a", "x", 10), mark("p/a", 40, 10)], "")),
        false => ("202 Accepted", status("failed"), String::new()),
    });
    let lost = block_on(versions.lost_since(at())).unwrap();
    assert_eq!(block_on(versions.bring_back(&lost)).unwrap_err().kind, SinkErrorKind::Other);
}

#[test]
fn an_account_that_keeps_nothing_says_so_and_one_that_has_lost_nothing_does_not() {
    let policy = |enabled: &str| {
        let body = format!(
            "<StorageServiceProperties><Logging><RetentionPolicy><Enabled>true</Enabled></RetentionPolicy></Logging>\
             <DeleteRetentionPolicy><Enabled>{enabled}</Enabled></DeleteRetentionPolicy></StorageServiceProperties>"
        );
        ("200 OK", Vec::new(), body)
    };
    let forbidden =
        || ("403 Forbidden", vec![("x-ms-error-code", String::from("AuthorizationFailure"))], String::new());
    for (blob, account, is_kept) in [
        (plain("p/a", "x", 10), policy("false"), false),
        (plain("p/a", "x", 10), policy("true"), true),
        (plain("p/a", "x", 10), forbidden(), false),
        (current("p/a", "x", 10), forbidden(), true),
    ] {
        let told = format!("{blob} {account:?}");
        let (versions, asked) = opened(key(), move |request| match request.contains("comp=list") {
            true => ("200 OK", Vec::new(), page(std::slice::from_ref(&blob), "")),
            false => account.clone(),
        });
        match block_on(versions.lost_since(at())) {
            Ok(lost) => assert!(is_kept && lost.is_empty(), "{told}"),
            Err(error) => assert!(!is_kept && error.kind == SinkErrorKind::Unsupported, "{told}: {error:?}"),
        }
        let asked = asked.lock().unwrap();
        let is_asked = asked.iter().any(|request| request.starts_with("get /?restype=service&comp=properties "));
        assert!(is_asked || is_kept, "{asked:#?}");
    }
}

#[test]
fn a_right_that_is_missing_is_told_and_a_list_that_goes_in_circles_ends() {
    let (versions, _asked) = opened(key(), |_| {
        ("403 Forbidden", vec![("x-ms-error-code", String::from("AuthorizationPermissionMismatch"))], String::new())
    });
    let forbidden = block_on(versions.lost_since(at())).unwrap_err();
    assert_eq!(forbidden.kind, SinkErrorKind::PermissionDenied);
    assert!(forbidden.source.unwrap().to_string().contains("may not list it"));
    let (versions, _asked) = opened(key(), |_| ("200 OK", Vec::new(), page(&[], "again")));
    assert_eq!(block_on(versions.lost_since(at())).unwrap_err().kind, SinkErrorKind::Other);
}
