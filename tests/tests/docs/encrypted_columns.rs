//! The guide to encrypted columns, from plaintext and pgcrypto to the first rotation, run block by block in a cluster of
//! its own (its roles have fixed names), as whoever it says. And what the guide promises of the end: every value is what
//! it was, none is under the old key, and the table's file holds no plaintext.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, scalar};

use crate::examples::claims;
use crate::follow::Example;
use crate::markdown::page;

#[tokio::test]
async fn the_guide_to_encrypted_columns_works_as_written() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let mut example = Example::new(TestDb::in_cluster(Arc::new(cluster)).await?);
    let postgrest_guide = page("docs/postgrest.md")?.blocks();
    example.claims = claims(&postgrest_guide)?;
    example.claims["tenant_id"] = "acme".into();
    example.follow_all(&postgrest_guide).await?;

    let guide = page("docs/encrypted-columns.md")?.blocks();
    let unmarked = guide
        .iter()
        .find(|block| block.language == "sql" && block.marker.is_none());
    ensure!(
        unmarked.is_none(),
        "nothing runs the block at line {}",
        unmarked.map_or(0, |block| block.line)
    );
    let ran = example.follow_all(&guide).await?;
    ensure!(ran >= 20, "only {ran} blocks have a marker");
    every_value_is_what_it_was(&example.db).await?;
    no_plaintext_is_left(&example.db).await
}

async fn every_value_is_what_it_was(db: &TestDb) -> Result<()> {
    let worker = db.cluster.connect("webhook_worker", &db.name).await?;
    for (slug, endpoints, entries) in [("acme", 1200_i64, 20_i64), ("beta", 30, 5)] {
        worker
            .execute("select rotator.use_tenant($1)", &[&slug])
            .await?;
        let same: i64 = scalar(
            &worker,
            "select count(*) from app.endpoint_for_delivery
             where signing_secret = 'whsec_' || $1 || '_' || substring(url from '[0-9]+$')",
            &[&slug],
        )
        .await?;
        ensure!(same == endpoints, "{slug}: {same} endpoints");
        let same: i64 = scalar(
            &worker,
            "select count(*) from app.vault where value = $1 || ' ' || name",
            &[&slug],
        )
        .await?;
        ensure!(same == entries, "{slug}: {same} entries");
    }
    let added: String = scalar(
        &db.admin,
        "select string_agg(distinct k.version::text, ' ' order by k.version::text)
         from app.webhook_endpoint as e
         join rotator_internal.encryption_key as k on k.id = rotator_internal.ciphertext_key(e.sealed_secret)
         join rotator_internal.tenant as t on t.tenant_id = k.tenant_id and t.slug = 'acme'",
        &[],
    )
    .await?;
    ensure!(added == "2", "endpoints of acme are under {added}");
    Ok(())
}

async fn no_plaintext_is_left(db: &TestDb) -> Result<()> {
    db.admin.batch_execute("checkpoint").await?;
    for (table, kept, gone) in [
        ("app.webhook_endpoint", "https://beta.example", "whsec_"),
        ("app.vault_entry", "token 3", "acme token"),
    ] {
        for (text, expected) in [(kept, true), (gone, false)] {
            let found: bool = scalar(
                &db.admin,
                "select position(convert_to($2, 'UTF8') in pg_read_binary_file(pg_relation_filepath($1::text::regclass))) > 0",
                &[&table, &text],
            )
            .await?;
            ensure!(
                found == expected,
                "{text:?} in the file of {table}: {found}"
            );
        }
    }
    Ok(())
}
