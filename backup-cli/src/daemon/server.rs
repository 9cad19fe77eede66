//! What is asked of the daemon over HTTP.
//!
//! Always true: it answers GET and HEAD and nothing else, reads no body, and takes no word of a request but its path, its
//! token and its host. Each connection has bounds on the size of its head and on its time, and there are so many at once
//! and no more ([`CONNECTIONS_MAX`] and its neighbours). What is shown is the view of a moment; nothing a request does
//! waits for a run or asks a repository.
//!
//! With a token, everything but the two probes needs it. Without one (on loopback alone), a request has to name this
//! machine as its host: a page elsewhere that makes a browser believe that its own name is this machine learns nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::metrics;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::health::Health;
use super::page;
use super::view::Shown;

/// Connections at once: a few people, a Prometheus or two, and probes.
const CONNECTIONS_MAX: usize = 32;
/// The head of a request: a path and a token.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Until the head of a request is there.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Of a whole connection, with all its requests.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);

/// What answers.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// What is known.
    pub(super) shown: Shown,
    /// Whether the daemon lives.
    pub(super) health: Arc<Health>,
    /// Who may ask.
    pub(super) door: Door,
}

/// Who may ask: whoever knows the token, where there is one. A configuration that is read again may name another.
#[derive(Clone, Debug)]
pub(super) struct Door(Arc<RwLock<Option<Token>>>);

impl Door {
    /// Opens to who knows `token`.
    pub(super) fn new(token: Option<Token>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// From now on opens to who knows `token`, and to nobody for the one before.
    pub(super) fn change(&self, token: Option<Token>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn token(&self) -> Option<Token> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A token, of which only the hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// The token that is spelled so.
    pub(super) fn new(text: &str) -> Self {
        Self(Sha256::digest(text.trim().as_bytes()).into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Answers whoever connects, for as long as the runtime lives.
pub(super) async fn serve(listener: TcpListener, answers: Answers) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files: they become fewer.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answers.answer(request.method(), request.uri().path(), request.headers());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A connection that ends badly is the other end's affair.
            let _ = tokio::time::timeout(CONNECTION_WITHIN, connection).await;
            drop(place);
        });
    }
}

impl Answers {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let mut answer = self.found(method, path, headers);
        let headers = answer.headers_mut();
        let fixed = [
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (CONTENT_SECURITY_POLICY, page::POLICY),
        ];
        for (name, value) in fixed {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        answer
    }

    fn found(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return with(text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"), ALLOW, "GET, HEAD");
        }
        let now = SystemClock.now();
        match path {
            // Probes say nothing but that, and know no token.
            "/healthz" => match self.health.is_alive(now) {
                true => text(StatusCode::OK, "alive"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "stuck"),
            },
            "/readyz" => match self.shown.view().is_ready {
                true => text(StatusCode::OK, "ready"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "the repositories were not read yet"),
            },
            _ => match self.admits(headers) {
                Admitted::No(answer) => *answer,
                Admitted::Yes if path == "/" => {
                    body(StatusCode::OK, "text/html; charset=utf-8", page::html(&self.shown.view().as_of(now), now))
                }
                Admitted::Yes if path == "/metrics" => {
                    self.health.fetch(now);
                    body(StatusCode::OK, metrics::CONTENT_TYPE, self.shown.view().as_of(now).figures(now))
                }
                Admitted::Yes => text(StatusCode::NOT_FOUND, "there are /, /metrics, /healthz and /readyz"),
            },
        }
    }

    fn admits(&self, headers: &HeaderMap) -> Admitted {
        let Some(token) = self.door.token() else {
            return match headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(names_this_machine) {
                true => Admitted::Yes,
                false => Admitted::No(Box::new(text(
                    StatusCode::MISDIRECTED_REQUEST,
                    "ask for localhost, or give the daemon a token",
                ))),
            };
        };
        // Hashes are compared, so that how long it takes says nothing of the token.
        match presented(headers).is_some_and(|presented| Token::new(&presented) == token) {
            true => Admitted::Yes,
            false => {
                let answer =
                    text(StatusCode::UNAUTHORIZED, "it takes the token: as Bearer, or as the password of any user");
                Admitted::No(Box::new(with(answer, WWW_AUTHENTICATE, "Basic realm=\"backup\", charset=\"UTF-8\"")))
            }
        }
    }
}

enum Admitted {
    Yes,
    No(Box<Response<Full<Bytes>>>),
}

/// The token of a request: a bearer's, or the password that a browser asks for.
fn presented(headers: &HeaderMap) -> Option<String> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64.decode(rest.trim()).ok()).flatten()?;
    Some(String::from_utf8(decoded).ok()?.split_once(':')?.1.to_owned())
}

