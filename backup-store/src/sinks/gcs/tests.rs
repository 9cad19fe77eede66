//! Which credentials are found, and whom they are asked of.

use std::fs;
use std::path::Path;

use backup_core::contracts::{ObjectKey, Sink as _, SinkErrorKind};
use serde_json::{Value, json};

use super::*;
use crate::access::Environment;
use crate::bucket::Provider;
use crate::sinks::object::fake::fake;

fn access(path: &Path) -> Access {
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())];
    Access { credentials: None, environment: Environment::new(variables) }
}

fn bucket(place: &str) -> Bucket {
    Bucket::parse(Provider::Gcs, place).unwrap()
}

fn bearer(path: &Path) -> std::result::Result<String, String> {
    let store = Reach::of(&bucket("//b"), &access(path)).map_err(|error| error.to_string())?.store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let credential = runtime.block_on(store.credentials().get_credential()).map_err(|error| error.to_string())?;
    Ok(credential.bearer.clone())
}

#[test]
fn a_workload_exchanges_the_token_that_somebody_else_has_given_it() {
    let (address, heard) = fake(|asked| {
        let answer = match asked.split(' ').nth(1).unwrap() {
            "/identity" if asked.contains("metadata: yes") => r#"{"id_token": "from-url"}"#,
            "/token" => r#"{"access_token": "googles", "expires_in": 3600}"#,
            "/account" if asked.contains("authorization: bearer googles") => {
                r#"{"accessToken": "accounts", "expireTime": "2099-01-01T00:00:00Z"}"#
            }
            _ => return ("403 Forbidden", String::from("not you")),
        };
        ("200 OK", answer.to_owned())
    });
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("google.json"), folder.path().join("token"));
    fs::write(&token, "from-file\n").unwrap();
    let at = |path: &str| format!("http://{address}/{path}");
    let by = |source: Value, account: Option<String>| {
        let document = json!({
            "type": "external_account", "audience": "//iam/pool", "subject_token_type": "urn:jwt",
            "token_url": at("token"), "service_account_impersonation_url": account, "credential_source": source,
        });
        fs::write(&file, document.to_string()).unwrap();
        bearer(&file)
    };
    assert_eq!(by(json!({"file": token}), None).unwrap(), "googles");
    let asked = heard.recv().unwrap();
    for word in ["from-file", "//iam/pool", "urn:jwt", "token-exchange", "cloud-platform"] {
        assert!(asked.contains(word), "{word}: {asked}");
    }
    assert!(!asked.contains("from-file\\n"), "a file ends with the end of a line: {asked}");

    let format = json!({"type": "json", "subject_token_field_name": "id_token"});
    let source = json!({"url": at("identity"), "headers": {"Metadata": "yes"}, "format": format});
    assert_eq!(by(source, Some(at("account"))).unwrap(), "accounts");
    let asked: Vec<_> = heard.try_iter().collect();
    assert!(asked[1].contains("from-url") && asked[2].contains("3600s"), "{asked:?}");

    let error = by(json!({"file": token}), Some(at("other"))).unwrap_err();
    assert!(error.contains("no credentials come from") && error.contains("/other: 403"), "{error}");
    let error = by(json!({"file": folder.path().join("none")}), None).unwrap_err();
    assert!(error.contains("none: No such file"), "{error}");
    let error = by(json!({"environment_id": "aws1", "regional_cred_verification_url": "x"}), None).unwrap_err();
    assert!(error.contains("neither a file nor a url"), "{error}");
    let error = by(json!({"file": token}), Some(String::from("http://example.org/account"))).unwrap_err();
    assert!(error.contains("example.org") && error.contains("not https://"), "{error}");
}

#[test]
fn a_service_that_exchanges_tokens_and_is_busy_may_be_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("google.json"), folder.path().join("token"));
    fs::write(&token, "mine").unwrap();
    for (status, kind) in [("503 Busy", SinkErrorKind::Unavailable), ("400 Bad", SinkErrorKind::PermissionDenied)] {
        let (address, _heard) = fake(move |_| (status, String::from(r#"{"error": "invalid_grant"}"#)));
        let document = json!({
            "type": "external_account", "audience": "a", "subject_token_type": "t",
            "token_url": format!("http://{address}/"), "credential_source": {"file": token},
        });
        fs::write(&file, document.to_string()).unwrap();
        let sink = open(&bucket("//b?endpoint=http://127.0.0.1:1"), &access(&file)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(sink.get(&ObjectKey::new("config"), None)).unwrap_err();
        let text = format!("{error}: {}", error.source.as_ref().unwrap());
        assert_eq!(error.kind, kind, "{text}");
        assert!(text.contains("invalid_grant") && !text.contains("mine"), "{text}");
    }
}
