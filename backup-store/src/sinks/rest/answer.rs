//! What a REST server's answer means, or that none came.

use std::future::Future;
use std::time::Duration;

use backup_core::contracts::{SinkError, SinkErrorKind};
use reqwest::Response;
use tokio::time::timeout;

use crate::http::{Failure, Refusal, STALL_MAX};
use crate::layers::LISTING_SECONDS_MAX;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    List,
    Write,
    Delete,
}

/// No answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    Failed(reqwest::Error),
    Late,
}

/// For how long an answer to a write may be waited for: an object of the greatest size over a slow line. Whoever repeats
/// writes knows their sizes and is stricter.
const WRITE_SECONDS_MAX: u64 = 3 * 60 * 60;

/// At most so much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// Waits for `work`, a step of `action`.
pub(super) async fn in_time<T>(
    action: Action,
    work: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Unanswered> {
    let longest = match action {
        Action::Read | Action::Delete => STALL_MAX,
        // It looks at every object before it begins to answer.
        Action::List => Duration::from_secs(LISTING_SECONDS_MAX),
        Action::Write => Duration::from_secs(WRITE_SECONDS_MAX),
    };
    match timeout(longest, work).await {
        Ok(answer) => answer.map_err(Unanswered::Failed),
        Err(_) => Err(Unanswered::Late),
    }
}

/// The error of a request that was not answered.
pub(super) fn unanswered(subject: String, unanswered: &Unanswered, host: &str) -> SinkError {
    let failure = match unanswered {
        Unanswered::Failed(error) => Failure::of(error, host),
        Unanswered::Late => Failure::Stalled,
    };
    match failure {
        Failure::Certificate { .. } => SinkError::new(SinkErrorKind::Other, subject)
            .caused_by(failure.to_string())
            .with_hint("check the address; an authority of your own is named with ?ca_certificate=FILE"),
        Failure::NotEncrypted { .. } => SinkError::new(SinkErrorKind::Unavailable, subject)
            .caused_by(failure.to_string())
            .with_hint("check the address and its port; one without TLS is written rest:http://"),
        failure => SinkError::new(SinkErrorKind::Unavailable, subject)
            .caused_by(failure.to_string())
            .with_hint("check the address and the network; nothing half-written is left, run it again"),
    }
}

/// The error that a refusal is.
pub(super) async fn refused(subject: String, action: Action, has_login: bool, mut response: Response) -> SinkError {
    let status = response.status().as_u16();
    let mut text = Vec::new();
    while let Ok(Some(piece)) = in_time(Action::Read, response.chunk()).await {
        text.extend_from_slice(&piece);
        if text.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let refusal = Refusal::new(status, header, &String::from_utf8_lossy(&text));
    // Restic's servers answer in plain words. What was asked for by its head alone has no body.
    let is_of_a_bucket = !refusal.code.is_empty() || header("x-amz-request-id").is_some();
    let error = SinkError::new(kind(status, action), subject);
    let hint = match (status, action) {
        // The kind says it all, and it happens every day.
        (404, _) => return error,
        (400..=499, _) if is_of_a_bucket => {
            "a bucket's server answers there: its address is written s3://BUCKET/PREFIX?endpoint=http://HOST:PORT"
        }
        (401, _) if has_login => {
            "check the user and the password, and the path: the server may want it to begin with the user's name"
        }
        (401, _) => "the server wants a user and a password: set BACKUP_REST_USERNAME and BACKUP_REST_PASSWORD",
        (403, Action::Delete) => {
            "an append-only server deletes nothing but locks: do this where the repository is kept"
        }
        (403, Action::Write) => {
            "the server lets this user write nothing there: check the user, and the path below which this user may write"
        }
        (403, Action::Read) => "the server lets this user read nothing there: check the user, and the path",
        (403, Action::List) => "the server lets this user list nothing there: check the user, and the path",
        (300..=399, _) => "the server points elsewhere: give the address that it means",
        (405 | 501, _) | (400, Action::Read | Action::List | Action::Delete) => {
            "what answers there speaks another protocol: check the address"
        }
        _ => return error.caused_by(refusal.to_string()).asking_for(refusal.retry_after),
    };
    error.caused_by(refusal.to_string()).asking_for(refusal.retry_after).with_hint(hint)
}

fn kind(status: u16, action: Action) -> SinkErrorKind {
    use SinkErrorKind::{NoSpace, NotFound, Other, PermissionDenied, Truncated, Unavailable};
    match (status, action) {
        (404, _) => NotFound,
        (401 | 403, _) => PermissionDenied,
        (413 | 507, _) => NoSpace,
        (416, _) => Truncated,
        // What arrived is not what its name says: it broke on the way.
        (400, Action::Write) | (408 | 425 | 429, _) => Unavailable,
        (501 | 505, _) => Other,
        (500.., _) => Unavailable,
        _ => Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &'static str) -> Response {
        let mut response = http::Response::builder().status(status);
        if let Some(after) = retry_after {
            response = response.header("Retry-After", after);
        }
        response.body(body).unwrap().into()
    }

    fn refusal(status: u16, action: Action) -> SinkError {
        refusal_in(status, action, "Some Words")
    }

    fn refusal_in(status: u16, action: Action, words: &'static str) -> SinkError {
        let answer = answer(status, Some("7"), words);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(refused("rest:http://host/x".to_owned(), action, false, answer))
    }

    #[test]
    fn what_may_pass_is_tried_again_when_the_server_says() {
        for status in [408, 429, 500, 502, 503, 504] {
            let error = refusal(status, Action::Read);
            assert_eq!(error.kind, SinkErrorKind::Unavailable, "{status}");
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        }
        assert_eq!(refusal(400, Action::Write).kind, SinkErrorKind::Unavailable);
    }

    #[test]
    fn a_buckets_server_is_told_by_its_answer() {
        let words = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
        for (status, action) in [(403, Action::Read), (403, Action::Write), (400, Action::List), (401, Action::Read)] {
            let error = refusal_in(status, action, words);
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("s3://BUCKET")), "{status}: {error:?}");
        }
        assert!(!refusal(403, Action::Read).hint.unwrap().contains("s3:"));
    }

    #[test]
    fn what_does_not_pass_says_what_to_do() {
        for (status, action, kind, word) in [
            (401, Action::Read, SinkErrorKind::PermissionDenied, "password"),
            (403, Action::Delete, SinkErrorKind::PermissionDenied, "append-only"),
            (403, Action::Write, SinkErrorKind::PermissionDenied, "write nothing"),
            (403, Action::Read, SinkErrorKind::PermissionDenied, "read nothing"),
            (403, Action::List, SinkErrorKind::PermissionDenied, "list nothing"),
            (301, Action::Read, SinkErrorKind::Other, "elsewhere"),
            (405, Action::List, SinkErrorKind::Other, "protocol"),
            (400, Action::Read, SinkErrorKind::Other, "protocol"),
        ] {
            let error = refusal(status, action);
            assert_eq!(error.kind, kind, "{status}");
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(word)), "{status}: {error:?}");
        }
        assert_eq!(refusal(404, Action::Read).kind, SinkErrorKind::NotFound);
        assert_eq!(refusal(507, Action::Write).kind, SinkErrorKind::NoSpace);
    }
}