/// Whether a `Host` is an address, or a name that only this machine has.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let is_address = host.parse::<SocketAddr>().is_ok()
        || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    is_address || name.eq_ignore_ascii_case("localhost")
}

fn text(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

fn body(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    with(answer, CONTENT_TYPE, kind)
}

fn with(mut answer: Response<Full<Bytes>>, name: http::HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
    answer
}

#[cfg(test)]
mod tests {
    use super::super::view::sample;
    use super::*;

    fn answers(token: Option<&str>) -> Answers {
        let health = Arc::new(Health::new(SystemClock.now()));
        Answers { shown: Shown::new(sample::view()), health, door: Door::new(token.map(Token::new)) }
    }

    fn asked(answers: &Answers, method: &Method, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        answers.answer(method, path, &headers.collect()).status().as_u16()
    }

    #[test]
    fn there_are_four_things_to_get_and_nothing_to_do() {
        let answers = answers(None);
        let local = [("host", "localhost:9797")];
        for (method, path, status) in [
            (Method::GET, "/", 200),
            (Method::HEAD, "/", 200),
            (Method::GET, "/metrics", 200),
            (Method::GET, "/healthz", 200),
            (Method::GET, "/readyz", 200),
            (Method::GET, "/etc/passwd", 404),
            (Method::GET, "//", 404),
            (Method::POST, "/", 405),
            (Method::DELETE, "/healthz", 405),
            (Method::OPTIONS, "/", 405),
        ] {
            assert_eq!(asked(&answers, &method, path, &local), status, "{method} {path}");
        }
    }

    #[test]
    fn with_a_token_only_the_probes_go_without() {
        let answers = answers(Some("open sesame\n"));
        let basic = format!("Basic {}", BASE64.encode("me:open sesame"));
        for (header, status) in [
            ("Bearer open sesame", 200),
            ("bearer open sesame", 200),
            (basic.as_str(), 200),
            ("Bearer open sesam", 401),
            ("Bearer ", 401),
            ("Basic !", 401),
            ("open sesame", 401),
        ] {
            assert_eq!(asked(&answers, &Method::GET, "/metrics", &[("authorization", header)]), status, "{header}");
        }
        assert_eq!(asked(&answers, &Method::GET, "/", &[("host", "localhost")]), 401);
        assert_eq!(asked(&answers, &Method::GET, "/nothing", &[]), 401);
        assert_eq!(asked(&answers, &Method::GET, "/healthz", &[]), 200);
        assert_eq!(format!("{answers:?}").find("sesame"), None);
    }

    #[test]
    fn without_a_token_another_name_for_this_machine_learns_nothing() {
        for (host, status) in [
            ("localhost", 200),
            ("LOCALHOST:9797", 200),
            ("127.0.0.1:9797", 200),
            ("[::1]:9797", 200),
            ("[::1]", 200),
            ("evil.example.org", 421),
            ("evil.example.org:9797", 421),
            ("localhost.evil.example.org", 421),
            ("", 421),
        ] {
            assert_eq!(asked(&answers(None), &Method::GET, "/metrics", &[("host", host)]), status, "{host}");
        }
        assert_eq!(asked(&answers(None), &Method::GET, "/", &[]), 421);
    }

    #[test]
    fn no_answer_may_be_kept_or_framed_or_run() {
        let answers = answers(None);
        for path in ["/", "/metrics", "/nothing"] {
            let headers = [(HOST, http::HeaderValue::from_static("localhost"))].into_iter().collect();
            let answer = answers.answer(&Method::GET, path, &headers);
            let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("script"), "{policy}");
            assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        }
    }
}
