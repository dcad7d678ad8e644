//! kill -9 again and again under load: of sidecars, of the server's processes together, its postmaster, a backend. Whatever was
//! committed is announced; what goes out twice is one notification, under one id, of which a killed worker never said whether
//! it was sent. Fifty of one sidecar's kind of loss at a time: `recovery`; of rotations of keys: `rotation_kill`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::vendor::{Answer, Vendor};
use rotator_tests::{Chance, Cluster, Options, Role, Sidecar, TestDb, scaled, until};
use tokio_postgres::Client;

use crate::webhook::settings;

const LONG: Duration = Duration::from_secs(120);
const OWNERS: usize = 20;
/// Secrets of a transaction of the load.
const BATCH: usize = 5;

/// The leases of workers other than these run out. A worker's name is its host, its process and something random.
const END_LEASES: &str = "update rotator_internal.notification as n set leased_until = clock_timestamp() - interval '1 second'
    from rotator_internal.delivery_attempt as d
    where n.state = 'leased' and d.notification_id = n.id and d.claim_id = n.claim_id
      and split_part(d.worker, ':', 2) <> all ($1)";

#[derive(Clone, Copy, Debug)]
enum Victim {
    Sidecar,
    Postmaster,
    Everyone,
    Backend,
}

const VICTIMS: [Victim; 6] = [
    Victim::Sidecar,
    Victim::Sidecar,
    Victim::Sidecar,
    Victim::Postmaster,
    Victim::Everyone,
    Victim::Backend,
];

/// Somebody who registers secrets that are due, and ticks, whatever becomes of the server.
struct Load {
    cluster: Arc<Cluster>,
    role: Role,
    database: String,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn session(&self) -> Result<Client> {
        let session = self
            .cluster
            .connect_when_it_works(&self.role.name, &self.database)
            .await?;
        Ok(session)
    }

    /// Names of those whose registration is known to have been committed.
    async fn work(self, mut chance: Chance) -> Result<BTreeSet<String>> {
        let mut committed = BTreeSet::new();
        let mut session = self.session().await?;
        let mut batch = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let names: Vec<String> = (0..BATCH).map(|n| format!("key-{batch}-{n}")).collect();
            let sql = format!(
                "select rotator.use_tenant('acme', is_local => true);
                 select rotator.register_secret('key-{batch}-' || n, expiry_date => now() + interval '5 days',
                     rotation_interval => '90 days', owner_id => 'owner-' || ({batch} * {BATCH} + n) % {OWNERS})
                 from generate_series(0, {BATCH} - 1) as n"
            );
            // One batch a transaction. One whose commit was not answered may be there all the same, and isn't counted.
            if session
                .batch_execute(&format!("begin; {sql}; commit"))
                .await
                .is_ok()
            {
                committed.extend(names);
                // Whether this one is answered doesn't matter: the next one finds what it left.
                let _ = session.batch_execute("select rotator.tick()").await;
                chance.moment(20_000).await;
            } else {
                session = self.session().await?;
            }
            batch += 1;
        }
        Ok(committed)
    }
}

