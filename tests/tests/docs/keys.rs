//! The guide to keys, run block by block in a cluster of its own: rotation, rollback, retiring and destroying of the keys
//! of a tenant with three encrypted rows.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb};

use crate::follow::Example;
use crate::markdown::page;

#[tokio::test]
async fn the_guide_to_keys_works_as_written() -> Result<()> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.admin
        .batch_execute(
            "create role rotator_ops login in role rotator_admin; create role acme_admin login in role rotator_user;
             select rotator.create_tenant('acme', 'Acme GmbH');
             select rotator.add_member('db:acme_admin', 'admin', 'acme');
             select rotator.use_tenant('acme');
             select rotator.register_secret('key ' || n, rotation_interval => '90 days') from generate_series(1, 3) as n",
        )
        .await?;
    let guide = page("docs/keys.md")?.blocks();
    let unmarked = guide
        .iter()
        .find(|block| block.language == "sql" && block.marker.is_none());
    ensure!(
        unmarked.is_none(),
        "nothing runs the block at line {}",
        unmarked.map_or(0, |block| block.line)
    );
    let ran = Example::new(db).follow_all(&guide).await?;
    ensure!(ran >= 7, "only {ran} blocks have a marker");
    Ok(())
}
