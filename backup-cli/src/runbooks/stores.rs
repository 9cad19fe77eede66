//! A repository of the configuration as a machine without one reaches it: its place, what opens it, and the same in
//! restic's words.

use backup_core::runbook::{ResticPlace, StoreFacts, Variable};
use backup_store::{Place, Provider};

use crate::config::{self, Credentials};
use crate::facts::Reading;
use crate::secrets::origin::Origin;

/// The facts of a repository whose secrets lie on `host`.
pub(super) fn of(repository: &config::Repository, reading: Option<&Reading>, host: &str) -> StoreFacts {
    let histories = reading.and_then(|reading| reading.histories.as_ref());
    StoreFacts {
        name: repository.name.clone(),
        place: shown(&repository.place),
        cold: repository.cold.as_ref().map(shown),
        is_archived: is_archived(repository.cold.as_ref().unwrap_or(&repository.place)),
        passphrase: repository.passphrase.as_ref().map(origin),
        variables: variables(&repository.place, repository.credentials.as_ref(), host),
        // Neither half of a pair is a repository by itself.
        restic: match repository.cold {
            Some(_) => None,
            None => restic(&repository.place, repository.credentials.as_ref(), host),
        },
        is_lock_free: repository.is_lock_free,
        unreachable: reading.and_then(|reading| reading.unreachable.clone()),
        read: histories.map(|histories| histories.read),
    }
}

/// A repository that was named by its place.
pub(super) fn of_place(name: &str, place: &Place, read: jiff::Timestamp) -> StoreFacts {
    StoreFacts {
        name: name.to_owned(),
        place: shown(place),
        is_archived: is_archived(place),
        variables: variables(place, None, "the machine that ran the backups"),
        restic: restic(place, None, "the machine that ran the backups"),
        read: Some(read),
        ..StoreFacts::default()
    }
}

