//! Nothing is forgotten: each table and sequence of ours is marked for pg_dump, or is known to be of one database alone;
//! and each table can be replicated, so that whoever publishes everything stops nothing.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::{text, texts};

/// What the engine notes of this one database.
const NOT_DUMPED: &[&str] = &[
    "rotator_internal.heartbeat",
    "rotator_internal.audit_seal_state",
];

#[tokio::test]
async fn every_table_and_sequence_is_marked_for_dumps() -> Result<()> {
    let db = TestDb::new().await?;
    let unmarked = texts(
        &db.admin,
        "select c.oid::regclass
         from pg_depend as d
         join pg_class as c on c.oid = d.objid and c.relkind in ('r', 'p', 'S', 'm', 'f')
         join pg_extension as e on e.oid = d.refobjid and e.extname = 'rotator'
         where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
           and c.oid <> all (e.extconfig)
         order by 1",
    )
    .await?;
    let unexpected: Vec<&String> = unmarked
        .iter()
        .filter(|relation| !NOT_DUMPED.contains(&relation.as_str()))
        .collect();
    ensure!(
        unexpected.is_empty(),
        "pg_dump would leave out {unexpected:?}"
    );
    let partly =
        "select count(*) from pg_extension as e cross join unnest(e.extcondition) as c (condition)
        where e.extname = 'rotator' and c.condition <> ''";
    ensure!(
        text(&db.admin, partly).await? == "0",
        "a table is dumped in part"
    );
    // A restore would meet rows that the script had made.
    for table in texts(
        &db.admin,
        "select r::regclass from pg_extension as e cross join unnest(e.extconfig) as r
         join pg_class as c on c.oid = r and c.relkind = 'r' where e.extname = 'rotator'",
    )
    .await?
    {
        let rows = text(&db.admin, &format!("select count(*) from {table}")).await?;
        ensure!(
            rows == "0",
            "{table} has {rows} rows right after the installation"
        );
    }
    Ok(())
}

#[tokio::test]
async fn where_everything_is_published_everything_goes_on() -> Result<()> {
    let db = TestDb::new().await?;
    let without = texts(
        &db.admin,
        "select c.oid::regclass from pg_class as c
         where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r' and c.relreplident <> 'f'
           and not exists (select from pg_index as i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident))",
    )
    .await?;
    ensure!(without.is_empty(), "no replica identity: {without:?}");

    db.tenant("acme").await?;
    db.admin
        .batch_execute("create publication everything for all tables")
        .await?;
    crate::fixture::populate(&db, "acme").await?;
    // Uses of a key that several sessions have reserved are folded: rows are deleted.
    for n in 0..2 {
        let session = db.session("acme", "editor").await?;
        session
            .batch_execute(&format!(
                "select rotator.register_secret('s{n}', rotation_interval => '1 day')"
            ))
            .await?;
    }
    let rows = "select count(*) from rotator_internal.key_use as u
        join rotator_internal.encryption_key as k on k.id = u.key_id where k.purpose = 'data'";
    ensure!(
        text(&db.admin, rows).await? != "1",
        "there is something to fold"
    );
    rotator_tests::settled(&db.admin).await?;
    db.admin.batch_execute("select rotator.tick(); select rotator.rotate_key('acme'); select rotator.reencrypt_step()").await?;
    Ok(())
}
