//! How people write a place in a bucket: `s3://bucket/prefix?region=eu-west-1`.
//!
//! The query holds settings that are no secrets, under the names that a configuration file has for them. Credentials in
//! a place are refused, because places are shown and logged.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use backup_core::{Error, Result};

use crate::url::percent_decoded;

/// A bucket, or what lies below a prefix of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Who keeps it.
    pub provider: Provider,
    /// Its name; with Azure the container's.
    pub name: String,
    /// What stands before every object's name, without a slash at either end; may be empty.
    pub prefix: String,
    /// How it is reached.
    pub settings: BucketSettings,
}

/// Who keeps a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// How a bucket is reached, as far as it is no secret. What a provider has no use for is refused by [`Bucket::parse`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketSettings {
    /// The server, as `http://127.0.0.1:9000`; the provider's own when not given.
    pub endpoint: Option<String>,
    /// Where the bucket is (S3).
    pub region: Option<String>,
    /// Whether the bucket stands in the path rather than in the host's name (S3). The default is yes with an endpoint.
    pub path_style: Option<bool>,
    /// The class for packs that hold the content of files; all else stays in the bucket's default class.
    pub storage_class: Option<String>,
    /// Which profile of `~/.aws` is meant (S3).
    pub profile: Option<String>,
    /// The storage account (Azure).
    pub account: Option<String>,
    /// A file of certificates (PEM) that are trusted beside the system's.
    pub ca_certificate: Option<PathBuf>,
}

impl Provider {
    /// The scheme of its places.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["endpoint", "region", "path_style", "storage_class", "profile", "ca_certificate"],
            Self::Gcs => &["endpoint", "storage_class", "ca_certificate"],
            Self::Azure => &["endpoint", "account", "storage_class", "ca_certificate"],
        }
    }
}

impl Bucket {
    /// Reads what follows the scheme's colon: `//bucket/prefix?name=value&…`.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`], with no part of the text that may be secret.
    pub fn parse(provider: Provider, rest: &str) -> Result<Self> {
        let scheme = provider.scheme();
        let wrong = |why: String| Error::invalid(format!("the place {scheme}:…"), why);
        let example =
            format!("write {scheme}://BUCKET/PREFIX, with the server as ?endpoint=https://HOST:PORT behind it");
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(wrong(String::from("the bucket is missing")).with_hint(example));
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
        if name.contains('@') {
            return Err(wrong(String::from("credentials do not belong into a place, which is shown and logged"))
                .with_hint("give them in the environment or in a file"));
        }
        if name.contains(':') {
            // What follows it may be a password, cut off from its `@` by a question mark.
            return Err(wrong(String::from("there is a colon in the name of the bucket")).with_hint(example));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'$');
        if name.is_empty() || !name.bytes().all(is_name) || matches!(name, "." | "..") {
            return Err(wrong(format!("{name:?} is no name of a bucket")).with_hint(example));
        }
        let decoded = |text: &str| {
            let decoded = percent_decoded(text.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| {
                wrong(String::from("a % is not followed by two hexadecimal digits of UTF-8"))
                    .with_hint("write a percent sign itself as %25")
            })
        };
        let prefix = decoded(prefix.trim_end_matches('/'))?;
        let is_component = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if !prefix.is_empty() && !prefix.split('/').all(is_component) {
            return Err(wrong(String::from("what follows the bucket is no prefix of object names"))
                .with_hint("write names between single slashes, none of them . or .."));
        }
        let mut bucket = Self { provider, name: name.to_owned(), prefix, settings: BucketSettings::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            bucket.set(key, decoded(value)?)?;
        }
        Ok(bucket)
    }

    /// Sets what is written `name=value` in a place.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for a name that the provider does not know, or a value that cannot be.
    pub fn set(&mut self, name: &str, value: String) -> Result<()> {
        let place = self.to_string();
        let wrong = |why: String| Error::invalid(place.as_str(), why);
        if is_secret(name) {
            return Err(wrong(String::from("a secret does not belong into a place, which is shown and logged"))
                .with_hint("give it in the environment or in a file"));
        }
        let known = self.provider.settings();
        if !known.contains(&name) {
            // The value is not repeated: what was mistyped may be a secret.
            return Err(wrong(String::from("its query holds a setting that is not known"))
                .with_hint(format!("known are: {}", known.join(", "))));
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(wrong(format!("{name} has no value")).with_hint(format!("write {name}=VALUE, or leave it out")));
        }
        let settings = &mut self.settings;
        match name {
            "endpoint" => {
                let server = endpoint(&value).map_err(|why| wrong(why).with_hint("write endpoint=https://HOST:PORT"));
                settings.endpoint = Some(server?);
            }
            "region" => settings.region = Some(value),
            "path_style" => match value.as_str() {
                "true" => settings.path_style = Some(true),
                "false" => settings.path_style = Some(false),
                _ => {
                    return Err(wrong(String::from("path_style is true or false"))
                        .with_hint("true puts the bucket behind the server's name, false before it"));
                }
            },
            "storage_class" => settings.storage_class = Some(value),
            "profile" => settings.profile = Some(value),
            "account" => settings.account = Some(value),
            _ => settings.ca_certificate = Some(value.into()),
        }
        Ok(())
    }

