//! Who `rotator kms` is to AWS: each source of credentials works, they are asked in AWS's order, and one that is set up
//! and doesn't work is an error instead of a reason to be somebody else.

use anyhow::{Context, Result, ensure};
use rotator_tests::Cli;
use rotator_tests::kms::Kms;
use rotator_tests::vendor::{Answer, Reply, Request, Vendor};
use serde_json::json;

use crate::kms::{ONE, fails};

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234";

/// Without any credentials yet.
fn unwrap(url: &str) -> Result<Cli> {
    Ok(Cli::offline(&["kms", "unwrap", "--timeout", "3"])?
        .env("HOME", "/nonexistent")
        .env("ROTATOR_AWS_ENDPOINT_URL", url)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .input(&format!("mine:kms:{ARN}:AQID\n")))
}

/// KMS, and on the other paths whoever hands out credentials.
async fn aws(others: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Result<Vendor> {
    Vendor::start(Answer::by(move |request, _| {
        if request.header("x-amz-target").is_some() {
            Answer::json(200, &json!({"KeyId": ARN, "Plaintext": ONE}))
        } else {
            others(request)
        }
    }))
    .await
}

/// Whose signature KMS got at last.
fn signer(vendor: &Vendor) -> Result<String> {
    let last = vendor.requests().pop().context("a request")?;
    let signature = last.header("authorization").context("it is signed")?;
    let (_, rest) = signature.split_once("Credential=").context("by somebody")?;
    let id = rest.split('/').next().unwrap_or_default();
    let token = last.header("x-amz-security-token").unwrap_or("no token");
    Ok(format!("{id} {token}"))
}

async fn opens(cli: Cli) -> Result<()> {
    let opened = cli.ok().await?;
    ensure!(opened == format!("mine:{ONE}\n"));
    Ok(())
}

#[tokio::test]
async fn the_shared_files_are_read_and_the_environment_goes_before_them() -> Result<()> {
    let vendor = aws(|_| Answer::status(404)).await?;
    let files = || -> Result<Cli> {
        unwrap(&vendor.url())?
            .env("AWS_SHARED_CREDENTIALS_FILE", "credentials")
            .env("AWS_CONFIG_FILE", "config")
            .file(
                "credentials",
                b"[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = x\n\
                  [other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\naws_session_token = t\n",
            )?
            .file(
                "config",
                b"[profile process]\ncredential_process = /bin/cat process.json\n\
                  [profile assumed]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = other\n\
                  [profile broken]\ncredential_process = /bin/false\n",
            )?
            .file(
                "process.json",
                br#"{"Version":1,"AccessKeyId":"AKIAPROCESS","SecretAccessKey":"x","SessionToken":"p"}"#,
            )
    };
    opens(files()?).await?;
    ensure!(signer(&vendor)? == "AKIADEFAULT no token");
    opens(files()?.env("AWS_PROFILE", "other")).await?;
    ensure!(signer(&vendor)? == "AKIAOTHER t");
    opens(files()?.env("AWS_PROFILE", "process")).await?;
    ensure!(signer(&vendor)? == "AKIAPROCESS p");
    opens(
        files()?
            .env("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
            .env("AWS_SECRET_ACCESS_KEY", "x"),
    )
    .await?;
    ensure!(signer(&vendor)? == "AKIAENVIRONMENT no token");

    let asked = vendor.requests().len();
    for profile in ["assumed", "missing"] {
        let cli = files()?.env("AWS_PROFILE", profile);
        fails(cli, 4, "the AWS profile has no usable credentials").await?;
    }
    let broken = files()?.env("AWS_PROFILE", "broken");
    fails(
        broken,
        4,
        "credential_process of the profile: run it by hand",
    )
    .await?;
    fails(unwrap(&vendor.url())?, 4, "no AWS credentials found").await?;
    ensure!(vendor.requests().len() == asked);
    Ok(())
}

/// IRSA: a token that Kubernetes mounts is changed for credentials at STS.
#[tokio::test]
async fn web_identity_asks_sts_and_its_refusal_is_final() -> Result<()> {
    let real = Kms::start().await?;
    let role = "arn:aws:iam::123456789012:role/rotator";
    let irsa = |url: &str| -> Result<Cli> {
        unwrap(url)?
            .env("AWS_ROLE_ARN", role)
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "token")
            .file("token", b"header.payload.signature\n")
    };
    let key = real.key().await?;
    let wrapped = irsa(real.url())?;
    // What STS gives is taken by KMS, which here has no such key.
    fails(wrapped, 1, "no such key").await?;
    ensure!(!key.is_empty());

    let vendor = aws(|request| {
        let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform \
                      sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>";
        ensure_web_identity(request).map_or_else(
            |_| Answer::status(404),
            |()| Answer::Reply(Reply::text(403, "text/xml", denied)),
        )
    })
    .await?;
    // The role of the container would do, but was not what somebody set up.
    let cli = irsa(&vendor.url())?.env(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        &format!("{}/container", vendor.url()),
    );
    fails(cli, 4, "no AWS credentials from web identity: AccessDenied").await?;
    ensure!(vendor.requests().len() == 1);
    let missing = unwrap(&vendor.url())?
        .env("AWS_ROLE_ARN", role)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", "missing");
    fails(missing, 4, "failed to read web identity token file").await
}

fn ensure_web_identity(request: &Request) -> Result<()> {
    let text = request.text();
    ensure!(text.contains("Action=AssumeRoleWithWebIdentity") && text.contains("rotator-kms"));
    Ok(())
}

/// ECS and EKS Pod Identity.
#[tokio::test]
async fn a_container_gets_its_role_with_the_token_of_a_file() -> Result<()> {
    let vendor = aws(|request| {
        if request.path != "/v1/credentials" || request.header("authorization") != Some("pod-token")
        {
            return Answer::status(401);
        }
        Answer::json(
            200,
            &json!({"AccessKeyId": "AKIAPOD", "SecretAccessKey": "x", "Token": "pod",
                    "Expiration": "2099-01-01T00:00:00Z"}),
        )
    })
    .await?;
    let url = format!("{}/v1/credentials", vendor.url());
    let pod = |token: &[u8]| -> Result<Cli> {
        unwrap(&vendor.url())?
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token")
            .file("token", token)
    };
    opens(pod(b"pod-token\n")?).await?;
    ensure!(signer(&vendor)? == "AKIAPOD pod");
    fails(pod(b"wrong")?, 4, "the container's role").await?;
    // A token goes to nobody in the clear who isn't near.
    let far = unwrap(&vendor.url())?.env(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://kms.example/v1/credentials",
    );
    fails(far, 6, "in the clear").await
}

#[tokio::test]
async fn an_ec2_instance_gets_its_role_by_a_session_token() -> Result<()> {
    let vendor = aws(|request| {
        let session = request.header("x-aws-ec2-metadata-token");
        match (request.method.as_str(), request.path.as_str(), session) {
            ("PUT", "/latest/api/token", _) => {
                Answer::Reply(Reply::text(200, "text/plain", "session"))
            }
            ("GET", "/latest/meta-data/iam/security-credentials/", Some("session")) => {
                Answer::Reply(Reply::text(200, "text/plain", "rotator"))
            }
            ("GET", "/latest/meta-data/iam/security-credentials/rotator", Some("session")) => {
                Answer::json(
                    200,
                    &json!({"Code": "Success", "AccessKeyId": "AKIAEC2", "SecretAccessKey": "x",
                            "Token": "ec2", "Expiration": "2099-01-01T00:00:00Z"}),
                )
            }
            _ => Answer::status(401),
        }
    })
    .await?;
    let instance = |endpoint: &str| -> Result<Cli> {
        Ok(unwrap(&vendor.url())?
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint))
    };
    opens(instance(&vendor.url())?).await?;
    ensure!(signer(&vendor)? == "AKIAEC2 ec2");
    // Nobody there: not on EC2.
    let nobody = format!("http://{}", rotator_tests::sidecar::free_address()?);
    fails(instance(&nobody)?, 4, "no AWS credentials found").await
}
