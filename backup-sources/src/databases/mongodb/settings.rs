//! Where a deployment is, and who asks: what a URL says, in the driver's own words.
//!
//! The driver reads connection strings itself, and understands what is behind the question mark (TLS, the user's
//! database, the replica set) as all of MongoDB's programs do. It gets the string made anew from its parts, with a
//! password that may have come from elsewhere; nobody else sees that string.

use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::limits::{DATABASE_CONNECT_SECONDS, DATABASE_SILENCE_SECONDS_MAX};
use backup_core::{Error, Result};
use mongodb::options::ClientOptions;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::super::url::{DatabaseUrl, Password};

/// How a deployment is reached.
#[derive(Clone, Debug)]
pub struct MongodbSettings {
    url: DatabaseUrl,
    /// The password, where the URL has none.
    pub password: Option<Password>,
    /// Connections end once this was asked for, whatever the server still owes.
    pub cancel: Option<Cancel>,
    /// How long the server may take for one answer.
    pub silence_max: Duration,
}

impl MongodbSettings {
    /// The deployment of `url`.
    pub fn new(url: &DatabaseUrl) -> Self {
        let silence_max = Duration::from_secs(DATABASE_SILENCE_SECONDS_MAX);
        Self { url: url.clone(), password: None, cancel: None, silence_max }
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.url.to_string()
    }

    /// The database that is named.
    ///
    /// # Errors
    ///
    /// When its name is not UTF-8.
    pub fn database(&self) -> Result<Option<&str>> {
        self.url.database()
    }

    /// The driver's options. Has to run in the driver's runtime: `mongodb+srv` asks the name service.
    pub(super) async fn options(&self) -> Result<ClientOptions> {
        let parsed = ClientOptions::parse(self.connection_string().as_str()).await;
        let mut options = parsed.map_err(|error| {
            // It may quote the string, in which the password is.
            let said = super::failure::told(&error);
            let is_secret = self.secret().is_some_and(|secret| !secret.is_empty() && said.contains(secret));
            let said = if is_secret { "the driver does not understand the URL".to_owned() } else { said };
            Error::invalid(self.location(), said).with_hint(
                "as in mongodb://user@host:27017/db?authSource=admin; what is known behind the ? is MongoDB's",
            )
        })?;
        options.server_selection_timeout.get_or_insert(Duration::from_secs(DATABASE_CONNECT_SECONDS));
        options.app_name.get_or_insert_with(|| "backup".to_owned());
        Ok(options)
    }

    fn secret(&self) -> Option<&str> {
        self.url.password().or(self.password.as_ref()).map(Password::reveal)
    }

    fn connection_string(&self) -> Zeroizing<String> {
        let encoded = |part: &str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let mut text = Zeroizing::new(format!("{}://", self.url.scheme()));
        if let Some(user) = self.url.user() {
            text.push_str(&encoded(user));
            if let Some(secret) = self.secret() {
                text.push(':');
                text.push_str(&Zeroizing::new(encoded(secret)));
            }
            text.push('@');
        }
        if self.url.hosts().is_empty() {
            text.push_str("localhost");
        }
        for (index, host) in self.url.hosts().iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match &host.name {
                // The driver knows a socket by the ending `.sock`, which it looks for before it decodes.
                socket if socket.starts_with('/') => text.push_str(&encoded(socket).replace("%2E", ".")),
                address if address.contains(':') => text.push_str(&format!("[{address}]")),
                name => text.push_str(name),
            }
            if let Some(port) = host.port {
                text.push_str(&format!(":{port}"));
            }
        }
        text.push('/');
        text.push_str(&encoded(&String::from_utf8_lossy(self.url.path())));
        for (index, (name, value)) in self.url.parameters().iter().enumerate() {
            text.push_str(if index == 0 { "?" } else { "&" });
            text.push_str(&format!("{name}={}", encoded(value)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> MongodbSettings {
        MongodbSettings::new(&DatabaseUrl::parse(url).unwrap())
    }

    #[test]
    fn the_driver_gets_what_the_url_said() {
        for (url, wanted) in [
            ("mongodb:///app", "mongodb://localhost/app"),
            ("mongodb://a:1,b,[::1]:3/x?replicaSet=rs0", "mongodb://a:1,b,[::1]:3/x?replicaSet=rs0"),
            ("mongodb://%2Ftmp%2Fm.sock/x", "mongodb://%2Ftmp%2Fm.sock/x"),
            (
                "mongodb+srv://u:p%40%2Fw@h.example/x?authSource=admin&tls=true",
                "mongodb+srv://u:p%40%2Fw@h.example/x?authSource=admin&tls=true",
            ),
        ] {
            assert_eq!(settings(url).connection_string().as_str(), wanted);
        }
    }

    #[test]
    fn a_password_comes_from_the_url_or_else_from_elsewhere() {
        let mut silent = settings("mongodb://u@h/x");
        silent.password = Some(Password::new("else/where"));
        assert_eq!(silent.connection_string().as_str(), "mongodb://u:else%2Fwhere@h/x");
        let mut spoken = settings("mongodb://u:own@h/x");
        spoken.password = Some(Password::new("elsewhere"));
        assert_eq!(spoken.connection_string().as_str(), "mongodb://u:own@h/x");
        assert!(!format!("{spoken:?}").contains("own\""));
    }
}
