//! Every way in for text: each argument of each function, and each column of each writable view, as the catalog has them,
//! is given a secret. It must be refused with RT001, or be listed here with the reason why it isn't. So a new argument
//! fails this test until somebody has thought about it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{TestDb, refused};
use tokio_postgres::Client;

use crate::fixture::{populate, texts};
use crate::guard_exceptions::Instead::{CertainAlone, Grammar, NotKept, Recipient, Withheld};
use crate::guard_exceptions::{EXCEPTIONS, GOOD, Instead};

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
        "complete_notifications.results" | "postpone_notifications.claims" => Vec::new(),
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
