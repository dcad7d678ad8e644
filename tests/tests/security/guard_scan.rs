//! Scanning what is stored by the rules of today: what got in before a rule existed is found, in every kind of record and
//! in pages of any size; what was allowed isn't; and no value leaves the database.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cli, Role, TestDb, refused, scalar};
use serde_json::Value;
use tokio_postgres::Client;

use crate::fixture::{texts, verdict};

fn certain() -> String {
    ["ghp_Zx8Kq2Lw9Vb4Nc7MZx8K", "q2Lw9Vb4Nc7MAb12"].concat()
}

fn random() -> String {
    ["Zk3vR8qLw2Xn7Tb9", "Yc4Hd6Jf1Gs5"].concat()
}

/// Two tenants with secrets that no rule knew when they were stored: put there below the guard.
async fn seeded() -> Result<(TestDb, Role)> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        let admin = db.session(tenant, "admin").await?;
        for name in [
            "clean",
            "bad purpose",
            "bad labels",
            "random purpose",
            "allowed purpose",
        ] {
            admin
                .execute("select rotator.register_secret($1, rotation_interval => '90 days', purpose => 'fine', external_id => $1)", &[&name])
                .await?;
        }
        admin.execute("select rotator.retire_secret(id, 'no longer used') from rotator.secrets where name = 'clean'", &[]).await?;
    }
    for (name, plaintext) in [
        ("bad purpose", certain()),
        ("random purpose", random()),
        ("allowed purpose", format!("{}x7", random())),
    ] {
        db.admin
            .execute(
                "update rotator_internal.secret as s set purpose = rotator_internal.seal_field(s.tenant_id, 'secret.purpose', s.id, $2)
                 where s.external_id = $1",
                &[&name, &plaintext],
            )
            .await?;
    }
    db.admin
        .execute("update rotator_internal.secret set labels = jsonb_build_object('note', $1::text) where external_id = 'bad labels'", &[&certain()])
        .await?;
    let acme = db.session("acme", "admin").await?;
    acme.execute(
        "select rotator.allow_value('purpose', $1, 'an id')",
        &[&format!("{}x7", random())],
    )
    .await?;
    db.admin
        .execute(
            "update rotator_internal.tenant set name = $1 where slug = 'beta'",
            &[&certain()],
        )
        .await?;
    db.admin
        .execute(
            "insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, changes)
             select tenant_id, 'x', 'sql', 'secret.rotated', 'secret', jsonb_build_object('note', $1::text) from rotator_internal.tenant where slug = 'acme'",
            &[&certain()],
        )
        .await?;
    db.admin
        .execute(
            "insert into rotator_internal.member (tenant_id, subject, role) select tenant_id, $1, 'viewer' from rotator_internal.tenant where slug = 'beta'",
            &[&certain()],
        )
        .await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    Ok((db, operator))
}

const EXPECTED: [&str; 10] = [
    "acme audit_event changes github-token",
    "acme secret labels github-token",
    "acme secret purpose github-token",
    "acme secret purpose random-token",
    "beta member subject github-token",
    "beta secret labels github-token",
    "beta secret purpose github-token",
    "beta secret purpose random-token",
    "beta secret purpose random-token",
    "beta tenant name github-token",
];

/// All findings, sorted, in pages of this size.
async fn scan(operator: &Client, max_rows: i32) -> Result<Vec<String>> {
    let mut after: Option<Value> = None;
    let mut findings = Vec::new();
    for _ in 0..10_000 {
        let page: Value = scalar(
            operator,
            "select rotator.scan_texts($1, $2)",
            &[&after, &max_rows],
        )
        .await?;
        let text = page.to_string();
        for value in [certain(), random()] {
            ensure!(!text.contains(&value), "a page shows a value: {text}");
        }
        for finding in page["findings"].as_array().context("an array")? {
            let part = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            findings.push(format!(
                "{} {} {} {}",
                part("tenant"),
                part("entity"),
                part("field"),
                part("rule")
            ));
        }
        if page["next"].is_null() {
            findings.sort();
            return Ok(findings);
        }
        after = Some(page["next"].clone());
    }
    anyhow::bail!("it never ends")
}

#[tokio::test]
async fn it_finds_what_is_stored_and_shows_no_value() -> Result<()> {
    let (db, operator) = seeded().await?;
    let session = db.connect_as(&operator).await?;
    for max_rows in [1, 3, 1000] {
        let found = scan(&session, max_rows).await?;
        ensure!(found == EXPECTED, "{max_rows}: {found:#?}");
    }
    for (after, max_rows) in [
        ("{\"place\": \"nowhere\"}", 10),
        ("{\"place\": \"secret\", \"key\": \"x\"}", 10),
        ("{}", 0),
    ] {
        let call = format!("select rotator.scan_texts('{after}', {max_rows})");
        refused(session.query(&call, &[]).await, "22023").map_err(|error| error.context(call))?;
    }
    let admin = db.session("acme", "admin").await?;
    ensure!(verdict(&admin, "select rotator.scan_texts()").await? == "42501");
    Ok(())
}

#[tokio::test]
async fn the_command_line_lists_findings_and_fails() -> Result<()> {
    let (db, operator) = seeded().await?;
    let printed = Cli::new(&db, &operator, &["doctor", "--scan", "--format", "json"])?
        .run()
        .await?;
    ensure!(
        printed.stdout.contains("github-token") && printed.stdout.contains("random-token"),
        "{printed:?}"
    );
    ensure!(
        !printed.stdout.contains(&certain()) && !printed.stdout.contains(&random()),
        "{printed:?}"
    );
    let rows: Value = serde_json::from_str(&printed.stdout)?;
    let findings = rows
        .as_array()
        .context("rows")?
        .iter()
        .filter(|row| row["check_name"] == "stored texts" && row["ok"] == false)
        .count();
    ensure!(findings == 10, "{printed:?}");
    let ids = texts(
        &db.admin,
        "select id::text from rotator_internal.secret where external_id = 'bad purpose'",
    )
    .await?;
    ensure!(
        ids.iter().all(|id| printed.stdout.contains(id)),
        "a finding names its secret: {printed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_clean_database_scans_clean() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    crate::fixture::populate(&db, "acme").await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    let session = db.connect_as(&operator).await?;
    ensure!(scan(&session, 100).await?.is_empty());
    let printed = Cli::new(&db, &operator, &["doctor", "--scan"])?
        .run()
        .await?;
    ensure!(printed.stdout.contains("no secrets among"), "{printed:?}");
    Ok(())
}
