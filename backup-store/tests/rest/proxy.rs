//! An HTTP proxy on loopback between a sink and its server that does to every request what it is told to.
//!
//! One request a connection: it is read whole, sent on, and its answer given back, unless a fault says otherwise. What is
//! drawn at random is drawn from a seed, so a run can be repeated up to the order in which requests come.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The answer comes so much later.
    Latency(Duration),
    /// The answer comes at so many bytes a second.
    Slow(u64),
    /// The connection is cut before the server hears of it.
    Reset,
    /// The server does what it was asked to, and the connection is cut before its answer.
    DoneThenReset,
    /// The server never hears of it; this status is answered, with so many seconds to wait where that is given.
    Status(u16, Option<u64>),
    /// The server never hears of it, and S3's error of this status and code is answered.
    Refused(u16, &'static str),
    /// The server does what it was asked to, and this status is answered.
    DoneButStatus(u16),
    /// The server gets half of the request's body, and the connection is cut.
    HalfAnUpload,
    /// One bit of the request's body arrives as the other.
    FlippedBit,
    /// Half of the answer's body comes, and the connection is cut.
    HalfAnAnswer,
    /// Half of the answer comes, and then nothing more, for as long as anybody waits.
    Stall,
    /// A listing is the one that was given the last time.
    StaleListing,
}

/// Which fault happens to the request of a number.
pub(crate) type Plan = dyn Fn(u64) -> Option<Fault> + Send + Sync;

/// A running proxy. It ends with the test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    server: SocketAddr,
    plan: Box<Plan>,
    requests: AtomicU64,
    faults: AtomicU64,
    listings: Mutex<HashMap<String, Vec<u8>>>,
}

/// A request as it came: its first line and headers, and its body.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr, plan: impl Fn(u64) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            plan: Box::new(plan),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            listings: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&served);
                // A connection that breaks is what this is for.
                tokio::spawn(async move { drop(shared.serve(client).await) });
            }
        });
        Self { address, shared, _runtime: runtime }
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// To how many of them something happened.
    pub(crate) fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

/// One of `faults`, or none for most requests: `permille` of a thousand are hit. The same for the same seed.
pub(crate) fn at_random(seed: u64, permille: u64, faults: Vec<Fault>) -> impl Fn(u64) -> Option<Fault> + Send + Sync {
    move |number| {
        let mixed = mix(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(number));
        let which = usize::try_from(mixed >> 32).unwrap() % faults.len();
        (mixed % 1_000 < permille).then(|| faults[which])
    }
}

/// The mixer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(head) = read_head(&mut client).await? else { return Ok(()) };
        let fault = (self.plan)(self.requests.fetch_add(1, Ordering::Relaxed));
        self.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        if fault == Some(Fault::Reset) {
            // What was sent and not read makes the close a reset.
            return Ok(());
        }
        let mut body = vec![0; length_of(&head)];
        client.read_exact(&mut body).await?;
        if let Some(byte) = body.last_mut().filter(|_| fault == Some(Fault::FlippedBit)) {
            *byte ^= 1;
        }
        let request = Request { head, body };
        match fault {
            Some(Fault::Status(status, retry_after)) => return client.write_all(&refusal(status, retry_after)).await,
            Some(Fault::Refused(status, code)) => return client.write_all(&refusal_of_s3(status, code)).await,
            Some(Fault::HalfAnUpload) => return self.forward_half(&request).await,
            Some(Fault::StaleListing) => {
                let last = self.listings.lock().unwrap().get(request.target()).cloned();
                if let Some(answer) = last {
                    return client.write_all(&answer).await;
                }
            }
            _ => {}
        }
        let answer = self.forward(&request).await?;
        if request.is_listing() {
            self.listings.lock().unwrap().insert(request.target().to_owned(), answer.clone());
        }
        let body_at = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let middle = body_at + (answer.len() - body_at) / 2;
        match fault {
            Some(Fault::DoneThenReset) => Ok(()),
            Some(Fault::DoneButStatus(status)) => client.write_all(&refusal(status, None)).await,
            Some(Fault::HalfAnAnswer) => client.write_all(&answer[..middle]).await,
            Some(Fault::Stall) => {
                client.write_all(&answer[..middle]).await?;
                // Until the other side has had enough.
                client.read_u8().await.map(drop)
            }
            Some(Fault::Slow(bytes_per_second)) => {
                for piece in answer.chunks(usize::try_from(bytes_per_second / 20).unwrap().max(1)) {
                    client.write_all(piece).await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            }
            Some(Fault::Latency(time)) => {
                tokio::time::sleep(time).await;
                client.write_all(&answer).await
            }
            _ => client.write_all(&answer).await,
        }
    }

    /// Sends the request on and reads the whole answer, which the server ends by closing.
    async fn forward(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server).await?;
        server.write_all(request.closing_head(self.server).as_bytes()).await?;
        server.write_all(&request.body).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        let end = answer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if request.head.starts_with("PUT ") && request.head.contains("x-ms-version") && end > 0 {
            // Azure says so of what it has taken in; its emulator does not.
            let sum = base64::engine::general_purpose::STANDARD.encode(crc64(&request.body).to_le_bytes());
            answer.splice(end..end, format!("x-ms-content-crc64: {sum}\r\n").into_bytes());
        }
        Ok(answer)
    }

    async fn forward_half(&self, request: &Request) -> io::Result<()> {
        let mut server = TcpStream::connect(self.server).await?;
        server.write_all(request.closing_head(self.server).as_bytes()).await?;
        server.write_all(&request.body[..request.body.len() / 2]).await
    }
}

impl Request {
    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn is_listing(&self) -> bool {
        let target = self.target();
        let is_of_a_bucket = ["list-type=2", "comp=list"].iter().any(|mark| target.contains(mark));
        self.head.starts_with("GET ") && (target.ends_with('/') || is_of_a_bucket)
    }

    /// The head, asking the server to close when it has answered. A signature covers the host; where there is none it
    /// becomes the server's own, which some look at.
    fn closing_head(&self, server: SocketAddr) -> String {
        let head = self.head.to_ascii_lowercase();
        let is_signed = head.contains("authorization:") && !head.contains("authorization: bearer");
        let is_dropped = |line: &str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("connection:") || !is_signed && line.starts_with("host:")
        };
        let mut lines: Vec<_> =
            self.head.trim_end().lines().filter(|line| !is_dropped(line)).map(str::to_owned).collect();
        if !is_signed {
            lines.push(format!("Host: {server}"));
        }
        lines.extend(["Connection: close", "", ""].map(str::to_owned));
        lines.join("\r\n")
    }
}

/// The CRC64 of NVMe, bit by bit.
fn crc64(bytes: &[u8]) -> u64 {
    let step = |sum: u64| if sum & 1 == 1 { (sum >> 1) ^ 0x9a6c_9329_ac4b_c9b5 } else { sum >> 1 };
    !bytes.iter().fold(u64::MAX, |sum, byte| (0..8).fold(sum ^ u64::from(*byte), |sum, _| step(sum)))
}

/// The request's line and headers up to the empty line; `None` when nothing came.
async fn read_head(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of the body is taken.
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if head.is_empty() && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn length_of(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    length.unwrap_or_default()
}

fn refusal(status: u16, retry_after: Option<u64>) -> Vec<u8> {
    let retry_after = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 {status} Fault\r\n{retry_after}Content-Length: 5\r\nConnection: close\r\n\r\nfault").into_bytes()
}

fn refusal_of_s3(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told by the proxy</Message></Error>");
    let head =
        format!("HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n", body.len());
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}
