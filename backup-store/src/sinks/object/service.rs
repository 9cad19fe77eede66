//! What `object_store` sends its requests through: a client that follows no redirect, gives up a connection on which
//! nothing moves, and keeps what a server says when it refuses.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt as _;
use futures::future::poll_fn;
use http::header::CONTENT_RANGE;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::Response;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::http::{Failure, Refusal, STALL_MAX};

/// So much of a body is handed on at a time, so that a large upload shows how far it is.
const PIECE_BYTES: usize = 64 * 1024;

/// At most so much of what a server says when it refuses is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Where machines in a cloud ask for credentials. Elsewhere nobody answers there, and nobody waits for it.
const METADATA_HOSTS: [&str; 4] = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "metadata.google.internal"];

/// For how long one waits for those.
const METADATA_MAX: Duration = Duration::from_secs(2);

/// Whether `host` is where a machine asks for its own credentials.
fn is_metadata(host: &str) -> bool {
    METADATA_HOSTS.contains(&host)
}

/// A client that is shared by all that a store sends.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    client: reqwest::Client,
    proof: Proof,
    /// Whether the machine has handed out credentials before: then it will again.
    has_had_credentials: Arc<AtomicBool>,
}

/// How it is known that the server has taken what was sent, and not what a bad line or bad memory made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "s3", feature = "gcs", feature = "azure")),
    expect(dead_code, reason = "each provider has its own, and not all of them are built in")
)]
pub(crate) enum Proof {
    /// By the signature, which covers a hash of the body.
    Signed,
    /// By `x-goog-hash`, which the server compares.
    GoogleHash,
    /// By `x-ms-content-crc64` of the answer, which is compared here.
    AzureAnswer,
}

impl Service {
    pub(crate) fn new(client: reqwest::Client, proof: Proof) -> Self {
        Self { client, proof, has_had_credentials: Arc::default() }
    }

    /// One request and its answer, whatever it is.
    async fn answer(&self, request: reqwest::Request, host: &str, progress: &Progress) -> Result<Response, Failure> {
        let answer = async {
            tokio::select! {
                answer = self.client.execute(request) => answer.map_err(|error| Failure::of(&error, host)),
                () = progress.stalled() => Err(Failure::Stalled),
            }
        };
        if !is_metadata(host) {
            return answer.await;
        }
        let answered = timeout(METADATA_MAX, answer).await;
        match answered {
            Err(_) => Err(self.without_credentials(host, String::from("no answer"))),
            Ok(Err(Failure::Unreachable { why, .. })) => Err(self.without_credentials(host, why)),
            // Not the store's word on an object, which it might pass for.
            Ok(Ok(answer)) if answer.status().is_client_error() => {
                Err(Failure::NoCredentials { host: host.to_owned(), why: answer.status().to_string() })
            }
            Ok(Ok(answer)) => {
                self.has_had_credentials.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(failed) => failed,
        }
    }

    /// Where a machine in a cloud does not answer once, it will; elsewhere nobody ever does.
    fn without_credentials(&self, host: &str, why: String) -> Failure {
        let host = host.to_owned();
        match self.has_had_credentials.load(Ordering::Relaxed) {
            true => Failure::Unreachable { host, why },
            false => Failure::NoCredentials { host, why },
        }
    }
}

impl HttpConnector for Service {
    /// The options of the store's builder are not heeded: all that matters is set in the client.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let host = parts.uri.host().unwrap_or_default().to_owned();
        let url = parts.uri.to_string().parse().map_err(|_| wrapped(Failure::Broken(String::from("not a URL"))))?;
        let is_upload = parts.method == Method::PUT && !is_metadata(&host);
        let progress = Arc::new(Progress::new());
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let mut expected = None;
        match self.proof {
            Proof::GoogleHash if is_upload => {
                let sum = base64::engine::general_purpose::STANDARD.encode(crc32c(&body).await.to_be_bytes());
                let value = HeaderValue::from_str(&format!("crc32c={sum}")).map_err(|error| wrapped(broken(&error)))?;
                request.headers_mut().insert("x-goog-hash", value);
            }
            Proof::AzureAnswer if is_upload => {
                expected = Some(base64::engine::general_purpose::STANDARD.encode(crc64(&body).await.to_le_bytes()));
            }
            _ => {}
        }
        if body.content_length() > 0 {
            *request.body_mut() = Some(reqwest::Body::wrap(Outgoing::new(body, Arc::clone(&progress))));
        }
        let answer = self.answer(request, &host, &progress).await.map_err(wrapped)?;
        if !answer.status().is_success() {
            return Err(wrapped(Failure::Refused(refusal(answer).await)));
        }
        let found = answer.headers().get("x-ms-content-crc64").and_then(|value| value.to_str().ok());
        if let (Some(found), Some(expected)) = (found, expected)
            && found != expected
        {
            return Err(wrapped(Failure::Garbled));
        }
        let (mut parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        if parts.status == StatusCode::OK && parts.headers.contains_key(CONTENT_RANGE) {
            // Some servers send a part, say which, and call it the whole (rclone's, 1.75).
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Incoming::new(body))))
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Broken(error.to_string())
}

