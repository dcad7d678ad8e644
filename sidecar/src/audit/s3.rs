//! Signed blocks as objects in an S3 bucket with Object Lock, in COMPLIANCE mode: until its date nobody deletes, overwrites
//! or shortens a version there, the account's root included.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>
//!
//! One object a block, `<prefix>/<tenant>/<number>.json`, written only where there is none (`If-None-Match: *`). If there is
//! one, it is this block, written before a crash or by another sidecar, or it is a different one: then the log was rewritten
//! or restored, and the block isn't signed again. Region, endpoint and credentials are found as for KMS (`kms/`).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Builder;
use http::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest};
use rotator_audit::{Header, hex};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use url::Url;

use super::copy::prefix;
use crate::import::text::printable;
use crate::kms::web::{Answer, Web, may_be_spoken_to};
use crate::kms::{KmsError, Patience, Place, credentials};

/// For one request with its answer; the largest object has some hundred KiB.
const REQUEST: Duration = Duration::from_secs(20);
const CREDENTIALS: Duration = Duration::from_secs(10);
/// Roles hand out credentials for an hour at least, and new ones in time.
const KEEP_CREDENTIALS: Duration = Duration::from_secs(300);
/// How much of an object is read to see which block it is.
const BEGIN: usize = 1024;
/// How much of what S3 says is passed on, in characters.
const SAID: usize = 200;

/// Why S3 did not take an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct S3Error {
    pub message: String,
    pub hint: String,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Stored,
    /// The same block was there.
    There,
    /// Another block of that number was there.
    Contradicted,
}

/// Where objects go, as `ROTATOR_AUDIT_S3_URL` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
}

impl std::str::FromStr for S3Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("s3://")
            .ok_or("it must begin with s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|byte| name(byte) || b".-".contains(&byte))
            && bucket.bytes().next().is_some_and(name)
            && bucket.bytes().last().is_some_and(name)
            && !bucket.contains("..");
        if !is_bucket {
            return Err("it names no bucket");
        }
        let prefix = prefix.trim_end_matches('/');
        let parts_fit = prefix.is_empty()
            || prefix
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        if !parts_fit || !prefix.bytes().all(fits) || prefix.len() > 500 {
            return Err("a prefix has letters, digits and . _ - / in it");
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: match prefix {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
        })
    }
}

/// A bucket, and who we are there.
pub struct Bucket {
    to: S3Url,
    days: u32,
    place: Place,
    /// With the bucket in it; ends with a slash.
    base: String,
    web: Web,
    context: Context,
    known: Option<(Instant, Credential)>,
}

