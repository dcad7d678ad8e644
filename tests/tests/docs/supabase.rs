//! The guide to self-hosted Supabase, followed block by block in a database with Supabase's roles, its default privileges
//! that grant to everyone, and the settings that the page shows; and what must stay closed there although they do.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, scalar};
use serde_json::{Value, json};

use crate::examples::claims;
use crate::follow::Example;
use crate::markdown::page;
use crate::supabase_js::call;

/// As Supabase's image leaves a database; `postgres`, which is no superuser there, goes by another name, because here it is
/// who made the cluster.
const SUPABASE: &str = "
create role supabase_admin login superuser;
create role supabase_postgres login createrole createdb replication bypassrls;
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
create role supabase_auth_admin login noinherit createrole;
grant all on schema public to supabase_postgres;
grant usage on schema public to anon, authenticated, service_role, supabase_auth_admin;
do $defaults$
declare
    owner text;
    kind text;
begin
    foreach owner in array array['supabase_admin', 'supabase_postgres'] loop
        foreach kind in array array['tables', 'functions', 'sequences'] loop
            execute format('alter default privileges for role %I in schema public grant all on %s to supabase_postgres, anon, authenticated, service_role', owner, kind);
            -- Not only in public, as some projects have it for schemas of their own.
            execute format('alter default privileges for role %I grant all on %s to anon, authenticated, service_role', owner, kind);
        end loop;
    end loop;
end
$defaults$;";

#[tokio::test]
async fn the_guide_to_supabase_works_as_written() -> Result<()> {
    let guide = page("docs/supabase.md")?;
    let mut blocks = guide.blocks();
    let settings = blocks
        .iter()
        .find(|block| block.language == "ini")
        .context("the page shows settings")?
        .content
        .lines()
        .filter(|line| line.starts_with("rotator.") && !line.contains("master_key"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    ensure!(settings.len() == 3, "{settings:?}");
    let cluster = Cluster::start(Options {
        settings,
        ..Options::default()
    })
    .await?;
    let db = TestDb::bare_in(Arc::new(cluster)).await?;
    db.admin.batch_execute(SUPABASE).await?;
    let shown = claims(&blocks)?;
    for block in &mut blocks {
        block.marker = block
            .marker
            .take()
            .map(|marker| marker.replace(" as postgres", " as supabase_postgres"));
        block.content = block
            .content
            .replace("to postgres;", "to supabase_postgres;");
    }
    let unmarked = blocks
        .iter()
        .find(|block| ["sql", "js"].contains(&block.language.as_str()) && block.marker.is_none());
    ensure!(
        unmarked.is_none(),
        "nothing runs the block at line {}",
        unmarked.map_or(0, |block| block.line)
    );

    let mut example = Example::new(db);
    let mut calls = 0;
    for block in &blocks {
        if block.language != "js" {
            example.follow_all(std::slice::from_ref(block)).await?;
            continue;
        }
        let works = block
            .marker
            .as_deref()
            .is_some_and(|marker| marker.starts_with("run"));
        for line in block.content.lines() {
            let answer = call(&example.db, &shown, line).await?;
            ensure!(answer.is_ok() == works, "{line}: {answer:?}");
            if let Ok(rows) = answer {
                ensure!(
                    rows[0] != Value::Null || line.contains("rpc"),
                    "{line} gave {rows}"
                );
            }
            calls += 1;
        }
    }
    ensure!(calls >= 14, "{calls} calls");
    the_hook_makes_the_claims(&example.db, &shown).await?;
    nobody_else_gets_anything(&example.db).await
}

async fn the_hook_makes_the_claims(db: &TestDb, shown: &Value) -> Result<()> {
    let auth = db.cluster.connect("supabase_auth_admin", &db.name).await?;
    let issue = async |user: &str, app_metadata: Value| -> Result<Value> {
        let event = json!({"user_id": user, "claims": {"sub": user, "role": "authenticated", "app_metadata": app_metadata}});
        let made: Value = scalar(
            &auth,
            "select public.rotator_access_token($1::text::jsonb)",
            &[&event.to_string()],
        )
        .await?;
        Ok(made["claims"].clone())
    };
    let sub = shown["sub"].as_str().unwrap_or_default();
    let made = issue(sub, json!({"provider": "email"})).await?;
    ensure!(made == *shown, "the hook makes {made} of it");
    // Who has no row has no tenant, whatever was in the token before.
    let stranger = "00000000-0000-4000-8000-000000000001";
    let made = issue(
        stranger,
        json!({"tenant_id": "acme", "rotator_role": "admin"}),
    )
    .await?;
    ensure!(made["app_metadata"] == json!({}), "{made}");
    let rows = call(db, &made, "await api.from('secrets').select('id')").await?;
    ensure!(rows == Ok(json!([])), "{rows:?}");
    Ok(())
}

/// `anon` and `service_role` were given everything by default privileges, and have nothing.
async fn nobody_else_gets_anything(db: &TestDb) -> Result<()> {
    for role in ["anon", "service_role"] {
        let claims = json!({"role": role, "sub": "x", "app_metadata": {"tenant_id": "acme", "rotator_role": "admin"}});
        for line in [
            "await api.from('secrets').select('id')",
            "await api.from('audit_log').select('id')",
            "await api.from('secrets').insert({ name: 'x', interval_days: 1 })",
            "await api.rpc('search_secrets', {})",
            "await api.rpc('rotate_key', {})",
            "await api.rpc('tick', {})",
            "await api.rpc('claim_notifications', { worker: 'x' })",
        ] {
            let answer = call(db, &claims, line).await?;
            ensure!(
                answer == Err("42501".to_owned()),
                "{role}: {line}: {answer:?}"
            );
        }
    }
    let granted: i64 = scalar(
        &db.admin,
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace, unnest(array['anon', 'authenticated', 'service_role']) as r
         where n.nspname = 'rotator_internal' and c.relkind in ('r', 'S', 'v') and has_schema_privilege(r, n.oid, 'usage')",
        &[],
    )
    .await?;
    ensure!(granted == 0, "{granted}");
    // Someone of another tenant, and a token of user_metadata, which users write themselves.
    for claims in [
        json!({"role": "authenticated", "sub": "u2", "app_metadata": {"tenant_id": "beta", "rotator_role": "admin"}}),
        json!({"role": "authenticated", "sub": "u2", "user_metadata": {"tenant_id": "acme", "rotator_role": "admin"}, "tenant_id": "acme"}),
    ] {
        let rows = call(db, &claims, "await api.from('secrets').select('id')").await?;
        ensure!(rows == Ok(json!([])), "{claims}: {rows:?}");
    }
    Ok(())
}