    /// The place without its settings, with which the names of objects begin in messages.
    pub fn short(&self) -> String {
        let mut text = format!("{}://{}", self.provider.scheme(), self.name);
        if !self.prefix.is_empty() {
            text.push('/');
            push_encoded(&mut text, &self.prefix, "/");
        }
        text
    }

    /// What the bucket calls an object of the repository: its name with the prefix.
    #[cfg(feature = "object")]
    pub(crate) fn path(&self, key: &str) -> String {
        match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        let path_style = settings.path_style.map(|is| is.to_string());
        let certificate = settings.ca_certificate.as_ref().map(|path| path.to_string_lossy().into_owned());
        let mut text = self.short();
        let mut separator = '?';
        for (name, value) in [
            ("endpoint", &settings.endpoint),
            ("region", &settings.region),
            ("path_style", &path_style),
            ("storage_class", &settings.storage_class),
            ("profile", &settings.profile),
            ("account", &settings.account),
            ("ca_certificate", &certificate),
        ] {
            if let Some(value) = value {
                text.push(separator);
                separator = '&';
                text.push_str(name);
                text.push('=');
                push_encoded(&mut text, value, "/:");
            }
        }
        f.write_str(&text)
    }
}

/// Whether a setting of this name would be a secret, or a part of one.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "sas", "password", "credential", "signature"].iter().any(|word| name.contains(word))
        || matches!(name.as_str(), "sig" | "se" | "sv" | "sp")
}

/// A server's address: scheme, host and perhaps a port and a path; no user, no query.
fn endpoint(text: &str) -> std::result::Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(String::from("an endpoint begins with https:// or http://"));
    };
    if rest.contains(['@', '?', '#']) {
        return Err(String::from("an endpoint is a server alone, without user or query"));
    }
    if rest.is_empty() || rest.starts_with([':', '/']) {
        return Err(String::from("the endpoint names no server"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Appends `raw` as it is written in a URL, where what is in `plain` stands for itself.
pub(crate) fn push_encoded(text: &mut String, raw: &str, plain: &str) {
    for byte in raw.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || plain.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// The text as it stands in a URL, where what is in `plain` stands for itself.
#[cfg(feature = "object")]
pub(crate) fn encoded(text: &str, plain: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, text, plain);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Bucket> {
        let (provider, rest) = match text.split_once(':').unwrap() {
            ("s3", rest) => (Provider::S3, rest),
            ("gs", rest) => (Provider::Gcs, rest),
            (_, rest) => (Provider::Azure, rest),
        };
        Bucket::parse(provider, rest)
    }

    #[test]
    fn a_place_is_shown_as_it_is_read() {
        for text in [
            "s3://acme-backups",
            "s3://acme-backups/prod/db",
            "s3://b/p?endpoint=http://127.0.0.1:9000&region=eu-west-1&path_style=true&storage_class=GLACIER_IR",
            "s3://b/my%20prefix?profile=backup&ca_certificate=/etc/ca.pem",
            "gs://b/p?storage_class=COLDLINE",
            "az://container/p?account=acme",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        let bucket = parse("s3://b/my%20prefix/").unwrap();
        assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), ("b", "my prefix"));
        assert_eq!(
            parse("s3://b?endpoint=https%3A%2F%2Fx.example%2F").unwrap().settings.endpoint.unwrap(),
            "https://x.example"
        );
    }

    #[test]
    fn what_is_no_place_says_why() {
        for (text, why) in [
            ("s3:", "bucket is missing"),
            ("s3:https://host/bucket", "bucket is missing"),
            ("s3://", "no name of a bucket"),
            ("s3:///prefix", "no name of a bucket"),
            ("s3://localhost:9000/bucket", "a colon in the name of the bucket"),
            ("s3://b//p", "no prefix"),
            ("s3://b/../p", "no prefix"),
            ("s3://b/%zz", "hexadecimal"),
            ("s3://b?regoin=x", "not known"),
            ("s3://b?account=x", "not known"),
            ("gs://b?region=x", "not known"),
            ("s3://b?region=", "no value"),
            ("s3://b?path_style=yes", "true or false"),
            ("s3://b?endpoint=host:9000", "begins with https"),
            ("s3://b?endpoint=https://", "names no server"),
            ("s3://b?endpoint=https://user:hunter2@host", "without user"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.hint().is_some(), "{text}: what to write instead");
        }
    }

    #[test]
    fn credentials_in_a_place_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@bucket/prefix",
            "s3://bucket/prefix?secret_access_key=hunter2",
            "s3://bucket/prefix?X-Amz-Signature=hunter2",
            "s3://bucket?access_key_id=hunter2",
            "az://container?sig=hunter2",
            "az://container?account_key=hunter2",
            "gs://bucket?hunter2",
        ] {
            let error = parse(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
