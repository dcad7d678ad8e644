//! The table of who gets what: each function and view of schema rotator, called by each kind of role, about a row of its
//! own tenant, of another, and with none. What is expected is in `matrix_table.txt`, one line a call; a new function or
//! view fails here until it has its line. `ROTATOR_WRITE_MATRIX=1` writes the outcomes anew: read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::root;
use rotator_tests::{Cluster, Options, TestDb};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::fixture::{populate, text, texts};

fn file() -> PathBuf {
    root().join("tests/tests/security/matrix_table.txt")
}

/// Sessions in the order of the columns: five of acme, and six without a tenant.
struct Stage {
    db: TestDb,
    of_acme: Vec<Client>,
    of_none: Vec<Client>,
    /// What stands for `$secret` and its like, of acme and of beta.
    names: [BTreeMap<&'static str, String>; 2],
}

impl Stage {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start(Options {
            settings: vec!["rotator.trusted_authenticators = 'gate'".to_owned()],
            ..Options::default()
        })
        .await?;
        let db = TestDb::in_cluster(Arc::new(cluster)).await?;
        let mut names = [BTreeMap::new(), BTreeMap::new()];
        for (tenant, names) in ["acme", "beta"].into_iter().zip(&mut names) {
            db.tenant(tenant).await?;
            populate(&db, tenant).await?;
            names.insert("$tenant", tenant.to_owned());
            for (name, sql) in [
                (
                    "$secret",
                    "select id from rotator.secrets where external_id = 'due'",
                ),
                (
                    "$plain",
                    "select id from rotator.secrets where external_id is null",
                ),
                (
                    "$policy",
                    "select min(id::text) from rotator.notification_policies",
                ),
                ("$rotation", "select rotator.rotate_key()"),
                ("$value", "select rotator.encrypt('x', 'l', 'k')"),
                (
                    "$notification",
                    "select min(id::text) from rotator.notifications",
                ),
            ] {
                db.admin
                    .batch_execute(&format!("select rotator.use_tenant('{tenant}')"))
                    .await?;
                names.insert(name, text(&db.admin, sql).await?);
            }
        }
        db.admin
            .batch_execute(
                "create role gate login noinherit; create role authenticated nologin; grant rotator_user to authenticated; grant authenticated to gate;
                 create table public.host (id int primary key, tenant_id uuid, value bytea, other bytea); grant all on public.host to public",
            )
            .await?;
        let mut of_acme = Vec::new();
        for kind in ["viewer", "editor", "auditor", "admin"] {
            of_acme.push(db.session("acme", kind).await?);
        }
        let operator = db.login_role("operator", &["rotator_admin"]).await?;
        db.admin
            .batch_execute(&format!(
                "alter table public.host owner to {}; grant update on public.host to rotator_host",
                operator.name
            ))
            .await?;
        let using = db.connect_as(&operator).await?;
        using
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
        of_acme.push(using);

        let nobody = db.login_role("nobody", &["rotator_user"]).await?;
        let mut of_none = vec![
            db.connect_as(&nobody).await?,
            db.connect_as(&operator).await?,
        ];
        for granted in [vec!["rotator_auditor"], vec!["rotator_sidecar"], vec![]] {
            let role = db.login_role("role", &granted).await?;
            of_none.push(db.connect_as(&role).await?);
        }
        let gate = db.cluster.connect("gate", &db.name).await?;
        gate.batch_execute("set role authenticated").await?;
        of_none.push(gate);
        Ok(Self {
            db,
            of_acme,
            of_none,
            names,
        })
    }

    fn about(&self, which: usize, call: &str) -> String {
        // The longest first: `$secret` begins no other.
        self.names[which]
            .iter()
            .fold(call.to_owned(), |call, (name, value)| {
                call.replace(name, value)
            })
    }

    async fn outcomes(&self, call: &str) -> Result<String> {
        let mut groups = Vec::new();
        for (sessions, which) in [(&self.of_acme, 0), (&self.of_acme, 1), (&self.of_none, 0)] {
            let call = self.about(which, call);
            let mut outcomes = Vec::new();
            for session in sessions {
                outcomes.push(format!("{:<5}", outcome(session, &call).await?));
            }
            groups.push(outcomes.join(" "));
        }
        Ok(groups.join(" | "))
    }
}

/// `rows`, `none`, `deny` where grants end it, else the SQLSTATE. What it did is undone.
async fn outcome(session: &Client, call: &str) -> Result<String> {
    let procedure = call.starts_with("call ");
    if !procedure {
        session.batch_execute("begin").await?;
    }
    let outcome = match session.simple_query(call).await {
        Ok(messages) => {
            let row = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
            let touched = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::CommandComplete(count) if *count > 0);
            match messages
                .iter()
                .any(|message| row(message) || touched(message))
                || procedure
            {
                true => "rows".to_owned(),
                false => "none".to_owned(),
            }
        }
        Err(error) => {
            let refusal = error.as_db_error().context(call.to_owned())?;
            match refusal.message().starts_with("permission denied") {
                true => "deny".to_owned(),
                false => refusal.code().code().to_owned(),
            }
        }
    };
    session.batch_execute("rollback").await?;
    Ok(outcome)
}

/// The name after `rotator.` that a call is about.
fn subject(call: &str) -> &str {
    let name = call.split_once("rotator.").map_or("", |(_, rest)| rest);
    let end = name
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(name.len());
    &name[..end]
}

#[tokio::test]
async fn everybody_gets_what_the_table_says() -> Result<()> {
    let stage = Stage::new().await?;
    let table = std::fs::read_to_string(file())?;
    let mut written = String::new();
    let mut wrong = Vec::new();
    let mut placed = BTreeSet::new();
    let mut calls = 0;
    for line in table.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            written.push_str(&format!("{line}\n"));
            continue;
        }
        let (call, expected) = line.split_once(" | ").unwrap_or((line, ""));
        placed.insert(subject(call).to_owned());
        let found = format!(
            "{:<118} | {}",
            call.trim_end(),
            stage.outcomes(call.trim_end()).await?
        );
        let found = found.trim_end();
        if found.split_once(" | ").map(|(_, found)| found.trim()) != Some(expected.trim()) {
            wrong.push(format!("expected {line}\n   found {found}"));
        }
        written.push_str(&format!("{found}\n"));
        calls += 1;
    }
    if std::env::var_os("ROTATOR_WRITE_MATRIX").is_some() {
        std::fs::write(file(), written)?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let there: BTreeSet<String> = texts(
        &stage.db.admin,
        "select proname from pg_proc where pronamespace = 'rotator'::regnamespace
         union all select relname from pg_class where relnamespace = 'rotator'::regnamespace and relkind = 'v'",
    )
    .await?
    .into_iter()
    .collect();
    ensure!(
        there == placed,
        "without a line in matrix_table.txt: {:?}; with a line, but gone: {:?}",
        there.difference(&placed).collect::<Vec<_>>(),
        placed.difference(&there).collect::<Vec<_>>()
    );
    ensure!(calls > 60, "only {calls} calls");
    Ok(())
}
