//! What a store's answer means: a kind for programs, a cause and a next step for people.

use std::error::Error as StdError;

use backup_core::contracts::{SinkError, SinkErrorKind};

use crate::http::{Failure, Refusal};

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Write,
    Read,
    List,
    Delete,
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "only Amazon's archives are asked"))]
    Thaw,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Thaw => "thaw",
        }
    }
}

/// Codes that say that there is no such bucket.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"];

/// Codes that say that the credentials are no good, whatever they would allow.
const BAD_CREDENTIALS: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidTokenId",
    "InvalidClientTokenId",
    "InvalidAuthenticationInfo",
    "UnrecognizedClientException",
];

/// Codes that say that a request was signed for another region than the bucket's.
const ELSEWHERE: [&str; 3] =
    ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "AuthorizationQueryParametersError"];

/// Codes by which Azure refuses a signature, whatever is wrong with it: its times too.
const AZURES: [&str; 2] = ["AuthenticationFailed", "AuthorizationFailure"];

/// Codes that say that they were good once.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

/// Codes that say that what arrived is not what was sent, or did not arrive in time: sent again it may.
const DAMAGED_ON_THE_WAY: [&str; 9] = [
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "Md5Mismatch",
    "Crc64Mismatch",
    "IncompleteBody",
    "RequestTimeout",
    "ConditionalRequestConflict",
    "OperationAborted",
];

/// Codes that say that an object must be thawed first.
const FROZEN: [&str; 3] = ["InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"];

/// Codes that say that there is no room.
const FULL: [&str; 5] = [
    "XMinioStorageFull",
    "QuotaExceeded",
    "InsufficientCapacity",
    "AccountQuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
];

