//! Profiles of Amazon's own programs, from `~/.aws/credentials` and `~/.aws/config`.
//!
//! Keys that stand in a profile are used, a program that it names is run, and a role is taken on by what its source has.
//! What a person has to be asked for (a sign-on, a code) is not: an error says how to hand it over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backup_core::{Error, Result};
use zeroize::Zeroizing;

use crate::access::Environment;

/// Properties by which a profile gets its credentials from elsewhere.
const FETCHED: [&str; 3] = ["sso_session", "sso_start_url", "login_session"];

/// So many profiles may refer to each other.
const SOURCES_MAX: usize = 8;

/// What the files say of one profile; nothing if they do not name it.
#[derive(Default)]
pub(super) struct Profile {
    name: String,
    /// How many profiles have referred to another on the way to this one.
    depth: usize,
    values: BTreeMap<String, Zeroizing<String>>,
}

/// A role that a profile is for, and with whose credentials it is taken on.
pub(super) enum RoleSource<'a> {
    /// Those of a profile: another one, or the keys in this.
    Profile(Box<Profile>),
    /// Those that a token in a file is exchanged for.
    WebIdentity(&'a str),
    /// What this machine finds elsewhere: `Environment`, `EcsContainer` or `Ec2InstanceMetadata`.
    Machine(&'a str),
}

/// The keys that stand in a profile.
pub(super) struct Keys<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) session_token: Option<&'a str>,
}

impl Profile {
    /// Reads the profile `asked_for`, or the one that `AWS_PROFILE` names, or the default one.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] when a profile that was named is in neither file.
    pub(super) fn read(asked_for: Option<&str>, environment: &Environment) -> Result<Self> {
        let named = asked_for.or_else(|| environment.get("AWS_PROFILE"));
        let name = named.unwrap_or("default");
        let file = |variable, name| {
            let home = || Some(Path::new(environment.get("HOME")?).join(".aws").join(name));
            environment.get(variable).map(PathBuf::from).or_else(home)
        };
        let mut profile = Self { name: name.to_owned(), ..Self::default() };
        let mut is_there = false;
        // What the file of credentials says counts before the other.
        let paths = [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
        for path in paths.iter().flatten() {
            let text = match fs::read_to_string(path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(Error::invalid(path.display().to_string(), "cannot be read")
                        .caused_by(error)
                        .with_hint("let whoever runs this read it, or name another: AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE"));
                }
            };
            is_there |= profile.take(&text);
        }
        if named.is_some() && !is_there {
            let looked_at: Vec<_> = paths.iter().flatten().map(|path| path.display().to_string()).collect();
            let by = if asked_for.is_some() { "profile=" } else { "AWS_PROFILE=" };
            return Err(Error::invalid(
                format!("{by}{name}"),
                match looked_at.as_slice() {
                    [] => String::from("there is no such profile: without HOME no file of profiles is found"),
                    paths => format!("there is no profile {name} in {}", paths.join(" or ")),
                },
            )
            .with_hint(format!(
                "name one that is there, which `aws configure list-profiles` shows, or make it: `aws configure --profile {name}`"
            )));
        }
        Ok(profile)
    }

    /// A property.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.as_str())
    }

    /// The role that it is for, and by whom.
    ///
    /// # Errors
    ///
    /// When nobody is named, somebody has to be asked, or the profiles refer to each other in a circle.
    pub(super) fn role(
        &self,
        environment: &Environment,
    ) -> std::result::Result<Option<(&str, RoleSource<'_>)>, String> {
        let (Some(arn), name) = (self.get("role_arn"), &self.name) else { return Ok(None) };
        if self.get("mfa_serial").is_some() {
            return Err(self.not_followed("mfa_serial"));
        }
        let source = match (self.get("source_profile"), self.get("credential_source")) {
            (Some(_), Some(_)) => {
                return Err(format!("the profile {name} names a source_profile and a credential_source: keep one"));
            }
            _ if self.depth >= SOURCES_MAX => {
                return Err(format!("the profile {name} is one of too many that refer to each other"));
            }
            // Its own keys, without its role.
            (Some(source), None) if source == name => {
                let values = self.values.iter().filter(|(key, _)| *key != "role_arn");
                let values = values.map(|(key, value)| (key.clone(), value.clone())).collect();
                RoleSource::Profile(Box::new(Self { name: name.clone(), depth: self.depth + 1, values }))
            }
            (Some(source), None) => {
                let mut source = Self::read(Some(source), environment).map_err(|error| error.to_string())?;
                source.depth = self.depth + 1;
                RoleSource::Profile(Box::new(source))
            }
            (None, Some(source)) => RoleSource::Machine(source),
            (None, None) => match self.get("web_identity_token_file") {
                Some(file) => RoleSource::WebIdentity(file),
                None => return Err(format!("the profile {name} has a role_arn and names no source_profile for it")),
            },
        };
        Ok(Some((arn, source)))
    }

    /// Whether it says how it gets any.
    pub(super) fn has_credentials(&self) -> bool {
        ["aws_access_key_id", "credential_process", "role_arn"]
            .iter()
            .chain(&FETCHED)
            .any(|key| self.get(key).is_some())
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its access key, the secret and perhaps a session's token.
    ///
    /// # Errors
    ///
    /// When it gets them from elsewhere.
    pub(super) fn keys(&self) -> std::result::Result<Option<Keys<'_>>, String> {
        if let (Some(id), Some(secret)) = (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            return Ok(Some(Keys { id, secret, session_token: self.get("aws_session_token") }));
        }
        let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
        for (has, lacks) in [(id, secret), (secret, id)] {
            if self.get(has).is_some() {
                return Err(format!("the profile {} has {has} and no {lacks}", self.name));
            }
        }
        match FETCHED.iter().find(|key| self.values.contains_key(**key)) {
            None => Ok(None),
            Some(key) => Err(self.not_followed(key)),
        }
    }

    /// For what a person has to be asked for, by Amazon's own program.
    fn not_followed(&self, key: &str) -> String {
        format!(
            "the profile {name} gets its credentials by {key}, which is not followed: give a profile `credential_process = aws \
             configure export-credentials --profile {name}`, or set what that prints with `--format env`",
            name = self.name
        )
    }

    /// Takes in what a file says of the profile; tells whether it names it.
    fn take(&mut self, text: &str) -> bool {
        let (mut is_ours, mut is_there) = (false, false);
        for line in text.lines() {
            // A line that is indented belongs to the property before it.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(section) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let section = section.trim();
                is_ours = section.strip_prefix("profile ").map_or(section, str::trim_start) == self.name;
                is_there |= is_ours;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_ours) {
                let value = value.split(" #").next().unwrap_or_default().trim();
                self.values.insert(key.trim().to_ascii_lowercase(), Zeroizing::new(value.to_owned()));
            }
        }
        is_there
    }
}
