//! What goes wrong on the way to a bucket has a kind, says what it was, and what to try.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use backup_core::contracts::{ObjectKey, PutMode, Sink, SinkError, SinkErrorKind};
use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::proxy::{Fault, Proxy};
use crate::servers::signed::Keys;
use crate::servers::{BUCKET, Server};
use crate::{block_on, open};

const KEY: &str = "data/00/object";

/// Writes, reads, lists and deletes; gives the errors in this order.
fn errors(sink: &dyn Sink) -> [Option<SinkError>; 4] {
    let key = ObjectKey::new(KEY);
    let put = block_on(sink.put(&key, Bytes::from("x"), PutMode::Overwrite));
    let got = block_on(sink.get(&key, None));
    let listed = block_on(sink.list("data").try_collect::<Vec<_>>());
    let deleted = block_on(sink.delete(&key));
    [put.err(), got.err(), listed.err(), deleted.err()]
}

/// The error as people see it: subject, kind, cause, next step.
fn shown(error: &SinkError) -> String {
    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}\n{}", error.hint.as_deref().unwrap_or_default())
}

#[track_caller]
fn says(error: Option<&SinkError>, kind: SinkErrorKind, words: &[&str]) {
    let error = error.unwrap();
    let text = shown(error);
    assert_eq!(error.kind, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(text.lines().count() <= 2 && !text.contains("owners-secret"), "{text}");
}

#[test]
#[ignore = "needs minio"]
fn what_the_credentials_may_not_do_is_said() {
    let server = Server::minio();
    block_on(open(&server.place("p"), server.variables()).put(&ObjectKey::new(KEY), Bytes::from("x"), PutMode::Create))
        .unwrap();
    for (allowed, denied, word) in [
        (r#"["s3:GetObject","s3:ListBucket","s3:DeleteObject"]"#, 0, "may not write"),
        (r#"["s3:PutObject","s3:ListBucket","s3:DeleteObject"]"#, 1, "may not read"),
        (r#"["s3:PutObject","s3:GetObject","s3:DeleteObject"]"#, 2, "may not list"),
        (r#"["s3:PutObject","s3:GetObject","s3:ListBucket"]"#, 3, "may not delete"),
    ] {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{allowed},
            "Resource":["arn:aws:s3:::{BUCKET}","arn:aws:s3:::{BUCKET}/*"]}}]}}"#
        );
        let keys = server.keys().restricted(&server.endpoint(), &policy);
        let errors = errors(&*open(&server.place("p"), keys.variables()));
        says(errors[denied].as_ref(), SinkErrorKind::PermissionDenied, &[word, "AccessDenied", "policy"]);
        for (number, error) in errors.iter().enumerate().filter(|(number, _)| *number != denied) {
            // Whoever may not see what is there cannot tell that it is the same; that is the store's affair.
            let is_told = error.as_ref().is_some_and(|error| error.kind != SinkErrorKind::NotFound);
            assert!(!is_told, "{word}: {number}: {}", shown(error.as_ref().unwrap()));
        }
    }
}

#[test]
#[ignore = "needs minio"]
fn a_missing_bucket_wrong_keys_and_a_wrong_region_are_said() {
    let server = Server::minio();
    let elsewhere = server.place("p").replace(BUCKET, "no-such-bucket");
    let missing = errors(&*open(&elsewhere, server.variables()));
    for error in [&missing[1], &missing[2]] {
        says(error.as_ref(), SinkErrorKind::NotFound, &["NoSuchBucket", "check the name of the bucket"]);
    }

    let stranger = Keys { id: String::from("stranger"), ..server.keys() };
    for error in errors(&*open(&server.place("p"), stranger.variables())) {
        says(error.as_ref(), SinkErrorKind::PermissionDenied, &["InvalidAccessKeyId", "check the credentials"]);
    }
    let forger = Keys { secret: String::from("a-guess"), ..server.keys() };
    for error in errors(&*open(&server.place("p"), forger.variables())) {
        says(error.as_ref(), SinkErrorKind::PermissionDenied, &["SignatureDoesNotMatch", "check the credentials"]);
    }
    let old = Keys { token: Some(String::from("of yesterday")), ..server.keys() };
    for error in errors(&*open(&server.place("p"), old.variables())) {
        says(error.as_ref(), SinkErrorKind::PermissionDenied, &["credentials"]);
    }

    let place = format!("{}&region=eu-central-7", server.place("p"));
    let wrong_region = errors(&*open(&place, server.variables()));
    for error in &wrong_region[1..] {
        says(error.as_ref(), SinkErrorKind::Other, &["AuthorizationHeaderMalformed", "region=us-east-1"]);
    }
}