impl Bucket {
    /// Of the region that the environment names, as AWS's tools find it.
    ///
    /// # Errors
    /// There is none, or the endpoint would be spoken to in the clear. Nothing is asked of AWS yet.
    pub fn new(to: S3Url, days: u32, stand_in: Option<&Url>) -> Result<Self, S3Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .find_map(variable);
        let place = region
            .ok_or(KmsError::NoRegion)
            .and_then(|region| Place::new(&region));
        let place = place.map_err(|_| S3Error {
            message: "no AWS region for the bucket of ROTATOR_AUDIT_S3_URL".to_owned(),
            hint: "set AWS_REGION, like eu-central-1".to_owned(),
        })?;
        let named = variable("AWS_ENDPOINT_URL_S3").map(|url| Url::parse(&url));
        let endpoint = match (stand_in, named) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(url)) => Some(url.map_err(|_| clear())?),
            (None, None) => None,
        };
        let base = match endpoint {
            Some(url) if may_be_spoken_to(&url) => {
                format!("{}/{}/", url.as_str().trim_end_matches('/'), to.bucket)
            }
            Some(_) => return Err(clear()),
            // A name with dots doesn't fit AWS's certificate.
            None if to.bucket.contains('.') => {
                format!("https://{}/{}/", place.host("s3"), to.bucket)
            }
            None => format!("https://{}.{}/", to.bucket, place.host("s3")),
        };
        let web = Web::new(stand_in).map_err(|error| aws(&error))?;
        Ok(Self {
            context: credentials::context(&web),
            to,
            days,
            place,
            base,
            web,
            known: None,
        })
    }

    /// `s3://bucket/prefix/`, for messages.
    pub fn shown(&self) -> String {
        format!("s3://{}/{}", self.to.bucket, self.to.prefix)
    }

    /// Gets credentials, unless those that we have are fresh.
    ///
    /// # Errors
    /// There are none.
    pub async fn sign_in(&mut self) -> Result<(), S3Error> {
        if self
            .known
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < KEEP_CREDENTIALS)
        {
            return Ok(());
        }
        let patience = Patience::new(CREDENTIALS);
        let found = credentials::load(&self.context, &self.place, &patience).await;
        self.known = Some((Instant::now(), found.map_err(|error| aws(&error))?));
        Ok(())
    }

    /// Forgets the credentials: after a refusal others may be there.
    pub fn sign_out(&mut self) {
        self.known = None;
    }

    /// Stores the line of a block, unless its number is taken. Needs [`Bucket::sign_in`].
    ///
    /// # Errors
    /// A refusal, or no answer: whether it is stored is unknown then, and the next attempt finds out.
    pub async fn put(&self, header: &Header, line: &str) -> Result<Put, S3Error> {
        let body = Bytes::copy_from_slice(line.as_bytes());
        // By our clock: the database's may be set by whom the copy is to guard against.
        let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(self.days));
        let request = self
            .request(Method::PUT, header, &body)
            .header("content-type", "application/json")
            .header("if-none-match", "*")
            .header("x-amz-object-lock-mode", "COMPLIANCE")
            .header(
                "x-amz-object-lock-retain-until-date",
                until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            )
            .header("x-amz-sdk-checksum-algorithm", "SHA256")
            .header(
                "x-amz-checksum-sha256",
                STANDARD.encode(Sha256::digest(&body)),
            );
        let answer = self.send(request, body).await?;
        match answer.status {
            200 => Ok(Put::Stored),
            412 => self.compare(header).await,
            _ => Err(refused(&answer, &self.shown())),
        }
    }

    /// Which block it is that was there.
    async fn compare(&self, header: &Header) -> Result<Put, S3Error> {
        let request = self
            .request(Method::GET, header, &Bytes::new())
            .header("range", format!("bytes=0-{}", BEGIN - 1));
        let answer = self.send(request, Bytes::new()).await?;
        if !matches!(answer.status, 200 | 206) {
            return Err(refused(&answer, &self.shown()));
        }
        let same = answer.body.starts_with(prefix(header).as_bytes());
        Ok(if same { Put::There } else { Put::Contradicted })
    }

    fn request(&self, method: Method, header: &Header, body: &Bytes) -> Builder {
        let key = format!(
            "{}{}/{:020}.json",
            self.to.prefix,
            hex::uuid(&header.tenant),
            header.number
        );
        Request::builder()
            .method(method)
            .uri(format!("{}{key}", self.base))
            .header("x-amz-content-sha256", hex::encode(&Sha256::digest(body)))
    }

    async fn send(&self, request: Builder, body: Bytes) -> Result<Answer, S3Error> {
        let unusable = |problem: String| S3Error {
            message: format!("AWS credentials can't be used: {problem}"),
            hint: "docs/audit.md says what they are for, docs/kms.md where they come from"
                .to_owned(),
        };
        let request = request.body(body);
        let (mut parts, body) = request
            .map_err(|_| unusable("no request can be made of them".to_owned()))?
            .into_parts();
        let credential = self.known.as_ref().map(|(_, credential)| credential);
        RequestSigner::new("s3", self.place.region())
            .sign_request(&self.context, &mut parts, credential, None)
            .await
            .map_err(|error| unusable(error.to_string()))?;
        let sent = timeout(REQUEST, self.web.send(Request::from_parts(parts, body))).await;
        let problem = match sent {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(problem)) => problem,
            Err(_) => format!("does not answer within {} s", REQUEST.as_secs()),
        };
        Err(S3Error {
            message: format!("S3 ({}) {problem}", self.shown()),
            hint: "check network, DNS, HTTPS_PROXY, VPC endpoints, AWS_REGION".to_owned(),
        })
    }
}

