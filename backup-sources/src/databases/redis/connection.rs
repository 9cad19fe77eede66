//! A connection to a server, and its protocol: commands out, replies in (RESP 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use backup_core::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_platform_verifier::Verifier;

use super::settings::{Address, RedisSettings, Tls};

/// The longest line, and the longest text, of a reply that is not a snapshot.
const REPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Answers in answers: a list of libraries has their functions, and these their marks.
const DEPTH_MAX: u32 = 8;

/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection to a server.
pub(super) struct Connection {
    stream: BufReader<Wire>,
    address: String,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(String),
    Failed(String),
    Number(i64),
    Text(Vec<u8>),
    Nothing,
    Several(Vec<Reply>),
}

/// The bytes on their way.
enum Wire {
    Network(TcpStream),
    Socket(UnixStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// Connects, and says who asks.
    pub(super) fn open(settings: &RedisSettings) -> Result<Self> {
        let address = settings.address.to_string();
        let unreachable = |error: io::Error| {
            Error::new(ErrorKind::Source("the server cannot be reached".into()), &address)
                .caused_by(error)
                .with_hint("check the address, whether the server runs, and whether it wants TLS (rediss://)")
        };
        let wire = wire(settings).map_err(unreachable)?;
        let mut connection = Self { stream: BufReader::with_capacity(256 * 1024, wire), address: address.clone() };
        if let Some(password) = &settings.password {
            let (user, password) = (settings.user.as_deref().map(str::as_bytes), password.reveal().as_bytes());
            let words: Vec<&[u8]> = [&b"AUTH"[..]].into_iter().chain(user).chain([password]).collect();
            let reply = connection.command(&words).map_err(unreachable)?;
            if let Reply::Failed(why) = reply {
                return Err(Error::new(ErrorKind::Source(format!("the server refuses the password: {why}")), &address)
                    .with_hint("check user and password"));
            }
        }
        // A server that wants a password, or TLS, says so now.
        if let Reply::Failed(why) = connection.command(&[b"PING"]).map_err(unreachable)? {
            // Whoever may not PING may still be allowed all that is needed.
            if !why.starts_with("NOPERM") {
                return Err(Error::new(ErrorKind::Source(format!("the server refuses: {why}")), &address)
                    .with_hint("a password goes into the URL, or the environment's REDISCLI_AUTH"));
            }
        }
        Ok(connection)
    }

    /// Where the server is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Asks, and waits for the answer.
    pub(super) fn command(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        self.send(words)?;
        self.flush()?;
        self.reply()
    }

    /// Asks without waiting.
    pub(super) fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().flush()
    }

    /// The next answer.
    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        self.reply_within(DEPTH_MAX)
    }

    fn reply_within(&mut self, depth: u32) -> io::Result<Reply> {
        let line = self.line()?;
        let (&sort, rest) = line.as_bytes().split_first().ok_or_else(|| strange("an empty line"))?;
        let rest = String::from_utf8_lossy(rest).into_owned();
        let number = || rest.parse::<i64>().map_err(|_| strange(&rest));
        Ok(match sort {
            b'+' => Reply::Status(rest),
            b'-' => Reply::Failed(rest),
            b':' => Reply::Number(number()?),
            b'$' | b'*' if number()? < 0 => Reply::Nothing,
            b'$' => {
                let length = number()?.unsigned_abs();
                if length > REPLY_BYTES_MAX {
                    return Err(strange("a text that is too long"));
                }
                let mut text = Vec::new();
                self.stream.by_ref().take(length).read_to_end(&mut text)?;
                if text.len() as u64 != length || !self.line()?.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Reply::Text(text)
            }
            b'*' => {
                let depth = depth.checked_sub(1).ok_or_else(|| strange("answers in answers in answers"))?;
                let mut replies = Vec::new();
                for _ in 0..number()? {
                    replies.push(self.reply_within(depth)?);
                }
                Reply::Several(replies)
            }
            _ => return Err(strange(&line)),
        })
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(REPLY_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        line.pop_if(|byte| *byte == b'\r');
        String::from_utf8(line).map_err(|_| strange("a line that is no text"))
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

fn strange(what: &str) -> io::Error {
    let shown: String = what.chars().take(100).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the server answered {shown:?}: is it one of Redis?"))
}

fn wire(settings: &RedisSettings) -> io::Result<Wire> {
    let patience = Some(settings.patience);
    let (host, port) = match &settings.address {
        Address::Socket(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(patience)?;
            socket.set_write_timeout(patience)?;
            return Ok(Wire::Socket(socket));
        }
        Address::Network(host, port) => (host, *port),
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host.as_str(), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Err(error) => failure = error,
            Ok(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                stream.set_nodelay(true)?;
                return match &settings.tls {
                    None => Ok(Wire::Network(stream)),
                    Some(tls) => encrypted(stream, host, tls),
                };
            }
        }
    }
    Err(failure)
}

fn encrypted(mut stream: TcpStream, host: &str, tls: &Tls) -> io::Result<Wire> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let certificates = |path: &std::path::Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.map_err(|error| io::Error::other(format!("the certificates in {}: {error}", path.display())))
    };
    let extra = tls.authority.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(io::Error::other)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| io::Error::other(format!("the key in {}: {error}", key.display())))?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(io::Error::other)?
        }
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    // Now, so that a certificate that is not trusted is told as such.
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(Wire::Encrypted(Box::new(StreamOwned::new(client, stream))))
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Network(stream) => stream.read(buffer),
            Self::Socket(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the server says nothing any more"),
            _ => error,
        })
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Network(stream) => stream.write(bytes),
            Self::Socket(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Network(stream) => stream.flush(),
            Self::Socket(stream) => stream.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
