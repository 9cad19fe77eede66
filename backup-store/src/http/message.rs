//! A message to a server that is no store: a webhook, a gateway for figures.

use std::time::Duration;

use backup_core::{Error, ErrorKind};

use super::client::{Network, client};
use super::failure::root;
use crate::access::{Environment, Secret};

/// How long a server may take for the whole of it.
const SECONDS_MAX: u64 = 30;

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it goes. Often the address is all that protects it.
    pub url: Secret,
    /// How it is sent.
    pub method: Method,
    /// What kind of text it is.
    pub content_type: &'static str,
    /// The value of `Authorization:`.
    pub authorization: Option<Secret>,
    /// The text.
    pub body: String,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As something new.
    Post,
    /// In place of what was there.
    Put,
}

impl Message {
    /// Sends it, by the proxies that `environment` names, and waits for the answer.
    ///
    /// # Errors
    ///
    /// Everything but an answer that says that it was taken. No error names the address.
    pub async fn send(&self, environment: &Environment) -> backup_core::Result<()> {
        let failed = |why: String| Error::new(ErrorKind::Target(why), "the message");
        let network = Network::new(environment, None);
        let client = client(&network, "the message")?;
        let request = match self.method {
            Method::Post => client.post(self.url.reveal()),
            Method::Put => client.put(self.url.reveal()),
        };
        let mut request = request
            .timeout(Duration::from_secs(SECONDS_MAX))
            .header("Content-Type", self.content_type)
            .body(self.body.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.reveal());
        }
        let answer = request.send().await.map_err(|error| failed(root(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(failed(format!("the server refuses it: {status}"))),
        }
    }
}

/// Asks the server of `url` for its root, by the proxies that `environment` names: whatever it answers, it is there. Nothing
/// of `url` but its server is sent.
///
/// # Errors
///
/// That it is no address, or why no answer comes. No error names the address.
pub async fn reach_server(url: &str, environment: &Environment) -> backup_core::Result<()> {
    let failed = |why: String| Error::new(ErrorKind::Target(why), "the server");
    let mut root_of = reqwest::Url::parse(url).map_err(|error| failed(format!("this is no address: {error}")))?;
    root_of.set_path("/");
    root_of.set_query(None);
    root_of.set_fragment(None);
    // An address without a host has no user either.
    let _ = (root_of.set_username(""), root_of.set_password(None));
    let network = Network::new(environment, None);
    let request = client(&network, "the server")?.head(root_of).timeout(Duration::from_secs(SECONDS_MAX));
    request.send().await.map(drop).map_err(|error| failed(root(&error.without_url())))
}
