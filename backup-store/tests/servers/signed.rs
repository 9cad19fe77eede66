//! Requests that the tests send themselves, to prepare what the library has no call for: buckets, policies, versions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use sha2::{Digest as _, Sha256};

/// Credentials for an S3 server.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl Keys {
    /// The variables that hand them over.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            (String::from("AWS_ACCESS_KEY_ID"), self.id.clone()),
            (String::from("AWS_SECRET_ACCESS_KEY"), self.secret.clone()),
        ];
        variables.extend(self.token.clone().map(|token| (String::from("AWS_SESSION_TOKEN"), token)));
        variables
    }

    /// Credentials that may do only what `policy` allows, for an hour.
    pub(crate) fn restricted(&self, endpoint: &str, policy: &str) -> Self {
        let encoded: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = format!("Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={encoded}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = send(self, "sts", "POST", &format!("{endpoint}/"), &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let element = |name: &str| {
            let (_, rest) = answer.body.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        Self { id: element("AccessKeyId"), secret: element("SecretAccessKey"), token: Some(element("SessionToken")) }
    }
}

/// The SHA-256 of `content`, as S3 writes it.
pub(crate) fn sha256(content: &str) -> String {
    STANDARD.encode(Sha256::digest(content))
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How many bytes came; `body` is them as text.
    pub(crate) length: usize,
    pub(crate) body: String,
}

/// Sends a request to an S3 server.
pub(crate) fn s3(keys: &Keys, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    send(keys, "s3", method, url, headers, body)
}

fn send(keys: &Keys, service: &str, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let credential =
        AwsCredential { key_id: keys.id.clone(), secret_key: keys.secret.clone(), token: keys.token.clone() };
    let mut request = request(method, url, headers, body);
    AwsAuthorizer::new(&credential, service, "us-east-1").try_authorize(&mut request, None).unwrap();
    exchange(request, body)
}

/// Sends a request without a body to Azure's store; gives the status.
pub(crate) fn azure(account: &str, key: &str, method: &str, url: &str) -> u16 {
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(key).unwrap());
    let mut request = request(method, url, &[("content-length", "0")], "");
    AzureAuthorizer::new(&credential, account).try_authorize(&mut request).unwrap();
    exchange(request, "").status
}

/// A signature for a container of Azure's store, as a query (Microsoft's *Create a service SAS*).
pub(crate) fn azure_signature(account: &str, key: &str, container: &str, permissions: &str, year: u32) -> String {
    const VERSION: &str = "2020-12-06";
    let (start, end) = ("2020-01-01T00:00:00Z", format!("{year}-12-31T00:00:00Z"));
    let resource = format!("/blob/{account}/{container}");
    let empty = "";
    let signed = [
        permissions,
        start,
        &end,
        &resource,
        empty,
        empty,
        empty,
        VERSION,
        "c",
        empty,
        empty,
        empty,
        empty,
        empty,
        empty,
        empty,
    ]
    .join("\n");
    // HMAC-SHA-256 with a key of just one block.
    let key = STANDARD.decode(key).unwrap();
    assert_eq!(key.len(), 64);
    let padded = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = Sha256::digest([padded(0x36), signed.into_bytes()].concat());
    let sum = STANDARD.encode(Sha256::digest([padded(0x5c), inner.to_vec()].concat()));
    let sum: String = sum.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("sv={VERSION}&sr=c&sp={permissions}&st={start}&se={end}&sig={sum}").replace(':', "%3A")
}

fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(HttpRequestBody::from(Bytes::from(body.to_owned()))).unwrap()
}

fn exchange(request: HttpRequest, body: &str) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (parts, _) = request.into_parts();
        let sent = client().request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body.to_owned());
        let answer = sent.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        Answer { status, length: body.len(), body: String::from_utf8_lossy(&body).into_owned() }
    })
}

/// One that speaks with this machine alone, and so trusts nobody.
fn client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
}
