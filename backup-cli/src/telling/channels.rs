//! How a message is sent: to a webhook, by mail, to a command.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use backup_store::{Message, Method, Secret};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{SmtpTransport, Transport as _};
use serde_json::json;
use tokio::runtime::Builder;

use super::Words;
use crate::config::{Channel, Encryption, Preset};
use crate::exit::Failure;
use crate::limited::wait;
use crate::secrets::origin::Origin;
use crate::session::{Session, access};

/// How long a mail server may take for a step.
const MAIL_SECONDS_MAX: u64 = 30;

/// How long a command that is told something may take: a run waits for it.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// Sends a message and waits until it is taken.
pub(super) fn send(channel: &Channel, words: &Words, session: &Session) -> Result<(), Failure> {
    match channel {
        Channel::Webhook { url, preset, authorization } => {
            let url = url.read("webhook", &session.console)?;
            let authorization = authorization.as_ref().map(|secret| secret.read("authorization", &session.console));
            let authorization = authorization.transpose()?.map(|secret| Secret::new(secret.as_str()));
            let (url, content_type, body) = request(&url, *preset, words);
            post(&Message { url, method: Method::Post, content_type, authorization, body })
        }
        Channel::Mail { server, port, encryption, login, from, to } => {
            let transport = transport(server, *port, *encryption, login.as_ref(), session)?;
            to.iter().try_for_each(|recipient| mail(&transport, from, recipient, words))
        }
        Channel::Command(command) => hand_over(command, words, COMMAND_WITHIN),
    }
}

/// Sends a message over HTTP.
pub(super) fn post(message: &Message) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("the network could not be used", &error))?;
    Ok(runtime.block_on(message.send(&access().environment))?)
}

/// Where a message goes, what it is, and what it says.
fn request(url: &str, preset: Preset, words: &Words) -> (Secret, &'static str, String) {
    match preset {
        Preset::Json => (Secret::new(url), "application/json", words.document().to_string()),
        Preset::Slack => (Secret::new(url), "application/json", json!({"text": words.line()}).to_string()),
        Preset::Healthchecks => {
            let end = if words.state == "good" || words.state == "recovered" { "" } else { "/fail" };
            let url = Secret::new(format!("{}{end}", url.trim_end_matches('/')));
            (url, "text/plain; charset=utf-8", words.line())
        }
    }
}

/// The connection to a mail server, before it is made.
pub(super) fn transport(
    server: &str,
    port: Option<u16>,
    encryption: Encryption,
    login: Option<&(String, Origin)>,
    session: &Session,
) -> Result<SmtpTransport, Failure> {
    let failed = |error: lettre::transport::smtp::Error| Failure::because(format!("the mail server {server}"), &error);
    let parameters = || TlsParameters::new(server.to_owned()).map_err(failed);
    let (usual, tls) = match encryption {
        Encryption::Tls => (465, Tls::Wrapper(parameters()?)),
        Encryption::StartTls => (587, Tls::Required(parameters()?)),
        Encryption::Plain => (25, Tls::None),
    };
    let mut builder = SmtpTransport::builder_dangerous(server)
        .port(port.unwrap_or(usual))
        .tls(tls)
        .timeout(Some(Duration::from_secs(MAIL_SECONDS_MAX)));
    if let Some((user, password)) = login {
        let password = password.read("mail password", &session.console)?;
        builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
    }
    Ok(builder.build())
}

fn mail(transport: &SmtpTransport, from: &str, to: &str, words: &Words) -> Result<(), Failure> {
    let address = |text: &str| {
        text.parse::<Mailbox>()
            .map_err(|_| Failure::usage(format!("{text:?} is no address of mail"), "write me@example.org"))
    };
    let heads: String = words.evidence.iter().map(|head| format!("Evidence ends with {head}\n")).collect();
    let body = format!("{}\n\nAt {}. `backup status {}` tells more.\n{heads}", words.line(), words.time, words.job);
    let message = lettre::Message::builder()
        .from(address(from)?)
        .to(address(to)?)
        .subject(words.line())
        .body(body)
        .map_err(|error| Failure::because("a mail could not be written", &error))?;
    match transport.send(&message) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::because("the mail server", &error)),
    }
}

/// Runs a command with the message as JSON on its standard input.
fn hand_over(command: &str, words: &Words, within: Duration) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because("the command could not be run", &error);
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env("BACKUP_JOB", &words.job)
        .env("BACKUP_EVENT", words.event)
        .env("BACKUP_STATE", words.state)
        .env("BACKUP_TEXT", &words.text)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it is as good: what it needs may be in its environment.
        let _ = input.write_all(words.document().to_string().as_bytes());
    }
    match wait(&mut child, within, &|| false).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::new(format!("the command failed: {status}"))),
        None => Err(Failure::new(format!("the command took longer than {} s and was ended", within.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(state: &'static str) -> Words {
        Words {
            job: "app".into(),
            host: "web1".into(),
            event: "failure",
            state,
            text: "disk full".into(),
            time: "2026-11-22T02:00:00Z".into(),
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_command_that_hangs_keeps_nobody_waiting() {
        let failure = hand_over("sleep 600", &words("bad"), Duration::from_secs(1)).unwrap_err();
        assert!(failure.what.ends_with("took longer than 1 s and was ended"), "{}", failure.what);
        assert!(hand_over("cat > /dev/null", &words("bad"), COMMAND_WITHIN).is_ok());
    }

    #[test]
    fn each_preset_says_what_its_server_understands() {
        let of = |preset, state| {
            let (url, content_type, body) = request("https://hook/x/", preset, &words(state));
            (url.reveal().to_owned(), content_type, body)
        };
        let (url, kind, body) = of(Preset::Json, "bad");
        assert_eq!((url.as_str(), kind), ("https://hook/x/", "application/json"));
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&document["job"], &document["state"]), (&"app".into(), &"bad".into()));
        let (_, _, body) = of(Preset::Slack, "bad");
        assert_eq!(body, r#"{"text":"backup of app on web1: failure: disk full"}"#);
        assert_eq!(of(Preset::Healthchecks, "good").0, "https://hook/x");
        assert_eq!(of(Preset::Healthchecks, "bad").0, "https://hook/x/fail");
    }
}
