//! Attacks on key rotation, each of which succeeded once: triggers of the host that leave work for somebody with more
//! rights, or claim what they didn't do; errors that no handler catches; rows that nobody takes for the tenant's. Callers
//! that meet in the wrong order: `key_order`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::encrypted_column_host::Host;
use crate::key_rotation::reencrypt_all;
use crate::seed::rows;

/// A table `app.t` with twenty rows of acme and five of beta, registered.
async fn host_with_table() -> Result<Host> {
    let host = Host::new().await?;
    run_sql(
        &host,
        "create table app.t (id integer primary key, tenant uuid, secret bytea);
         create sequence app.ids;
         grant usage on app.ids to rotator_user",
    )
    .await?;
    host.fill(
        "app.t",
        "nextval('app.ids')::integer",
        "rotator.current_tenant()",
    )
    .await?;
    host.register("app.t").await?;
    Ok(host)
}

/// As the owner of the tables, who is an operator.
async fn run_sql(host: &Host, sql: &str) -> Result<()> {
    Ok(host.owner.batch_execute(sql).await?)
}

async fn steps(host: &Host, count: usize) -> Result<()> {
    for _ in 0..count {
        run_sql(host, "select rotator.reencrypt_step()").await?;
    }
    Ok(())
}

/// Rows of acme under a version that isn't the active one.
async fn left_over(host: &Host) -> Result<i64> {
    scalar(
        &host.owner,
        "select sum(row_count)::bigint from rotator.encryption_keys
         where purpose = 'data' and not active and tenant_id = rotator.current_tenant()",
        &[],
    )
    .await
}

async fn rotate(host: &Host) -> Result<i64> {
    scalar(&host.owner, "select rotator.rotate_key()", &[]).await
}

/// Steps, without the waits after errors, until no run is left.
async fn to_the_end(host: &Host) -> Result<()> {
    for _ in 0..50 {
        steps(host, 1).await?;
        let left = host
            .db
            .admin
            .execute(
                "update rotator_internal.key_rotation set resume_at = now() - interval '1 second' where status = 'running'",
                &[],
            )
            .await?;
        if left == 0 {
            return Ok(());
        }
    }
    anyhow::bail!("the runs don't end")
}

async fn run(host: &Host, rotation: i64) -> Result<Value> {
    let found = rows(
        &host.owner,
        &format!(
            "select status, total, done, failed, error from rotator.key_rotations where id = {rotation}"
        ),
    )
    .await?;
    Ok(found[0].clone())
}

#[tokio::test]
async fn what_a_trigger_puts_off_never_runs_with_the_rights_of_the_session() -> Result<()> {
    let host = host_with_table().await?;
    run_sql(
        &host,
            "create table app.seen (who text, what text);
             grant insert on app.seen to public;
             create table app.later (id integer);
             grant insert on app.later to public;
             grant usage on schema app to public;
             create function app.spy() returns trigger language plpgsql as $$
             begin
                 insert into app.seen values (current_user, tg_table_name);
                 return null;
             end $$;
             create constraint trigger spy after update on app.t deferrable initially deferred
             for each row execute function app.spy();
             create constraint trigger spy after insert on app.later deferrable initially deferred
             for each row execute function app.spy();
             create function app.try(attempt text) returns void language plpgsql as $$
             begin
                 execute attempt;
             exception
                 when others then
                     insert into app.seen values (current_user, sqlerrm);
             end $$;
             grant execute on function app.try(text) to public;
             create function app.leave() returns trigger language plpgsql as $$
             begin
                 perform app.try('set constraints all deferred; insert into app.later values (1)');
                 perform app.try('declare held cursor with hold for select current_user');
                 perform app.try('create temporary table left_over (id integer)');
                 perform set_config('search_path', 'app, pg_catalog', false);
                 perform set_config('statement_timeout', '77s', false);
                 return new;
             end $$;
             create trigger leave before update on app.t for each row when (old.id = 1) execute function app.leave()",
        )
        .await?;
    let rotation = rotate(&host).await?;
    // As pg_cron would, with rights worth having.
    let path: String = scalar(&host.db.admin, "show search_path", &[]).await?;
    for _ in 0..5 {
        host.db
            .admin
            .batch_execute("select rotator.reencrypt_step()")
            .await?;
    }
    let after: Value = scalar(
        &host.db.admin,
        "select jsonb_build_object('path', current_setting('search_path'), 'timeout', current_setting('statement_timeout'),
             'tables', to_regclass('pg_temp.left_over'), 'cursors', (select count(*) from pg_cursors where is_holdable))",
        &[],
    )
    .await?;
    ensure!(
        after == json!({"path": path, "timeout": "0", "tables": null, "cursors": 0}),
        "{after}"
    );
    let who = rows(&host.owner, "select distinct who from app.seen").await?;
    ensure!(who == json!([{"who": "rotator_host_writer"}]), "{who}");
    let seen = rows(
        &host.owner,
        "select what, count(*) as times from app.seen group by what order by what",
    )
    .await?;
    ensure!(
        seen.as_array().is_some_and(|seen| seen.len() == 4)
            && seen.to_string().matches("security-restricted").count() == 3
            && run(&host, rotation).await?["status"] == "completed",
        "{seen}"
    );
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_puts_the_old_value_back_is_no_success() -> Result<()> {
    let host = host_with_table().await?;
    run_sql(
        &host,
            "create function app.keep() returns trigger language plpgsql as $$
             begin
                 new.secret := old.secret;
                 return new;
             end $$;
             create trigger keep before update on app.t for each row when (old.id in (3, 4)) execute function app.keep()",
        )
        .await?;
    let rotation = rotate(&host).await?;
    to_the_end(&host).await?;
    let ended = run(&host, rotation).await?;
    ensure!(
        ended["status"] == "failed"
            && ended["done"] == 18
            && ended["failed"] == 2
            && ended["total"] == 20
            && ended["error"] == "2 row(s) could not be re-encrypted, the first in app.t.secret: 3",
        "{ended}"
    );
    Ok(())
}

