//! No nonce comes twice: over hundreds of fresh backends, which are forked copies of one preloaded library, over restarts
//! of the server, and, for ids and tokens, over parallel workers. Drawing itself: extension/src/crypto/nonce.rs.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, scalar, scaled};
use tokio_postgres::Client;

use crate::fixture::{text, texts};

const SIDE_BY_SIDE: usize = 8;
const RESTARTS: usize = 3;
const ENCRYPTIONS: usize = 1000;

/// Rows of `drawn`: which key, which nonce. An envelope is `format | key id, 8 bytes | nonce, 12 | …`.
fn encrypt(tenant: &str, label: &str) -> String {
    format!(
        "insert into drawn
         select substr(c, 2, 8), substr(c, 10, 12)
         from (select rotator_internal.seal_field('{tenant}', '{label}', '{tenant}', n::text) as c
               from generate_series(1, {ENCRYPTIONS}) as n
               offset 0) as sealed"
    )
}

/// Encrypts in this many new backends, some of them at a time.
async fn in_fresh_backends(db: &TestDb, backends: usize, statement: &str) -> Result<()> {
    let mut left = backends;
    while left > 0 {
        let mut sessions = Vec::new();
        for _ in 0..left.min(SIDE_BY_SIDE) {
            sessions.push(db.superuser().await?);
        }
        left -= sessions.len();
        let mut running = tokio::task::JoinSet::new();
        for session in sessions {
            let statement = statement.to_owned();
            running.spawn(async move { session.batch_execute(&statement).await });
        }
        while let Some(finished) = running.join_next().await {
            finished??;
        }
    }
    Ok(())
}

/// 255 degrees of freedom. Outside of these a fair source falls once in a thousand million times.
fn is_fair(chi_square: f64) -> bool {
    (142.0..415.0).contains(&chi_square)
}

/// Of the values of the nonces' bytes, at one place or (with `true`) at all.
async fn chi_square(admin: &Client, places: &str) -> Result<f64> {
    scalar(
        admin,
        &format!(
            "with byte as (
                 select get_byte(nonce, place) as value, count(*) as seen
                 from drawn cross join generate_series(0, 11) as place where {places} group by 1),
             expected as (select sum(seen) / 256 as each from byte)
             select (sum((coalesce(seen, 0) - each) ^ 2) / min(each))::float8
             from generate_series(0, 255) as value left join byte using (value) cross join expected"
        ),
        &[],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_nonce_repeats_over_backends_and_restarts() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let mut db = TestDb::in_cluster(cluster.into()).await?;
    let preloaded: bool = scalar(
        &db.admin,
        "select rotator_internal.library_preloaded()",
        &[],
    )
    .await?;
    ensure!(preloaded, "backends are to be copies of one library");
    let tenant = db.tenant("acme").await?.to_string();
    db.admin
        .batch_execute("create table drawn (key bytea, nonce bytea)")
        .await?;
    let backends = scaled(500).div_ceil(RESTARTS + 1);
    for round in 0..=RESTARTS {
        if round > 0 {
            db.cluster.restart().await?;
            db.admin = db.superuser().await?;
        }
        in_fresh_backends(&db, backends, &encrypt(&tenant, "nonces")).await?;
    }
    let [drawn, distinct, keys]: [i64; 3] = {
        let sql =
            "select array[count(*), count(distinct (key, nonce)), count(distinct key)] from drawn";
        let counts: Vec<i64> = scalar(&db.admin, sql, &[]).await?;
        counts.try_into().ok().context("three counts")?
    };
    ensure!(drawn as usize == (RESTARTS + 1) * backends * ENCRYPTIONS);
    ensure!(keys == 1, "all under one key, not {keys}");
    ensure!(
        distinct == drawn,
        "{} of {drawn} nonces came again",
        drawn - distinct
    );
    let all = chi_square(&db.admin, "true").await?;
    ensure!(is_fair(all), "chi-square of all bytes: {all}");
    for place in 0..12 {
        let one = chi_square(&db.admin, &format!("place = {place}")).await?;
        ensure!(is_fair(one), "chi-square at byte {place}: {one}");
    }
    Ok(())
}

/// A rolled back encryption has used its nonce as well.
#[tokio::test]
async fn a_rollback_brings_no_nonce_back() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?.to_string();
    let seal = format!(
        "select substr(rotator_internal.seal_field('{tenant}', 'x', '{tenant}', 'x'), 10, 12)"
    );
    let mut nonces = Vec::new();
    for _ in 0..scaled(2000) {
        for end in ["rollback to s; commit", "rollback", "commit"] {
            db.admin.batch_execute("begin; savepoint s").await?;
            nonces.push(text(&db.admin, &seal).await?);
            db.admin.batch_execute(end).await?;
        }
    }
    let drawn = nonces.len();
    nonces.sort();
    nonces.dedup();
    ensure!(nonces.len() == drawn, "{} came again", drawn - nonces.len());
    Ok(())
}

/// Encrypting is leader's work (`seal_field` is parallel unsafe); ids and tokens may be made by workers, from the same
/// kind of block. A worker is a fork of the postmaster too, not of its leader.
#[tokio::test]
async fn parallel_workers_draw_bytes_of_their_own() -> Result<()> {
    let db = TestDb::new().await?;
    db.admin
        .batch_execute(
            "create table work (n integer) with (parallel_workers = 6);
             insert into work select generate_series(1, 20000);
             analyze work;
             set max_parallel_workers_per_gather = 6;
             set min_parallel_table_scan_size = 0;
             set parallel_setup_cost = 0;
             set parallel_tuple_cost = 0",
        )
        .await?;
    // The leader has a block under way that a worker must not go on with.
    text(&db.admin, "select rotator_internal.uuid_v7()::text").await?;
    let ids = "select substr(uuid_send(rotator_internal.uuid_v7()), 9, 8) as random from work";
    let tokens = "select rotator_internal.mint_token() as random from work";
    for statement in [ids, tokens] {
        for _ in 0..scaled(50) {
            let plan = texts(
                &db.admin,
                &format!("explain (analyze, costs off, timing off) {statement}"),
            )
            .await?
            .join("\n");
            ensure!(
                plan.contains("Workers Launched: ") && !plan.contains("Workers Launched: 0"),
                "{plan}"
            );
            let sql = format!(
                "select array[count(*), count(distinct random)] from ({statement} offset 0) as drawn"
            );
            let counts: Vec<i64> = scalar(&db.admin, &sql, &[]).await?;
            ensure!(counts == [20_000, 20_000], "{statement}: {counts:?}");
        }
    }
    Ok(())
}
