//! Who can dump what: a superuser and a role made for it take everything, others are stopped or get nothing. And what of
//! an operator's own additions a dump holds: doctor() lists them, before somebody misses them.

use anyhow::{Context, Result, ensure};
use rotator_tests::restore::spend_transactions;
use rotator_tests::scratch::Scratch;
use rotator_tests::{Role, TestDb};

use crate::fixture::{populate, text, texts, verdict};

const ADDED: &str =
    "select detail from rotator.doctor() where check_name = 'added policies and grants' and not ok";

async fn source() -> Result<TestDb> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        populate(&db, tenant).await?;
    }
    Ok(db)
}

/// The dump as this role, as a script: its lines, or what it was refused with.
fn dump(db: &TestDb, role: &str, options: &[&str]) -> Result<Result<Vec<String>, String>> {
    let mut arguments = options.to_vec();
    arguments.push(&db.name);
    let (worked, printed) = db.cluster.tool_as(role, "pg_dump", &arguments)?;
    // Each dump has a restrict key of its own.
    let lines = printed.lines().filter(|line| !line.contains("restrict "));
    Ok(if worked {
        Ok(lines.map(str::to_owned).collect())
    } else {
        Err(printed)
    })
}

/// Rows of rotator's tables in a script.
fn rows_in(script: &[String]) -> usize {
    let mut inside = false;
    script
        .iter()
        .filter(|line| {
            let row = inside && line.as_str() != "\\.";
            inside = line.starts_with("COPY rotator_internal.") || row;
            row
        })
        .count()
}

#[tokio::test]
async fn of_four_kinds_of_role_two_can_dump_and_they_dump_the_same() -> Result<()> {
    let db = source().await?;
    let backup = db.login_role("backup", &["pg_read_all_data"]).await?;
    db.admin
        .batch_execute(&format!("alter role {} bypassrls", backup.name))
        .await?;
    let reader = db.login_role("reader", &["pg_read_all_data"]).await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;

    let all = dump(&db, "postgres", &[])?.map_err(anyhow::Error::msg)?;
    ensure!(rows_in(&all) > 40, "{} rows", rows_in(&all));
    ensure!(
        dump(&db, &backup.name, &[])? == Ok(all),
        "a role with BYPASSRLS and pg_read_all_data"
    );

    let refusal = |role: &Role, options: &[&str]| -> Result<String> {
        let outcome = dump(&db, &role.name, options)?;
        outcome
            .err()
            .with_context(|| format!("{} dumped", role.name))
    };
    let stopped = refusal(&reader, &[])?;
    ensure!(
        stopped.contains("query would be affected by row-level security policy"),
        "{stopped}"
    );
    let stopped = refusal(&operator, &[])?;
    ensure!(
        stopped.contains("permission denied for schema rotator_internal"),
        "{stopped}"
    );
    // The option that pg_dump offers then makes a dump that looks whole and holds nobody's rows.
    let empty = dump(&db, &reader.name, &["--enable-row-security"])?.map_err(anyhow::Error::msg)?;
    let tenants = |script: &[String]| {
        script
            .iter()
            .filter(|line| line.contains("\tacme\t"))
            .count()
    };
    ensure!(
        tenants(&empty) == 0,
        "a reader without BYPASSRLS sees {} rows",
        tenants(&empty)
    );
    Ok(())
}

#[tokio::test]
async fn what_somebody_added_is_listed_and_a_restore_shows_why() -> Result<()> {
    let db = source().await?;
    let session = db
        .connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
        .await?;
    ensure!(
        texts(&session, ADDED).await?.is_empty(),
        "{:?}",
        texts(&session, ADDED).await?
    );
    let app = db.login_role("app", &[]).await?;
    let name = &app.name;
    db.admin
        .batch_execute(&format!(
            "create policy mine on rotator_internal.secret for select to {name} using (true);
             alter policy read_own on rotator_internal.contact using (true);
             grant select on rotator_internal.secret to {name};
             grant select (slug) on rotator_internal.tenant to {name} with grant option;
             grant usage on schema rotator_internal to {name};
             grant execute on function rotator.doctor() to public"
        ))
        .await?;
    let found = text(&session, ADDED).await?;
    for addition in [
        "policy mine on rotator_internal.secret".to_owned(),
        "policy read_own on rotator_internal.contact".to_owned(),
        format!("select on rotator_internal.secret to {name}"),
        format!("select with grant option on rotator_internal.tenant.slug to {name}"),
        format!("usage on schema rotator_internal to {name}"),
        "execute on rotator.doctor() to public".to_owned(),
    ] {
        ensure!(
            found.split("; ").any(|line| line == addition),
            "{addition}: {found}"
        );
    }
    ensure!(found.split("; ").count() == 6, "{found}");

    // The grants are in the dump, the policies are not.
    let scratch = Scratch::new("dump-rights")?;
    let file = scratch.join("dump").display().to_string();
    db.cluster
        .tool("pg_dump", &["-Fc", "-f", &file, &db.name])?;
    let restored = TestDb::bare_in(db.cluster.clone()).await?;
    spend_transactions(&restored.admin, 3).await?;
    restored.cluster.tool(
        "pg_restore",
        &["--exit-on-error", "-d", &restored.name, &file],
    )?;
    let left = text(&restored.admin, ADDED).await?;
    ensure!(
        !left.contains("policy") && left.split("; ").count() == 4,
        "{left}"
    );
    let app = restored.connect_as(&app).await?;
    ensure!(
        text(&app, "select count(*) from rotator_internal.secret").await? == "0",
        "the grant without the policy shows nothing"
    );
    ensure!(verdict(&app, "select * from rotator_internal.contact").await? == "42501");
    Ok(())
}
