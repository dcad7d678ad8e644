//! The database as PostgREST asks it: one transaction a request, `set local role`, claims and headers by setting, reads
//! in read-only transactions, and its own shapes of statement (rows as JSON, bodies through json_to_record, arguments by
//! name). Filters and ordering go by indexes, changes return rows. Mistakes are in `mistakes`.

use anyhow::{Result, ensure};
use rotator_tests::postgrest::status;
use tokio_postgres::Client;

use crate::claims::{request, with_gate};
use crate::fixture::{populate, text, texts, verdict};

pub fn claims(role: &str) -> String {
    format!(r#"{{"role":"authenticated","sub":"u1","tenant_id":"acme","rotator_role":"{role}"}}"#)
}

/// A GET of the view: what PostgREST makes of `?select=…&filter&order=…&limit=…`.
fn get(view: &str, columns: &str, rest: &str) -> String {
    format!(
        "with pgrst_source as (select {columns} from \"rotator\".\"{view}\" {rest})
         select null::bigint as total_result_set, pg_catalog.count(_postgrest_t) as page_total, coalesce(json_agg(_postgrest_t), '[]') as body,
             nullif(current_setting('response.headers', true), '') as response_headers, nullif(current_setting('response.status', true), '') as response_status
         from (select * from pgrst_source) _postgrest_t"
    )
}

/// The body of the answer of a request with these claims.
async fn body(gate: &Client, role: &str, mode: &str, statement: &str) -> Result<String> {
    request(gate, &claims(role), mode).await?;
    let messages = gate.simple_query(statement).await;
    gate.batch_execute(if messages.is_ok() {
        "commit"
    } else {
        "rollback"
    })
    .await?;
    let rows = messages?;
    Ok(rows
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get("body").map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default())
}

#[tokio::test]
async fn filters_and_ordering_go_by_indexes() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    for tenant in ["acme", "beta"] {
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}', true);
                 select count(*) from rotator.import_secrets((select jsonb_agg(jsonb_build_object('name', 'n' || g, 'external_id', 'x' || g, 'owner_id', 'o' || g % 40,
                     'provider_type', 'p' || g % 40, 'expiry_date', now() + g * interval '7 hours')) from generate_series(1, 1000) as g));
                 select rotator.tick()"
            ))
            .await?;
    }
    db.admin.batch_execute("vacuum (analyze)").await?;
    for (view, rest, index) in [
        (
            "secrets",
            "where owner_id = 'o7' order by expiry_date limit 50",
            "secret_by_owner",
        ),
        (
            "secrets",
            "where provider_type = 'p7' order by expiry_date, id limit 50",
            "secret_by_provider",
        ),
        (
            "secrets",
            "where expiry_date < now() + interval '30 days' order by expiry_date limit 50",
            "secret_by_expiry",
        ),
        (
            "secrets",
            "order by expiry_date limit 50 offset 50",
            "secret_by_expiry",
        ),
        (
            "secrets",
            "order by expiry_date desc limit 50",
            "secret_by_expiry",
        ),
        (
            "secrets",
            "where id = '01890000-0000-7000-8000-000000000000'",
            "secret_pkey",
        ),
        (
            "alerts",
            "where secret_id = '01890000-0000-7000-8000-000000000000'",
            "alert_pkey",
        ),
        (
            "notifications",
            "where id = '01890000-0000-7000-8000-000000000000'",
            "notification_pkey",
        ),
        ("audit_log", "order by id desc limit 50", "audit_event_pkey"),
        ("audit_values", "where event_id = 7", "audit_value_pkey"),
        ("contacts", "where owner_id = 'o7'", "contact_pkey"),
    ] {
        request(&gate, &claims("admin"), "read only").await?;
        if view != "secrets" {
            // Few rows are read as they lie; the question is whether an index could serve.
            gate.batch_execute("set local enable_seqscan = off").await?;
        }
        let plan = texts(&gate, &format!("explain {}", get(view, "*", rest)))
            .await?
            .join("\n");
        gate.batch_execute("commit").await?;
        ensure!(
            plan.contains(index) && !plan.contains("Seq Scan on secret"),
            "{view} {rest}:\n{plan}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn requests_read_change_and_call() -> Result<()> {
    let (_db, gate) = with_gate(&[]).await?;
    let listed = body(
        &gate,
        "viewer",
        "read only",
        &get(
            "secrets",
            "\"rotator\".\"secrets\".\"name\"",
            "order by expiry_date limit 10",
        ),
    )
    .await?;
    ensure!(listed == r#"[{"name":"acme-key"}]"#, "{listed}");

    let made = body(
        &gate,
        "editor",
        "",
        "with pgrst_source as (insert into \"rotator\".\"secrets\" (\"interval_days\", \"labels\", \"name\")
             select pgrst_body.\"interval_days\", pgrst_body.\"labels\", pgrst_body.\"name\"
             from (select '[{\"name\":\"one\",\"interval_days\":30,\"labels\":{\"a\":1}},{\"name\":\"two\",\"interval_days\":60}]'::json as json_data) pgrst_payload,
             lateral (select \"interval_days\", \"labels\", \"name\" from json_to_recordset(pgrst_payload.json_data) as _(\"interval_days\" integer, \"labels\" jsonb, \"name\" text)) pgrst_body
             returning \"rotator\".\"secrets\".*)
         select coalesce(json_agg(_postgrest_t), '[]') as body from (select * from pgrst_source) _postgrest_t",
    )
    .await?;
    let made: serde_json::Value = serde_json::from_str(&made)?;
    ensure!(
        made[0]["labels"]["a"] == 1
            && made[1]["interval_days"] == 60
            && made[0]["status"] == "healthy"
            && made[1]["owner_id"] == "u1",
        "{made}"
    );
    let id = made[0]["id"].as_str().unwrap_or_default();

    let changed = body(
        &gate,
        "editor",
        "",
        &format!(
            "with pgrst_source as (update \"rotator\".\"secrets\" set \"priority\" = pgrst_body.\"priority\"
                 from (select '{{\"priority\":\"P1\"}}'::json as json_data) pgrst_payload,
                 lateral (select \"priority\" from json_to_record(pgrst_payload.json_data) as _(\"priority\" text)) pgrst_body
                 where \"rotator\".\"secrets\".\"id\" = '{id}' returning \"rotator\".\"secrets\".\"priority\")
             select coalesce(json_agg(_postgrest_t), '[]') as body from (select * from pgrst_source) _postgrest_t"
        ),
    )
    .await?;
    ensure!(changed == r#"[{"priority":"P1"}]"#, "{changed}");

    let call = |function: &str, arguments: &str, types: &str, json: &str| {
        let named: Vec<String> = arguments
            .split(", ")
            .map(|name| format!("\"{name}\" := pgrst_body.\"{name}\""))
            .collect();
        format!(
            "with pgrst_source as (select pgrst_call.* from (select '{json}'::json as json_data) pgrst_payload,
                 lateral (select {arguments} from json_to_record(pgrst_payload.json_data) as _({types})) pgrst_body,
                 lateral \"rotator\".\"{function}\"({}) pgrst_call)
             select coalesce(json_agg(_postgrest_t), '[]') as body from (select * from pgrst_source) _postgrest_t",
            named.join(", ")
        )
    };
    let search = call(
        "search_secrets",
        "query, max_rows",
        "query text, max_rows integer",
        r#"{"query":"ON","max_rows":5}"#,
    );
    let found: serde_json::Value =
        serde_json::from_str(&body(&gate, "viewer", "read only", &search).await?)?;
    ensure!(found[0]["name"] == "one" && found[1].is_null(), "{found}");

    let rotate = call(
        "mark_rotated",
        "secret_id, note",
        "secret_id uuid, note text",
        &format!(r#"{{"secret_id":"{id}","note":"done"}}"#),
    );
    ensure!(
        body(&gate, "editor", "", &rotate)
            .await?
            .contains("mark_rotated")
            || !body(&gate, "editor", "", &rotate).await?.is_empty()
    );

    let gone = body(
        &gate,
        "editor",
        "",
        &format!(
            "with pgrst_source as (delete from \"rotator\".\"secrets\" where \"rotator\".\"secrets\".\"id\" = '{id}' returning \"rotator\".\"secrets\".\"name\")
             select coalesce(json_agg(_postgrest_t), '[]') as body from (select * from pgrst_source) _postgrest_t"
        ),
    )
    .await?;
    ensure!(gone == r#"[{"name":"one"}]"#, "{gone}");
    Ok(())
}

/// GET runs in a read-only transaction: what reads works there, the rest is 405 or the caller's other mistake.
#[tokio::test]
async fn functions_that_read_can_be_got_and_others_say_so() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    populate(&db, "acme").await?;
    let id = text(
        &db.admin,
        "select id from rotator_internal.secret where external_id = 'due'",
    )
    .await?;
    for (call, expected) in [
        (
            "select * from rotator.search_secrets(\"owner\" := 'u1')",
            "ok",
        ),
        (
            "select rotator.current_tenant(), rotator.current_actor(), rotator.current_member_role()",
            "ok",
        ),
        (
            "select rotator.register_secret(name := 'x', rotation_interval := '1 day')",
            "25006",
        ),
        (
            "select rotator.mark_rotated(secret_id := '$', next_expiry_date := now() + interval '1 year')",
            "25006",
        ),
        ("select rotator.acknowledge(secret_id := '$')", "25006"),
        ("select rotator.retire_secret(secret_id := '$')", "25006"),
        (
            "select rotator.import_secrets(items := '[{\"name\": \"x\", \"rotation_interval\": \"1 day\"}]')",
            "25006",
        ),
        (
            "select rotator.set_contact(owner_id := 'u1', channel := 'console', recipient := 'x')",
            "25006",
        ),
        (
            "select rotator.add_notification_policy(lead_time_days := 3, channel := 'console', recipient := 'x')",
            "25006",
        ),
        ("select rotator.add_member(subject := 'u2')", "25006"),
        ("select rotator.remove_member(subject := 'u2')", "25006"),
        (
            "select rotator.test_notification(channel := 'console', recipient := 'x')",
            "25006",
        ),
        ("select rotator.rotate_key()", "25006"),
        (
            "select rotator.set_key_schedule(every := '30 days')",
            "25006",
        ),
        (
            "insert into rotator.secrets (name, interval_days) values ('x', 1)",
            "25006",
        ),
    ] {
        request(&gate, &claims("admin"), "read only").await?;
        let code = verdict(&gate, &call.replace('$', &id)).await?;
        gate.batch_execute("rollback").await?;
        ensure!(code == expected, "{call}: {code}");
        ensure!(
            code == "ok" || status(&code) == 405,
            "{call}: {}",
            status(&code)
        );
    }
    Ok(())
}

/// What PostgREST makes its OpenAPI document of: comments on every function, view and column, arguments with names, and
/// one function a name.
#[tokio::test]
async fn the_schema_documents_itself() -> Result<()> {
    let (db, _gate) = with_gate(&[]).await?;
    let bare = texts(
        &db.admin,
        "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v' and col_description(c.oid, a.attnum) is null
         union all select c.relname from pg_class c where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v' and obj_description(c.oid, 'pg_class') is null
         union all select p.proname from pg_proc p where p.pronamespace = 'rotator'::regnamespace and obj_description(p.oid, 'pg_proc') is null order by 1",
    )
    .await?;
    ensure!(bare.is_empty(), "without a comment: {bare:?}");
    let unclear = texts(
        &db.admin,
        "select p.proname from pg_proc p where p.pronamespace = 'rotator'::regnamespace
             and (p.provariadic <> 0 or cardinality(coalesce(p.proargnames, '{}')) < p.pronargs or '' = any (p.proargnames))
         union all select p.proname from pg_proc p where p.pronamespace = 'rotator'::regnamespace group by 1 having count(*) > 1",
    )
    .await?;
    ensure!(
        unclear.is_empty(),
        "PostgREST can't call by name: {unclear:?}"
    );
    Ok(())
}
