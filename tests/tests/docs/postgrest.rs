//! What PostgREST does with a request, for README's `http` blocks: one transaction as the authenticator, read-only for
//! GET, `set local role`, the claims in `request.jwt.claims`, and the request turned into one statement. PostgREST
//! itself is not packaged where these tests run. It knows the schema's header, `select`, `order`, `eq.` filters and
//! `/rpc/`, no more.

use anyhow::{Context, Result, bail};
use rotator_tests::postgrest::{self, literal};
use rotator_tests::{TestDb, scalar};
use serde_json::{Map, Value};
use tokio_postgres::Client;

/// Answers the request of an `http` block with the body that the client would get.
pub async fn answer(db: &TestDb, claims: &Value, request: &str) -> Result<String> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (method, target) = head
        .lines()
        .next()
        .and_then(|line| line.split_once(' '))
        .context("the first line is METHOD /path")?;
    let body: Map<String, Value> = match body.trim() {
        "" => Map::new(),
        body => serde_json::from_str(body).context("the body is a JSON object")?,
    };
    let session = db.cluster.connect("authenticator", &db.name).await?;
    postgrest::begin(&session, claims, method == "GET").await?;
    let schema = head
        .lines()
        .find_map(|line| line.split_once("-Profile: "))
        .map_or("rotator", |(_, schema)| schema.trim());
    let sql = statement(&session, schema, method, target.trim(), &body).await?;
    let answer = scalar(&session, &sql, &[]).await?;
    session.batch_execute("commit").await?;
    Ok(answer)
}

async fn statement(
    session: &Client,
    schema: &str,
    method: &str,
    target: &str,
    body: &Map<String, Value>,
) -> Result<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut columns = "*".to_owned();
    let mut order = String::new();
    let mut filters = vec!["true".to_owned()];
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match (key, value.split_once('.')) {
            ("select", _) => columns = value.to_owned(),
            ("order", _) => order = format!("order by {value}"),
            (column, Some(("eq", value))) => {
                filters.push(format!("{column} = {}", literal(&value.into())))
            }
            _ => bail!("this stand-in knows no {key}={value}"),
        }
    }
    let filters = filters.join(" and ");
    let keys: Vec<&str> = body.keys().map(String::as_str).collect();
    let values: Vec<String> = body.values().map(literal).collect();
    Ok(match (method, path.strip_prefix("/rpc/")) {
        ("POST", Some(function)) => {
            let set: bool = scalar(
                session,
                "select proretset from pg_proc where proname = $1 and pronamespace = $2::text::regnamespace",
                &[&function, &schema],
            )
            .await?;
            let arguments: Vec<String> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("{key} => {value}"))
                .collect();
            let call = format!("{schema}.{function}({})", arguments.join(", "));
            if set {
                format!("select coalesce(json_agg(t), '[]')::text from {call} as t")
            } else {
                format!("select to_json({call})::text")
            }
        }
        ("GET", None) => format!(
            "select coalesce(json_agg(t), '[]')::text from (select {columns} from {schema}.{} where {filters} {order}) as t",
            view(path)?
        ),
        ("POST", None) => format!(
            "with made as (insert into {schema}.{} ({}) values ({}) returning {columns}) \
             select json_agg(made)::text from made",
            view(path)?,
            keys.join(", "),
            values.join(", ")
        ),
        ("PATCH", None) => {
            let changes: Vec<String> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            format!(
                "with changed as (update {schema}.{} set {} where {filters} returning {columns}) \
                 select json_agg(changed)::text from changed",
                view(path)?,
                changes.join(", ")
            )
        }
        _ => bail!("this stand-in knows no {method} {path}"),
    })
}

fn view(path: &str) -> Result<&str> {
    path.strip_prefix('/').context("a path begins with /")
}
