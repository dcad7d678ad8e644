//! A real AWS KMS on loopback, as far as there is one outside of AWS: moto's server, in the virtual environment that
//! `scripts/setup.sh` makes. It encrypts with AES-GCM over the encryption context, and once [`Kms::check_signatures`] was
//! called it checks signatures with AWS's own library and rights by IAM policies. It has STS, too.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::scratch::root;
use crate::sidecar::http;

pub const REGION: &str = "eu-central-1";

pub struct Kms {
    url: String,
    _process: Child,
}

impl Kms {
    /// On a free port.
    pub async fn start() -> Result<Self> {
        Self::on("127.0.0.1:0").await
    }

    /// On this address: for one that comes back where it was. It has forgotten its keys.
    pub async fn on(address: &str) -> Result<Self> {
        let (host, port) = address.rsplit_once(':').context("host:port")?;
        let program = target().join("moto/bin/moto_server");
        let mut process = Command::new(&program)
            .args(["--host", host, "--port", port])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}: run scripts/setup.sh", program.display()))?;
        let mut lines =
            BufReader::new(process.stderr.take().context("standard error is a pipe")?).lines();
        let started = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, url)) = line.split_once("Running on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            anyhow::bail!("it ended")
        };
        let url = tokio::time::timeout(Duration::from_secs(30), started)
            .await
            .context("moto did not start")??;
        // It logs each request: somebody has to read that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            url,
            _process: process,
        })
    }

    /// For `ROTATOR_AWS_ENDPOINT_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Makes a symmetric key and gives its ARN.
    pub async fn key(&self) -> Result<String> {
        let made = self.ask("CreateKey", &json!({})).await?;
        let arn = made["KeyMetadata"]["Arn"].as_str();
        Ok(arn.context("a key has an ARN")?.to_owned())
    }

    /// One action of KMS, as an administrator.
    pub async fn ask(&self, action: &str, body: &Value) -> Result<Value> {
        let answer = http()
            .post(&self.url)
            .header("x-amz-target", format!("TrentService.{action}"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", authorization("kms"))
            .body(body.to_string())
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{action}: {status} {text}");
        Ok(match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text)?,
        })
    }

    /// An IAM user who may do `action` on KMS keys; gives the access key's id and its secret.
    pub async fn user(&self, name: &str, action: &str) -> Result<(String, String)> {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": action, "Resource": "*"}]});
        self.iam(&format!("CreateUser&UserName={name}")).await?;
        let document: String = url_encoded(&policy.to_string());
        self.iam(&format!(
            "PutUserPolicy&UserName={name}&PolicyName=kms&PolicyDocument={document}"
        ))
        .await?;
        let made = self
            .iam(&format!("CreateAccessKey&UserName={name}"))
            .await?;
        let part = |tag: &str| {
            let (_, rest) = made.split_once(&format!("<{tag}>"))?;
            rest.split_once(&format!("</{tag}>"))
                .map(|(value, _)| value.to_owned())
        };
        Ok((
            part("AccessKeyId").context("an access key")?,
            part("SecretAccessKey").context("its secret")?,
        ))
    }

    async fn iam(&self, action: &str) -> Result<String> {
        let answer = http()
            .post(&self.url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization("iam"))
            .body(format!("Version=2010-05-08&Action={action}"))
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{action}: {status} {text}");
        Ok(text)
    }

    /// From now on every request must be signed by somebody who may.
    pub async fn check_signatures(&self) -> Result<()> {
        let url = format!("{}/moto-api/reset-auth", self.url);
        let answer = http().post(url).body("0").send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(())
    }
}

/// Says which service is meant; not looked at any closer before [`Kms::check_signatures`].
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=admin/20261122/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Where `scripts/setup.sh` installs what only tests need.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder))
}
