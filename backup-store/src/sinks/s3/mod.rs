//! Buckets of Amazon S3, and of what speaks its protocol: which server, in which region, with which credentials.
//!
//! Every write carries its SHA-256, which the server verifies and keeps, and which a bucket with object lock asks for.

mod archive;
mod profile;
mod requests;
mod retention;
mod versions;

pub use archive::S3Archive;
pub use retention::{COMPLIANCE, Prolong, Retention, RetentionReport, S3Retention};
pub use versions::{Lost, LostKind, S3Versions};

use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::{Access, Credentials, Environment};
use crate::bucket::Bucket;
use crate::http::{Network, client};
use profile::Profile;

/// What requests are signed for where nobody names a region: what servers that know none expect, and what Amazon takes
/// for buckets of its first.
const REGION_DEFAULT: &str = "us-east-1";

/// Where machines of Amazon find what they may do, if they were given a role.
const ROLE_VARIABLES: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// The sink of a bucket. Asks the store nothing yet.
pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    let naming = Naming::of(bucket);
    Ok(ObjectSink::new(Arc::new(Reach::of(bucket, access)?.store), naming))
}

/// How a bucket is reached.
pub(crate) struct Reach {
    store: AmazonS3,
    service: Service,
    /// What stands before an object's name, without a slash at the end.
    bucket_url: String,
    region: String,
}

impl Reach {
    fn of(bucket: &Bucket, access: &Access) -> Result<Self> {
        let (settings, environment) = (&bucket.settings, &access.environment);
        let profile = Profile::read(settings.profile.as_deref(), environment)?;
        let first = |variables: &[&str]| variables.iter().find_map(|name| environment.get(name)).map(str::to_owned);
        let region = settings
            .region
            .clone()
            .or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| profile.get("region").map(str::to_owned))
            .unwrap_or_else(|| REGION_DEFAULT.to_owned());
        let endpoint = settings
            .endpoint
            .clone()
            .or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
            .or_else(|| profile.get("endpoint_url").map(str::to_owned));
        // A dot in the bucket's name would make another domain of it, which no certificate covers.
        let is_path_style = settings.path_style.unwrap_or(endpoint.is_some() || bucket.name.contains('.'));
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = if is_path_style { endpoint } else { with_bucket_in_host(&endpoint, &bucket.name) };
        let bucket_url = if is_path_style { format!("{endpoint}/{}", bucket.name) } else { endpoint.clone() };

        let client = client(&Network::new(environment, settings.ca_certificate.clone()), &bucket.short())?;
        let service = Service::new(client, Proof::Signed);
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&region)
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(!is_path_style)
            .with_checksum_algorithm(Checksum::SHA256)
            // One object a request: not every server knows the other form, and its answer is a list of errors.
            .with_disable_bulk_delete(true)
            .with_http_connector(service.clone())
            .with_retry(once());
        let is_profile_asked_for = settings.profile.is_some();
        let store = with_credentials(builder, access.credentials.as_ref(), &profile, is_profile_asked_for, environment)
            .map_err(|why| Error::invalid(bucket.to_string(), why))?
            .build()
            .map_err(|error| Error::invalid(bucket.to_string(), error.to_string()))?;
        Ok(Self { store, service, bucket_url, region })
    }
}

/// The order of Amazon's own programs: what was given; a profile that was asked for; the environment; the default
/// profile; a role.
fn with_credentials(
    builder: AmazonS3Builder,
    given: Option<&Credentials>,
    profile: &Profile,
    is_profile_asked_for: bool,
    environment: &Environment,
) -> std::result::Result<AmazonS3Builder, String> {
    let with_keys = |builder: AmazonS3Builder, id: &str, secret: &str, token: Option<&str>| {
        let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        match token {
            Some(token) => builder.with_token(token),
            None => builder,
        }
    };
    match given {
        Some(Credentials::AccessKey { id, secret, session_token }) => {
            let token = session_token.as_ref().map(crate::access::Secret::reveal);
            return Ok(with_keys(builder, id, secret.reveal(), token));
        }
        Some(_) => return Err(String::from("S3 takes an access key and its secret as credentials")),
        None => {}
    }
    if !is_profile_asked_for {
        match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                return Ok(with_keys(builder, id, secret, environment.get("AWS_SESSION_TOKEN")));
            }
            (Some(_), None) => return Err(String::from("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not")),
            (None, Some(_)) => return Err(String::from("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not")),
            (None, None) => {}
        }
    }
    if let Some(keys) = profile.keys()? {
        return Ok(with_keys(builder, keys.id, keys.secret, keys.session_token));
    }
    Ok(ROLE_VARIABLES.iter().fold(builder, |builder, (variable, key)| match environment.get(variable) {
        Some(value) => builder.with_config(*key, value),
        None => builder,
    }))
}

