//! Changing the master key: {old}, {new, old}, rewrap, {new}, from file or command, with a restart or a crash between any
//! two steps, and each state reads and writes. Who makes a key meanwhile is not left behind, and a key that is damaged
//! holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, scalar, until};
use tokio_postgres::Client;

use crate::fixture::{refusal, text, texts, verdict};
use crate::master_command::Commanded;
use crate::master_key::expect_well;

const NEW: &str = "new:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n";
const UNDER: &str = "select string_agg(distinct master_key_id, ' ' order by master_key_id) from rotator_internal.encryption_key where wrapped_key is not null";
const WRAPPING: &str = "select ok::text || ' ' || detail from rotator.doctor() where check_name = 'master key wrapping'";

/// Where the master keys come from in a state of the sequence.
#[derive(Clone, Copy, Debug)]
enum From {
    File,
    Command,
}

async fn takes(commanded: &Commanded, from: From, lines: &str) -> Result<()> {
    let cluster = &commanded.kept.db.cluster;
    match from {
        From::File => {
            cluster.write_master_key(lines)?;
            let file = cluster.master_key.display().to_string();
            commanded.set(&file, "").await
        }
        From::Command => {
            cluster.write_master_key("no key at all, the command knows\n")?;
            commanded.program_does(&format!("printf '%s' '{lines}'"))?;
            commanded.set("", &commanded.command()).await
        }
    }
}

/// Reads and writes, then again after a restart or a crash.
async fn reads_and_writes(commanded: &mut Commanded, state: &str, tenant: &str) -> Result<()> {
    expect_well(&commanded.kept, state).await?;
    commanded.kept.db.tenant(tenant).await?;
    if tenant.ends_with("crash") {
        commanded.kept.db.cluster.crash().await?;
        commanded.kept.db.cluster.start_again().await?;
        commanded.kept.db.admin = commanded.kept.db.superuser().await?;
    } else {
        commanded.kept.restart().await?;
    }
    expect_well(&commanded.kept, state).await?;
    let member = commanded
        .kept
        .db
        .connect_as(&commanded.kept.member_of_acme)
        .await?;
    member.batch_execute("select rotator.rotate_key()").await?;
    expect_well(&commanded.kept, state).await
}

#[tokio::test]
async fn a_master_key_is_changed_step_by_step() -> Result<()> {
    for (from, to, end) in [
        (From::File, From::File, "restart"),
        (From::File, From::Command, "crash"),
        (From::Command, From::File, "restart"),
    ] {
        let mut commanded = Commanded::new().await?;
        let old = commanded.line.clone();
        let both = format!("{NEW}{old}");
        let context = || format!("from {from:?} to {to:?}");

        takes(&commanded, from, &old).await?;
        reads_and_writes(&mut commanded, "{old}", &format!("a-{end}"))
            .await
            .with_context(context)?;
        takes(&commanded, to, &both).await?;
        reads_and_writes(&mut commanded, "{new, old}", &format!("b-{end}"))
            .await
            .with_context(context)?;
        let told = text(commanded.admin(), WRAPPING).await?;
        ensure!(
            told.starts_with("false ") && told.contains("data keys are still wrapped by "),
            "{told}"
        );

        // What isn't committed hasn't been.
        let before = text(commanded.admin(), UNDER).await?;
        ensure!(before.contains("new"), "the tenant made last: {before}");
        commanded
            .admin()
            .batch_execute("begin; select rotator.rewrap_keys()")
            .await?;
        commanded.kept.db.cluster.crash().await?;
        commanded.kept.db.cluster.start_again().await?;
        commanded.kept.db.admin = commanded.kept.db.superuser().await?;
        ensure!(text(commanded.admin(), UNDER).await? == before);
        expect_well(&commanded.kept, "a crash while rewrapping")
            .await
            .with_context(context)?;

        let moved = text(commanded.admin(), "select rotator.rewrap_keys()").await?;
        ensure!(moved.parse::<i32>()? >= 5, "{moved}");
        ensure!(text(commanded.admin(), UNDER).await? == "new");
        ensure!(text(commanded.admin(), "select rotator.rewrap_keys()").await? == "0");
        ensure!(
            text(commanded.admin(), WRAPPING)
                .await?
                .starts_with("true ")
        );
        reads_and_writes(&mut commanded, "rewrapped", &format!("c-{end}"))
            .await
            .with_context(context)?;
        takes(&commanded, to, NEW).await?;
        reads_and_writes(&mut commanded, "{new}", &format!("d-{end}"))
            .await
            .with_context(context)?;

        let events = texts(commanded.admin(), "select t.slug || ' ' || (e.changes ->> 'keys') || ' ' || (e.changes ->> 'to_master_key')
            from rotator.audit_log as e join rotator_internal.tenant as t using (tenant_id) where e.action = 'master_key.rewrapped' order by e.id").await?;
        ensure!(
            events.len() == 2
                && events.iter().any(|event| event.starts_with("acme "))
                && events.iter().all(|event| event.ends_with(" new")),
            "{events:?}"
        );
    }
    Ok(())
}

/// A cluster of the test's own with an admin who calls SQL, `{old}` in its file, and what `{new, old}` would be.
async fn changing() -> Result<(TestDb, String)> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.tenant("acme").await?;
    let old = std::fs::read_to_string(&db.cluster.master_key)?;
    Ok((db, format!("{NEW}{old}")))
}

