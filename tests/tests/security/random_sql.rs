//! Every function with every kind of nonsense: nulls, extremes, wrong lengths, hundreds of thousands of characters,
//! ciphertexts cut short and bent. Members get a 4xx for each mistake, nobody gets an internal error, and no backend
//! dies. A failure prints the seed. `sqlsmith`, where it is installed, adds whole queries in `make soak`.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{Chance, Cluster, Options, TestDb, postgrest, scalar, scaled};
use tokio_postgres::Client;

use crate::fixture::{populate, text, texts};
use crate::nonsense::argument;

struct Function {
    call: String,
    name: String,
    types: Vec<String>,
}

/// What stops a statement is the server's own business: time, memory, the length of a value.
const LIMITS: [&str; 5] = ["57014", "54000", "53200", "54001", "54023"];

/// A cluster of its own: its log is searched.
async fn stage() -> Result<TestDb> {
    let cluster = Cluster::start(Options {
        settings: vec![
            "log_min_messages = warning".to_owned(),
            "jit = off".to_owned(),
        ],
        ..Options::default()
    })
    .await?;
    let db = TestDb::in_cluster(Arc::new(cluster)).await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        populate(&db, tenant).await?;
    }
    db.admin
        .batch_execute("create table public.host (id int primary key, tenant_id uuid, value bytea)")
        .await?;
    Ok(db)
}

async fn functions(admin: &Client, schemas: &str, role: &str) -> Result<Vec<Function>> {
    let rows = texts(
        admin,
        &format!(
            "select p.prokind::text || '|' || quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '|'
                || coalesce((select string_agg(format_type(t, null), '|' order by n) from unnest(p.proargtypes) with ordinality as a (t, n)), '')
             from pg_proc p join pg_namespace n on n.oid = p.pronamespace
             where n.nspname in ({schemas}) and p.prorettype <> 'trigger'::regtype and has_function_privilege('{role}', p.oid, 'execute')
             order by 1"
        ),
    )
    .await?;
    rows.iter()
        .map(|row| {
            let mut parts = row.split('|').filter(|part| !part.is_empty());
            let kind = parts.next().context("a kind")?;
            let name = parts.next().context("a name")?.to_owned();
            Ok(Function {
                call: if kind == "p" { "call" } else { "select * from" }.to_owned(),
                types: parts.map(str::to_owned).collect(),
                name,
            })
        })
        .collect()
}

/// Calls at random; how often each outcome came.
async fn batter(
    db: &TestDb,
    mut session: Client,
    role: &str,
    functions: &[Function],
    known: &[String],
    chance: &mut Chance,
    times: usize,
) -> Result<BTreeMap<String, usize>> {
    let mut outcomes = BTreeMap::new();
    let member = role != "postgres";
    for step in 0..times {
        // Each in turn, so that none is left out.
        let function = &functions[step % functions.len()];
        let arguments: Vec<String> = function
            .types
            .iter()
            .map(|kind| argument(chance, kind, known))
            .collect();
        let call = format!(
            "{} {}({})",
            function.call,
            function.name,
            arguments.join(", ")
        );
        // What one call leaves must not be the next one's excuse: it is undone, but for a procedure, which commits.
        let statement = match function.call.as_str() {
            "call" => format!("rollback; set statement_timeout = '10s'; {call}"),
            _ => format!(
                "rollback; begin; set local statement_timeout = '10s'; set local lock_timeout = '5s'; {call}"
            ),
        };
        let code = match session.simple_query(&statement).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => match error.as_db_error() {
                Some(refusal) => {
                    let code = refusal.code().code().to_owned();
                    let shown: String = call.chars().take(600).collect();
                    // A native function that only SQL of ours calls says so when it is called with nonsense.
                    let said = !member
                        && refusal
                            .hint()
                            .is_some_and(|hint| hint.starts_with("This is a defect of rotator"));
                    ensure!(
                        said || !code.starts_with("XX") && code != "57P02" && code != "57P03",
                        "{shown}: {refusal:?}"
                    );
                    if member && !LIMITS.contains(&code.as_str()) {
                        ensure!(
                            postgrest::blames_the_caller(&code),
                            "{shown}: {code} is a {}: {refusal:?}",
                            postgrest::status(&code)
                        );
                    }
                    code
                }
                None => bail!("the backend is gone after {call}: {error:?}"),
            },
        };
        *outcomes.entry(code).or_default() += 1;
        if step % 500 == 499 {
            // A backend of some age has caches and open files of its own; a new one has none.
            session = db.cluster.connect(role, &db.name).await?;
        }
    }
    Ok(outcomes)
}

