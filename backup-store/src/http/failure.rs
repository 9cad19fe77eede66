//! What can go wrong between a request and its answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use jiff::fmt::rfc2822;

use super::STALL_SECONDS_MAX;

/// No server is left alone for longer than this on its word: a day is longer than anybody's patience.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// At most so much of an error's text is kept.
const TEXT_CHARS_MAX: usize = 240;

/// Why a request has no good answer. No text in it holds a URL's query, where signatures are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server answered, and refused.
    #[cfg(feature = "object")]
    #[error("{0}")]
    Refused(Refusal),
    /// No connection could be made.
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    /// The place where a machine asks for its own credentials has none.
    #[cfg(feature = "object")]
    #[error("no credentials were found; {host}, where a machine in a cloud has them, says: {why}")]
    NoCredentials { host: String, why: String },
    /// A program, an agent beside this machine's programs or a service was to hand out credentials and did not.
    #[cfg(feature = "object")]
    #[error("no credentials come from {origin}: {why}")]
    #[cfg_attr(
        not(any(feature = "s3", feature = "gcs")),
        expect(dead_code, reason = "two providers have such, which are not built in")
    )]
    NotHandedOut { origin: String, why: String },
    /// The server is not who it should be.
    #[error("the certificate of {host} is not trusted: {why}")]
    Certificate { host: String, why: String },
    /// What answers knows nothing of TLS.
    #[error("what answers at {host} does not speak TLS")]
    NotEncrypted { host: String },
    /// Nothing moved for too long.
    #[error("nothing came or went for {STALL_SECONDS_MAX} s")]
    Stalled,
    /// The store has taken in something else than was sent.
    #[cfg(feature = "object")]
    #[error("the checksum of what the store has taken in is another one")]
    Garbled,
    /// The connection broke, or what came was no answer.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A server's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The server's name for what is wrong, as `NoSuchBucket`; empty when it gives none.
    pub(crate) code: String,
    /// Its sentence for people.
    pub(crate) message: String,
    /// Where the bucket is, when the server says that it is elsewhere.
    pub(crate) region: Option<String>,
    /// For how long it wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// What an answer says. The forms are those of S3, GCS (XML, and JSON) and Azure; of others the first line is kept.
    pub(crate) fn new(status: u16, header: impl Fn(&str) -> Option<String>, body: &str) -> Self {
        let element = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once("</")?;
            Some(plain(&unescaped(text)))
        };
        let code = header("x-ms-error-code").map(|code| plain(&code)).or_else(|| element("Code"));
        let is_markup = body.trim_start().starts_with('<');
        let message = element("Message").or_else(|| (!is_markup).then(|| plain(body)));
        let (code, message) = in_json(body).map_or((code, message), |(code, message)| (Some(code), Some(message)));
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        Self {
            status,
            code,
            message,
            region: header("x-amz-bucket-region").map(|region| plain(&region)).or_else(|| element("Region")),
            retry_after: header("retry-after").and_then(|text| wait(&text, header("date").as_deref())),
        }
    }
}

/// The code and the message of an error as Google's JSON interface tells it.
#[cfg(feature = "gcs")]
fn in_json(body: &str) -> Option<(String, String)> {
    let document: serde_json::Value = serde_json::from_str(body).ok()?;
    let error = &document["error"];
    let code = error["errors"][0]["reason"].as_str().unwrap_or_default();
    Some((plain(code), plain(error["message"].as_str()?)))
}

