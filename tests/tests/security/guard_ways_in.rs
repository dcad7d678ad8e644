//! Every way in for text: each argument of each function, and each column of each writable view, as the catalog has them,
//! is given a secret. It must be refused with RT001, or be listed here with the reason why it isn't. So a new argument
//! fails this test until somebody has thought about it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{TestDb, refused};
use tokio_postgres::Client;

use crate::fixture::{populate, texts};

/// Arguments that take no text for keeping: what each is given, and what then happens to a secret in it.
enum Instead {
    /// One of a few words, or the name of something that exists: this SQLSTATE, and nothing is stored.
    Grammar(&'static str),
    /// Neither stored nor logged: it is looked up, or hashed, or goes back to the caller.
    NotKept,
    /// Encrypted, under a grammar of its own: the contract's exception.
    Recipient,
    /// From a vendor, through the sidecar: stored without what looks like a secret (`guard_canary`).
    Withheld,
    /// What is certain to be a secret is refused with RT001; what only looks random is no name of a worker's host, or is
    /// what the call is about, or is refused for another reason.
    CertainAlone,
}
use Instead::{CertainAlone, Grammar, NotKept, Recipient, Withheld};

const EXCEPTIONS: &[(&str, Instead)] = &[
    ("add_member.role", Grammar("22023")),
    ("add_member.tenant", Grammar("PT404")),
    ("add_notification_policy.channel", Grammar("22023")),
    ("add_notification_policy.recipient", Recipient),
    ("allow_value.field", Grammar("22023")),
    ("allow_value.value", CertainAlone),
    ("claim_notifications.worker", CertainAlone),
    ("complete_notification.provider_message_id", Withheld),
    ("complete_notifications.results", Withheld),
    ("create_tenant.time_zone", Grammar("22023")),
    ("decrypt.label", NotKept),
    ("decrypt.row_key", NotKept),
    ("destroy_key.confirm", Grammar("22023")),
    ("destroy_key.tenant", Grammar("PT404")),
    // pg_cron isn't in this database; with it, record_schedule() looks at the same text first.
    ("enable_schedule.cron", Grammar("55000")),
    // The application's own values: encrypting secrets is what it is for. Label and key are bound to it, not stored.
    ("encrypt.label", NotKept),
    ("encrypt.plaintext", NotKept),
    ("encrypt.row_key", NotKept),
    ("encrypted_columns.column_name", Grammar("")),
    ("encrypted_columns.row_key_column", Grammar("")),
    ("encrypted_columns.schema_name", Grammar("")),
    ("encrypted_columns.table_name", Grammar("")),
    ("encrypted_columns.tenant_column", Grammar("")),
    ("encrypted_columns.registered_by", Grammar("")),
    ("fail_notification.error", Withheld),
    ("fail_notification.reason", Grammar("22023")),
    ("offboard_tenant.confirm", Grammar("PT404")),
    ("offboard_tenant.tenant", Grammar("PT404")),
    ("record_audit_export.tenant", Grammar("PT404")),
    // Made by the sidecar: a signature over a block, checked against it.
    ("record_audit_signature.copies", Grammar("PT404")),
    ("record_audit_signature.key_name", Grammar("PT404")),
    ("record_audit_signature.note", Grammar("PT404")),
    ("record_link_refusal.action", Grammar("22023")),
    ("record_link_refusal.reason", Grammar("22023")),
    ("record_link_refusal.token", NotKept),
    ("record_link_refusal.via", Grammar("22023")),
    ("redeem_link.action", Grammar("22023")),
    ("redeem_link.token", Grammar("PT404")),
    ("redeem_link.via", Grammar("22023")),
    ("register_encrypted_column.column_name", Grammar("")),
    // PostgreSQL looks tables up by itself, before the function is called.
    ("register_encrypted_column.relation", Grammar("")),
    ("register_encrypted_column.row_key_column", Grammar("")),
    ("register_encrypted_column.tenant_column", Grammar("")),
    ("register_secret.priority", CertainAlone),
    ("remove_member.tenant", Grammar("PT404")),
    ("retire_key.tenant", Grammar("PT404")),
    ("rotate_key.tenant", Grammar("PT404")),
    ("scan_texts.after", Grammar("22023")),
    ("search_secrets.owner", NotKept),
    ("search_secrets.provider", NotKept),
    ("search_secrets.query", NotKept),
    ("search_secrets.status", Grammar("22023")),
    ("set_contact.channel", Grammar("22023")),
    ("set_contact.recipient", Recipient),
    ("set_key_schedule.tenant", Grammar("PT404")),
    ("test_notification.channel", Grammar("22023")),
    ("test_notification.recipient", Recipient),
    ("unregister_encrypted_column.column_name", Grammar("")),
    ("unregister_encrypted_column.relation", Grammar("")),
    ("use_tenant.tenant", Grammar("")),
    ("verify_audit.tenant", Grammar("PT404")),
    // Columns of the view that nobody sets.
    ("secrets.acknowledged_by", Grammar("22023")),
    ("secrets.priority", CertainAlone),
    ("secrets.status", Grammar("22023")),
];

/// What the other arguments are given, so that only the text is at fault.
const GOOD: &[(&str, &str)] = &[
    (
        "secret_id",
        "(select id from rotator.secrets order by id limit 1)",
    ),
    ("expiry_date", "now() + interval '1 year'"),
    ("next_expiry_date", "now() + interval '1 year'"),
    ("channel", "'console'"),
    ("token", "current_setting('guard.token')"),
    ("action", "'acknowledge'"),
    ("field", "'note'"),
    ("reason", "'why'"),
    ("slug", "'fresh'"),
    ("relation", "'pg_catalog.pg_class'"),
    ("column_name", "'relacl'"),
    ("row_key_column", "'oid'"),
];

/// A token of each class, in two halves.
fn secrets() -> [(&'static str, String); 3] {
    [
        (
            "known",
            ["ghp_Zx8Kq2Lw9Vb4Nc7MZx8K", "q2Lw9Vb4Nc7MAb12"].concat(),
        ),
        (
            "url",
            ["postgres://app:Kq2Lw9Vb4", "Nc7M@db.example.com/main"].concat(),
        ),
        // Long enough for the fields that hold identifiers of programs.
        (
            "random",
            ["Zx8Kq2Lw9Vb4Nc7MtR5yJ3hG6fD1", "sPa0eUoIx7Bz2Xv8Cm4Lk9Wq3T"].concat(),
        ),
    ]
}

struct Way {
    name: String,
    /// With `$1` where the text belongs.
    statement: String,
}

/// All functions' arguments and all writable columns of type text, name, regclass, jsonb and arrays of these.
async fn ways(admin: &Client) -> Result<Vec<Way>> {
    let rows = admin
        .query(
            "select p.proname::text, p.prokind = 'p', p.pronargs::int - p.pronargdefaults::int,
                (p.proargnames::text[])[1:p.pronargs], array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as a (t, n) order by n)
             from pg_proc p where p.pronamespace = 'rotator'::regnamespace order by 1",
            &[],
        )
        .await?;
    let mut ways = Vec::new();
    for row in rows {
        let (name, required): (String, i32) = (row.get(0), row.get(2));
        let names: Vec<String> = row.get::<_, Option<Vec<String>>>(3).unwrap_or_default();
        let types: Vec<String> = row.get(4);
        for (place, kind) in types
            .iter()
            .enumerate()
            .filter(|(_, kind)| holds_text(kind))
        {
            let mut arguments = Vec::new();
            for (other, (argument, of_type)) in names.iter().zip(&types).enumerate() {
                if other == place {
                    arguments.push(format!("{argument} => {}", given(kind)));
                } else if let Some((_, value)) = GOOD.iter().find(|(good, _)| good == argument) {
                    arguments.push(format!("{argument} => ({value})::{of_type}"));
                } else if (other as i32) < required {
                    arguments.push(format!("{argument} => {}", filler(of_type)));
                }
            }
            ways.push(Way {
                name: format!("{name}.{}", names[place]),
                statement: format!("select * from rotator.{name}({})", arguments.join(", ")),
            });
        }
    }
    let columns = admin
        .query(
            "select c.relname::text, a.attname::text, format_type(a.atttypid, null), c.relname::text = 'secrets'
             from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v'
               and exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgtype & 4 = 4)
             order by 1, a.attnum",
            &[],
        )
        .await?;
    for row in columns {
        let (view, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if !holds_text(&kind) {
            continue;
        }
        let value = given(&kind);
        let name = format!("{view}.{column}");
        if row.get(3) {
            let others = if column == "name" { "" } else { ", name" };
            let filled = if column == "name" { "" } else { ", 'fresh'" };
            ways.push(Way {
                name: name.clone(),
                statement: format!("insert into rotator.{view} (interval_days, {column}{others}) values (90, {value}{filled})"),
            });
            ways.push(Way {
                name,
                statement: format!("update rotator.{view} set {column} = {value} where id = (select id from rotator.{view} order by id limit 1)"),
            });
        } else {
            ways.push(Way {
                name,
                statement: format!("insert into rotator.{view} ({column}) values ({value})"),
            });
        }
    }
    Ok(ways)
}

fn holds_text(kind: &str) -> bool {
    let element = kind.trim_end_matches("[]");
    [
        "text",
        "name",
        "regclass",
        "jsonb",
        "json",
        "character varying",
        "character",
        "\"char\"",
        "bytea",
        "citext",
    ]
    .contains(&element)
        && element != "bytea"
}

fn given(kind: &str) -> String {
    match kind {
        "jsonb" => "$1::text::jsonb".to_owned(),
        "text[]" => "array[$1::text]".to_owned(),
        kind => format!("$1::text::{kind}"),
    }
}

fn filler(kind: &str) -> String {
    match kind {
        "text" => "'x'".to_owned(),
        "jsonb" => "'[]'".to_owned(),
        "uuid" => "gen_random_uuid()".to_owned(),
        "bigint" | "integer" => "1".to_owned(),
        "text[]" => "'{}'".to_owned(),
        "interval" => "'90 days'".to_owned(),
        "timestamp with time zone" => "now()".to_owned(),
        other => format!("null::{other}"),
    }
}

/// As JSON, where the argument is: in every place that a text has in it.
fn in_json(way: &str, secret: &str) -> Vec<String> {
    let value = serde_json::Value::from(secret).to_string();
    match way {
        "import_secrets.items" => [
            "name", "provider_type", "provider_ref", "purpose", "environment", "priority", "owner_id",
            "secondary_owner_id", "team_lead_id", "external_id", "expiry_date", "rotation_interval", "id",
        ]
        .iter()
        .map(|field| match *field {
            "name" => format!(r#"[{{"name": {value}, "rotation_interval": "1 day"}}]"#),
            field => format!(r#"[{{"name": "fresh", "{field}": {value}}}]"#),
        })
        .chain([
            format!(r#"[{{"name": "fresh", "rotation_interval": "1 day", "labels": {{"a": [{value}]}}}}]"#),
            format!(r#"[{{"name": "fresh", "rotation_interval": "1 day", "labels": {{{value}: 1}}}}]"#),
            format!(r#"[{{{value}: 1}}]"#),
        ])
        .collect(),
        "complete_notifications.results" => Vec::new(),
        "scan_texts.after" => vec![format!(r#"{{"place": {value}}}"#)],
        _ => vec![format!(r#"{{"note": {value}}}"#), format!(r#"{{{value}: "x"}}"#)],
    }
}

#[tokio::test]
async fn every_text_argument_and_column_is_guarded_or_listed() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    // A superuser reaches them all, and no permission hides what the guard does.
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    // A link that is good, so that a note by it gets as far as the guard.
    db.admin
        .batch_execute(
            "select set_config('guard.token', (select link_token from rotator.claim_notifications('w') where link_token is not null limit 1), false)",
        )
        .await?;
    let ways = ways(&db.admin).await?;
    ensure!(ways.len() > 60, "the catalog has them: {}", ways.len());
    let exceptions: BTreeMap<&str, &Instead> = EXCEPTIONS
        .iter()
        .map(|(name, instead)| (*name, instead))
        .collect();
    ensure!(exceptions.len() == EXCEPTIONS.len(), "listed once");
    for name in exceptions.keys() {
        ensure!(
            ways.iter().any(|way| way.name == *name),
            "{name} is listed and isn't there"
        );
    }
    let mut wrong = Vec::new();
    for way in &ways {
        for (class, secret) in secrets() {
            let is_json = way.statement.contains("$1::text::jsonb");
            let values = if is_json {
                in_json(&way.name, &secret)
            } else {
                vec![secret]
            };
            for value in values {
                db.admin.batch_execute("begin").await?;
                let outcome = try_one(
                    &db.admin,
                    way,
                    &value,
                    exceptions.get(way.name.as_str()).copied(),
                    class,
                )
                .await;
                db.admin.batch_execute("rollback").await?;
                if let Err(error) = outcome {
                    wrong.push(format!("{} ({class}): {error:#}", way.name));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn try_one(
    admin: &Client,
    way: &Way,
    value: &str,
    exception: Option<&Instead>,
    class: &str,
) -> Result<()> {
    let answer = admin.query(&way.statement, &[&value]).await;
    match exception {
        None if way.name == "import_secrets.items" => {
            let rows = answer.with_context(|| way.statement.clone())?;
            let error: Option<String> = rows.first().context("a row")?.get("error");
            // A date and the like are refused for what they are, unless they are certain to be a secret.
            let is_typed = ["expiry_date", "rotation_interval", "\"id\"", "priority"]
                .iter()
                .any(|field| value.contains(field))
                && !value.starts_with("[{\"name\": \"fresh\", \"rotation_interval\": \"1 day\"");
            let error = error.context("it was taken")?;
            ensure!(
                error.contains("looks like a secret") || (class == "random" && is_typed),
                "{error}"
            );
        }
        Some(CertainAlone) if class == "random" => {}
        None | Some(CertainAlone) => {
            let refusal = refused(answer, "RT001")?;
            ensure!(
                !refusal.message().contains(&value[..16]),
                "it quotes the value"
            );
        }
        Some(Grammar(code)) => {
            let Err(error) = answer else {
                bail!("accepted: {}", way.statement)
            };
            let error = error.as_db_error().context("no answer")?;
            ensure!(
                code.is_empty() || error.code().code() == *code || error.code().code() == "RT001",
                "{} instead of {code}: {error}",
                error.code().code()
            );
        }
        Some(NotKept | Recipient | Withheld) => {
            let kept = texts(
                admin,
                "select c.oid::regclass::text from pg_class c where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r'",
            );
            if answer.is_err() {
                return Ok(());
            }
            for table in kept.await? {
                let sql =
                    format!("select count(*) from {table} as t where position($1 in t::text) > 0");
                let count: i64 = admin.query_one(&sql, &[&value]).await?.get(0);
                ensure!(count == 0, "{table} keeps it");
            }
        }
    }
    Ok(())
}