async fn crc32c(body: &HttpRequestBody) -> u32 {
    // The sum of an algorithm of 32 bits.
    u32::try_from(checksum(body, CrcAlgorithm::Crc32Iscsi).await).unwrap_or_default()
}

async fn crc64(body: &HttpRequestBody) -> u64 {
    checksum(body, CrcAlgorithm::Crc64Nvme).await
}

async fn checksum(body: &HttpRequestBody, algorithm: CrcAlgorithm) -> u64 {
    let mut digest = Digest::new(algorithm);
    // A clone shares the bytes.
    let mut body = body.clone();
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Some(piece) = frame.data_ref() {
            digest.update(piece);
        }
    }
    digest.finalize()
}

/// `object_store` neither retries by this kind nor looks into it: the failure is found again in the chain of sources.
fn wrapped(failure: Failure) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, failure)
}

async fn refusal(answer: Response) -> Refusal {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    let mut pieces = pin!(answer.bytes_stream());
    while let Ok(Some(Ok(piece))) = timeout(STALL_MAX, pieces.next()).await {
        body.extend_from_slice(&piece[..piece.len().min(REFUSAL_BYTES_MAX - body.len())]);
        if body.len() == REFUSAL_BYTES_MAX {
            break;
        }
    }
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    Refusal::new(status, header, &String::from_utf8_lossy(&body))
}

/// When a request last moved.
#[derive(Debug)]
struct Progress {
    start: Instant,
    moved_milliseconds: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), moved_milliseconds: AtomicU64::new(0) }
    }

    fn moved(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_milliseconds.store(elapsed, Ordering::Relaxed);
    }

    /// Returns once nothing has moved for too long.
    async fn stalled(&self) {
        loop {
            let end = self.start + Duration::from_millis(self.moved_milliseconds.load(Ordering::Relaxed)) + STALL_MAX;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A request's body, in small pieces.
struct Outgoing {
    rest: HttpRequestBody,
    bytes_left: u64,
    piece: Bytes,
    progress: Arc<Progress>,
}

impl Outgoing {
    fn new(body: HttpRequestBody, progress: Arc<Progress>) -> Self {
        Self { bytes_left: body.content_length() as u64, rest: body, piece: Bytes::new(), progress }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.progress.moved();
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let bytes = self.piece.len().min(PIECE_BYTES);
        let piece = self.piece.split_to(bytes);
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}

/// An answer's body, which fails when nothing comes any more.
struct Incoming {
    body: reqwest::Body,
    patience: Pin<Box<Sleep>>,
}

impl Incoming {
    fn new(body: reqwest::Body) -> Self {
        Self { body, patience: Box::pin(sleep(STALL_MAX)) }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let end = Instant::now() + STALL_MAX;
            self.patience.as_mut().reset(end);
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| wrapped(Failure::of(&error, "the store")))));
        }
        self.patience.as_mut().poll(context).map(|()| Some(Err(wrapped(Failure::Stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_moves_is_not_given_up_and_one_that_does_not_is() {
        let progress = Arc::new(Progress::new());
        let moving = Arc::clone(&progress);
        let mover = async move {
            for _ in 0..10 {
                sleep(STALL_MAX / 2).await;
                moving.moved();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = mover => unreachable!("it waits for ever"),
            () = progress.stalled() => {}
        }
        assert_eq!(progress.start.elapsed().as_secs(), STALL_MAX.as_secs() * 6);
    }

    #[test]
    fn a_machine_that_has_handed_out_credentials_is_asked_again_and_another_is_not() {
        let network = crate::http::Network::new(&crate::access::Environment::default(), None);
        let service = Service::new(crate::http::client(&network, "x").unwrap(), Proof::Signed);
        let failure = || service.without_credentials(METADATA_HOSTS[0], String::from("no answer"));
        assert!(matches!(failure(), Failure::NoCredentials { .. }));
        service.clone().has_had_credentials.store(true, Ordering::Relaxed);
        assert!(matches!(failure(), Failure::Unreachable { .. }));
    }

    #[tokio::test]
    async fn checksums_are_those_of_the_catalogues() {
        let body = HttpRequestBody::from(Bytes::from("123456789"));
        assert_eq!(crc32c(&body).await, 0xe306_9283);
        assert_eq!(crc64(&body).await, 0xae8b_1486_0a79_9888);
    }

    #[tokio::test]
    async fn a_body_leaves_whole_and_in_small_pieces() {
        let content: Bytes = (0..200_000_u32).map(|number| number as u8).collect();
        let mut body = Outgoing::new(content.clone().into(), Arc::new(Progress::new()));
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let mut sent = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES);
            sent.extend_from_slice(&piece);
        }
        assert_eq!(sent, content);
        assert!(body.is_end_stream());
    }
}