fn nothing_died(db: &TestDb) -> Result<()> {
    let log = db.cluster.log()?;
    let bad: Vec<&str> = log
        .lines()
        .filter(|line| {
            [
                "PANIC",
                "was terminated by",
                "exited with exit code",
                "TRAP:",
                "panicked at",
                "corrupted",
            ]
            .iter()
            .any(|word| line.contains(word))
        })
        .take(5)
        .collect();
    ensure!(bad.is_empty(), "in the server's log: {bad:#?}");
    Ok(())
}

#[tokio::test]
async fn no_call_ends_a_backend_or_in_an_internal_error() -> Result<()> {
    let mut chance = Chance::for_test("random_sql");
    let db = stage().await?;
    let started: String = text(&db.admin, "select pg_postmaster_start_time()").await?;
    let known = texts(
        &db.admin,
        "select id::text from rotator_internal.secret union all select name::text from rotator_internal.secret
         union all select tenant_id::text from rotator_internal.tenant union all select id::text from rotator_internal.notification
         union all select id::text from rotator_internal.recipient union all select wrapped_key::text from rotator_internal.encryption_key
         union all select slug from rotator_internal.tenant union all select master_key_id from rotator_internal.encryption_key",
    )
    .await?;
    let times = scaled(20_000);
    for kind in ["viewer", "admin"] {
        let role = db.member("acme", kind).await?;
        let functions = functions(&db.admin, "'rotator'", &role.name).await?;
        let session = db.connect_as(&role).await?;
        let outcomes = batter(
            &db,
            session,
            &role.name,
            &functions,
            &known,
            &mut chance,
            times / 4,
        )
        .await
        .with_context(|| format!("as {kind}"))?;
        eprintln!("{kind}: {outcomes:?}");
        ensure!(
            outcomes.contains_key("ok") && outcomes.contains_key("22023"),
            "{outcomes:?}"
        );
    }
    let sidecar = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let functions_of_sidecar = functions(&db.admin, "'rotator'", &sidecar.name).await?;
    let session = db.connect_as(&sidecar).await?;
    let outcomes = batter(
        &db,
        session,
        &sidecar.name,
        &functions_of_sidecar,
        &known,
        &mut chance,
        times / 8,
    )
    .await?;
    eprintln!("sidecar: {outcomes:?}");

    let all = functions(&db.admin, "'rotator', 'rotator_internal'", "postgres").await?;
    ensure!(all.len() > 120, "{} functions", all.len());
    let session = db.superuser().await?;
    session
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let outcomes = batter(
        &db,
        session,
        "postgres",
        &all,
        &known,
        &mut chance,
        times / 2,
    )
    .await
    .context("as superuser")?;
    eprintln!("superuser: {outcomes:?}");

    ensure!(
        text(&db.admin, "select pg_postmaster_start_time()").await? == started,
        "the server started anew"
    );
    let secrets: i64 = scalar(
        &db.admin,
        "select count(*) from rotator_internal.secret",
        &[],
    )
    .await?;
    ensure!(secrets >= 4, "what was there is there");
    nothing_died(&db)
}

/// Whole queries by sqlsmith, as a member. Not installed by `make`: `apt-get install sqlsmith` before `make soak`.
#[tokio::test]
async fn sqlsmith_ends_no_backend() -> Result<()> {
    let installed = Command::new("sqlsmith").arg("--version").output().is_ok();
    if std::env::var_os("ROTATOR_SOAK").is_none() || !installed {
        eprintln!("skipped: sqlsmith runs in make soak, where it is installed");
        return Ok(());
    }
    let db = stage().await?;
    let role = db.member("acme", "admin").await?;
    let target = format!(
        "--target=host={} port={} user={} dbname={}",
        db.cluster.socket.display(),
        db.cluster.port,
        role.name,
        db.name
    );
    let outcome = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .args([
                "240",
                "sqlsmith",
                "--max-queries=4000",
                "--exclude-catalog",
                &target,
            ])
            .output()
    })
    .await??;
    let said = String::from_utf8_lossy(&outcome.stderr);
    ensure!(
        said.contains("queries") || outcome.status.success(),
        "{said}"
    );
    nothing_died(&db)
}