/// The error of an action on `subject` that ended with `error`.
pub(crate) fn sink_error(subject: String, action: Action, error: &(dyn StdError + 'static)) -> SinkError {
    match failure_in(error) {
        Some(Failure::Refused(refusal)) => refused(subject, action, refusal),
        Some(failure @ Failure::NoCredentials { .. }) => SinkError::new(SinkErrorKind::PermissionDenied, subject)
            .caused_by(failure.to_string())
            .with_hint("give credentials in the environment or in a file: docs/manual names them for each provider"),
        Some(failure @ Failure::NotHandedOut { .. }) => {
            SinkError::new(SinkErrorKind::PermissionDenied, subject).caused_by(failure.to_string()).with_hint(
                "try by itself what hands them out: docs/manual, on the page of the provider, says how it is asked",
            )
        }
        Some(failure @ Failure::Certificate { .. }) => SinkError::new(SinkErrorKind::Other, subject)
            .caused_by(failure.to_string())
            .with_hint("check the endpoint; an authority of your own is named with ca_certificate=FILE"),
        Some(failure @ Failure::NotEncrypted { .. }) => SinkError::new(SinkErrorKind::Unavailable, subject)
            .caused_by(failure.to_string())
            .with_hint("check the endpoint and its port; one without TLS is written http://"),
        Some(failure @ Failure::Garbled) => SinkError::new(SinkErrorKind::Garbled, subject)
            .caused_by(failure.to_string())
            .with_hint("the line or this machine's memory changes what is sent: look after both, then run it again"),
        Some(failure) => SinkError::new(SinkErrorKind::Unavailable, subject)
            .caused_by(failure.to_string())
            .with_hint("check the endpoint and the network; nothing half-written is left, run it again"),
        None => SinkError::new(kind_without_answer(error.downcast_ref()), subject).caused_by(innermost(error)),
    }
}

/// Whether the server gives one of these codes.
fn is_one(refusal: &Refusal, codes: &[&str]) -> bool {
    codes.contains(&refusal.code.as_str())
}

fn refused(subject: String, action: Action, refusal: &Refusal) -> SinkError {
    let (kind, hint) = meaning(action, refusal);
    if hint.is_none() && matches!(kind, SinkErrorKind::NotFound | SinkErrorKind::AlreadyExists) {
        // The kind says it all, and it happens every day.
        return SinkError::new(kind, subject);
    }
    let cause = match (kind, action) {
        (SinkErrorKind::PermissionDenied, action) if hint.is_none() => {
            format!("these credentials may not {} it: {refusal}", action.name())
        }
        _ => refusal.to_string(),
    };
    let error = SinkError::new(kind, subject).caused_by(cause).asking_for(refusal.retry_after);
    match (hint, kind) {
        (Some(hint), _) => error.with_hint(hint),
        (None, SinkErrorKind::PermissionDenied) if is_one(refusal, &AZURES) => error.with_hint(
            "the key or signature may be wrong, have expired, begin later or not allow it, or this machine's clock be wrong",
        ),
        (None, SinkErrorKind::PermissionDenied) => {
            error.with_hint("give them a policy that allows it: docs/manual has the smallest for each task")
        }
        (None, _) => error,
    }
}

/// What a refusal is, and what to try where that is known.
fn meaning(action: Action, refusal: &Refusal) -> (SinkErrorKind, Option<String>) {
    use SinkErrorKind as Kind;
    let hint = |text: &str| Some(text.to_owned());
    if is_one(refusal, &NO_BUCKET) {
        return (Kind::NotFound, hint("check the name of the bucket, and the endpoint; a bucket is made by its owner"));
    }
    if is_one(refusal, &EXPIRED) {
        return (Kind::PermissionDenied, hint("the credentials have expired: get new ones and run it again"));
    }
    if is_one(refusal, &["RequestTimeTooSkewed"]) {
        return (Kind::PermissionDenied, hint("this machine's clock is wrong: set it, and run it again"));
    }
    if is_one(refusal, &AZURES) {
        return (Kind::PermissionDenied, None);
    }
    if is_one(refusal, &BAD_CREDENTIALS) || refusal.status == 401 {
        return (
            Kind::PermissionDenied,
            hint("check the credentials: the store does not know them, or the secret is wrong"),
        );
    }
    // Other errors name the bucket's region as well. An answer to HEAD names no error.
    let is_elsewhere = match refusal.status {
        301 | 307 => true,
        400 => refusal.code.is_empty() || is_one(refusal, &ELSEWHERE),
        _ => false,
    };
    if let Some(region) = refusal.region.as_deref().filter(|_| is_elsewhere) {
        return (Kind::Other, Some(format!("the bucket is in another region: give region={region}")));
    }
    if matches!(refusal.status, 300..400) {
        return (Kind::Other, hint("the bucket is somewhere else: check region and endpoint"));
    }
    if is_one(refusal, &FROZEN) {
        return (Kind::Frozen, None);
    }
    if is_one(refusal, &FULL) || refusal.status == 507 {
        return (Kind::NoSpace, None);
    }
    if is_one(refusal, &DAMAGED_ON_THE_WAY) {
        return (Kind::Unavailable, None);
    }
    let kind = match (refusal.status, action) {
        (404 | 410, _) => Kind::NotFound,
        (403, _) => Kind::PermissionDenied,
        (409 | 412, Action::Write) | (409, Action::Thaw) => Kind::AlreadyExists,
        (409, _) => Kind::Unavailable,
        (416, _) => Kind::Truncated,
        (405, Action::Write | Action::Delete) => Kind::ReadOnly,
        (501, _) => Kind::Unsupported,
        (408 | 425 | 429 | 500.., _) => Kind::Unavailable,
        _ => Kind::Other,
    };
    (kind, None)
}

/// Where a request did not come to an answer, and our service did not say why.
fn kind_without_answer(error: Option<&object_store::Error>) -> SinkErrorKind {
    match error {
        Some(object_store::Error::NotFound { .. }) => SinkErrorKind::NotFound,
        Some(object_store::Error::AlreadyExists { .. }) => SinkErrorKind::AlreadyExists,
        Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
            SinkErrorKind::PermissionDenied
        }
        Some(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            SinkErrorKind::Unsupported
        }
        _ => SinkErrorKind::Other,
    }
}

