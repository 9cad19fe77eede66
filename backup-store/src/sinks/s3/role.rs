//! Another role, which a profile takes on with the credentials of its source (AWS STS, `AssumeRole`).
//!
//! It is asked for by one signed request, kept, and asked for again some minutes before it expires, which
//! [`HandedOut`](super::handed_out::HandedOut) sees to. It holds nothing that a crash could lose.

use http::Method;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};

use super::REGION_DEFAULT;
use super::handed_out::Printed;
use super::profile::Profile;
use crate::access::Environment;
use crate::bucket::encoded;

use crate::http::Failure;
use crate::sinks::object::{Service, element, failure_in};

/// What a session is called that nobody has given a name: it stands in the account's log.
const SESSION_DEFAULT: &str = "backup";

/// A role, and who may take it on.
#[derive(Debug)]
pub(super) struct Role {
    arn: String,
    /// The rest of the question, as a form.
    form: String,
    source: AwsCredentialProvider,
    /// The address of the service that gives roles.
    address: String,
    region: String,
}

/// What a session of the profile's role is called.
pub(super) fn session_of(profile: &Profile) -> &str {
    profile.get("role_session_name").unwrap_or(SESSION_DEFAULT)
}

impl Role {
    /// The role that the profile names, by what its source has.
    pub(super) fn new(profile: &Profile, arn: &str, source: AwsCredentialProvider, environment: &Environment) -> Self {
        let given = |variables: &[&str]| variables.iter().find_map(|name| environment.get(name));
        let region = given(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| profile.get("region"));
        let region = region.unwrap_or(REGION_DEFAULT).to_owned();
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let address =
            given(&["AWS_ENDPOINT_URL_STS"]).map_or_else(|| format!("https://sts.{region}.{domain}/"), str::to_owned);
        let mut form = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName={}",
            encoded(arn, ""),
            encoded(session_of(profile), "")
        );
        for (key, name) in [("external_id", "ExternalId"), ("duration_seconds", "DurationSeconds")] {
            if let Some(value) = profile.get(key) {
                form.push_str(&format!("&{name}={}", encoded(value, "")));
            }
        }
        Self { arn: arn.to_owned(), form, source, address, region }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.arn
    }

    /// Takes the role on.
    ///
    /// # Errors
    ///
    /// Those of the network and a busy service, which may pass, as they are; others as why there are no credentials.
    pub(super) async fn ask(&self, service: &Service) -> Result<Printed, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| match failure_in(error) {
            Some(Failure::Refused(refusal)) if !matches!(refusal.status, 408 | 429 | 500..) => {
                // It is no store that refuses here.
                self.not_given(refusal.to_string().replacen("the store says ", "", 1))
            }
            Some(failure) => Failure::Unreachable { host: self.address.clone(), why: failure.to_string() },
            None => self.not_given(error.to_string()),
        };
        let credential = match self.source.get_credential().await {
            Ok(credential) => credential,
            Err(error) => {
                return Err(self.not_given(format!("its source has none: {}", super::handed_out::innermost(&error))));
            }
        };
        let mut request: HttpRequest = http::Request::builder()
            .method(Method::POST)
            .uri(&self.address)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(HttpRequestBody::from(self.form.clone()))
            .map_err(|error| self.not_given(error.to_string()))?;
        AwsAuthorizer::new(&credential, "sts", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| failed(&error))?;
        let answer = service.call(request).await.map_err(|error| failed(&error))?;
        let body = answer.into_body().bytes().await.map_err(|error| failed(&error))?;
        let text = String::from_utf8_lossy(&body);
        let printed = || {
            Some(Printed {
                access_key_id: element(&text, "AccessKeyId")?.to_owned(),
                secret_access_key: element(&text, "SecretAccessKey")?.to_owned(),
                session_token: Some(element(&text, "SessionToken")?.to_owned()),
                expiration: Some(element(&text, "Expiration")?.parse().ok()?),
            })
        };
        printed().ok_or_else(|| self.not_given(String::from("its answer is not understood")))
    }

    fn not_given(&self, why: String) -> Failure {
        Failure::NotHandedOut { origin: self.arn.clone(), why }
    }
}
