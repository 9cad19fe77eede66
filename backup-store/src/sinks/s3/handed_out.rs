//! Credentials that somebody hands out for a while: a program that a profile names, the agent beside a container, or the
//! service that gives roles.
//!
//! When they are asked for is up to [`Kept`]. It holds nothing that a crash could lose.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::role::Role;
use crate::access::Secret;
use crate::http::Failure;
use crate::sinks::object::{Given, Kept, Service};

/// A program may ask somebody on the network; it may not ask a person.
const PROGRAM_MAX: Duration = Duration::from_secs(60);

/// Who hands them out.
#[derive(Debug)]
pub(super) enum Origin {
    /// A command line, which prints them (`credential_process`), and the profile that names it.
    Program { command: String, profile: String },
    /// An address, which answers with them (`AWS_CONTAINER_CREDENTIALS_FULL_URI`).
    Agent { address: String, token: Option<Token> },
    /// A role, taken on with other credentials.
    Role(Role),
}

/// What an agent is shown.
#[derive(Debug)]
pub(super) enum Token {
    Given(Secret),
    /// Read again each time: it changes.
    InFile(PathBuf),
}

/// Credentials by an [`Origin`].
pub(super) struct HandedOut {
    origin: Origin,
    service: Service,
    kept: Kept<AwsCredential>,
}

/// What both print, each with its own name for the session's token.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Printed {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    #[serde(alias = "Token")]
    pub(super) session_token: Option<String>,
    pub(super) expiration: Option<Timestamp>,
}

impl HandedOut {
    pub(super) fn new(origin: Origin, service: Service) -> Self {
        Self { origin, service, kept: Kept::default() }
    }

    async fn ask(&self) -> Result<Given<AwsCredential>, Failure> {
        let text = match &self.origin {
            Origin::Program { command, .. } => printed_by(command).await,
            Origin::Agent { address, token } => self.answer_of(address, token.as_ref()).await,
            Origin::Role(role) => return role.ask(&self.service).await.map(given),
        };
        let printed = text.and_then(|text| {
            // The parser's own words may quote a secret.
            serde_json::from_str(&text).map_err(|_| {
                String::from("what it says is not understood: it is to be JSON with AccessKeyId and SecretAccessKey")
            })
        });
        printed.map(given).map_err(|why| Failure::NotHandedOut { origin: self.name(), why })
    }

    async fn answer_of(&self, address: &str, token: Option<&Token>) -> Result<Zeroizing<String>, String> {
        let mut request: HttpRequest = http::Request::builder()
            .method(Method::GET)
            .uri(address)
            .body(HttpRequestBody::empty())
            .map_err(|error| error.to_string())?;
        let token = match token {
            None => None,
            Some(Token::Given(token)) => Some(Zeroizing::new(token.reveal().to_owned())),
            Some(Token::InFile(path)) => {
                let read = std::fs::read_to_string(path).map(Zeroizing::new);
                Some(read.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        if let Some(token) = token {
            // A file ends with the end of a line.
            let value = HeaderValue::from_str(token.trim()).map_err(|_| String::from("its token is no text"))?;
            request.headers_mut().insert("authorization", value);
        }
        let answer = self.service.call(request).await.map_err(|error| innermost(&error))?;
        let body = answer.into_body().bytes().await.map_err(|error| innermost(&error))?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&body).into_owned()))
    }

    fn name(&self) -> String {
        match &self.origin {
            // Its arguments may be nobody's business.
            Origin::Program { command, profile } => {
                let program = command.split_whitespace().next().unwrap_or_default();
                format!("{program}, the credential_process of the profile {profile}")
            }
            Origin::Agent { address, .. } => address.clone(),
            Origin::Role(role) => role.name().to_owned(),
        }
    }
}

fn given(printed: Printed) -> Given<AwsCredential> {
    let credential = AwsCredential {
        key_id: printed.access_key_id,
        secret_key: printed.secret_access_key,
        token: printed.session_token.filter(|token| !token.is_empty()),
    };
    Given::new(credential, printed.expiration)
}

#[async_trait]
impl CredentialProvider for HandedOut {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.kept.or_asked("S3", self.ask()).await
    }
}

async fn printed_by(command: &str) -> Result<Zeroizing<String>, String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
    let ran = match timeout(PROGRAM_MAX, shell.output()).await {
        Err(_) => return Err(format!("no end within {} s", PROGRAM_MAX.as_secs())),
        Ok(ran) => ran.map_err(|error| error.to_string())?,
    };
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let line: String = line.chars().filter(|character| !character.is_control()).take(240).collect();
        return Err(if line.is_empty() { ran.status.to_string() } else { format!("{}: {line}", ran.status) });
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&ran.stdout).into_owned()))
}

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl fmt::Debug for HandedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandedOut({})", self.name())
    }
}
