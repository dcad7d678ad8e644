//! A bucket on moto's S3 (see [`crate::kms`], whose server it is): versions, Object Lock, and what an auditor downloads.
//! moto refuses to delete a locked version, as S3 does; that a retention can't be shortened it doesn't enforce.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response, StatusCode};

use crate::kms::{Kms, REGION};
use crate::sidecar::http;

pub struct Bucket {
    url: String,
    /// Its address for `ROTATOR_AUDIT_S3_URL`, with a prefix.
    pub s3_url: String,
}

/// An object's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: String,
}

impl Bucket {
    /// Makes it, with Object Lock or without.
    pub async fn make(server: &Kms, name: &str, lock: bool) -> Result<Self> {
        let bucket = Self {
            url: format!("{}/{name}", server.url()),
            s3_url: format!("s3://{name}/rotator"),
        };
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        let headers = [("x-amz-bucket-object-lock-enabled", "true")];
        let headers = if lock { &headers[..] } else { &[] };
        let made = bucket.ask(Method::PUT, "", headers, place).await?;
        ensure!(made.status().is_success(), "{}", made.text().await?);
        Ok(bucket)
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Response> {
        let mut request = http()
            .request(method, format!("{}{path}", self.url))
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential=admin/20261122/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"),
            )
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?)
    }

    /// Every version of every object, the newest of each first.
    pub async fn versions(&self) -> Result<Vec<Version>> {
        let listed = self
            .ask(Method::GET, "?versions", &[], String::new())
            .await?
            .text()
            .await?;
        let part = |text: &str, tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once('<')?.0.to_owned())
        };
        listed
            .split("<Version>")
            .skip(1)
            .map(|entry| {
                Ok(Version {
                    key: part(entry, "Key").context("a key")?,
                    id: part(entry, "VersionId").context("a version")?,
                })
            })
            .collect()
    }

    /// An object, by its newest version.
    pub async fn object(&self, key: &str) -> Result<Response> {
        let found = self
            .ask(Method::GET, &format!("/{key}"), &[], String::new())
            .await?;
        ensure!(
            found.status() == StatusCode::OK,
            "{key}: {}",
            found.status()
        );
        Ok(found)
    }

    pub async fn put(&self, key: &str, body: &str) -> Result<StatusCode> {
        let put = self
            .ask(Method::PUT, &format!("/{key}"), &[], body.to_owned())
            .await?;
        Ok(put.status())
    }

    pub async fn delete(&self, version: &Version) -> Result<StatusCode> {
        let path = format!("/{}?versionId={}", version.key, version.id);
        Ok(self
            .ask(Method::DELETE, &path, &[], String::new())
            .await?
            .status())
    }

    /// As `aws s3 sync` does: the newest version of each object, in folders.
    pub async fn download(&self, folder: &Path) -> Result<usize> {
        let mut keys: Vec<String> = self
            .versions()
            .await?
            .into_iter()
            .map(|version| version.key)
            .collect();
        keys.sort();
        keys.dedup();
        for key in &keys {
            let path = folder.join(key);
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            std::fs::write(path, self.object(key).await?.bytes().await?)?;
        }
        Ok(keys.len())
    }
}
