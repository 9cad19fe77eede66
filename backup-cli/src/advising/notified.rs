//! Who is told when something goes wrong, as `backup advise` proposes it.
//!
//! What is always true: no secret is taken on the command line or written. A webhook's address often is all that protects
//! it, so it is named by the file that holds it.

use std::path::{Path, PathBuf};

use super::configuration::quoted;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    /// By mail, through the server of this machine.
    Mail(String),
    /// By a webhook whose address is in this file.
    Webhook(PathBuf),
}

impl Notified {
    /// Reads what somebody wrote: an address of mail, or the path of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(
                "the address of a webhook is a secret: write it into a file that only the backup can read, and name the file"
                    .to_owned(),
            );
        }
        let is_address = |text: &str| match text.split_once('@') {
            Some((local, domain)) => {
                let is_plain = |part: &str| {
                    !part.is_empty()
                        && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"@,;<>\"()".contains(&byte))
                };
                is_plain(local) && is_plain(domain)
            }
            None => false,
        };
        match Path::new(text).is_absolute() {
            true => Ok(Self::Webhook(text.into())),
            false if is_address(text) => Ok(Self::Mail(text.to_owned())),
            false => Err(format!("{text:?} is neither an address of mail nor the path of a file from the root")),
        }
    }

    /// Its table in a configuration, the first being `ops`. `host` is this machine's name, which mail comes from.
    pub(crate) fn table(&self, at: usize, host: &str) -> String {
        let name = if at == 0 { "ops".to_owned() } else { format!("ops-{}", at + 1) };
        let how = match self {
            Self::Webhook(path) => format!("webhook = {{ url = {{ file = {} }} }}", quoted(&path.to_string_lossy())),
            Self::Mail(address) => format!(
                "# By the mail server of this machine; another one: server, port, user, password = {{ file = \"…\" }}.\n\
                 mail = {{ server = \"localhost\", port = 25, encryption = \"none\", from = {}, to = [{}] }}",
                quoted(&format!("backup@{host}")),
                quoted(address)
            ),
        };
        format!("[notify.{name}]\n{how}\n")
    }

    /// What has to be seen to before it works.
    pub(crate) fn to_see_to(&self) -> Option<String> {
        match self {
            Self::Webhook(path) if !path.exists() => {
                Some(format!("write the address of the webhook into {}, for the backup's user alone", path.display()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_is_an_address_or_a_file_and_never_a_secret() {
        assert_eq!(Notified::parse("ops@example.org"), Ok(Notified::Mail("ops@example.org".to_owned())));
        assert_eq!(Notified::parse("/etc/backup/hook"), Ok(Notified::Webhook("/etc/backup/hook".into())));
        for (wrong, part) in [
            ("https://hooks.example.org/T0/B0/secret", "is a secret"),
            ("nobody", "neither"),
            ("@example.org", "neither"),
            ("a@b, c@d", "neither"),
            ("hook", "neither"),
        ] {
            let why = Notified::parse(wrong).unwrap_err();
            assert!(why.contains(part) && !why.contains("secret\""), "{why}");
        }
    }
}
