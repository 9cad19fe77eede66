//! Which credentials a bucket is opened with, and what is wrong with a file that holds none.
//!
//! What is always true: an error names the file, and who named it, and never what stands in it.

use std::fs;
use std::path::Path;

use backup_core::{Error, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use super::federated::Federation;
use crate::access::{Access, Credentials, Environment};

/// Names the file of credentials.
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// How a key is had.
pub(super) const AGAIN: &str = "write it again, whole: `gcloud iam service-accounts keys create FILE --iam-account ACCOUNT`, \
    or `gcloud auth application-default login`";

/// Kinds of files that Google's own programs write and that are not followed here.
const NOT_FOLLOWED: [&str; 3] =
    ["impersonated_service_account", "external_account_authorized_user", "gdch_service_account"];

/// What was found.
pub(super) enum Found {
    /// The key of a service account, and where it stands.
    Key { json: Zeroizing<String>, origin: String },
    /// A file that `gcloud auth application-default login` wrote.
    User(String),
    /// How a workload says who it is.
    Federation(Federation),
}

/// What was given, else what stands in the file that Google's own programs would take; nothing where there is none.
///
/// # Errors
///
/// When it cannot be read, or is no credential that can be used.
pub(super) fn found(access: &Access) -> Result<Option<Found>> {
    match &access.credentials {
        Some(Credentials::ServiceAccount(json)) => {
            understood(Zeroizing::new(json.reveal().to_owned()), "service_account", None).map(Some)
        }
        Some(_) => Err(Error::invalid("credentials", "GCS takes a service account's key")
            .with_hint("name it as service_account: docs/manual/gcs.md")),
        None => file_of(&access.environment).map(|(path, origin)| in_file(&path, &origin)).transpose(),
    }
}

fn in_file(path: &str, origin: &str) -> Result<Found> {
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        let hint = "check the path and who may read it; without the variable the machine's own credentials are taken";
        Error::invalid(origin, "cannot be read").caused_by(error).with_hint(hint)
    })?;
    understood(text, origin, Some(path))
}

/// What a text of credentials is, which stands in the file `path` if it stands in one.
fn understood(text: Zeroizing<String>, origin: &str, path: Option<&str>) -> Result<Found> {
    let wrong = |why: String| Error::invalid(origin, why).with_hint(AGAIN);
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("it is no JSON from line {}, column {} on", error.line(), error.column())))?;
    let kind = document["type"].as_str().unwrap_or_default();
    let needs = |fields: &[&str]| match fields.iter().find(|field| !document[**field].is_string()) {
        Some(field) => Err(wrong(format!("it has no text as {field}"))),
        None => Ok(()),
    };
    // An emulator's key names no kind.
    let kind = if kind.is_empty() && document["private_key"].is_string() { "service_account" } else { kind };
    match (kind, path) {
        ("service_account", _) => {
            needs(&["client_email", "private_key_id", "private_key"])?;
            Ok(Found::Key { json: text, origin: origin.to_owned() })
        }
        ("authorized_user", Some(path)) => {
            needs(&["client_id", "client_secret", "refresh_token"])?;
            Ok(Found::User(path.to_owned()))
        }
        ("external_account", _) => {
            needs(&["audience", "subject_token_type", "token_url"])?;
            let federation = Federation::parse(&text).map_err(|why| {
                Error::invalid(origin, why).with_hint("docs/manual/gcs.md tells which sources of a token are followed")
            })?;
            Ok(Found::Federation(federation))
        }
        ("", _) => needs(&["type"]).and_then(|()| Err(wrong(String::from("its type is empty")))),
        (kind, _) if NOT_FOLLOWED.contains(&kind) || kind == "authorized_user" => {
            Err(wrong(format!("it is of the kind {kind}, which is not followed here")))
        }
        _ => Err(wrong(String::from("it is of a kind that is not known"))),
    }
}

/// The file that Google's own programs would take: what the variable names, or what `gcloud` wrote for this user. And what
/// it is called in an error.
fn file_of(environment: &Environment) -> Option<(String, String)> {
    if let Some(path) = environment.get(VARIABLE) {
        return Some((path.to_owned(), format!("{VARIABLE}={path}")));
    }
    let folder = match environment.get("CLOUDSDK_CONFIG") {
        Some(folder) => Path::new(folder).to_owned(),
        None => Path::new(environment.get("HOME")?).join(".config/gcloud"),
    };
    let path = folder.join("application_default_credentials.json");
    path.exists().then(|| (path.to_string_lossy().into_owned(), path.display().to_string()))
}
