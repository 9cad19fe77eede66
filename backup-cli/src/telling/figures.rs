//! Figures for those who run no daemon: a file for the textfile collector of Prometheus' node exporter, or a Pushgateway.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backup_core::metrics;
use backup_core::policy::{JobFacts, JobStanding};
use backup_store::{Message, Method, Secret};
use jiff::Timestamp;

use super::channels::post;
use super::state::note_figures;
use crate::config::{Metrics, Pushgateway};
use crate::exit::Failure;
use crate::session::{Session, identity};

/// Puts the figures where the configuration wants them. Returns what could not be delivered.
pub(crate) fn deliver(
    settings: &Metrics,
    jobs: &[(&JobFacts, &JobStanding)],
    now: Timestamp,
    session: &Session,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.textfile.is_none() && settings.pushgateway.is_none() {
        return warnings;
    }
    let text = metrics::text(jobs, now);
    if let Some(path) = &settings.textfile
        && let Err(failure) = write(path, &text)
    {
        warnings.push(format!("the figures are not in {}: {}", path.display(), failure.what));
    }
    if let Some(gateway) = &settings.pushgateway {
        match push(gateway, text, session) {
            // What cannot be noted is not known to have been taken, which is what the checklist then says.
            Ok(()) => drop(note_figures(now)),
            Err(failure) => warnings.push(format!("the Pushgateway has no figures: {}", failure.what)),
        }
    }
    warnings
}

/// The collector reads whenever it likes, so the file is there whole or as it was before.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because("it could not be written", &error);
    let folder = path.parent().unwrap_or(Path::new("/"));
    // The collector passes over names that do not end in .prom.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    // Others read it: the collector has a user of its own.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn push(gateway: &Pushgateway, body: String, session: &Session) -> Result<(), Failure> {
    let url = gateway.url.read("Pushgateway", &session.console)?;
    let instance = gateway.instance.clone().unwrap_or_else(|| identity(None).hostname);
    let instance: String =
        instance.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let url = format!("{}/metrics/job/backup/instance/{instance}", url.trim_end_matches('/'));
    post(&Message {
        url: Secret::new(url),
        method: Method::Put,
        content_type: metrics::CONTENT_TYPE,
        authorization: None,
        body,
    })
}
