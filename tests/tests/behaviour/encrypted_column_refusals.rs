//! What is no column for key rotation is not registered: columns, keys, tenants and values that don't fit, each named,
//! with counts of rows; somebody else's table; and nothing is touched. What is registered: `encrypted_column`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};

use crate::encrypted_column_host::Host;

#[tokio::test]
async fn what_cannot_be_re_encrypted_is_not_registered_and_nothing_is_touched() -> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.vault (id uuid primary key default gen_random_uuid(), tenant uuid, secret bytea, plain text,
                 n numeric not null unique default random(), loose uuid not null default gen_random_uuid(), maybe uuid unique,
                 made bytea generated always as (secret) stored);
             create temporary table passing (id uuid primary key, secret bytea);
             create view app.shown as select * from app.vault;
             insert into app.vault (tenant, secret, plain) select rotator.current_tenant(), convert_to('in the clear ' || n, 'UTF8'), 'x' from generate_series(1, 7) as n",
        )
        .await?;
    let before: String = scalar(
        &host.db.admin,
        "select md5(string_agg(v::text, '' order by id)) from app.vault as v",
        &[],
    )
    .await?;
    for (arguments, problem) in [
        (
            "'app.vault', 'missing', 'l', 'id', 'tenant'",
            "has no column missing",
        ),
        (
            "'app.vault', 'secret', 'l', 'missing', 'tenant'",
            "has no column missing",
        ),
        (
            "'app.vault', 'secret', 'l', 'id', 'missing'",
            "has no column missing",
        ),
        (
            "'app.vault', 'plain', 'l', 'id', 'tenant'",
            "of type text, not bytea",
        ),
        (
            "'app.vault', 'secret', 'l', 'n', 'tenant'",
            "is of type numeric",
        ),
        (
            "'app.vault', 'secret', 'l', 'maybe', 'tenant'",
            "row key column maybe may be null",
        ),
        (
            "'app.vault', 'made', 'l', 'id', 'tenant'",
            "column made is generated",
        ),
        ("'passing', 'secret', 'l', 'id'", "passing is no table"),
        (
            "'app.vault', 'secret', 'l', 'loose', 'tenant'",
            "no index by loose",
        ),
        (
            "'app.vault', 'secret', 'l', 'id', 'n'",
            "tenant column n is of type numeric",
        ),
        (
            "'app.vault', 'secret', '', 'id', 'tenant'",
            "label must be 1 to 255 characters",
        ),
        ("'app.vault', null, 'l', 'id', 'tenant'", "must be given"),
        ("null, 'secret', 'l', 'id', 'tenant'", "relation is missing"),
        ("'app.shown', 'secret', 'l', 'id', 'tenant'", "is no table"),
        (
            "'app.vault', 'secret', 'l', 'id', 'tenant'",
            "7 of 7 rows in app.vault.secret do not hold what rotator.encrypt() gives",
        ),
        (
            "'app.vault', 'secret', 'l', 'id'",
            "7 of 7 rows in app.vault.secret do not hold",
        ),
    ] {
        let refusal = refused(
            host.owner
                .query(
                    &format!("select rotator.register_encrypted_column({arguments})"),
                    &[],
                )
                .await,
            "22023",
        )?;
        ensure!(
            refusal.message().contains(problem),
            "{arguments}: {}",
            refusal.message()
        );
    }
    // Somebody else's table, and rows of nobody.
    host.db
        .admin
        .batch_execute("create table public.theirs (id uuid primary key, secret bytea)")
        .await?;
    refused(
        host.owner
            .query(
                "select rotator.register_encrypted_column('public.theirs', 'secret', 'l', 'id')",
                &[],
            )
            .await,
        "42501",
    )?;
    host.owner
        .batch_execute("update app.vault set secret = rotator.encrypt('x', 'l', id::text), tenant = gen_random_uuid()")
        .await?;
    let refusal = refused(
        host.owner.query("select rotator.register_encrypted_column('app.vault', 'secret', 'l', 'id', 'tenant')", &[]).await,
        "22023",
    )?;
    ensure!(
        refusal
            .message()
            .starts_with("7 of 7 rows in app.vault have a value and no known tenant"),
        "{}",
        refusal.message()
    );
    host.owner
        .batch_execute("update app.vault set tenant = rotator.current_tenant()")
        .await?;
    let left: i64 = scalar(
        &host.db.admin,
        "select count(*) from rotator_internal.encrypted_column",
        &[],
    )
    .await?;
    let granted: bool = scalar(
        &host.db.admin,
        "select has_column_privilege('rotator_host', 'app.vault', 'secret', 'update')",
        &[],
    )
    .await?;
    ensure!(left == 0 && !granted, "refused is as if never asked");
    ensure!(before.len() == 32);
    // Nobody registers past the function without owning the table.
    refused(
        host.owner
            .query("insert into rotator.encrypted_columns (schema_name, table_name, column_name, label, row_key_column) values ('public', 'theirs', 'secret', 'l', 'id')", &[])
            .await,
        "42501",
    )?;
    Ok(())
}