struct Pair {
    url: String,
    settings: [(&'static str, String); 3],
    running: Vec<Sidecar>,
}

impl Pair {
    async fn one_more(&self) -> Result<Sidecar> {
        let settings: Vec<(&str, &str)> = self
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut sidecar = Sidecar::spawn(&self.url, &settings).await?;
        sidecar.shows_log = false;
        Ok(sidecar)
    }
}

/// A backend of somebody who works, if there is one right now; the server then starts anew.
async fn kill_a_backend(cluster: &Cluster, database: &str, chance: &mut Chance) -> Result<()> {
    let session = cluster
        .connect_when_it_works("postgres", "postgres")
        .await?;
    let sql = "select pid from pg_stat_activity where datname = $1 and backend_type = 'client backend' order by pid";
    let backends = session.query(sql, &[&database]).await?;
    if backends.is_empty() {
        return Ok(());
    }
    let backend = backends[chance.below(backends.len())].get(0);
    // One of a sidecar that was killed a moment ago may have ended since.
    cluster.kill_backend(backend).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_nothing_is_lost_and_repeats_keep_their_id() -> Result<()> {
    let mut chance = Chance::for_test("kills");
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let hooks =
        Vendor::start_with_tls(Answer::status(204).after(Duration::from_millis(30))).await?;
    let db = TestDb::in_cluster(cluster.clone()).await?;
    db.tenant("acme").await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             select rotator.set_contact('owner-' || n, 'webhook', '{}/hooks/' || n) from generate_series(0, {OWNERS} - 1) as n",
            hooks.url()
        ))
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load {
        cluster: cluster.clone(),
        role: operator,
        database: db.name.clone(),
        stop: stop.clone(),
    };
    let mut pair = Pair {
        url: db.url(&db.login_role("sidecar", &["rotator_sidecar"]).await?),
        settings: settings(&hooks),
        running: Vec::new(),
    };
    for _ in 0..2 {
        let mut sidecar = pair.one_more().await?;
        sidecar.ready().await?;
        pair.running.push(sidecar);
    }
    let load = tokio::spawn(load.work(chance.branch()));

    for round in 1..=scaled(200) {
        // Not before something is on its way, and then at any moment.
        let before = hooks.requests().len();
        hooks.received(before + 1 + chance.below(10), LONG).await?;
        chance.moment(60_000).await;
        let victim = *chance.one_of(&VICTIMS);
        eprintln!(
            "round {round}: {victim:?} after {} requests",
            hooks.requests().len()
        );
        match victim {
            Victim::Sidecar => {
                let which = chance.below(pair.running.len());
                pair.running[which].kill().await?;
                pair.running[which] = pair.one_more().await?;
            }
            Victim::Postmaster => cluster.kill_server(false).await?,
            Victim::Everyone => cluster.kill_server(true).await?,
            Victim::Backend => kill_a_backend(&cluster, &db.name, &mut chance).await?,
        }
    }
    stop.store(true, Ordering::SeqCst);
    let committed = load.await??;

    // What the killed ones held waits for the end of its lease: nobody else does.
    let living: Vec<String> = pair
        .running
        .iter()
        .map(|sidecar| Ok(sidecar.process()?.to_string()))
        .collect::<Result<_>>()?;
    let admin = cluster.connect_when_it_works("postgres", &db.name).await?;
    admin.batch_execute("select rotator.tick()").await?;
    admin.execute(END_LEASES, &[&living]).await?;
    let open = "select count(*) from rotator_internal.notification where state <> 'sent'";
    until(LONG, "all to be sent", async || {
        Ok(rotator_tests::scalar::<i64>(&admin, open, &[]).await? == 0)
    })
    .await?;
    let rows = admin
        .query(
            "select n.id::text, count(*) filter (where d.outcome = 'lost'), count(*) filter (where d.outcome = 'sent'),
                 count(distinct n.secret_id)
             from rotator_internal.notification as n
             join rotator_internal.delivery_attempt as d on d.tenant_id = n.tenant_id and d.notification_id = n.id
             group by n.id",
            &[],
        )
        .await?;
    let mut arrived: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut times: BTreeMap<String, i64> = BTreeMap::new();
    for request in hooks.requests() {
        let id = request
            .header("webhook-id")
            .context("a webhook has an id")?
            .to_owned();
        let body = request.json()?;
        arrived
            .entry(id.clone())
            .or_default()
            .insert(body["data"]["secret"]["name"].to_string());
        *times.entry(id).or_default() += 1;
    }
    let mut twice = 0;
    for row in &rows {
        let (id, lost, sent): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let times = times.remove(&id).unwrap_or_default();
        ensure!(
            sent == 1 && times >= 1,
            "{id} was recorded {sent} times and arrived {times} times"
        );
        ensure!(
            times <= 1 + lost,
            "{id} arrived {times} times, and was lost {lost} times"
        );
        twice += i64::from(times > 1);
    }
    ensure!(times.is_empty(), "ids that nobody recorded: {times:?}");
    ensure!(
        arrived.values().all(|names| names.len() == 1),
        "one id, one secret: {arrived:?}"
    );
    let names: BTreeSet<String> = arrived.into_values().flatten().collect();
    ensure!(
        names.len() == rows.len(),
        "{} secrets by {} notifications",
        names.len(),
        rows.len()
    );
    let unsaid: Vec<&String> = committed
        .iter()
        .filter(|name| !names.contains(&format!("\"{name}\"")))
        .collect();
    ensure!(
        unsaid.is_empty(),
        "committed, and nobody was told: {unsaid:?}"
    );
    eprintln!(
        "{} secrets, {} announced, {twice} of them twice",
        committed.len(),
        rows.len()
    );
    ensure!(
        twice > 0 || scaled(200) < 200,
        "no kill hit what was on its way"
    );
    for sidecar in &mut pair.running {
        ensure!(!sidecar.log()?.contains("panicked"), "{}", sidecar.log()?);
        let readiness = sidecar.ready().await;
        readiness.with_context(|| sidecar.log().unwrap_or_default())?;
    }
    Ok(())
}