#[tokio::test]
async fn keys_that_are_being_made_are_not_left_behind() -> Result<()> {
    let (db, both) = changing().await?;
    let (making, rewrapping) = (db.superuser().await?, db.superuser().await?);
    // One read the master keys before, and gave up the lock with its savepoint.
    let late = db.superuser().await?;
    late.batch_execute("begin; savepoint a; select rotator.rotate_key('acme'); rollback to a")
        .await?;
    // Another is making a key: it is waited for, also when nothing is inserted yet.
    making
        .batch_execute("begin; select rotator.create_tenant('beta', 'Beta')")
        .await?;
    let wrapped = db.superuser().await?;
    wrapped
        .batch_execute("begin; select rotator_internal.make_key(gen_random_uuid(), 1, 'data')")
        .await?;
    db.cluster.write_master_key(&both)?;
    let pid = backend(&rewrapping).await?;
    let rewrap = tokio::spawn(async move {
        rewrapping
            .batch_execute("begin; select rotator.rewrap_keys()")
            .await?;
        anyhow::Ok(rewrapping)
    });
    blocked_by(&db, pid, 2).await?;
    wrapped.batch_execute("commit").await?;
    blocked_by(&db, pid, 1).await?;
    // It may go on making keys meanwhile.
    making
        .batch_execute("select rotator.rotate_key('beta'); commit")
        .await?;
    let rewrapping = rewrap.await??;

    // The late one goes on: it waits, and reads the master keys anew.
    let pid = backend(&late).await?;
    let rotate = tokio::spawn(async move {
        late.batch_execute(
            "select rotator.rotate_key('acme'); select rotator.create_tenant('gamma', 'Gamma'); commit",
        )
        .await
    });
    blocked_by(&db, pid, 1).await?;
    rewrapping.batch_execute("commit").await?;
    rotate.await??;
    let under = text(&db.admin, UNDER).await?;
    ensure!(under == "new", "{under}");
    db.cluster.write_master_key(NEW)?;
    db.cluster.restart().await?;
    let admin = db.superuser().await?;
    for tenant in ["acme", "beta", "gamma"] {
        admin.batch_execute(&format!("select rotator.use_tenant('{tenant}'); select rotator.register_secret('x', rotation_interval => '1 day')")).await?;
    }
    Ok(())
}

async fn backend(client: &Client) -> Result<i32> {
    scalar(client, "select pg_backend_pid()", &[]).await
}

async fn blocked_by(db: &TestDb, pid: i32, others: i32) -> Result<()> {
    until(
        Duration::from_secs(10),
        "it to wait for the others",
        async || {
            let sql = "select cardinality(pg_blocking_pids($1))";
            Ok(scalar::<i32>(&db.admin, sql, &[&pid]).await? == others)
        },
    )
    .await
}

