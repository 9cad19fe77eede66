//! Buckets of Amazon S3, and of what speaks its protocol: which server, in which region, with which credentials.
//!
//! Every write carries its SHA-256, which the server verifies and keeps, and which a bucket with object lock asks for.

mod archive;
mod handed_out;
mod profile;
mod requests;
mod retention;
mod role;
mod versions;

pub use archive::S3Archive;
pub(crate) use retention::S3Retention;
pub(crate) use versions::S3Versions;

use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, Checksum};

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::{Access, Credentials, Environment, Secret, readable};
use crate::bucket::Bucket;
use crate::http::{Network, client};
use handed_out::{HandedOut, Origin, Token};
use profile::{Profile, RoleSource};
use role::Role;

/// What requests are signed for where nobody names a region: what servers that know none expect, and what Amazon takes
/// for buckets of its first.
const REGION_DEFAULT: &str = "us-east-1";

/// Where machines of Amazon find what they may do, if they were given a role.
const ROLE_VARIABLES: [(&str, AmazonS3ConfigKey); 6] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
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
        let given = access.credentials.as_ref();
        let store = with_credentials(builder, given, &profile, is_profile_asked_for, environment, &service)
            .map_err(|why| {
                let hint = "docs/manual/s3.md tells where credentials are looked for, and in which order";
                Error::invalid(bucket.to_string(), why).with_hint(hint)
            })?
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
    service: &Service,
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
            let token = session_token.as_ref().map(Secret::reveal);
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
    let by = |origin| Arc::new(HandedOut::new(origin, service.clone()));
    if let Some((arn, source)) = profile.role(environment)? {
        if let RoleSource::WebIdentity(file) = source {
            readable(file).map_err(|error| {
                format!(
                    "{file}, the web_identity_token_file of the profile {}, cannot be read: {error}",
                    profile.name()
                )
            })?;
            let builder = match environment.get("AWS_ENDPOINT_URL_STS") {
                Some(address) => builder.with_config(AmazonS3ConfigKey::StsEndpoint, address),
                None => builder,
            };
            return Ok(builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file)
                .with_config(AmazonS3ConfigKey::RoleArn, arn)
                .with_config(AmazonS3ConfigKey::RoleSessionName, role::session_of(profile)));
        }
        let source = source_of(source, environment, service).map_err(|why| format!("{}: {why}", profile.name()))?;
        return Ok(builder.with_credentials(by(Origin::Role(Role::new(profile, arn, source, environment)))));
    }
    if let Some(keys) = profile.keys()? {
        return Ok(with_keys(builder, keys.id, keys.secret, keys.session_token));
    }
    if let Some(command) = profile.get("credential_process") {
        return Ok(builder.with_credentials(by(Origin::Program {
            command: command.to_owned(),
            profile: profile.name().to_owned(),
        })));
    }
    let is_first = |name: &str| environment.get(name).is_none();
    if let Some(address) = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        && is_first("AWS_WEB_IDENTITY_TOKEN_FILE")
        && is_first("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    {
        return Ok(builder.with_credentials(by(agent(address, environment)?)));
    }
    if let Some(path) = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") {
        readable(path).map_err(|error| format!("AWS_WEB_IDENTITY_TOKEN_FILE={path} cannot be read: {error}"))?;
    }
    Ok(ROLE_VARIABLES.iter().fold(builder, |builder, (variable, key)| match environment.get(variable) {
        Some(value) => builder.with_config(*key, value),
        None => builder,
    }))
}

/// Whose credentials a role is taken on with.
fn source_of(
    source: RoleSource<'_>,
    environment: &Environment,
    service: &Service,
) -> std::result::Result<AwsCredentialProvider, String> {
    // No bucket is ever asked by it.
    let builder = AmazonS3Builder::new().with_bucket_name("none").with_region(REGION_DEFAULT);
    let builder = builder.with_http_connector(service.clone()).with_retry(once());
    let is_set = |name: &str| environment.get(name).is_some();
    let of = |profile: &Profile, is_asked_for| {
        with_credentials(builder.clone(), None, profile, is_asked_for, environment, service)
    };
    let builder = match source {
        RoleSource::Profile(profile) if !profile.has_credentials() => {
            return Err(format!("its source, the profile {}, has no credentials", profile.name()));
        }
        RoleSource::Profile(profile) => of(&profile, true)?,
        RoleSource::Machine("Environment") if is_set("AWS_ACCESS_KEY_ID") => of(&Profile::default(), false)?,
        RoleSource::Machine("EcsContainer")
            if is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI") =>
        {
            of(&Profile::default(), true)?
        }
        RoleSource::Machine("Ec2InstanceMetadata") => builder.clone(),
        RoleSource::Machine(name) | RoleSource::WebIdentity(name) => {
            return Err(format!("the credential_source {name} is not known, or has nothing here"));
        }
    };
    let store = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::clone(store.credentials()))
}

/// The agent of a container. Its token goes to this machine, or over TLS, and to nobody else.
fn agent(address: &str, environment: &Environment) -> std::result::Result<Origin, String> {
    let url: reqwest::Url =
        address.parse().map_err(|_| String::from("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL"))?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost"
        || ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"].contains(&host)
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if url.scheme() != "https" && !is_here {
        return Err(format!("AWS_CONTAINER_CREDENTIALS_FULL_URI is http:// and of another machine, {host}"));
    }
    let given = || environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|token| Token::Given(Secret::new(token)));
    let in_file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Token::InFile(path.into()));
    Ok(Origin::Agent { address: address.to_owned(), token: in_file.or_else(given) })
}

/// `https://host` as `https://bucket.host`.
fn with_bucket_in_host(endpoint: &str, bucket: &str) -> String {
    endpoint.replacen("://", &format!("://{bucket}."), 1)
}

#[cfg(test)]
mod tests;
