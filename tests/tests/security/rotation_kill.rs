//! kill -9 at random points of a rotation under load: of the postmaster, of every process of the server, of a backend,
//! of the one that re-encrypts, of the sidecar. Each time the rotation goes on by itself, and in the end every row is
//! readable, under the newest key, and holds what its writer knows to have committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Chance, Cluster, Options, Sidecar, TestDb, eventually, scalar, scaled, until};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::rotation_model::{
    Access, HOST_TABLE, Place, UNDER_OLDER_KEYS, Writer, is_lost, keep_reading,
};

const SOON: Duration = Duration::from_secs(120);
/// Rows of each place that nobody touches but the re-encryption.
const AT_REST: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Victim {
    Postmaster,
    Everyone,
    Backend,
    Driver,
    Sidecar,
}

const VICTIMS: [Victim; 5] = [
    Victim::Postmaster,
    Victim::Everyone,
    Victim::Backend,
    Victim::Driver,
    Victim::Sidecar,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_a_rotation_loses_and_doubles_nothing() -> Result<()> {
    let mut chance = Chance::for_test("rotation_kill");
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let db = TestDb::in_cluster(cluster.clone()).await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!("select rotator.use_tenant('acme'); {HOST_TABLE}; select rotator.set_contact('owner', 'email', 'owner@acme.example')"))
        .await?;
    let member = Access::new(&db, &db.member("acme", "editor").await?);
    let operator = Access::new(&db, &db.login_role("operator", &["rotator_admin"]).await?);
    let superuser = Access {
        role: rotator_tests::Role {
            name: "postgres".to_owned(),
            password: String::new(),
        },
        ..operator.clone()
    };
    let sidecar_url = db.url(&db.login_role("sidecar", &["rotator_sidecar"]).await?);

    let (stop, resting, writes, reads, steps) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (mut at_rest, mut writers, mut others) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for place in [Place::Host, Place::Secret] {
        let mut rest = Writer::new(place, "rest", member.clone(), chance.branch());
        rest.fill(AT_REST).await?;
        at_rest.push(rest);
        for name in ["a", "b"] {
            let writer = Writer::new(place, name, member.clone(), chance.branch());
            writers.spawn(writer.work(stop.clone(), writes.clone()));
        }
        others.spawn(keep_reading(
            place,
            member.clone(),
            stop.clone(),
            reads.clone(),
        ));
    }
    others.spawn(keep_stepping(
        operator.clone(),
        chance.branch(),
        stop.clone(),
        resting.clone(),
        steps.clone(),
    ));
    let mut sidecar = Sidecar::spawn(&sidecar_url, &[]).await?;
    sidecar.ready().await?;

    let rounds = async {
        for round in 1..=scaled(50) {
            let victim = *chance.one_of(&VICTIMS);
            // Then it is all its own work, which the next sidecar only takes over when nobody has ticked for 75 seconds:
            // not in every run of the tests.
            let is_soak = scaled(50) == 50;
            resting.store(
                is_soak && matches!(victim, Victim::Sidecar),
                Ordering::SeqCst,
            );
            let rotation = rotate(&operator).await?;
            let share = chance.below(101) as i64;
            until(SOON, "the rotation to come so far", async || {
                come_so_far(&operator, rotation, share).await
            })
            .await?;
            chance.moment(20_000).await;
            eprintln!("round {round}: {victim:?} at {share} % of rotation {rotation}");
            match victim {
                Victim::Postmaster => cluster.kill_server(false).await?,
                Victim::Everyone => cluster.kill_server(true).await?,
                Victim::Backend => kill_one(&superuser, &mut chance, "%").await?,
                Victim::Driver => kill_one(&superuser, &mut chance, "%reencrypt_step%").await?,
                Victim::Sidecar => {
                    sidecar.kill().await?;
                    sidecar = Sidecar::spawn(&sidecar_url, &[]).await?;
                }
            }
            // Now and then the next rotation comes before this one has ended, and takes over.
            if !chance.once_in(4) {
                completed(&operator, rotation).await?;
                let session = superuser.session().await?;
                let left: i64 = scalar(&session, UNDER_OLDER_KEYS, &[]).await?;
                ensure!(left == 0, "{left} fields are under older keys");
                if chance.once_in(3) {
                    destroy_older(&operator).await?;
                }
            }
        }
        resting.store(false, Ordering::SeqCst);
        completed(&operator, rotate(&operator).await?).await
    };
    tokio::select! {
        outcome = rounds => outcome?,
        ended = others.join_next() => {
            ended.context("there are others")???;
            anyhow::bail!("a reader or the driver ended by itself")
        }
        ended = writers.join_next() => {
            ended.context("there are writers")???;
            anyhow::bail!("a writer ended by itself")
        }
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = others.join_next().await {
        ended??;
    }
    while let Some(writer) = writers.join_next().await {
        at_rest.push(writer??);
    }

    let (reader, session) = (member.session().await?, superuser.session().await?);
    let left: i64 = scalar(&session, UNDER_OLDER_KEYS, &[]).await?;
    ensure!(left == 0, "{left} fields are under older keys");
    let mut rows = 0;
    for writer in &mut at_rest {
        rows += writer.verify(&reader).await?;
    }
    let all: i64 = scalar(
        &reader,
        "select (select count(*) from shop.note) + (select count(*) from rotator.secrets)",
        &[],
    )
    .await?;
    ensure!(all == rows as i64, "{all} rows, {rows} in the models");
    let [writes, reads, steps] = [writes, reads, steps].map(|count| count.load(Ordering::SeqCst));
    eprintln!("{rows} rows; {writes} transactions, {reads} reads, {steps} steps");
    ensure!(writes > 0 && reads > 0 && steps > 0, "there was a load");
    Ok(())
}

/// Small steps, so that there are many points to be killed at.
async fn keep_stepping(
    access: Access,
    mut chance: Chance,
    stop: Arc<AtomicBool>,
    resting: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<()> {
    let mut session = access.session().await?;
    while !stop.load(Ordering::SeqCst) {
        if resting.load(Ordering::SeqCst) {
            chance.moment(20_000).await;
            continue;
        }
        let size = 1 + chance.below(40) as i32;
        match session
            .query_one("select rotator.reencrypt_step($1)", &[&size])
            .await
        {
            Ok(row) => {
                let step: Value = row.get(0);
                if step["done"] == 0 {
                    chance.moment(10_000).await;
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) if is_lost(&error) => session = access.session().await?,
            Err(error) => return Err(error).context("the driver"),
        }
    }
    Ok(())
}

async fn rotate(operator: &Access) -> Result<i64> {
    let session = operator.session().await?;
    scalar(&session, "select rotator.rotate_key('acme')", &[]).await
}

async fn come_so_far(operator: &Access, rotation: i64, percent: i64) -> Result<bool> {
    let session = operator.session().await?;
    scalar(
        &session,
        "select status <> 'running' or done * 100 >= total * $2 and total > 0 from rotator.key_rotations where id = $1",
        &[&rotation, &percent],
    )
    .await
}

async fn completed(operator: &Access, rotation: i64) -> Result<()> {
    let status = eventually(SOON, "the rotation to end", async || {
        let session = operator.session().await?;
        let row = session
            .query_one(
                "select status, concat_ws(' ', status, done, total, failed, error) from rotator.key_rotations where id = $1",
                &[&rotation],
            )
            .await;
        match row {
            Ok(row) => Ok((row.get::<_, String>(0) != "running").then(|| row.get::<_, String>(1))),
            // The server may still be going down.
            Err(error) if is_lost(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    ensure!(status.starts_with("completed"), "{status}");
    Ok(())
}

/// A session of this database whose last statement was like that, if there is one; the server then starts anew.
async fn kill_one(superuser: &Access, chance: &mut Chance, statement: &str) -> Result<()> {
    let session: Client = superuser.session().await?;
    let backends = session
        .query(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                 and backend_type = 'client backend' and query like $1 order by pid",
            &[&statement],
        )
        .await?;
    if backends.is_empty() {
        return Ok(());
    }
    let backend: i32 = backends[chance.below(backends.len())].get(0);
    superuser.cluster.kill_backend(backend).await?;
    Ok(())
}

/// A row that was left behind would be unreadable from now on.
async fn destroy_older(operator: &Access) -> Result<()> {
    let session = operator.session().await?;
    let older = "select version from rotator.encryption_keys where purpose = 'data' and status = 'decrypt_only' order by version";
    for row in session.query(older, &[]).await? {
        let version: i32 = row.get(0);
        session
            .execute("select rotator.retire_key($1, 'acme')", &[&version])
            .await?;
        session
            .execute(
                "select rotator.destroy_key($1, $2, 'acme')",
                &[&version, &format!("acme/{version}")],
            )
            .await?;
    }
    Ok(())
}
