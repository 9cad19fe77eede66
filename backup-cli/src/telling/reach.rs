//! Whether those who are to be told can be reached, asked before there is something to tell. Nobody is told anything: no
//! message is sent, no address of a hook is asked for (some take that for a sign of life), and no file is written.

use std::path::Path;

use rustix::fs::{Access, access};
use tokio::runtime::Builder;

use super::channels::transport;
use crate::config::{Channel, Config};
use crate::exit::Failure;
use crate::secrets::origin::Origin;
use crate::session::{Session, access as environment};

/// What cannot be reached, by the key that names it. A secret that cannot be read is not among it: who reads all secrets
/// says so.
pub(crate) fn reach(config: &Config, session: &Session) -> Vec<(String, Failure)> {
    let mut all = Vec::new();
    for notify in &config.notify {
        let of = |key: &str| format!("notify.{}.{key}", notify.name);
        let (of, reached) = match &notify.channel {
            Channel::Webhook { url, .. } => (of("webhook.url"), server(url, session)),
            Channel::Mail { server, port, encryption, login, .. } => {
                let transport = transport(server, *port, *encryption, login.as_ref(), session);
                (of("mail.server"), transport.map_or(Ok(()), |transport| mail_server(server, &transport)))
            }
            Channel::Command(_) => continue,
        };
        all.extend(reached.err().map(|failure| (of, failure)));
    }
    if let Some(gateway) = &config.metrics.pushgateway {
        let reached = server(&gateway.url, session);
        all.extend(reached.err().map(|failure| ("metrics.pushgateway.url".to_owned(), failure)));
    }
    if let Some(path) = &config.metrics.textfile {
        all.extend(folder(path).err().map(|failure| ("metrics.textfile".to_owned(), failure)));
    }
    all
}

/// The server of an address, and not what is behind it.
fn server(url: &Origin, session: &Session) -> Result<(), Failure> {
    let Ok(url) = url.read("address", &session.console) else { return Ok(()) };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because("the network could not be used", &error))?;
    Ok(runtime.block_on(backup_store::reach_server(&url, &environment().environment))?)
}

/// As far as the server's greeting, its encryption and its login.
fn mail_server(name: &str, transport: &lettre::SmtpTransport) -> Result<(), Failure> {
    match transport.test_connection() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(format!("the mail server {name} does not answer as one"))),
        Err(error) => Err(Failure::because(format!("the mail server {name}"), &error)),
    }
}

fn folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = std::io::Error::from(error);
        Failure::because(format!("nothing can be written into {}", folder.display()), &error)
            .with_hint("make the folder, or name that of the collector")
    })
}
