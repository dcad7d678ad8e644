//! What KMS may answer, and what follows from it.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>

use std::borrow::Cow;

use serde::Deserialize;

use super::error::{KmsError, Refusal};
use super::patience::{Again, Trouble};
use crate::import::text::printable;

/// How much of what AWS says is passed on, in characters.
const SAID: usize = 300;

/// The error of KMS in a body, if there is one.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "__type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "message", alias = "Message", borrow, default)]
    message: Cow<'a, str>,
}

/// What to make of an answer that isn't a success. `secret` is what must not be passed on, should somebody repeat it.
pub fn trouble(who: &str, id: &str, status: u16, body: &[u8], secret: Option<&str>) -> Trouble {
    let said: Option<Said<'_>> = serde_json::from_slice(body).ok();
    let kind = said.as_ref().map_or("", |said| name(&said.kind));
    if is_throttling(status, kind) {
        return Trouble::Again(Again {
            throttled: true,
            ..Again::new(who, "turns requests away because there are too many")
        });
    }
    if is_passing(status, kind) {
        let why = match kind {
            "KeyUnavailableException" => "can't use the key at the moment".to_owned(),
            _ => format!("has trouble of its own, status {status}"),
        };
        return Trouble::Again(Again::new(who, why));
    }
    let Some(said) = &said else {
        return KmsError::NotKms(format!("status {status} without an error of KMS")).into();
    };
    let repeats = secret.is_some_and(|secret| said.message.contains(secret));
    let message = if repeats {
        kind.to_owned()
    } else {
        format!("{kind}: {}", said.message)
    };
    let message: String = printable(&message).chars().take(SAID).collect();
    Trouble::Final(KmsError::Refused {
        id: id.to_owned(),
        refusal: refusal(kind, &said.message),
        said: message.trim_end_matches([':', ' ']).to_owned(),
    })
}

/// `com.amazonaws.kms#NotFoundException:http://…` is `NotFoundException`.
fn name(kind: &str) -> &str {
    let kind = kind.rsplit('#').next().unwrap_or(kind);
    kind.split(':').next().unwrap_or(kind)
}

fn is_throttling(status: u16, kind: &str) -> bool {
    status == 429
        || matches!(
            kind,
            "ThrottlingException"
                | "Throttling"
                | "ThrottledException"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
        )
}

/// Whether it may work in a moment.
fn is_passing(status: u16, kind: &str) -> bool {
    match kind {
        "DependencyTimeoutException"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalError"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => true,
        // A refusal by its name stays one, whatever its status.
        _ if kind.ends_with("Exception") => false,
        _ => status >= 500 || matches!(status, 408 | 425),
    }
}

fn refusal(kind: &str, message: &str) -> Refusal {
    match kind {
        "InvalidCiphertextException" => Refusal::Ciphertext,
        "IncorrectKeyException" => Refusal::OtherKey,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "OptInRequired" => {
            Refusal::Denied
        }
        "NotFoundException" | "InvalidArnException" => Refusal::NotFound,
        "DisabledException" => Refusal::Disabled,
        "KMSInvalidStateException" => Refusal::State,
        "InvalidKeyUsageException" | "UnsupportedOperationException" => Refusal::Usage,
        "RequestExpired" | "RequestTimeTooSkewed" => Refusal::Clock,
        // "Signature expired: …" and "Signature not yet current: …"
        "InvalidSignatureException" | "SignatureDoesNotMatch"
            if message.contains("expired") || message.contains("not yet current") =>
        {
            Refusal::Clock
        }
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidClientTokenIdException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Refusal::Credentials,
        _ => Refusal::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn final_error(status: u16, body: &str) -> Option<KmsError> {
        match trouble("KMS", "mk-1", status, body.as_bytes(), Some("SECRET")) {
            Trouble::Final(error) => Some(error),
            Trouble::Again(_) => None,
        }
    }

    #[test]
    fn what_may_work_in_a_moment_is_tried_again() {
        for (status, body) in [
            (
                400,
                r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
            ),
            (429, "slow down"),
            (500, ""),
            (503, "<html>"),
            (408, "{}"),
            (500, r#"{"__type":"KMSInternalException"}"#),
            (
                400,
                r#"{"__type":"com.amazonaws.kms#DependencyTimeoutException"}"#,
            ),
            (500, r#"{"__type":"KeyUnavailableException"}"#),
        ] {
            assert!(final_error(status, body).is_none(), "{status} {body}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for (kind, expected) in [
            ("InvalidCiphertextException", Refusal::Ciphertext),
            ("com.amazonaws.kms#IncorrectKeyException", Refusal::OtherKey),
            ("AccessDeniedException:http://x/", Refusal::Denied),
            ("NotFoundException", Refusal::NotFound),
            ("DisabledException", Refusal::Disabled),
            ("KMSInvalidStateException", Refusal::State),
            ("InvalidKeyUsageException", Refusal::Usage),
            ("UnrecognizedClientException", Refusal::Credentials),
            ("ValidationException", Refusal::Other),
        ] {
            let body = format!(r#"{{"__type":"{kind}","message":"m"}}"#);
            match final_error(400, &body) {
                Some(KmsError::Refused { refusal, .. }) => assert_eq!(refusal, expected, "{kind}"),
                _ => panic!("{kind}"),
            }
        }
        let late = r#"{"__type":"InvalidSignatureException","message":"Signature expired: 2026"}"#;
        assert!(matches!(
            final_error(400, late),
            Some(KmsError::Refused {
                refusal: Refusal::Clock,
                ..
            })
        ));
    }

    #[test]
    fn garbage_is_not_kms_and_a_secret_is_not_repeated() {
        for body in ["", "<html>", "[]", "{}", "\u{1}"] {
            assert!(
                matches!(final_error(403, body), Some(KmsError::NotKms(_))),
                "{body}"
            );
        }
        let repeated = r#"{"__type":"ValidationException","Message":"bad value SECRET"}"#;
        let hint = final_error(400, repeated).unwrap().hint();
        assert!(
            hint.ends_with("AWS says: ValidationException") && !hint.contains("SECRET"),
            "{hint}"
        );
        let long = format!(
            r#"{{"__type":"X","message":"{}\u001b[1m"}}"#,
            "a".repeat(1000)
        );
        let hint = final_error(400, &long).unwrap().hint();
        assert!(hint.len() < 400 && !hint.contains('\u{1b}'), "{hint}");
    }
}