/// The place, a folder by its absolute path.
fn shown(place: &Place) -> String {
    match place {
        Place::Folder(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
        other => other.to_string(),
    }
}

/// Whether content is put into a class that has to be thawed. What a rule of the bucket does is not known here.
fn is_archived(place: &Place) -> bool {
    matches!(place, Place::Bucket(bucket) if bucket.provider == Provider::S3
        && matches!(bucket.settings.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE")))
}

/// Where a secret is.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => format!("the file {}", path.display()),
        Origin::Command(command) => format!("printed by the command {}", command.to_string_lossy()),
        Origin::Variable(name) => format!("the variable {name} of who runs the jobs"),
        Origin::Given(_) => "written in the configuration itself".to_owned(),
    }
}

/// What this program wants to be set.
fn variables(place: &Place, credentials: Option<&Credentials>, host: &str) -> Vec<Variable> {
    let on = |secret: &Origin| format!("{} on {host}", origin(secret));
    let chain = || format!("from the provider; {host} has its own");
    match (place, credentials) {
        (Place::Bucket(bucket), _) => match (bucket.provider, credentials) {
            (Provider::S3, Some(Credentials::AccessKey { id, secret, session_token })) => {
                let mut all = vec![
                    Variable::secret("AWS_ACCESS_KEY_ID", on(id)),
                    Variable::secret("AWS_SECRET_ACCESS_KEY", on(secret)),
                ];
                all.extend(session_token.as_ref().map(|token| Variable::secret("AWS_SESSION_TOKEN", on(token))));
                all
            }
            (Provider::S3, _) => {
                vec![Variable::secret("AWS_ACCESS_KEY_ID", chain()), Variable::secret("AWS_SECRET_ACCESS_KEY", chain())]
            }
            (Provider::Gcs, Some(Credentials::ServiceAccount(json))) => {
                let path = format!("the path of a copy of the service account's JSON: {}", on(json));
                vec![Variable::secret("GOOGLE_APPLICATION_CREDENTIALS", path)]
            }
            (Provider::Gcs, _) => vec![Variable::secret("GOOGLE_APPLICATION_CREDENTIALS", chain())],
            (Provider::Azure, credentials) => {
                let account = bucket.settings.account.as_ref();
                let mut all: Vec<_> =
                    account.map(|name| Variable::plain("AZURE_STORAGE_ACCOUNT", name)).into_iter().collect();
                all.push(match credentials {
                    Some(Credentials::AccountKey(key)) => Variable::secret("AZURE_STORAGE_KEY", on(key)),
                    Some(Credentials::SharedAccessSignature(token)) => {
                        Variable::secret("AZURE_STORAGE_SAS_TOKEN", on(token))
                    }
                    _ => Variable::secret("AZURE_STORAGE_KEY", chain()),
                });
                all
            }
        },
        (Place::Rest(_), Some(Credentials::Login { user, password })) => {
            vec![Variable::plain("BACKUP_REST_USERNAME", user), Variable::secret("BACKUP_REST_PASSWORD", on(password))]
        }
        _ => Vec::new(),
    }
}

/// The same for restic; `None` for a place that it does not know.
fn restic(place: &Place, credentials: Option<&Credentials>, host: &str) -> Option<ResticPlace> {
    let ours = variables(place, credentials, host);
    let joined = |separator: &str, prefix: &str| match prefix.is_empty() {
        true => separator.to_owned(),
        false => format!("{separator}{prefix}"),
    };
    let (repository, variables) = match place {
        Place::Folder(_) => (shown(place), ours),
        Place::Bucket(bucket) => {
            let (name, prefix) = (&bucket.name, bucket.prefix.trim_matches('/'));
            match bucket.provider {
                Provider::S3 => {
                    let endpoint = bucket.settings.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com");
                    let mut all = ours;
                    let region = bucket.settings.region.as_ref();
                    all.extend(region.map(|region| Variable::plain("AWS_DEFAULT_REGION", region)));
                    (format!("s3:{}/{name}{}", endpoint.trim_end_matches('/'), joined("/", prefix)), all)
                }
                Provider::Gcs => (format!("gs:{name}:{}", joined("/", prefix)), ours),
                Provider::Azure => {
                    let renamed = ours.into_iter().map(|variable| {
                        let name = match variable.name.as_str() {
                            "AZURE_STORAGE_ACCOUNT" => "AZURE_ACCOUNT_NAME",
                            "AZURE_STORAGE_KEY" => "AZURE_ACCOUNT_KEY",
                            _ => "AZURE_ACCOUNT_SAS",
                        };
                        Variable { name: name.to_owned(), ..variable }
                    });
                    (format!("azure:{name}:{}", joined("/", prefix)), renamed.collect())
                }
            }
        }
        Place::Rest(server) => {
            let renamed = ours.into_iter().map(|variable| {
                let name = variable.name.replace("BACKUP_REST_", "RESTIC_REST_");
                Variable { name, ..variable }
            });
            (format!("rest:{}", server.url), renamed.collect())
        }
        Place::Sftp(server) => {
            let user = server.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let (host, path) = (&server.host, &server.path);
            let text = match server.port {
                Some(port) => format!("sftp://{user}{host}:{port}/{path}"),
                None => format!("sftp:{user}{host}:{path}"),
            };
            (text, ours)
        }
        _ => return None,
    };
    Some(ResticPlace { repository, variables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restic_is_told_the_same_place_in_its_own_words() {
        for (ours, theirs) in [
            ("/mnt/backups/repo", "/mnt/backups/repo"),
            ("s3://bucket/a/b", "s3:https://s3.amazonaws.com/bucket/a/b"),
            ("s3://bucket?endpoint=http://127.0.0.1:9000", "s3:http://127.0.0.1:9000/bucket/"),
            ("gs://bucket/a", "gs:bucket:/a"),
            ("az://container?account=me", "azure:container:/"),
            ("rest:https://me@host/repo", "rest:https://host/repo/"),
            ("sftp://me@host/srv/repo", "sftp:me@host:/srv/repo"),
            ("sftp://me@host:2222/srv/repo", "sftp://me@host:2222//srv/repo"),
        ] {
            let place = Place::parse(ours).unwrap();
            assert_eq!(restic(&place, None, "h").unwrap().repository, theirs, "{ours}");
        }
    }
}
