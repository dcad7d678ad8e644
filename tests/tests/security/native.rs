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
    let in_catalog: BTreeSet<String> = texts(&db.admin, "select prosrc from pg_proc where probin = '$libdir/rotator'").await?.into_iter().collect();
    let listed = Command::new("nm").args(["-D", "--defined-only"]).arg(&db.cluster.library).output()?;
    let exported: BTreeSet<String> = String::from_utf8(listed.stdout)?
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.strip_prefix("pg_finfo_").map(str::to_owned))
        .collect();
    ensure!(!declared.is_empty() && declared == in_catalog && declared == exported, "{declared:?}\n{in_catalog:?}\n{exported:?}");
    let named = texts(&db.admin, "select proname from pg_proc where probin = '$libdir/rotator' and prosrc <> proname || '_wrapper'").await?;
    ensure!(named.is_empty(), "declared under another name: {named:?}");
    Ok(())
}

#[tokio::test]
async fn labels_are_true() -> Result<()> {
    let db = TestDb::new().await?;
    let labels = texts(&db.admin, "select concat_ws(' ', proname, provolatile, proparallel, proisstrict) from pg_proc where probin = '$libdir/rotator' order by proname").await?;
    ensure!(
        labels == [
            "bind_tenant v u t", "blind_index s s t", "bound_tenant s r t", "claims s r t", "guard s s f", "in_claims_mode s r t",
            "library_preloaded s s t", "library_version s s t", "make_key v u t", "master_key_status v s t", "mint_token v s t",
            "open_field s s t", "refuse v s f", "seal_field v u t", "try_open_field s s t", "uuid_v7 v s t", "wrapping_master_key_id v s t",
        ],
        "{labels:#?}"
    );
    Ok(())
}
