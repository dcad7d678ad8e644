//! Columns of the host's own tables under key rotation: every kind of key and table, with policies, triggers and
//! partitions of its own; that a trigger over there learns nothing; and tables that go away. What isn't registered in the
//! first place: `encrypted_column_refusals`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::encrypted_column_host::Host;
use crate::key_rotation::reencrypt_all;
use crate::seed::rows;

#[tokio::test]
async fn tables_of_every_kind_join_key_rotation() -> Result<()> {
    let host = Host::new().await?;
    let kinds = [
        (
            "app.by_uuid",
            "id uuid primary key, tenant uuid not null",
            "",
            "gen_random_uuid()",
            true,
        ),
        (
            "app.by_text",
            "id text, tenant text not null, primary key (tenant, id)",
            "",
            "'key ''' || n",
            false,
        ),
        (
            "app.by_varchar",
            "id varchar(40) primary key, tenant varchar(40) not null",
            "",
            "rotator.current_actor() || n",
            false,
        ),
        (
            "app.by_int",
            "id integer not null, tenant uuid not null, unique (tenant, id)",
            "",
            "n",
            true,
        ),
        (
            "app.\"By Bigint\"",
            "id bigint primary key, tenant uuid not null",
            "",
            "n + (random() * 1e12)::bigint",
            true,
        ),
        (
            "app.by_hash",
            "id uuid primary key, tenant uuid not null",
            "partition by hash (id)",
            "gen_random_uuid()",
            true,
        ),
        (
            "app.by_range",
            "id smallint, tenant uuid not null, n integer not null default (random() * 199)::integer, primary key (tenant, id, n)",
            "partition by range (n)",
            "n",
            true,
        ),
    ];
    for (table, columns, partitioned, id, by_id) in kinds {
        host.owner
            .batch_execute(&format!(
                "create table {table} ({columns}, secret bytea, other text) {partitioned}"
            ))
            .await?;
        if partitioned.contains("hash") {
            host.owner
                .batch_execute(
                    "create table app.h0 partition of app.by_hash for values with (modulus 2, remainder 0);
                     create table app.h1 partition of app.by_hash for values with (modulus 2, remainder 1)",
                )
                .await?;
        } else if partitioned.contains("range") {
            host.owner
                .batch_execute(
                    "create table app.r0 partition of app.by_range for values from (0) to (100);
                     create table app.r1 partition of app.by_range for values from (100) to (200)",
                )
                .await?;
        }
        let tenant = if by_id {
            "rotator.current_tenant()"
        } else {
            "(select case when rotator.current_actor() like '%acme%' then 'acme' else 'beta' end)"
        };
        host.fill(table, id, tenant).await?;
        host.register(table).await?;
    }
    host.rotate_all().await?;
    for (table, ..) in kinds {
        host.expect_version(table, 2).await?;
    }
    host.owner
        .batch_execute("select rotator.retire_key(1, 'acme'), rotator.retire_key(1, 'beta'), rotator.destroy_key(1, 'acme/1', 'acme')")
        .await?;
    host.rotate_all().await?;
    for (table, ..) in kinds {
        host.expect_version(table, 3).await?;
    }
    Ok(())
}

#[tokio::test]
async fn policies_triggers_and_foreign_keys_of_the_table_stay_in_force_and_in_nobodys_way()
-> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.person (id uuid primary key);
             create table app.vault (id uuid primary key references app.person, tenant uuid not null, secret bytea not null,
                 touched integer not null default 0);
             create table app.log (vault uuid references app.vault);
             create function app.touch() returns trigger language plpgsql as $$ begin new.touched := old.touched + 1; return new; end $$;
             create trigger touch before update on app.vault for each row execute function app.touch();
             create function app.put() returns trigger language plpgsql security definer as $$ begin insert into app.log values (new.id); return null; end $$;
             create trigger put after update on app.vault for each row execute function app.put();
             create function app.person_first() returns trigger language plpgsql security definer as $$ begin insert into app.person values (new.id); return new; end $$;
             create trigger person_first before insert on app.vault for each row execute function app.person_first();
             alter table app.vault enable row level security;
             alter table app.vault force row level security;
             create policy own on app.vault using (tenant = (select rotator.current_tenant()))",
        )
        .await?;
    host.fill("app.vault", "gen_random_uuid()", "rotator.current_tenant()")
        .await?;
    host.register("app.vault").await?;
    let counted: i64 = scalar(
        &host.owner,
        "select row_count from rotator.encryption_keys as k where purpose = 'data'
         and tenant_id <> rotator.current_tenant()",
        &[],
    )
    .await?;
    ensure!(
        counted == 5,
        "counts are of beta too, whatever the policy says: {counted}"
    );
    refused(
        host.owner
            .query("select rotator.destroy_key(1, 'acme/1')", &[])
            .await,
        "PT409",
    )?;
    host.rotate_all().await?;
    host.expect_version("app.vault", 2).await?;
    let touched = rows(
        &host.db.admin,
        "select sum(touched) as touched, (select count(*) from app.log) as logged from app.vault",
    )
    .await?;
    ensure!(
        touched == json!([{"touched": 25, "logged": 25}]),
        "{touched}"
    );
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_tries_to_read_gets_nothing() -> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.vault (id uuid primary key, tenant uuid not null, secret bytea, note text not null default 'private');
             create table app.other (id uuid primary key, tenant uuid not null, secret bytea);
             create table app.spied (how text, what text);
             grant insert on app.spied to public;
             create function app.spy() returns trigger language plpgsql as $$
             declare
                 how text;
                 what text;
             begin
                 foreach how in array array[
                     'select string_agg(name, '','') from rotator.secrets',
                     'select string_agg(s::text, '','') from rotator_internal.secret as s',
                     'select string_agg(s::text, '','') from rotator_internal.encryption_key as s',
                     'select string_agg(note, '','') from app.vault',
                     'select count(*)::text from app.vault where tenant <> $1.tenant',
                     'select string_agg(id::text, '','') from app.vault',
                     'select string_agg(secret::text, '','') from app.other',
                     'select count(*)::text from rotator_internal.encrypted_column',
                     'select string_agg(rotator.decrypt(secret, ''label'', id::text), '','') from app.vault',
                     'select rotator_internal.open_field(tenant, ''label'', id, secret) from app.vault limit 1',
                     'select string_agg(recipient_hint, '','') from rotator.contacts',
                     'select rotator.use_tenant(''beta'')::text',
                     'select string_agg(action, '','') from rotator.audit_log',
                     'select rotator.rotate_key(''beta'')::text'] loop
                     begin
                         execute how into what using new;
                         insert into app.spied values (how, what);
                     exception
                         when others then
                             null;
                     end;
                 end loop;
                 return new;
             end $$;
             create trigger spy before update on app.vault for each row execute function app.spy()",
        )
        .await?;
    host.beta
        .batch_execute("select rotator.register_secret('of beta', rotation_interval => '1 day'), rotator.set_contact(rotator.current_actor(), 'email', 'b@example.com')")
        .await?;
    host.fill("app.vault", "gen_random_uuid()", "rotator.current_tenant()")
        .await?;
    host.register("app.vault").await?;
    host.fill("app.other", "gen_random_uuid()", "rotator.current_tenant()")
        .await?;
    host.register("app.other").await?;
    host.rotate_all().await?;
    host.expect_version("app.vault", 2).await?;
    let spied = rows(
        &host.db.admin,
        "select distinct how, what from app.spied where what is not null",
    )
    .await?;
    ensure!(spied == json!([]), "{spied}");
    Ok(())
}

