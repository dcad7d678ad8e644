//! KMS turns requests away, is down, slow, or isn't KMS at all: `rotator kms` tries again while that makes sense, always
//! ends within its limit, says what to do, and prints no key that it isn't sure of.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rotator_tests::Cli;
use rotator_tests::sidecar::free_address;
use rotator_tests::vendor::{Answer, Reply, Vendor};
use serde_json::{Value, json};

use crate::kms::{ONE, failed, fails, kms};

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234";

fn decrypted() -> Value {
    json!({"KeyId": ARN, "Plaintext": ONE, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

fn error(kind: &str) -> Answer {
    Answer::json(400, &json!({"__type": kind, "message": "says AWS"}))
}

fn unwrap(url: &str, seconds: &str) -> Result<Cli> {
    let cli = kms(url, &["unwrap", "--timeout", seconds])?;
    Ok(cli.input(&format!("mine:kms:{ARN}:AQID\n")))
}

#[tokio::test]
async fn throttling_and_passing_trouble_are_waited_out() -> Result<()> {
    let vendor = Vendor::start(Answer::json(200, &decrypted())).await?;
    let passing = [
        error("ThrottlingException"),
        error("ThrottlingException"),
        Answer::status(503),
        Answer::json(500, &json!({"__type": "KMSInternalException"})),
        Answer::CutBeforeHeaders,
        Answer::CutInBody(Reply::json(200, &decrypted())),
    ];
    let tried = passing.len() + 1;
    for answer in passing {
        vendor.answer(answer);
    }
    let opened = unwrap(&vendor.url(), "8")?.ok().await?;
    ensure!(opened == format!("mine:{ONE}\n"));
    let times: Vec<Instant> = vendor.requests().iter().map(|request| request.at).collect();
    ensure!(times.len() == tried, "{}", times.len());
    let pauses: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
    ensure!(
        pauses[0] >= Duration::from_millis(50) && pauses[tried - 2] > 2 * pauses[0],
        "they grow: {pauses:?}"
    );
    Ok(())
}

#[tokio::test]
async fn whatever_lasts_ends_within_the_limit() -> Result<()> {
    let slow = Reply::json(200, &decrypted());
    let lasting = [
        (error("ThrottlingException"), "too many"),
        (Answer::status(500), "trouble of its own, status 500"),
        (Answer::Never, "does not answer"),
        (
            Answer::Trickle(Duration::from_millis(100), slow.clone()),
            "does not answer",
        ),
        (
            Answer::TrickleBody(Duration::from_millis(100), slow),
            "does not answer",
        ),
        (Answer::Huge(200, 300_000), "more than 64 KiB"),
        (Answer::CutInHeaders(200), "broke the connection off"),
        (Answer::NotHttp, "broke the connection off"),
    ];
    let all = lasting.map(async |(answer, said)| {
        let vendor = Vendor::start(answer).await?;
        let begun = Instant::now();
        fails(unwrap(&vendor.url(), "2")?, 6, said).await?;
        let took = begun.elapsed();
        ensure!(took < Duration::from_millis(3500), "{said}: {took:?}");
        ensure!(!vendor.requests().is_empty());
        Ok(())
    });
    for one in futures(all).await {
        one?;
    }
    Ok(())
}

/// Side by side: each waits for its limit.
async fn futures<T>(all: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                done.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

/// The database server waits for ten seconds: what isn't asked for otherwise must stay below.
#[tokio::test]
async fn an_outage_is_over_in_less_than_the_server_waits() -> Result<()> {
    let nobody = format!("http://{}", free_address()?);
    let begun = Instant::now();
    let cli = kms(&nobody, &["unwrap"])?.input(&format!("mine:kms:{ARN}:AQID\n"));
    let (code, said) = failed(cli).await?;
    ensure!(
        code == 6 && said.contains("AWS KMS in eu-central-1 can't be reached: connection refused"),
        "{said}"
    );
    let took = begun.elapsed();
    ensure!(
        took > Duration::from_secs(4) && took < Duration::from_secs(9),
        "{took:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_to_do() -> Result<()> {
    let vendor = Vendor::start(Answer::status(500)).await?;
    for (kind, code, said, advice) in [
        (
            "InvalidCiphertextException",
            1,
            "another id",
            "put the file back",
        ),
        (
            "IncorrectKeyException",
            1,
            "another KMS key",
            "ARN included",
        ),
        (
            "AccessDeniedException",
            1,
            "denies access",
            "Allow kms:Decrypt",
        ),
        ("NotFoundException", 1, "no such key", "account and region"),
        ("DisabledException", 1, "is disabled", "aws kms enable-key"),
        (
            "KMSInvalidStateException",
            1,
            "state",
            "cancel-key-deletion",
        ),
        (
            "InvalidKeyUsageException",
            1,
            "isn't one that encrypts",
            "symmetric",
        ),
        (
            "UnrecognizedClientException",
            4,
            "credentials",
            "get-caller-identity",
        ),
        ("ExpiredTokenException", 4, "credentials", "expired"),
        ("ValidationException", 1, "AWS KMS refused", "AWS says"),
    ] {
        vendor.answer(error(kind));
        let before = vendor.requests().len();
        let begun = Instant::now();
        let (was, text) = failed(unwrap(&vendor.url(), "8")?).await?;
        ensure!(
            was == code && text.contains(said) && text.contains(advice),
            "{kind}: {was} {text}"
        );
        ensure!(
            text.contains(&format!("AWS says: {kind}: says AWS")),
            "{text}"
        );
        ensure!(begun.elapsed() < Duration::from_secs(3), "{kind}");
        ensure!(
            vendor.requests().len() == before + 1,
            "{kind} is tried once"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_kms_is_not_believed() -> Result<()> {
    let vendor = Vendor::start(Answer::status(500)).await?;
    let other = ARN.replace("1234", "5678");
    let short = json!({"KeyId": ARN, "Plaintext": "AQID"});
    for (answer, said) in [
        (
            Answer::Reply(Reply::text(200, "text/html", "<html>log in</html>")),
            "something else",
        ),
        (Answer::status(200), "something else"),
        (Answer::json(200, &json!({"KeyId": ARN})), "something else"),
        (
            Answer::json(200, &json!({"KeyId": ARN, "Plaintext": ""})),
            "something else",
        ),
        (
            Answer::json(200, &json!({"KeyId": other, "Plaintext": ONE})),
            "another KMS key",
        ),
        (Answer::json(200, &short), "isn't a master key of 32 bytes"),
        (
            Answer::Reply(Reply::text(403, "text/html", "<html>no</html>")),
            "without an error of KMS",
        ),
        (
            Answer::with_header(302, "location", "http://127.0.0.1:1/"),
            "status 302",
        ),
        (
            Answer::Reply(Reply::text(400, "text/plain", "\u{1b}[2J\0")),
            "without an error of KMS",
        ),
    ] {
        vendor.answer(answer);
        fails(unwrap(&vendor.url(), "8")?, 1, said).await?;
    }
    Ok(())
}

/// A proxy in trouble may send back what it was sent.
#[tokio::test]
async fn a_key_that_somebody_repeats_is_not_shown() -> Result<()> {
    let vendor = Vendor::start(Answer::by(|request, _| {
        let body = json!({"__type": "ValidationException", "message": request.text()});
        Answer::json(400, &body)
    }))
    .await?;
    let wrap = || -> Result<Cli> {
        let cli = kms(&vendor.url(), &["wrap", "--key-id", ARN])?;
        Ok(cli.input(&format!("mine:{ONE}\n")))
    };
    fails(wrap()?, 1, "AWS says: ValidationException\n").await?;
    vendor.answer_always(Answer::by(|request, _| {
        Answer::Reply(Reply::text(400, "text/plain", &request.text()))
    }));
    fails(wrap()?, 1, "without an error of KMS").await
}
