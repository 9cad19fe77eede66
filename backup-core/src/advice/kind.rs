//! What a thing is, how it is backed up, and what its loss would mean.

use serde::Serialize;

use super::given::Criticality;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A database of PostgreSQL, or all of a server.
    Postgres,
    /// A database of MySQL or MariaDB.
    Mysql,
    /// A database of MongoDB, or all of a deployment.
    Mongodb,
    /// A file of SQLite.
    Sqlite,
    /// A server of Redis or Valkey.
    Redis,
    /// Files that people or programs put there.
    Files,
    /// A bare repository of Git.
    Git,
    /// Configuration.
    Configuration,
    /// Keys and passwords.
    Secrets,
    /// Logs.
    Logs,
    /// What a command prints.
    Command,
}

impl Kind {
    /// Whether it is a database.
    pub fn is_database(self) -> bool {
        matches!(self, Self::Postgres | Self::Mysql | Self::Mongodb | Self::Sqlite | Self::Redis)
    }

    /// Whether a change of it is a reason to run at once: it changes seldom, and what changed last matters most.
    pub fn runs_on_change(self) -> bool {
        matches!(self, Self::Configuration | Self::Secrets | Self::Git)
    }

    /// How it is backed up, for people.
    pub fn how(self) -> &'static str {
        match self {
            Self::Postgres => "a dump of one transaction, read in full each time and stored incrementally",
            Self::Mysql => "a dump by the server's own program, read in full each time and stored incrementally",
            Self::Mongodb => "every document, as of one instant where the deployment can, stored incrementally",
            Self::Sqlite => "the file as it is between two transactions, stored incrementally",
            Self::Redis => "the snapshot that replicas get, stored incrementally",
            Self::Files | Self::Git | Self::Configuration | Self::Secrets | Self::Logs => {
                "files that changed are read, and of them what is new is stored: incremental"
            }
            Self::Command => "what the command prints, read in full each time and stored incrementally",
        }
    }

    /// Which part of it changes in a day, where nobody knows better.
    pub(super) fn usual_change(self) -> f64 {
        match self {
            Self::Postgres | Self::Mysql | Self::Mongodb | Self::Sqlite | Self::Command => 0.05,
            Self::Redis => 0.5,
            Self::Logs => 0.15,
            Self::Files | Self::Git | Self::Configuration | Self::Secrets => 0.01,
        }
    }

    /// What a byte of it takes in a repository, where nobody knows better.
    pub(super) fn usual_ratio(self) -> f64 {
        match self {
            Self::Postgres | Self::Mysql | Self::Mongodb | Self::Sqlite | Self::Command => 0.4,
            Self::Logs => 0.2,
            // Pictures, archives and packs of Git are compressed already, and nobody knows how much of it is.
            Self::Redis | Self::Files | Self::Git | Self::Configuration | Self::Secrets => 1.0,
        }
    }
}

/// What the loss of a thing of this kind means, where nobody has said, and why.
pub fn classify(kind: Kind) -> (Criticality, &'static str) {
    match kind {
        Kind::Postgres | Kind::Mysql | Kind::Mongodb | Kind::Sqlite => {
            (Criticality::Critical, "what programs have written into a database is nowhere else")
        }
        Kind::Secrets => (Criticality::Critical, "without its keys, what they sealed or signed is lost as well"),
        Kind::Redis => (Criticality::Important, "often a cache, but sessions and queues lie there too"),
        Kind::Files => (Criticality::Important, "files that somebody put there can seldom be made again"),
        Kind::Git => (Criticality::Important, "clones may be elsewhere, and nobody promises that they are whole"),
        Kind::Configuration => (Criticality::Important, "it can be written again, slowly, while everything waits"),
        Kind::Command => (Criticality::Important, "somebody cared enough to write a command for it"),
        Kind::Logs => (Criticality::Ordinary, "logs tell of the past, and nothing runs on them"),
    }
}

/// What a path is, by its name, and why that is thought. What lies in it is not looked at.
pub fn kind_of_path(path: &str) -> (Kind, &'static str) {
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    let has_part = |part: &str| path.split('/').any(|one| one == part);
    let is_secret = name == ".env"
        || name.starts_with(".env.")
        || name.ends_with(".env")
        || [".pem", ".key", ".kdbx", ".p12"].iter().any(|end| name.ends_with(end))
        || ["secrets", "private", ".ssh", ".gnupg"].contains(&name);
    if is_secret {
        (Kind::Secrets, "its name is one that keys and passwords have")
    } else if name.ends_with(".git") {
        (Kind::Git, "its name ends in .git")
    } else if name == "etc" || has_part("etc") || ["config", "conf", ".config"].contains(&name) {
        (Kind::Configuration, "configuration lies in such folders")
    } else if has_part("log") || has_part("logs") || name.ends_with(".log") {
        (Kind::Logs, "logs lie in such folders")
    } else {
        (Kind::Files, "nothing in its name says more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_its_name_says() {
        for (path, kind) in [
            ("/app/.env", Kind::Secrets),
            ("/app/.env.production", Kind::Secrets),
            ("/etc/ssl/private", Kind::Secrets),
            ("/etc", Kind::Configuration),
            ("/etc/nginx/", Kind::Configuration),
            ("/srv/git/app.git", Kind::Git),
            ("/var/log/app", Kind::Logs),
            ("/app/uploads", Kind::Files),
            ("/srv/catalogs", Kind::Files),
            ("/environment", Kind::Files),
        ] {
            assert_eq!(kind_of_path(path).0, kind, "{path}");
        }
    }

    #[test]
    fn databases_and_keys_are_critical_and_logs_are_not() {
        assert_eq!(classify(Kind::Postgres).0, Criticality::Critical);
        assert_eq!(classify(Kind::Secrets).0, Criticality::Critical);
        assert_eq!(classify(Kind::Logs).0, Criticality::Ordinary);
    }
}
