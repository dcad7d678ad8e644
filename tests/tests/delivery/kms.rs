//! `rotator kms wrap` and `unwrap` against a KMS server that encrypts, checks contexts, signatures and rights (moto): what
//! is wrapped opens again, for the id it was wrapped for, by who may, and nothing of a key is anywhere else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::Cli;
use rotator_tests::kms::{Kms, REGION};
use rotator_tests::vendor::{Answer, Vendor};
use serde_json::json;

pub const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// The command with credentials and nothing else of AWS.
pub fn kms(url: &str, arguments: &[&str]) -> Result<Cli> {
    let mut all = vec!["kms"];
    all.extend(arguments);
    Ok(Cli::offline(&all)?
        .env("HOME", "/nonexistent")
        .env("RUST_LOG", "trace")
        .env("ROTATOR_AWS_ENDPOINT_URL", url)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret-access-key"))
}

/// How it failed: the code, and what it printed as an error; nothing on standard output, and nothing secret.
pub async fn failed(cli: Cli) -> Result<(i32, String)> {
    let printed = cli.run().await?;
    ensure!(
        printed.code != 0 && printed.stdout.is_empty(),
        "{printed:?}"
    );
    for secret in [ONE, TWO, "canary-of-a-secret"] {
        ensure!(!printed.stderr.contains(secret), "{}", printed.stderr);
    }
    ensure!(
        printed.stderr.starts_with("error: ") && printed.stderr.contains("\nhint: "),
        "{}",
        printed.stderr
    );
    Ok((printed.code, printed.stderr))
}

/// Expects this code and this text.
pub async fn fails(cli: Cli, code: i32, text: &str) -> Result<()> {
    let (was, said) = failed(cli).await?;
    ensure!(was == code && said.contains(text), "{was}: {said}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrapped_opens_again_in_its_order() -> Result<()> {
    let server = Kms::start().await?;
    let key = server.key().await?;
    let plain = format!("# two of them\nnew:{ONE}\n\nold-2025:{TWO}\n");
    let wrapped = kms(server.url(), &["wrap", "--key-id", &key])?
        .input(&plain)
        .ok()
        .await?;
    ensure!(!wrapped.contains(ONE) && !wrapped.contains(TWO));
    let lines: Vec<&str> = wrapped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    ensure!(
        lines.len() == 2
            && lines[0].starts_with(&format!("new:kms:{key}:"))
            && lines[1].starts_with(&format!("old-2025:kms:{key}:")),
        "{wrapped}"
    );
    let opened = kms(server.url(), &["unwrap", "--in", "master.wrapped"])?
        .file("master.wrapped", wrapped.as_bytes())?
        .run()
        .await?;
    ensure!(
        opened.stdout == format!("new:{ONE}\nold-2025:{TWO}\n") && opened.stderr.is_empty(),
        "{}",
        opened.stderr
    );
    // Once more from standard input, the lines turned around: the order is the file's.
    let turned = format!("{}\n{}\n", lines[1], lines[0]);
    let opened = kms(server.url(), &["unwrap"])?.input(&turned).ok().await?;
    ensure!(opened == format!("old-2025:{TWO}\nnew:{ONE}\n"));
    Ok(())
}

#[tokio::test]
async fn a_fresh_key_is_wrapped_by_alias_and_region_and_several_open_together() -> Result<()> {
    let server = Kms::start().await?;
    let key = server.key().await?;
    server
        .ask(
            "CreateAlias",
            &json!({"AliasName": "alias/rotator", "TargetKeyId": key}),
        )
        .await?;
    let by_alias = ["wrap", "--new", "--key-id", "alias/rotator"];
    let first = kms(server.url(), &by_alias)?
        .env("AWS_REGION", REGION)
        .ok()
        .await?;
    let named = format!(":kms:{key}:");
    ensure!(
        first.contains(&named),
        "an alias becomes the key's ARN: {first}"
    );
    fails(kms(server.url(), &by_alias)?, 4, "no AWS region").await?;
    let elsewhere = ["wrap", "--new", "--region", "us-east-1", "--key-id", &key];
    fails(kms(server.url(), &elsewhere)?, 4, "--region says us-east-1").await?;

    let second = kms(server.url(), &["wrap", "--new", "--key-id", &key])?
        .ok()
        .await?;
    ensure!(first != second);
    let opened = kms(server.url(), &["unwrap"])?
        .input(&format!("{first}{second}"))
        .ok()
        .await?;
    let ids: Vec<&str> = opened
        .lines()
        .filter_map(|line| line.split_once(':').map(|(id, _)| id))
        .collect();
    ensure!(ids.len() == 2 && ids[0].starts_with("mk-20") && ids[0] != ids[1]);
    Ok(())
}

#[tokio::test]
async fn a_line_opens_only_whole_under_its_id_and_by_its_key() -> Result<()> {
    let server = Kms::start().await?;
    let (key, other) = (server.key().await?, server.key().await?);
    let wrapped = kms(server.url(), &["wrap", "--key-id", &key])?
        .input(&format!("mine:{ONE}\n"))
        .ok()
        .await?;
    let line = wrapped.lines().last().context("a line")?;
    let unwrap = async |text: &str, said: &str| {
        fails(kms(server.url(), &["unwrap"])?.input(text), 1, said).await
    };
    unwrap(
        &line.replacen("mine:", "yours:", 1),
        "wrapped for another id",
    )
    .await?;
    unwrap(&line.replacen(&key, &other, 1), "denies access").await?;
    let gone = key.replace(&key[key.len() - 4..], "0000");
    unwrap(&line.replacen(&key, &gone, 1), "no such key").await?;
    let middle = line.len() - 20;
    let flipped = if line.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    let mut damaged = line.to_owned();
    damaged.replace_range(middle..=middle, flipped);
    unwrap(&damaged, "its line was changed").await?;
    // One that doesn't open is enough: half of the keys would be found out later, row by row.
    unwrap(
        &format!("{line}\n{}", line.replacen("mine:", "yours:", 1)),
        "wrapped for another id",
    )
    .await
}

#[tokio::test]
async fn signatures_are_right_and_rights_are_needed() -> Result<()> {
    let server = Kms::start().await?;
    let key = server.key().await?;
    let wrapped = kms(server.url(), &["wrap", "--key-id", &key])?
        .input(&format!("mine:{ONE}\n"))
        .ok()
        .await?;
    let (reader, reader_secret) = server.user("reader", "kms:Decrypt").await?;
    let (writer, writer_secret) = server.user("writer", "kms:Encrypt").await?;
    server.check_signatures().await?;
    let unwrap = |id: &str, secret: &str| -> Result<Cli> {
        Ok(kms(server.url(), &["unwrap"])?
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .input(&wrapped))
    };
    let opened = unwrap(&reader, &reader_secret)?.ok().await?;
    ensure!(opened == format!("mine:{ONE}\n"));
    // moto has these refusals in XML, which KMS never has; what KMS says: `kms_failures.rs`.
    let refused = "status 403 without an error of KMS";
    fails(unwrap(&writer, &writer_secret)?, 1, refused).await?;
    fails(unwrap(&reader, &writer_secret)?, 1, refused).await?;
    fails(unwrap("AKIANOBODY", &reader_secret)?, 1, refused).await
}

/// It stands in CloudTrail, and in every policy that limits who may.
#[tokio::test]
async fn the_encryption_context_holds_ids_only_and_the_key_is_named() -> Result<()> {
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234";
    let vendor = Vendor::start(Answer::json(
        200,
        &json!({"KeyId": arn, "Plaintext": ONE, "CiphertextBlob": "AQID"}),
    ))
    .await?;
    kms(&vendor.url(), &["wrap", "--key-id", arn])?
        .input(&format!("mine:{ONE}\n"))
        .ok()
        .await?;
    kms(&vendor.url(), &["unwrap"])?
        .env("AWS_SESSION_TOKEN", "a-session-token")
        .input(&format!("mine:kms:{arn}:AQID\n"))
        .ok()
        .await?;
    let requests = vendor.requests();
    let context = json!({"rotator:purpose": "master-key", "rotator:master-key-id": "mine"});
    let expected = [
        json!({"KeyId": arn, "Plaintext": ONE, "EncryptionContext": context}),
        json!({"KeyId": arn, "CiphertextBlob": "AQID", "EncryptionContext": context}),
    ];
    for ((request, body), action) in requests.iter().zip(expected).zip(["Encrypt", "Decrypt"]) {
        ensure!(request.json()? == body, "{}", request.text());
        let target = format!("TrentService.{action}");
        ensure!(request.header("x-amz-target") == Some(target.as_str()));
        let signature = request.header("authorization").context("it is signed")?;
        ensure!(
            signature.contains("/eu-central-1/kms/aws4_request")
                && signature.contains("x-amz-target"),
            "{signature}"
        );
    }
    ensure!(requests[1].header("x-amz-security-token") == Some("a-session-token"));
    Ok(())
}

#[tokio::test]
async fn what_is_no_file_of_keys_is_refused_before_anybody_is_asked() -> Result<()> {
    let vendor = Vendor::start(Answer::Never).await?;
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234";
    let unwrap = async |text: &str, said: &str| {
        fails(kms(&vendor.url(), &["unwrap"])?.input(text), 1, said).await
    };
    unwrap("", "it holds no key").await?;
    unwrap(&format!("a:{ONE}"), "a master key in the clear").await?;
    unwrap("a:kms:arn:AQID", "names no KMS key").await?;
    unwrap(&format!("a:kms:{arn}:no base64"), "end in base64").await?;
    unwrap(&"x".repeat(70_000), "larger than 64 KiB").await?;
    let wrap = ["wrap", "--key-id", arn];
    let said = "wrapped already";
    let again = format!("a:kms:{arn}:AQID");
    fails(kms(&vendor.url(), &wrap)?.input(&again), 1, said).await?;
    let text = format!("a:{ONE}AA");
    fails(kms(&vendor.url(), &wrap)?.input(&text), 1, "32 bytes").await?;
    for file in ["missing", "."] {
        let from = ["unwrap", "--in", file];
        fails(kms(&vendor.url(), &from)?, 1, "can't use").await?;
    }
    let far = kms("http://kms.example", &wrap)?.input(&format!("a:{ONE}"));
    fails(far, 4, "must begin with https://").await?;
    ensure!(vendor.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn master_keys_are_not_shown_on_a_terminal_unless_asked_for() -> Result<()> {
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234";
    let answer = json!({"KeyId": arn, "Plaintext": ONE});
    let vendor = Vendor::start(Answer::json(200, &answer)).await?;
    let wrapped = format!("mine:kms:{arn}:AQID\n");
    for force in [false, true] {
        let mut arguments = vec!["unwrap", "--in", "master.wrapped"];
        arguments.extend(force.then_some("--force"));
        let mut terminal = kms(&vendor.url(), &arguments)?
            .file("master.wrapped", wrapped.as_bytes())?
            .at_terminal()?;
        let ended = terminal.ended(Duration::from_secs(20)).await?;
        let shown = terminal.shown();
        ensure!(
            ended.success() == force && shown.contains(ONE) == force,
            "{shown}"
        );
        ensure!(vendor.requests().len() == usize::from(force));
    }
    Ok(())
}
