//! Signed blocks in S3 with Object Lock (moto): stored once, in COMPLIANCE mode, where they can't be deleted; an outage is
//! caught up, a bucket without a lock is refused, and an object that was there before is not contradicted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::kms::{Kms, REGION};
use rotator_tests::s3::Bucket;
use rotator_tests::sidecar::http;
use rotator_tests::{Cli, Sidecar, until};

use crate::audit_log::Log;

const NOTICED: Duration = Duration::from_secs(30);

/// A sidecar that signs and copies to this bucket, and to the file as well.
async fn sidecar(log: &Log, server: &str, s3_url: &str) -> Result<Sidecar> {
    log.sidecar_with(&[
        ("ROTATOR_AUDIT_FILE", &log.file_name()),
        ("ROTATOR_AUDIT_S3_URL", s3_url),
        ("ROTATOR_AUDIT_S3_RETENTION_DAYS", "400"),
        ("ROTATOR_AWS_ENDPOINT_URL", server),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret-access-key"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
    .await
}

#[tokio::test]
async fn each_block_is_locked_away_and_the_folder_verifies() -> Result<()> {
    let (log, server) = (Log::new().await?, Kms::start().await?);
    let bucket = Bucket::make(&server, "acme-audit", true).await?;
    log.sealed(3, 2).await?;
    let sidecar = sidecar(&log, server.url(), &bucket.s3_url).await?;
    log.all_signed().await?;
    let versions = bucket.versions().await?;
    ensure!(versions.len() as i64 == log.signed().await?, "{versions:?}");
    for version in &versions {
        let name = version.key.rsplit('/').next().unwrap_or_default();
        ensure!(
            version.key.starts_with("rotator/") && name.len() == 25 && name.ends_with(".json"),
            "{version:?}"
        );
        let object = bucket.object(&version.key).await?;
        let header = |name: &str| {
            object
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let days: String =
            rotator_tests::scalar(&log.db().admin, "select (current_date + 399)::text", &[])
                .await?;
        ensure!(
            header("x-amz-object-lock-mode") == "COMPLIANCE",
            "{:?}",
            object.headers()
        );
        ensure!(
            header("x-amz-object-lock-retain-until-date") >= days,
            "{:?}",
            object.headers()
        );
        let deleted = bucket.delete(version).await?;
        ensure!(deleted == 403, "{deleted}");
    }
    ensure!(bucket.versions().await? == versions);
    let folder = log.folder.join("objects");
    ensure!(bucket.download(&folder).await? == versions.len());
    let export = log.export().await?;
    let folder = folder.display().to_string();
    let arguments = [
        "audit",
        "verify",
        "-",
        "--key",
        &log.public,
        "--copy",
        &folder,
    ];
    let said = Cli::offline(&arguments)?.input(&export).ok().await?;
    ensure!(said.starts_with("ok: "), "{said}");
    // Whoever may write puts a newer version over one: the locked one stays, and the folder says that something is wrong.
    let first = versions.first().context("a version")?;
    let text = bucket.object(&first.key).await?.text().await?;
    ensure!(
        bucket
            .put(&first.key, &text.replace("\"seen_at\"", "\"seen_at\" "))
            .await?
            == 200
    );
    ensure!(
        bucket
            .put(&first.key, &text.replacen("\"events\":", "\"events\":1", 1))
            .await?
            == 200
    );
    ensure!(
        bucket.versions().await?.contains(first),
        "the locked version"
    );
    bucket.download(std::path::Path::new(&folder)).await?;
    let printed = Cli::offline(&arguments)?.input(&export).run().await?;
    ensure!(
        printed.code == 1 && printed.stderr.contains("was changed"),
        "{printed:?}"
    );
    ensure!(!sidecar.log()?.contains("canary-of-a-secret"));
    Ok(())
}

#[tokio::test]
async fn an_outage_of_s3_is_told_and_caught_up() -> Result<()> {
    let log = Log::new().await?;
    log.sealed(3, 1).await?;
    let address = rotator_tests::sidecar::free_address()?;
    let sidecar = sidecar(
        &log,
        &format!("http://{address}"),
        "s3://acme-audit/rotator",
    )
    .await?;
    sidecar
        .logged(NOTICED, "can't be reached: connection refused")
        .await?;
    let ready = http()
        .get(sidecar.url("/readyz"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(
        ready.contains("audit: S3 (s3://acme-audit/rotator/)"),
        "{ready}"
    );
    ensure!(log.signed().await? == 0, "not before it is in every copy");
    ensure!(
        log.copied()?.len() as i64 == log.blocks().await?,
        "the file has them all the same"
    );
    log.sealed(2, 1).await?;
    let server = Kms::on(&address).await?;
    let bucket = Bucket::make(&server, "acme-audit", true).await?;
    log.all_signed().await?;
    ensure!(bucket.versions().await?.len() as i64 == log.signed().await?);
    ensure!(
        log.copied()?.len() as i64 == log.signed().await?,
        "each is in the file once"
    );
    sidecar.logged(NOTICED, "signed and copied again").await?;
    log.verify(&log.export().await?, true).await?.is_clean()?;
    Ok(())
}

#[tokio::test]
async fn a_bucket_without_a_lock_or_that_is_not_there_is_refused_with_what_to_do() -> Result<()> {
    let (log, server) = (Log::new().await?, Kms::start().await?);
    let open = Bucket::make(&server, "no-lock", false).await?;
    log.sealed(1, 1).await?;
    for (url, said) in [
        (open.s3_url.as_str(), "Object Lock"),
        ("s3://nowhere/x", "create it with Object Lock"),
    ] {
        let mut sidecar = sidecar(&log, server.url(), url).await?;
        let line = sidecar.logged(NOTICED, "audit log: S3 (").await?;
        ensure!(line.contains(said), "{line}");
        sidecar.terminate().await?;
    }
    ensure!(log.signed().await? == 0 && open.versions().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn two_sidecars_and_a_crash_leave_one_object_a_block() -> Result<()> {
    let (log, server) = (Log::new().await?, Kms::start().await?);
    let bucket = Bucket::make(&server, "acme-audit", true).await?;
    let blocks = log.sealed(4, 1).await?;
    let revoke = "revoke execute on function rotator.record_audit_signature(uuid, bigint, text, text, text[]) from rotator_sidecar";
    log.db().admin.batch_execute(revoke).await?;
    let mut killed = sidecar(&log, server.url(), &bucket.s3_url).await?;
    until(NOTICED, "the objects", async || {
        Ok(bucket.versions().await?.len() as i64 >= blocks)
    })
    .await?;
    killed.kill().await?;
    log.db()
        .admin
        .batch_execute(&revoke.replace("revoke", "grant").replace(" from ", " to "))
        .await?;
    let (_one, _other) = tokio::try_join!(
        sidecar(&log, server.url(), &bucket.s3_url),
        sidecar(&log, server.url(), &bucket.s3_url)
    )?;
    log.sealed(3, 1).await?;
    log.all_signed().await?;
    ensure!(bucket.versions().await?.len() as i64 == log.signed().await?);
    Ok(())
}

#[tokio::test]
async fn another_object_under_a_blocks_number_keeps_it_from_being_signed() -> Result<()> {
    let (log, server) = (Log::new().await?, Kms::start().await?);
    let bucket = Bucket::make(&server, "acme-audit", true).await?;
    log.sealed(1, 1).await?;
    let tenant: String = rotator_tests::scalar(
        &log.acme.operator,
        "select rotator.current_tenant()::text",
        &[],
    )
    .await?;
    let key = format!("rotator/{tenant}/{:020}.json", 1);
    ensure!(bucket.put(&key, "{\"tenant_id\":\"another\"}").await? == 200);
    let sidecar = sidecar(&log, server.url(), &bucket.s3_url).await?;
    let line = sidecar
        .logged(NOTICED, "is not signed: S3 has another block")
        .await?;
    ensure!(
        line.contains(&format!("block 1 of tenant {tenant}")),
        "{line}"
    );
    ensure!(log.signed().await? == 0 && log.copied()?.is_empty());
    Ok(())
}
