//! The guide to the audit log: a sealed log is signed by a sidecar that is set up as the guide says, then exported and
//! verified by the guide's own blocks, which print what it shows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cli, Cluster, Options, Sidecar, TestDb, scalar, until};

use crate::follow::Example;
use crate::markdown::page;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_guide_to_the_audit_log_works_as_written() -> Result<()> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    let folder = Scratch::new("audit-guide")?;
    db.admin
        .batch_execute(
            "create role auditor login in role rotator_auditor, rotator_user;
             select rotator.create_tenant('acme', 'Acme GmbH');
             select rotator.add_member('db:auditor', 'auditor', 'acme');
             select rotator.use_tenant('acme');
             select rotator.set_contact('dana', 'console', 'dana')",
        )
        .await?;
    until(SOON, "all events to be sealed", async || {
        db.admin.batch_execute("select rotator.tick()").await?;
        let sql = "select count(block_id) = count(*) from rotator.audit_log";
        scalar(&db.admin, sql, &[]).await
    })
    .await?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, copies) = (path("audit.key"), path("blocks.jsonl"));
    let public = Cli::offline(&["audit", "new-key", "--name", "acme/audit", "--out", &key])?
        .ok()
        .await?;
    std::fs::write(folder.join("audit.pub"), public)?;
    let settings = [
        ("ROTATOR_AUDIT_KEY_FILE", key.as_str()),
        ("ROTATOR_AUDIT_FILE", copies.as_str()),
    ];
    let mut sidecar = Sidecar::start(&db, &settings).await?;
    until(SOON, "all blocks to be signed", async || {
        let sql = "select count(note) = count(*) from rotator.audit_blocks";
        scalar(&db.admin, sql, &[]).await
    })
    .await?;
    sidecar.terminate().await?;
    let mut example = Example::new(db);
    example.folder = folder.path().to_owned();
    let ran = example.follow_all(&page("docs/audit.md")?.blocks()).await?;
    ensure!(ran == 5, "{ran} blocks have a marker");
    Ok(())
}