/// `https://host` as `https://bucket.host`.
fn with_bucket_in_host(endpoint: &str, bucket: &str) -> String {
    endpoint.replacen("://", &format!("://{bucket}."), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Secret;
    use crate::bucket::Provider;

    fn key_of(place: &str, access: &Access) -> std::result::Result<String, String> {
        let bucket = Bucket::parse(Provider::S3, place).unwrap();
        let store = Reach::of(&bucket, access).map_err(|error| error.to_string())?.store;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let credential = runtime.block_on(store.credentials().get_credential()).map_err(|error| error.to_string())?;
        Ok(format!("{} {} {}", credential.key_id, credential.secret_key, credential.token.as_deref().unwrap_or("-")))
    }

    #[test]
    fn credentials_are_found_in_the_order_of_amazons_own_programs() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        write(
            "credentials",
            "[default]\naws_access_key_id = D\naws_secret_access_key=d\n\n[other]\naws_access_key_id=O\n",
        );
        write(
            "config",
            "[profile other]\naws_secret_access_key = o # kept\nregion = x\n[profile sso]\nsso_session = x\n",
        );
        let mut access =
            Access { credentials: None, environment: Environment::new([("HOME", home.path().to_str().unwrap())]) };
        assert_eq!(key_of("//b", &access).unwrap(), "D d -");
        assert_eq!(key_of("//b?profile=other", &access).unwrap(), "O o -");
        let error = key_of("//b?profile=sso", &access).unwrap_err();
        assert!(error.contains("sso") && error.contains("export-credentials"), "{error}");
        let error = key_of("//b?profile=none", &access).unwrap_err();
        assert!(error.contains("no profile none"), "{error}");

        let variables = [
            ("HOME", home.path().to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "E"),
            ("AWS_SECRET_ACCESS_KEY", "e"),
            ("AWS_SESSION_TOKEN", "t"),
        ];
        access.environment = Environment::new(variables);
        assert_eq!(key_of("//b", &access).unwrap(), "E e t");
        assert_eq!(key_of("//b?profile=other", &access).unwrap(), "O o -", "who names a profile means it");
        access.environment = Environment::new(variables[..2].to_vec());
        assert!(key_of("//b", &access).unwrap_err().contains("AWS_SECRET_ACCESS_KEY is not"));

        let secret = Secret::new("g");
        access.credentials = Some(Credentials::AccessKey { id: String::from("G"), secret, session_token: None });
        assert_eq!(key_of("//b", &access).unwrap(), "G g -");
    }

    #[test]
    fn a_bucket_is_where_its_settings_say() {
        let given = Credentials::AccessKey { id: String::new(), secret: Secret::new(""), session_token: None };
        let variables = [("AWS_REGION", "eu-west-3")];
        let access = Access { credentials: Some(given), environment: Environment::new(variables) };
        for (place, url) in [
            ("//b", "https://b.s3.eu-west-3.amazonaws.com"),
            ("//b?region=eu-west-1", "https://b.s3.eu-west-1.amazonaws.com"),
            ("//b.c", "https://s3.eu-west-3.amazonaws.com/b.c"),
            ("//b?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000/b"),
            ("//b?endpoint=https://s3.example&path_style=false", "https://b.s3.example"),
        ] {
            let bucket = Bucket::parse(Provider::S3, place).unwrap();
            assert_eq!(Reach::of(&bucket, &access).unwrap().bucket_url, url);
        }
    }

    #[test]
    fn a_bucket_may_stand_in_the_hosts_name() {
        assert_eq!(with_bucket_in_host("https://s3.example:9000", "b"), "https://b.s3.example:9000");
    }
}