/// What went wrong on the way, where that is in the chain of sources.
pub(crate) fn failure_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Failure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Some(failure);
        }
        cause = error.source();
    }
    None
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str, action: Action) -> SinkErrorKind {
        let refusal = Refusal { status, code: code.to_owned(), ..Refusal::default() };
        refused(String::from("x"), action, &refusal).kind
    }

    #[test]
    fn every_refusal_has_its_kind() {
        use Action::{Delete, List, Read, Thaw, Write};
        use SinkErrorKind as Kind;
        for (status, code, action, expected) in [
            (404, "NoSuchKey", Read, Kind::NotFound),
            (404, "", Read, Kind::NotFound),
            (404, "NoSuchBucket", List, Kind::NotFound),
            (403, "AccessDenied", Write, Kind::PermissionDenied),
            (403, "InvalidObjectState", Read, Kind::Frozen),
            (409, "BlobArchived", Read, Kind::Frozen),
            (400, "ExpiredToken", Read, Kind::PermissionDenied),
            (403, "RequestTimeTooSkewed", Write, Kind::PermissionDenied),
            (401, "", List, Kind::PermissionDenied),
            (412, "PreconditionFailed", Write, Kind::AlreadyExists),
            (409, "BlobAlreadyExists", Write, Kind::AlreadyExists),
            (409, "RestoreAlreadyInProgress", Thaw, Kind::AlreadyExists),
            (503, "GlacierExpeditedRetrievalNotAvailable", Thaw, Kind::Unavailable),
            (409, "ConditionalRequestConflict", Write, Kind::Unavailable),
            (409, "OperationAborted", Delete, Kind::Unavailable),
            (416, "InvalidRange", Read, Kind::Truncated),
            (400, "BadDigest", Write, Kind::Unavailable),
            (400, "InvalidRequest", Write, Kind::Other),
            (501, "NotImplemented", Write, Kind::Unsupported),
            (507, "XMinioStorageFull", Write, Kind::NoSpace),
            (429, "", List, Kind::Unavailable),
            (500, "InternalError", Delete, Kind::Unavailable),
            (503, "SlowDown", Write, Kind::Unavailable),
            (301, "PermanentRedirect", Read, Kind::Other),
        ] {
            assert_eq!(kind(status, code, action), expected, "{status} {code} at {action:?}");
        }
    }

    #[test]
    fn a_bucket_of_another_region_is_said_to_be_there() {
        let refusal = Refusal { status: 301, region: Some(String::from("eu-west-3")), ..Refusal::default() };
        let error = refused(String::from("x"), Action::Read, &refusal);
        assert!(error.hint.unwrap().contains("region=eu-west-3"));
    }

    #[test]
    fn an_error_that_only_mentions_the_region_is_not_one_of_the_region() {
        let region = Some(String::from("eu-west-3"));
        for (code, is_elsewhere) in [("AuthorizationHeaderMalformed", true), ("", true), ("InvalidBucketName", false)] {
            let refusal = Refusal { status: 400, code: code.to_owned(), region: region.clone(), ..Refusal::default() };
            let error = refused(String::from("x"), Action::Read, &refusal);
            assert_eq!(error.hint.is_some_and(|hint| hint.contains("region=eu-west-3")), is_elsewhere, "{code}");
        }
    }

    #[test]
    fn azures_refusals_name_what_was_tried_and_that_time_may_be_the_reason() {
        for code in AZURES {
            let refusal = Refusal { status: 403, code: code.to_owned(), ..Refusal::default() };
            let error = refused(String::from("x"), Action::List, &refusal);
            assert_eq!(error.kind, SinkErrorKind::PermissionDenied);
            assert!(error.source.unwrap().to_string().contains("may not list"));
            assert!(error.hint.unwrap().contains("expired"));
        }
    }

    #[test]
    fn a_wrong_clock_and_credentials_that_have_expired_are_named() {
        for (code, word) in [("RequestTimeTooSkewed", "clock"), ("ExpiredToken", "expired")] {
            let refusal = Refusal { status: 403, code: code.to_owned(), ..Refusal::default() };
            let error = refused(String::from("x"), Action::Read, &refusal);
            assert!(error.hint.unwrap().contains(word));
        }
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (action, word) in [(Action::Write, "write"), (Action::List, "list"), (Action::Delete, "delete")] {
            let refusal = Refusal { status: 403, code: String::from("AccessDenied"), ..Refusal::default() };
            let error = refused(String::from("x"), action, &refusal);
            assert!(error.source.unwrap().to_string().contains(&format!("may not {word}")));
        }
    }
}