#[test]
#[ignore = "needs azurite"]
fn what_a_signature_of_azure_does_not_allow_is_said_of_deletes_too() {
    let server = Server::azurite();
    let key = ObjectKey::new(KEY);
    block_on(open(&server.place("p"), server.variables()).put(&key, Bytes::from("x"), PutMode::Create)).unwrap();
    for (permissions, denied, word) in [
        ("rl", 0, "may not write"),
        ("cwl", 1, "may not read"),
        ("rcw", 2, "may not list"),
        ("rcwl", 3, "may not delete"),
    ] {
        let errors = errors(&*open(&server.place("p"), server.signed_variables(permissions, 2099)));
        says(errors[denied].as_ref(), SinkErrorKind::PermissionDenied, &[word]);
    }
    for error in &errors(&*open(&server.place("p"), server.signed_variables("rcwdl", 2021)))[1..] {
        says(error.as_ref(), SinkErrorKind::PermissionDenied, &["expired"]);
    }
    let may = open(&server.place("p"), server.signed_variables("rcwdl", 2099));
    block_on(may.delete(&key)).unwrap();
    block_on(may.delete(&key)).unwrap();
    assert_eq!(block_on(may.stat(&key)).unwrap_err().kind, SinkErrorKind::NotFound);
}

/// Variables for a store that no server of ours has to know: S3's, Azure's and Google's.
fn strangers(folder: &Path) -> [(&'static str, Vec<(String, String)>); 3] {
    let account = folder.join("account.json");
    let text = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
    fs::write(&account, text).unwrap();
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let azures = vec![named("AZURE_STORAGE_ACCOUNT", "a"), named("AZURE_STORAGE_KEY", "YQ==")];
    let googles = vec![named("GOOGLE_APPLICATION_CREDENTIALS", account.to_str().unwrap())];
    let keys = Keys { id: String::from("i"), secret: String::from("s"), token: None };
    [("s3", keys.variables()), ("az", azures), ("gs", googles)]
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    for (scheme, variables) in strangers(folder.path()) {
        for (host, why) in [("127.0.0.1:1", "refused"), ("no-such-host.invalid", "lookup")] {
            let sink = open(&format!("{scheme}://{BUCKET}/p?endpoint=http://{host}"), variables.clone());
            let name = host.split(':').next().unwrap();
            for error in errors(&*sink) {
                says(error.as_ref(), SinkErrorKind::Unavailable, &[name, "cannot be reached", why]);
            }
        }
    }
}

#[test]
fn a_place_that_speaks_no_tls_is_said_to_speak_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    for (scheme, variables) in strangers(folder.path()) {
        let sink = open(&format!("{scheme}://{BUCKET}/p?endpoint=https://{address}"), variables);
        for error in errors(&*sink) {
            says(error.as_ref(), SinkErrorKind::Unavailable, &["127.0.0.1", "does not speak TLS", "http://"]);
        }
    }
}

#[test]
fn what_a_store_refuses_is_said_the_same_whichever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (scheme, variables) in strangers(folder.path()) {
        for (status, code, kind, word) in [
            (404, "NoSuchBucket", SinkErrorKind::NotFound, "check the name of the bucket"),
            (403, "AccessDenied", SinkErrorKind::PermissionDenied, "may not"),
            (403, "RequestTimeTooSkewed", SinkErrorKind::PermissionDenied, "clock"),
            (403, "ExpiredToken", SinkErrorKind::PermissionDenied, "expired"),
        ] {
            // Nobody is behind it: every request is answered on the way.
            let proxy = Proxy::start(([127, 0, 0, 1], 1).into(), move |_| Some(Fault::Refused(status, code)));
            let sink = open(&format!("{scheme}://{BUCKET}/p?endpoint=http://{}", proxy.address), variables.clone());
            let errors = errors(&*sink);
            for error in [&errors[0], &errors[1], &errors[2]] {
                says(error.as_ref(), kind, &[code, word]);
            }
        }
    }
}