#[cfg(not(feature = "gcs"))]
fn in_json(_: &str) -> Option<(String, String)> {
    None
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store says {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() && self.message != self.code {
            write!(f, " ({})", self.message.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

impl Failure {
    /// What went wrong with a request to `host`.
    pub(crate) fn of(error: &reqwest::Error, host: &str) -> Self {
        let host = host.to_owned();
        match of_tls(error) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                return Self::Certificate { host, why: plain(&why.to_string()) };
            }
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                return Self::NotEncrypted { host };
            }
            _ => {}
        }
        if error.is_connect() {
            let why = if error.is_timeout() { String::from("no answer") } else { root(error) };
            return Self::Unreachable { host, why };
        }
        Self::Broken(root(error))
    }
}

/// The innermost cause, which is the one that says something.
pub(super) fn root(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    plain(&innermost.to_string())
}

/// What the encryption failed by.
fn of_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // An I/O error hides what it carries from the chain of sources.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

/// How long a `Retry-After` asks for (RFC 9110, 10.2.3): a number of seconds, or a date in the server's own clock, which
/// its `Date` tells.
fn wait(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    let text = retry_after.trim();
    let wait = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time.
        true if !text.is_empty() => text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs),
        _ => {
            let instant = |text: &str| rfc2822::parse(text.trim()).ok();
            let left = instant(text)?.timestamp().duration_since(instant(date?)?.timestamp());
            Duration::try_from(left).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The first line, without control characters, and not long.
fn plain(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// The text that stands in XML.
pub(crate) fn unescaped(text: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&#34;", "\""), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&str, &str)], body: &str) -> Refusal {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Refusal::new(status, header, body)
    }

    #[test]
    fn a_refusal_is_read_in_the_form_of_each_provider() {
        let s3 = refusal(
            400,
            &[],
            "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region &apos;x&apos; \
             is wrong</Message><Region>eu-west-1</Region><RequestId>1</RequestId></Error>",
        );
        assert_eq!(s3.to_string(), "the store says 400 AuthorizationHeaderMalformed (the region 'x' is wrong)");
        assert_eq!(s3.region.as_deref(), Some("eu-west-1"));
        let azure = refusal(
            403,
            &[("x-ms-error-code", "AuthenticationFailed")],
            "\u{feff}<Error><Code>Other</Code><Message>Server failed to authenticate.\nRequestId:1\nTime:2</Message>\
             <AuthenticationErrorDetail>the MAC 'secret'</AuthenticationErrorDetail></Error>",
        );
        assert_eq!(azure.to_string(), "the store says 403 AuthenticationFailed (Server failed to authenticate)");
        let google = refusal(
            412,
            &[],
            r#"{"error": {"code": 412, "message": "A condition is not met.", "errors": [{"reason": "conditionNotMet"}]}}"#,
        );
        assert_eq!(google.to_string(), "the store says 412 conditionNotMet (A condition is not met)");
        let head = refusal(301, &[("x-amz-bucket-region", "eu-central-1")], "");
        assert_eq!((head.to_string().as_str(), head.region.as_deref()), ("the store says 301", Some("eu-central-1")));
        let busy = refusal(503, &[("retry-after", "7")], "slow down\nplease");
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(busy.to_string(), "the store says 503 (slow down)");
    }

    #[test]
    fn a_wait_is_a_number_or_a_date_by_the_servers_clock_and_never_without_an_end() {
        let after = |text: &str, date: Option<&str>| {
            let headers = [Some(("retry-after", text)), date.map(|date| ("date", date))];
            refusal(503, &headers.into_iter().flatten().collect::<Vec<_>>(), "").retry_after
        };
        let noon = Some("Wed, 21 Oct 2015 12:00:00 GMT");
        for (text, date, expected) in [
            (" 7 ", None, Some(7)),
            ("0", None, Some(0)),
            ("18446744073709551615", None, Some(86_400)),
            ("99999999999999999999999999", None, Some(86_400)),
            ("Wed, 21 Oct 2015 12:01:30 GMT", noon, Some(90)),
            ("Wed, 21 Oct 2015 11:59:00 GMT", noon, Some(0)),
            ("Wed, 21 Oct 2099 11:59:00 GMT", noon, Some(86_400)),
            ("Wed, 21 Oct 2015 12:01:30 GMT", None, None),
            ("soon", noon, None),
            ("", noon, None),
            ("-1", noon, None),
        ] {
            assert_eq!(after(text, date), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_found_however_deep_it_lies() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let deep = io::Error::other(io::Error::other(refused));
        assert!(matches!(of_tls(&deep), Some(rustls::Error::InvalidCertificate(_))));
        assert!(of_tls(&io::Error::other("the line broke")).is_none());
    }

    #[test]
    fn what_a_server_says_cannot_reach_the_terminal_raw_nor_fill_it() {
        let hostile = refusal(500, &[], &format!("<Error><Message>\u{1b}[2J{}</Message>", "x".repeat(10_000)));
        assert!(!hostile.message.contains('\u{1b}') && hostile.message.len() <= TEXT_CHARS_MAX);
        let cut = refusal(500, &[], "<Error><Code>NoEnd");
        assert_eq!(cut.code, "");
    }
}
