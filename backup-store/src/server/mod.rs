//! How people write a place on a server: `rest:https://user@host:8000/path/`, `sftp://user@host:22/path`.
//!
//! A password in a place is refused, because places are shown and logged.

mod rest;
mod sftp;

pub use rest::RestServer;
pub use sftp::SftpServer;

use crate::url::percent_decoded;

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text.as_bytes())?).ok()
}

/// Whether `text` can be a host's name or number, with `[` and `]` around one that holds colons.
fn is_host(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_allowed)
}