fn clear() -> S3Error {
    S3Error {
        message: "the endpoint of S3 must begin with https://".to_owned(),
        hint: "http:// is for this machine itself only (ROTATOR_AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3)".to_owned(),
    }
}

fn aws(error: &KmsError) -> S3Error {
    S3Error {
        message: error.to_string(),
        hint:
            "docs/kms.md says where credentials are looked for, docs/audit.md what they must allow"
                .to_owned(),
    }
}

/// The code and message of an XML error.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn refused(answer: &Answer, shown: &str) -> S3Error {
    let text = String::from_utf8_lossy(&answer.body);
    let part = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once('<').map(|(value, _)| value)
    };
    let code = part("Code").unwrap_or_default();
    let hint = match (code, answer.status) {
        ("NoSuchBucket", _) => "create it with Object Lock: docs/audit.md",
        ("AccessDenied", _) => {
            "allow s3:PutObject, s3:PutObjectRetention and s3:GetObject below the prefix: docs/audit.md"
        }
        ("InvalidRequest" | "InvalidArgument", _) => {
            "the bucket needs Object Lock and versioning: docs/audit.md"
        }
        (
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
            _,
        )
        | (_, 301 | 307) => "set AWS_REGION to the bucket's region",
        ("RequestTimeTooSkewed", _) => "set this machine's clock",
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken", _) => {
            "aws sts get-caller-identity says whose credentials they are"
        }
        (_, 500..) => "S3 has trouble of its own; it is tried again",
        _ => "see what S3 says",
    };
    let said = format!("{code} {}", part("Message").unwrap_or_default());
    let said: String = printable(said.trim()).chars().take(SAID).collect();
    S3Error {
        message: format!("S3 ({shown}) refuses: {} {said}", answer.status)
            .trim_end()
            .to_owned(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn addresses_name_a_bucket_and_a_plain_prefix() {
        for (text, bucket, prefix) in [
            ("s3://acme-audit", "acme-audit", ""),
            ("s3://acme-audit/", "acme-audit", ""),
            (
                "s3://acme.audit/rotator/prod/",
                "acme.audit",
                "rotator/prod/",
            ),
        ] {
            let url: S3Url = text.parse().unwrap();
            assert_eq!((url.bucket.as_str(), url.prefix.as_str()), (bucket, prefix));
        }
        for text in [
            "",
            "acme",
            "https://acme",
            "s3://",
            "s3://a",
            "s3://Acme",
            "s3://-acme",
            "s3://a..b",
            "s3://acme/a//b",
            "s3://acme/../b",
            "s3://acme/a b",
            "s3://acme/a?b",
            "s3://acme/ä",
        ] {
            assert!(text.parse::<S3Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let said = |status: u16, body: &str| {
            let answer = Answer {
                status,
                body: Zeroizing::new(body.as_bytes().to_vec()),
            };
            refused(&answer, "s3://a/")
        };
        let denied = said(
            403,
            "<Error><Code>AccessDenied</Code><Message>Access Denied\u{1b}[1m</Message></Error>",
        );
        assert!(
            denied
                .message
                .starts_with("S3 (s3://a/) refuses: 403 AccessDenied Access Denied")
        );
        assert!(!denied.message.contains('\u{1b}') && denied.hint.contains("PutObjectRetention"));
        let lock = "<Code>InvalidRequest</Code><Message>Bucket is missing Object Lock Configuration</Message>";
        assert!(said(400, lock).hint.contains("needs Object Lock"));
        assert!(said(301, "").hint.contains("AWS_REGION"));
        assert_eq!(said(503, "<html>").message, "S3 (s3://a/) refuses: 503");
    }
}