#[tokio::test]
async fn without_a_tenant_column_all_rows_are_the_current_tenants() -> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.webhook (id bigint primary key generated always as identity, secret bytea);
             grant select, insert, update on app.webhook to rotator_user",
        )
        .await?;
    host.acme
        .batch_execute(
            "insert into app.webhook (secret) select null from generate_series(1, 12);
             update app.webhook set secret = rotator.encrypt('whsec ' || id, 'webhook', id::text) where id > 2",
        )
        .await?;
    host.owner.batch_execute("discard all").await?;
    let call = "select rotator.register_encrypted_column('app.webhook', 'secret', 'webhook', 'id')";
    refused(host.owner.query(call, &[]).await, "RT002")?;
    host.owner
        .batch_execute("select rotator.use_tenant('beta')")
        .await?;
    refused(host.owner.query(call, &[]).await, "22023")?;
    host.owner
        .batch_execute(&format!("select rotator.use_tenant('acme'); {call}"))
        .await?;
    refused(host.owner.query(call, &[]).await, "23505")?;
    host.rotate_all().await?;
    let read = rows(&host.acme, "select min(rotator.decrypt(secret, 'webhook', id::text)) as first, count(secret) as n from app.webhook").await?;
    ensure!(read == json!([{"first": "whsec 10", "n": 10}]), "{read}");
    host.owner
        .batch_execute("select rotator.retire_key(1)")
        .await?;

    // Unregistered it is out of the count: the rows stay where they are.
    host.owner
        .batch_execute("select rotator.unregister_encrypted_column('app.webhook', 'secret'); select rotator.rotate_key()")
        .await?;
    ensure!(reencrypt_all(&host.owner, 100).await? == 0);
    refused(
        host.owner
            .query(
                "select rotator.unregister_encrypted_column('app.webhook', 'secret')",
                &[],
            )
            .await,
        "PT404",
    )?;
    Ok(())
}

#[tokio::test]
async fn a_table_that_went_away_ends_the_run_with_its_name_and_holds_up_nobody_else() -> Result<()>
{
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.kept (id uuid primary key, tenant uuid, secret bytea);
             create table app.gone (id uuid primary key, tenant uuid, secret bytea)",
        )
        .await?;
    for table in ["app.kept", "app.gone"] {
        host.fill(table, "gen_random_uuid()", "rotator.current_tenant()")
            .await?;
        host.register(table).await?;
    }
    host.owner
        .batch_execute("drop table app.gone; select rotator.rotate_all_keys()")
        .await?;
    for _ in 0..8 {
        host.owner
            .batch_execute("select rotator.reencrypt_step()")
            .await?;
        // As if the waits between attempts were over.
        host.db
            .admin
            .batch_execute(
                "update rotator_internal.key_rotation set resume_at = now() - interval '1 second'",
            )
            .await?;
        host.owner
            .batch_execute("select rotator.reencrypt_step()")
            .await?;
    }
    let runs = rows(
        &host.owner,
        "select distinct status, error from rotator.key_rotations",
    )
    .await?;
    ensure!(
        runs[0]["status"] == "failed"
            && runs[0]["error"]
                .as_str()
                .is_some_and(|error| error.contains("app.gone.secret is gone")),
        "{runs}"
    );
    host.owner
        .batch_execute(
            "select rotator.unregister_encrypted_column('app.gone', 'secret');
             select rotator.retry_key_rotation(id) from rotator.key_rotations",
        )
        .await?;
    reencrypt_all(&host.owner, 100).await?;
    host.expect_version("app.kept", 2).await
}
