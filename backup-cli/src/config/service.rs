//! `[daemon]` and `[metrics]`: how the daemon serves, and where figures go without one.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::section::Section;
use crate::secrets::origin::Origin;

/// How the daemon serves.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// What who asks has to know; needed where others than this machine can ask.
    pub(crate) token: Option<Origin>,
    /// How often facts are read from the repositories again.
    pub(crate) facts_every: SignedDuration,
}

/// Where figures go after each run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// A file for the textfile collector of Prometheus' node exporter.
    pub(crate) textfile: Option<PathBuf>,
    /// A Pushgateway.
    pub(crate) pushgateway: Option<Pushgateway>,
}

/// A Pushgateway.
#[derive(Clone, Debug)]
pub(crate) struct Pushgateway {
    /// Its address, as `http://127.0.0.1:9091`.
    pub(crate) url: Origin,
    /// What stands for this machine in the group of the figures; the machine's name when not given.
    pub(crate) instance: Option<String>,
}

/// A port that nobody has registered, on this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9_797);

/// Reads how the daemon serves.
pub(super) fn read_daemon(section: Option<&Section<'_>>) -> Daemon {
    let usual = Daemon { listen: LISTEN, token: None, facts_every: SignedDuration::from_mins(15) };
    let Some(section) = section else { return usual };
    let listen = section.parsed("listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| format!("{text:?} is no address and port: write \"127.0.0.1:9797\""))
    });
    let daemon = Daemon {
        listen: listen.unwrap_or(usual.listen),
        token: section.secret("token"),
        facts_every: section.some_time("facts_every").unwrap_or(usual.facts_every),
    };
    if !daemon.listen.ip().is_loopback() && daemon.token.is_none() {
        section.fault(
            "it listens where other machines can ask, and needs a token",
            Some(String::from("write token = { file = \"/etc/backup/token\" }, or listen on 127.0.0.1")),
        );
    }
    section.finish();
    daemon
}

/// Reads where figures go.
pub(super) fn read_metrics(section: Option<&Section<'_>>) -> Metrics {
    let Some(section) = section else { return Metrics::default() };
    let pushgateway = section.section("pushgateway").and_then(|gateway| {
        let url = gateway.secret("url");
        if url.is_none() && !gateway.has("url") {
            gateway.fault("url is missing", Some(String::from("write url = \"http://127.0.0.1:9091\"")));
        }
        let instance = gateway.text("instance");
        gateway.finish();
        Some(Pushgateway { url: url?, instance })
    });
    let textfile = section.parsed("textfile", |text| match text.starts_with('/') && text.ends_with(".prom") {
        true => Ok(PathBuf::from(text)),
        false => Err("it is not a path from the root that ends in .prom, and the collector takes no other"),
    });
    section.finish();
    Metrics { textfile, pushgateway }
}
