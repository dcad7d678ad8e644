//! The native functions: what `sql/api/native.sql` declares is what the catalog has and the library exports, and none of
//! them can be called by anybody but the code that needs it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use rotator_tests::scratch::root;

use crate::fixture::texts;

#[tokio::test]
async fn declarations_catalog_and_library_agree() -> Result<()> {
    let db = TestDb::new().await?;
    let declared: BTreeSet<String> = std::fs::read_to_string(root().join("sql/api/native.sql"))?
        .split("'MODULE_PATHNAME', '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .map(str::to_owned)
        .collect();
    let in_catalog: BTreeSet<String> = texts(
        &db.admin,
        "select prosrc from pg_proc where probin = '$libdir/rotator'",
    )
    .await?
    .into_iter()
    .collect();
    let listed = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&db.cluster.library)
        .output()?;
    let exported: BTreeSet<String> = String::from_utf8(listed.stdout)?
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .last()?
                .strip_prefix("pg_finfo_")
                .map(str::to_owned)
        })
        .collect();
    ensure!(
        !declared.is_empty() && declared == in_catalog && declared == exported,
        "{declared:?}\n{in_catalog:?}\n{exported:?}"
    );
    let named = texts(&db.admin, "select proname from pg_proc where probin = '$libdir/rotator' and prosrc <> proname || '_wrapper'").await?;
    ensure!(named.is_empty(), "declared under another name: {named:?}");
    Ok(())
}

#[tokio::test]
async fn labels_promise_no_more_than_is_true() -> Result<()> {
    let db = TestDb::new().await?;
    let of = async |condition: &str| {
        texts(&db.admin, &format!("select proname from pg_proc where probin = '$libdir/rotator' and {condition} order by 1")).await
    };
    // Random, or a change: never folded, never shared.
    let volatile = of("provolatile = 'v' and proname in ('bind_tenant', 'encrypt', 'make_key', 'mint_token', 'refuse', 'renew_field', 'renew_uuid_value', 'renew_value', 'reseal_field', 'reseal_value', 'seal_field', 'uuid_v7')").await?;
    ensure!(volatile.len() == 12, "{volatile:?}");
    ensure!(
        of("(provolatile = 'i' or proleakproof)").await?
            == [
                "audit_block_hash",
                "audit_event_hash",
                "audit_root",
                "ciphertext_key",
                "is_under_other_key"
            ],
        "each of the others depends on the session, the time or the keys"
    );
    ensure!(of("proleakproof").await?.is_empty());
    // What the leader alone knows, and what a worker must not do.
    let bound = of("proparallel <> 's' and proname in ('bind_tenant', 'bound_tenant', 'claims', 'decrypt', 'encrypt', 'in_claims_mode', 'make_key', 'renew_field', 'renew_uuid_value', 'renew_value', 'reseal_field', 'reseal_value', 'seal_field')").await?;
    ensure!(bound.len() == 13, "{bound:?}");
    // Null must not switch these off.
    ensure!(of("not proisstrict").await? == ["audit_event_hash", "guard", "refuse"]);
    Ok(())
}