#[tokio::test]
async fn an_error_that_no_handler_catches_holds_up_nobody_else_and_quotes_nothing() -> Result<()> {
    let host = host_with_table().await?;
    let acme: String = scalar(&host.acme, "select rotator.current_tenant()::text", &[]).await?;
    for raised in [
        "raise exception 'plaintext' using errcode = 'query_canceled'",
        "assert false, 'plaintext'",
    ] {
        run_sql(&host, &format!(
                "create or replace function app.stop() returns trigger language plpgsql as $$ begin {raised}; end $$;
                 create or replace trigger stop before update on app.t
                 for each row when (old.tenant = '{acme}') execute function app.stop();
                 select rotator.rotate_all_keys()"
            ))
            .await?;
        steps(&host, 6).await?;
        let runs = rows(
            &host.owner,
            "select r.status, r.error from rotator.key_rotations as r order by r.id desc limit 2",
        )
        .await?;
        let text = runs.to_string();
        ensure!(
            text.contains("completed")
                && text.contains("a trigger or constraint of app.t did not let")
                && !text.contains("plaintext"),
            "{raised}: {runs}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_row_of_no_known_tenant_keeps_its_key() -> Result<()> {
    let host = Host::new().await?;
    run_sql(
        &host,
            "create table app.t (id integer primary key, tenant text, secret bytea);
             select rotator.register_encrypted_column('app.t', 'secret', 'label', 'id', 'tenant');
             insert into app.t values (1, 'Acme', rotator.encrypt('a', 'label', '1')), (2, null, rotator.encrypt('b', 'label', '2'));
             select rotator.rotate_key()",
        )
        .await?;
    reencrypt_all(&host.owner, 1000).await?;
    let refusal = refused(
        host.owner.query("select rotator.retire_key(1)", &[]).await,
        "PT409",
    )?;
    ensure!(
        refusal.message()
            == "2 row(s) in app.t are under version 1 and not marked as of this tenant",
        "{refusal}"
    );
    run_sql(
        &host,
            "update app.t set tenant = 'acme'; select rotator.retry_key_rotation(id) from rotator.key_rotations",
        )
        .await?;
    reencrypt_all(&host.owner, 1000).await?;
    run_sql(
        &host,
        "select rotator.retire_key(1), rotator.destroy_key(1, 'acme/1')",
    )
    .await?;
    ensure!(
        scalar::<i64>(
            &host.owner,
            "select count(rotator.decrypt(secret, 'label', id::text)) from app.t",
            &[]
        )
        .await?
            == 2
    );
    Ok(())
}

#[tokio::test]
async fn a_table_that_went_away_hides_no_keys_and_lets_none_go() -> Result<()> {
    let host = host_with_table().await?;
    rotate(&host).await?;
    run_sql(&host, "drop table app.t").await?;
    let shown = rows(
        &host.acme,
        "select version, row_count from rotator.encryption_keys where purpose = 'data' order by version",
    )
    .await?;
    let unknown = json!([{"version": 1, "row_count": null}, {"version": 2, "row_count": null}]);
    ensure!(shown == unknown, "{shown}");
    refused(
        host.owner.query("select rotator.retire_key(1)", &[]).await,
        "42P01",
    )?;
    Ok(())
}

#[tokio::test]
async fn of_one_key_in_two_partitions_the_locked_row_is_not_forgotten() -> Result<()> {
    let host = Host::new().await?;
    run_sql(
        &host,
            "create table app.t (id integer not null, part integer, secret bytea) partition by list (part);
             create index on app.t (id);
             create table app.t1 partition of app.t for values in (1);
             create table app.t2 partition of app.t for values in (2);
             insert into app.t select 7, n, rotator.encrypt('x', 'label', '7') from generate_series(1, 2) as n;
             select rotator.register_encrypted_column('app.t', 'secret', 'label', 'id')",
        )
        .await?;
    let rotation = rotate(&host).await?;
    let locker = host.db.superuser().await?;
    // The other one is under the new key already: it must not stand for the locked one.
    run_sql(
        &host,
        "update app.t2 set secret = rotator.encrypt('x', 'label', '7')",
    )
    .await?;
    locker
        .batch_execute("begin; select from app.t1 for update")
        .await?;
    steps(&host, 4).await?;
    ensure!(run(&host, rotation).await?["status"] == "running");
    locker.batch_execute("rollback").await?;
    to_the_end(&host).await?;
    ensure!(run(&host, rotation).await?["status"] == "completed");
    ensure!(left_over(&host).await? == 0);
    Ok(())
}

#[tokio::test]
async fn what_is_registered_again_during_a_run_is_walked_again() -> Result<()> {
    let host = host_with_table().await?;
    let rotation = rotate(&host).await?;
    run_sql(
        &host,
        "select rotator.unregister_encrypted_column('app.t', 'secret')",
    )
    .await?;
    // The run finds it gone, and isn't over yet since a writer holds the old key.
    let writer = host.db.session("acme", "editor").await?;
    writer
        .batch_execute("begin; select rotator.encrypt('x', 'y', 'z')")
        .await?;
    let second = rotate(&host).await?;
    host.register("app.t").await?;
    run_sql(&host, "select rotator.reencrypt_step(1)").await?;
    run_sql(&host, "select rotator.unregister_encrypted_column('app.t', 'secret'); select rotator.reencrypt_step()")
        .await?;
    host.register("app.t").await?;
    writer.batch_execute("commit").await?;
    to_the_end(&host).await?;
    ensure!(run(&host, rotation).await?["status"] == "superseded");
    ensure!(run(&host, second).await?["status"] == "completed");
    ensure!(left_over(&host).await? == 0);
    Ok(())
}

#[tokio::test]
async fn only_the_last_rotation_is_tried_again_or_rolled_back() -> Result<()> {
    let host = Host::new().await?;
    let first = rotate(&host).await?;
    // Back, and forth again: the first one's keys are as right after it.
    for _ in 0..2 {
        run_sql(
            &host,
            "select rotator.rollback_key_rotation(max(id)) from rotator.key_rotations",
        )
        .await?;
    }
    reencrypt_all(&host.owner, 1000).await?;
    for call in ["rollback_key_rotation", "retry_key_rotation"] {
        refused(
            host.owner
                .query(&format!("select rotator.{call}({first})"), &[])
                .await,
            "PT409",
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_re_encrypted_is_not_registered() -> Result<()> {
    let host = Host::new().await?;
    run_sql(
        &host,
        "create table app.t (id integer primary key, other integer unique, plain bytea,
                 secret bytea generated always as (plain) stored);
             create temporary table session_only (id integer primary key, secret bytea)",
    )
    .await?;
    for arguments in [
        "'app.t', 'secret', 'label', 'id'",
        "'app.t', 'plain', 'label', 'other'",
        "'session_only', 'secret', 'label', 'id'",
    ] {
        refused(
            host.owner
                .query(
                    &format!("select rotator.register_encrypted_column({arguments})"),
                    &[],
                )
                .await,
            "22023",
        )?;
    }
    Ok(())
}
