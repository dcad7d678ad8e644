//! What the engine asks of the library when it re-encrypts: the same plaintext under the active key, a ciphertext that is
//! under it already untouched, and nothing for bytes that don't open, of the host's values and of rotator's own fields.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::text;

#[tokio::test]
async fn the_engine_seals_again_what_opens_and_passes_over_the_rest() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    let plaintext = "stored out of line ".repeat(5_000);
    db.admin.batch_execute("create table host (id int primary key, c bytea); alter table host alter c set storage external; grant all on host to public").await?;
    session.batch_execute(&format!("insert into host select n, rotator.encrypt('{plaintext}' || n, 'l', n::text) from generate_series(1, 3) as n")).await?;
    let key = "select string_agg(distinct rotator_internal.ciphertext_key(c)::text, ' ') from host";
    let old = text(&db.admin, key).await?;
    let reseal =
        format!("update host set c = rotator_internal.reseal_value('{tenant}', 'l', id::text, c)");
    let before = text(
        &db.admin,
        "select md5(string_agg(c, '' order by id)) from host",
    )
    .await?;
    db.admin.batch_execute(&reseal).await?;
    ensure!(
        text(
            &db.admin,
            "select md5(string_agg(c, '' order by id)) from host"
        )
        .await?
            == before,
        "under the active key already"
    );
    session.batch_execute("select rotator.rotate_key()").await?;
    db.admin.batch_execute(&reseal).await?;
    let new = text(&db.admin, key).await?;
    ensure!(new.parse::<i64>()? > old.parse::<i64>()?, "{old} {new}");
    ensure!(text(&session, &format!("select count(*) from host where rotator.decrypt(c, 'l', id::text) = '{plaintext}' || id")).await? == "3");

    session.batch_execute("select rotator.rotate_key()").await?;
    let asked = |value: &str, row: &str| {
        format!("select concat_ws(' ', rotator_internal.value_opens('{tenant}', 'l', {row}, {value}), rotator_internal.reseal_value('{tenant}', 'l', {row}, {value}) is not null,
            rotator_internal.ciphertext_key({value}) is not null) from host where id = 1")
    };
    for (value, row, expected) in [
        ("c", "'1'", "t t t"),
        ("c", "'2'", "f f t"),
        ("set_byte(c, 40, get_byte(c, 40) # 1)", "'1'", "f f t"),
        ("set_byte(c, 2, 1)", "'1'", "f f t"),
        ("set_byte(c, 0, 2)", "'1'", "f f f"),
        ("substr(c, 1, 36)", "'1'", "f f f"),
        ("substr(c, 1, 37)", "'1'", "f f t"),
        ("''", "'1'", "f f f"),
        ("convert_to(repeat('plain', 100), 'UTF8')", "'1'", "f f f"),
    ] {
        let found = text(&db.admin, &asked(value, row)).await?;
        ensure!(found == expected, "{value} {row}: {found}");
    }

    // The same for a field of rotator's own.
    let own = format!("select rotator_internal.open_field('{tenant}', 'l', t.id, rotator_internal.reseal_field('{tenant}', 'l', t.id, t.c))
        from (select i.id, rotator_internal.seal_field('{tenant}', 'l', i.id, 'own') as c from (select gen_random_uuid() as id) as i) as t");
    ensure!(text(&db.admin, &own).await? == "own");
    let wrong = format!(
        "select rotator_internal.reseal_field('{tenant}', 'l', gen_random_uuid(), '\\x0102') is null"
    );
    ensure!(text(&db.admin, &wrong).await? == "t");
    Ok(())
}

#[tokio::test]
async fn all_or_nothing_says_which_error_and_gives_the_same() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    db.admin
        .batch_execute(
            "create table host (id uuid primary key, c bytea); grant all on host to public",
        )
        .await?;
    session
        .batch_execute("insert into host select id, rotator.encrypt('the value', 'l', id::text) from (select gen_random_uuid() as id) as n; select rotator.rotate_key()")
        .await?;
    for renewed in [
        format!("rotator_internal.renew_value('{tenant}', 'l', id::text, c)"),
        format!("rotator_internal.renew_uuid_value('{tenant}', 'l', id, c)"),
    ] {
        let opened = format!(
            "select rotator.decrypt({renewed}, 'l', id::text) || (rotator_internal.ciphertext_key({renewed}) > rotator_internal.ciphertext_key(c)) from host"
        );
        db.admin
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
        ensure!(
            text(&db.admin, &opened).await? == "the valuetrue",
            "{renewed}"
        );
        let broken = format!(
            "select {} from host",
            renewed.replace(", c)", ", set_byte(c, 40, get_byte(c, 40) # 1))")
        );
        let refused = db.admin.batch_execute(&broken).await;
        let code = refused.as_ref().err().and_then(|error| error.code());
        ensure!(
            code.is_some_and(|code| code.code() == "RT011"),
            "{renewed}: {refused:?}"
        );
    }
    let own = format!(
        "select rotator_internal.renew_field('{tenant}', 'l', gen_random_uuid(), '\\x0102')"
    );
    let refused = db.admin.batch_execute(&own).await;
    let code = refused.as_ref().err().and_then(|error| error.code());
    ensure!(
        code.is_some_and(|code| code.code() == "RT011"),
        "{refused:?}"
    );
    Ok(())
}