#[tokio::test]
async fn a_damaged_key_holds_up_nobody_else_and_stops_the_rewrapping() -> Result<()> {
    let (db, both) = changing().await?;
    let admin = &db.admin;
    db.tenant("broken").await?;
    admin.batch_execute("update rotator_internal.encryption_key set check_value = decode(repeat('00', 16), 'hex') where tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'broken')").await?;
    let broken = text(admin, "select min(id) from rotator_internal.encryption_key where check_value = decode(repeat('00', 16), 'hex')").await?;
    let session = db.superuser().await?;
    session
        .batch_execute(
            "select rotator.create_tenant('beta', 'Beta'); select rotator.rotate_key('acme')",
        )
        .await?;

    db.cluster.write_master_key(&both)?;
    let before = text(
        admin,
        "select md5(string_agg(k::text, '' order by id)) from rotator_internal.encryption_key as k",
    )
    .await?;
    let said = refusal(&session, "select rotator.rewrap_keys()").await?;
    ensure!(
        said.starts_with("RT010") && said.contains(&format!("does not open data key {broken}")),
        "{said}"
    );
    let after = text(
        admin,
        "select md5(string_agg(k::text, '' order by id)) from rotator_internal.encryption_key as k",
    )
    .await?;
    ensure!(before == after);
    // The newest five tenants all damaged: now it is the master key that is suspected.
    admin.batch_execute("update rotator_internal.encryption_key set check_value = decode(repeat('00', 16), 'hex')").await?;
    let said = refusal(&session, "select rotator.create_tenant('gamma', 'Gamma')").await?;
    ensure!(said.starts_with("RT010"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_new_master_key_with_the_name_of_another_makes_no_key() -> Result<()> {
    let (db, both) = changing().await?;
    db.cluster.write_master_key(&both)?;
    db.admin
        .batch_execute("select rotator.create_tenant('beta', 'Beta')")
        .await?;
    // `old` still opens what it wrapped; `new` has other bytes than what beta's keys were made under.
    db.cluster.write_master_key(&both.replace("AgIC", "AwMD"))?;
    let session = db.superuser().await?;
    for statement in [
        "select rotator.create_tenant('gamma', 'Gamma')",
        "select rotator.rotate_key('acme')",
        "select rotator.rewrap_keys()",
    ] {
        let said = refusal(&session, statement).await?;
        ensure!(
            said.starts_with("RT010") && said.contains("called new does not open"),
            "{statement}: {said}"
        );
    }
    let said = text(
        &session,
        "select detail from rotator.doctor() where check_name = 'master key'",
    )
    .await?;
    ensure!(said.contains("called new does not open"), "{said}");
    Ok(())
}

#[tokio::test]
async fn many_keys_of_a_transaction_ask_the_command_once() -> Result<()> {
    let commanded = Commanded::new().await?;
    let asked = commanded.program.with_file_name("asked");
    std::fs::write(&asked, "")?;
    std::os::unix::fs::chown(
        &asked,
        Some(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(
            &commanded.kept.db.cluster.data,
        )?)),
        None,
    )?;
    commanded.program_does(&format!(
        "echo asked >>{} && exec cat $key",
        asked.display()
    ))?;
    let times = || anyhow::Ok(std::fs::read_to_string(&asked)?.lines().count());
    let admin = commanded.kept.db.superuser().await?;
    admin.batch_execute("begin; select rotator.create_tenant('t' || n, 'T') from generate_series(1, 50) as n; commit").await?;
    ensure!(times()? == 1, "asked {} times", times()?);
    admin
        .batch_execute("select rotator.rotate_key('t1')")
        .await?;
    ensure!(times()? == 2, "a transaction of its own");
    // Reading needs no key that isn't held.
    let member = commanded
        .kept
        .db
        .connect_as(&commanded.kept.member_of_acme)
        .await?;
    ensure!(verdict(&member, "select name from rotator.secrets").await? == "ok");
    ensure!(times()? <= 3, "asked {} times", times()?);
    Ok(())
}
