//! `[notify.NAME]`: who is told of what, and how.

use jiff::SignedDuration;
use lettre::message::Mailbox;

use super::section::{Section, Value, nearest};
use crate::secrets::origin::Origin;

/// Somebody who is told.
#[derive(Clone, Debug)]
pub(crate) struct Notify {
    /// The name that the file has for it.
    pub(crate) name: String,
    /// How.
    pub(crate) channel: Channel,
    /// Of what.
    pub(crate) on: Vec<Event>,
    /// Of which jobs; of all when none is named.
    pub(crate) jobs: Vec<String>,
    /// How long until the same is told again while it lasts.
    pub(crate) repeat: SignedDuration,
}

/// How somebody is told.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    /// By a request to a server.
    Webhook {
        /// The address, which often is all that protects it.
        url: Origin,
        /// What the server understands.
        preset: Preset,
        /// The value of `Authorization:`.
        authorization: Option<Origin>,
    },
    /// By mail.
    Mail {
        /// The server.
        server: String,
        /// Its port.
        port: Option<u16>,
        /// How the connection is encrypted.
        encryption: Encryption,
        /// Who sends, where the server asks.
        login: Option<(String, Origin)>,
        /// The sender.
        from: String,
        /// The recipients.
        to: Vec<String>,
    },
    /// By a command, which finds the message as JSON on its standard input.
    Command(String),
}

/// What a server understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Preset {
    /// The message as JSON.
    #[default]
    Json,
    /// `{"text": …}`, as Slack and those that are like it.
    Slack,
    /// A ping, with `/fail` behind the address for what is bad, as healthchecks.io and those that are like it.
    Healthchecks,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// From the first byte.
    #[default]
    Tls,
    /// After asking for it, which must be granted.
    StartTls,
    /// Not at all: for a server on this machine.
    Plain,
}

/// Of what somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A run failed, or a copy is behind.
    Failure,
    /// What was bad is good again.
    Recovery,
    /// An objective is missed.
    Objective,
    /// A drill failed or could not run.
    Drill,
    /// A repository that was read back is damaged, or could not be read: told to who wants to hear of failures.
    Check,
    /// Every run that came to a good end.
    Success,
}

const EVENTS: [(&str, Event); 5] = [
    ("failure", Event::Failure),
    ("recovery", Event::Recovery),
    ("objective", Event::Objective),
    ("drill", Event::Drill),
    ("success", Event::Success),
];

/// What lasts is told again once a day: often enough not to be forgotten, too seldom to be filtered away.
const REPEAT: SignedDuration = SignedDuration::from_hours(24);

/// Reads one. `jobs` are the names that there are.
pub(super) fn read(name: String, section: &Section<'_>, jobs: &[&str]) -> Option<Notify> {
    let channels = [
        section.section("webhook").and_then(|webhook| read_webhook(&webhook)),
        section.section("mail").and_then(|mail| read_mail(&mail)),
        section.text("command").map(Channel::Command),
    ];
    let had = ["webhook", "mail", "command"].iter().filter(|key| section.has(key)).count();
    if had != 1 {
        section.fault(
            "it has to have one of webhook, mail and command",
            Some(String::from("write webhook = { url = { file = \"…\" } }")),
        );
    }
    let on = match section.value("on") {
        None => vec![Event::Failure, Event::Recovery, Event::Objective, Event::Drill],
        Some(value) => {
            let each = |item: &Value<'_>| item.one_of(&item.text()?, &EVENTS);
            let events: Vec<_> = value.items().iter().filter_map(each).collect();
            if value.texts().is_empty() {
                value.fault("it is told of nothing", Some(String::from("write on = [\"failure\", \"recovery\"]")));
            }
            events
        }
    };
    let chosen = section.texts("jobs");
    if let (Some(unknown), Some(value)) =
        (chosen.iter().find(|job| !jobs.contains(&job.as_str())), section.value("jobs"))
    {
        value.fault(format!("no job is called {unknown}"), Some(nearest(unknown, jobs)));
    }
    let repeat = section.duration("repeat").unwrap_or(REPEAT);
    section.finish();
    let channel = channels.into_iter().flatten().next()?;
    Some(Notify { name, channel, on, jobs: chosen, repeat })
}

fn read_webhook(section: &Section<'_>) -> Option<Channel> {
    let url = section.secret("url");
    if url.is_none() && !section.has("url") {
        section.fault("url is missing", Some(String::from("write url = { file = \"/etc/backup/hook\" }")));
    }
    let presets = [("json", Preset::Json), ("slack", Preset::Slack), ("healthchecks", Preset::Healthchecks)];
    let preset = section.word("preset", &presets).unwrap_or_default();
    let authorization = section.secret("authorization");
    section.finish();
    Some(Channel::Webhook { url: url?, preset, authorization })
}

fn read_mail(section: &Section<'_>) -> Option<Channel> {
    for value in section.value("from").into_iter().chain(section.value("to").iter().flat_map(Value::items)) {
        if value.is_text() {
            let _ = value.parsed(|text| {
                let wrong = format!("{text:?} is no address of mail: write \"me@example.org\"");
                text.parse::<Mailbox>().map_err(|_| wrong)
            });
        }
    }
    let server = section.required("server", "\"mail.example.org\"");
    let from = section.required("from", "\"backup@example.org\"");
    let to = section.texts("to");
    if to.is_empty() {
        section.fault("to is missing", Some(String::from("write to = [\"me@example.org\"]")));
    }
    let words = [("tls", Encryption::Tls), ("starttls", Encryption::StartTls), ("none", Encryption::Plain)];
    let encryption = section.word("encryption", &words).unwrap_or_default();
    let port = section.number("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let (user, password) = (section.text("user"), section.secret("password"));
    if user.is_some() != password.is_some() {
        section.fault("user and password belong together", Some(String::from("give both, or neither")));
    }
    section.finish();
    Some(Channel::Mail { server: server?, port, encryption, login: user.zip(password), from: from?, to })
}
