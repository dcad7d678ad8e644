//! Reading names through the view `rotator.secrets`, as a member of the tenant does, next to the bare `open_field` over the
//! same rows of the table, as a superuser can. Both statements whole, their scan included; backend CPU time.

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, backend_id, cpu_seconds, median};
use rotator_tests::{TestDb, scalar};
use tokio_postgres::Client;

const ROWS: usize = 20_000;
const CHUNK: usize = 1000;
const ROUNDS: usize = 21;
const NAME: &str = "view_vs_call";

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&[NAME]) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    for first in (1..=ROWS).step_by(CHUNK) {
        db.admin
            .batch_execute(&format!(
                "insert into rotator.secrets (name, provider_type, owner_id, expiry_date, rotation_interval)
                 select 'credential-of-service-' || lpad(n::text, 18, '0'), 'vault', 'owner', now() + interval '500 days', '90 days'
                 from generate_series({first}, {first} + {CHUNK} - 1) as n"
            ))
            .await?;
    }
    db.admin
        .batch_execute("vacuum (analyze) rotator_internal.secret")
        .await?;
    let member = db.session("acme", "viewer").await?;
    let view = "select count(name) from rotator.secrets".to_owned();
    let call = format!(
        "select count(rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name))
         from rotator_internal.secret as s where s.tenant_id = '{tenant}'"
    );
    let sides: [(&Client, String); 2] = [(&member, view), (&db.admin, call)];
    let mut measured = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for ((client, statement), seconds) in sides.iter().zip(&mut measured) {
            let spent = cpu_seconds(client, backend_id(client).await?, statement).await?;
            if round > 0 {
                seconds.push(spent); // the first is to warm up
            } else {
                let count: i64 = scalar(*client, statement, &[]).await?;
                ensure!(count == ROWS as i64, "{statement} read {count} rows");
            }
        }
    }
    let [view, call] = measured.map(|mut seconds| median(&mut seconds) * 1e6 / ROWS as f64);
    let detail = format!(
        "view as a viewer {view:.3} µs, open_field over the table as superuser {call:.3} µs a row, scan included on both \
         sides; {ROWS} rows, medians of {ROUNDS}, CPU time"
    );
    record.add(NAME, view / call, "ratio", Bar::AtMost(1.2), &detail)
}
