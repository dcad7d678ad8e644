//! Every ciphertext at every place: over rows, columns, tenants and key versions none opens anywhere but where it was
//! sealed, nor under the id of another version. What can be done to one ciphertext's bytes is in `tamper`.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scaled};
use tokio_postgres::Client;

use crate::fixture::texts;

/// Table `sealed`: for two tenants, three columns and these rows a ciphertext of each of two key versions.
async fn sealed(rows: usize) -> Result<TestDb> {
    let db = TestDb::new().await?;
    db.admin
        .batch_execute(
            "create table sealed (tenant uuid, label text, row_id uuid, version integer, plain text, c bytea);
             create function pg_temp.ending(tenant uuid, label text, row_id uuid, c bytea) returns text language plpgsql as $$
             begin return 'opened ' || rotator_internal.open_field(tenant, label, row_id, c);
             exception when others then return sqlstate; end $$",
        )
        .await?;
    for tenant in ["acme", "beta"] {
        let id = db.tenant(tenant).await?;
        for version in [1, 2] {
            if version == 2 {
                db.admin
                    .batch_execute(&format!("select rotator.rotate_key('{tenant}')"))
                    .await?;
            }
            // The same row ids in both tenants and in all columns: nothing but the one part differs.
            db.admin
                .batch_execute(&format!(
                    "insert into sealed
                     select '{id}', label, row_id, {version}, plain,
                         rotator_internal.seal_field('{id}', label, row_id, plain)
                     from unnest(array['secret.name', 'secret.purpose', 'recipient.address']) as label,
                         lateral (select md5(n::text)::uuid, '{tenant} ' || label || ' ' || n from generate_series(1, {rows}) as n)
                             as cell (row_id, plain)"
                ))
                .await?;
        }
    }
    let keys = texts(&db.admin, "select distinct substr(c, 2, 8) from sealed").await?;
    ensure!(keys.len() == 4, "two versions of two tenants: {keys:?}");
    Ok(db)
}

/// How often each outcome came, as `outcome: count`.
async fn outcomes(admin: &Client, what: &str) -> Result<Vec<String>> {
    texts(
        admin,
        &format!("select outcome || ': ' || count(*) from ({what}) as tried (outcome) group by outcome order by outcome"),
    )
    .await
}

#[tokio::test]
async fn no_ciphertext_opens_at_another_place() -> Result<()> {
    let rows = scaled(40);
    let db = sealed(rows).await?;
    let tried = "
        select case
            when (o.tenant, o.label, o.row_id) = (s.tenant, s.label, s.row_id)
                then 'own place ' || (e = 'opened ' || s.plain)
            else 'other place ' || e end
        from sealed as s
        cross join (select distinct tenant, label, row_id from sealed) as o
        cross join lateral pg_temp.ending(o.tenant, o.label, o.row_id, s.c) as e";
    let (cells, places) = (12 * rows, 6 * rows);
    ensure!(
        outcomes(&db.admin, tried).await?
            == [
                format!("other place RT011: {}", cells * (places - 1)),
                format!("own place true: {cells}"),
            ],
        "{:?}",
        outcomes(&db.admin, tried).await?
    );
    Ok(())
}

#[tokio::test]
async fn no_ciphertext_opens_under_another_version() -> Result<()> {
    let rows = scaled(100);
    let db = sealed(rows).await?;
    // The header of any other ciphertext: the tenant's other version, the other tenant's two, and one that nobody has.
    let tried = "
        select e
        from sealed as s
        cross join (select substr(c, 2, 8) from sealed union select '\\x7fffffffffffffff'::bytea) as o (key_id)
        cross join lateral pg_temp.ending(
            s.tenant, s.label, s.row_id, substr(s.c, 1, 1) || o.key_id || substr(s.c, 10)) as e
        where o.key_id <> substr(s.c, 2, 8)";
    let cells = 12 * rows;
    ensure!(
        outcomes(&db.admin, tried).await?
            == [format!("RT011: {}", cells * 3), format!("RT012: {cells}"),],
        "{:?}",
        outcomes(&db.admin, tried).await?
    );
    Ok(())
}

/// Parts of one ciphertext in another of the same place and key: nonce, text and tag belong together.
#[tokio::test]
async fn no_two_ciphertexts_make_a_third() -> Result<()> {
    let db = sealed(scaled(100)).await?;
    db.admin
        .batch_execute(
            "create table again as
             select tenant, label, row_id, c as one, rotator_internal.seal_field(tenant, label, row_id, plain) as other
             from sealed where version = 2",
        )
        .await?;
    let tried = "
        select e
        from again,
            lateral (values
                (substr(one, 1, 9) || substr(other, 10, 12) || substr(one, 22)),
                (substr(one, 1, 21) || substr(other, 22)),
                (substr(one, 1, octet_length(one) - 16) || substr(other, octet_length(other) - 15)),
                (one || substr(other, 22)),
                (one || other)) as made (c),
            lateral pg_temp.ending(tenant, label, row_id, made.c) as e";
    ensure!(
        outcomes(&db.admin, tried).await? == [format!("RT011: {}", 6 * scaled(100) * 5)],
        "{:?}",
        outcomes(&db.admin, tried).await?
    );
    Ok(())
}

/// A field's ciphertext is no value of the host's, and the other way round, whatever the label and row key.
#[tokio::test]
async fn fields_and_values_are_two_worlds() -> Result<()> {
    let db = sealed(1).await?;
    let viewer = db.session("acme", "viewer").await?;
    let field = texts(
        &db.admin,
        "select c from sealed join rotator_internal.tenant t on t.tenant_id = tenant where slug = 'acme' and label = 'secret.name'",
    )
    .await?;
    let row = texts(&db.admin, "select row_id from sealed limit 1").await?;
    for (ciphertext, key) in field.iter().zip(row.iter().cycle()) {
        let verdict = crate::fixture::verdict(
            &viewer,
            &format!("select rotator.decrypt('{ciphertext}', 'secret.name', '{key}')"),
        )
        .await?;
        ensure!(verdict == "RT011", "{verdict}");
    }
    let value = texts(
        &viewer,
        &format!("select rotator.encrypt('x', 'secret.name', '{}')", row[0]),
    )
    .await?;
    let outcome = outcomes(
        &db.admin,
        &format!(
            "select pg_temp.ending(tenant_id, 'secret.name', '{}', '{}') from rotator_internal.tenant where slug = 'acme'",
            row[0], value[0]
        ),
    )
    .await?;
    ensure!(outcome == ["RT011: 1"], "{outcome:?}");
    Ok(())
}
