//! The first page of a tenant's list among a million secrets of a hundred tenants: by owner, by provider, by expiry, through
//! the view with row security and through `search_secrets`, next to the same page of a plain table, with the tenant
//! written out, the same columns worked out and the same fifty rows decrypted, by a superuser whom no policy concerns. Rows
//! are made by the native functions, in bulk.

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, median};
use rotator_tests::{Chance, TestDb};
use tokio_postgres::Client;

const NAMES: [&str; 3] = [
    "list_by_owner_vs_plain",
    "list_by_provider_vs_plain",
    "list_by_expiry_vs_plain",
];
const TENANTS: usize = 100;
const ROWS_OF_EACH: usize = 10_000;
const OWNERS: usize = 100;
const PROVIDERS: usize = 20;
const ROUNDS: usize = 301;
const PAGE: usize = 50;

/// How one of the three lists is asked for, on each of the sides; `$` is the owner, the provider or the days.
struct List {
    view: &'static str,
    search: &'static str,
    plain: &'static str,
}

const LISTS: [List; 3] = [
    List {
        view: "owner_id = 'owner-$'",
        search: "owner => 'owner-$'",
        plain: "owner_id = 'owner-$'",
    },
    List {
        view: "provider_type = 'provider-$'",
        search: "provider => 'provider-$'",
        plain: "provider_type = 'provider-$'",
    },
    List {
        view: "expiry_date <= now() + interval '$ days'",
        search: "expires_within_days => $",
        plain: "expiry_date <= now() + interval '$ days'",
    },
];

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let tenant = load(&db).await?;
    let member = db.session("tenant-37", "viewer").await?;
    let mut chance = Chance::for_test("lists");
    for (name, list) in NAMES.into_iter().zip(&LISTS) {
        measure(record, name, list, &db.admin, &member, &tenant, &mut chance).await?;
    }
    Ok(())
}

/// Microseconds until the page is here.
async fn page(client: &Client, sql: &str) -> Result<f64> {
    let begun = std::time::Instant::now();
    let rows = client.simple_query(sql).await?;
    let spent = begun.elapsed().as_secs_f64() * 1e6;
    let rows = rows
        .iter()
        .filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)))
        .count();
    ensure!(rows == PAGE, "{sql} gave {rows} rows");
    Ok(spent)
}

async fn measure(
    record: &mut Record,
    name: &str,
    list: &List,
    admin: &Client,
    member: &Client,
    tenant: &str,
    chance: &mut Chance,
) -> Result<()> {
    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let draw = match name {
            "list_by_owner_vs_plain" => chance.below(OWNERS),
            "list_by_provider_vs_plain" => chance.below(PROVIDERS),
            _ => 10 + chance.below(50),
        }
        .to_string();
        let sides = [
            (
                member,
                format!("select * from rotator.secrets where {} order by expiry_date limit {PAGE}", list.view),
            ),
            (
                member,
                format!("select * from rotator.search_secrets({}, max_rows => {PAGE})", list.search),
            ),
            (
                admin,
                format!(
                    "select s.id, rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name) as name, s.provider_type,
                         rotator_internal.open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref) as provider_ref,
                         rotator_internal.open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose) as purpose,
                         s.environment, s.priority, s.labels, s.owner_id, s.secondary_owner_id, s.team_lead_id, s.expiry_date, s.rotation_interval,
                         case when extract(year from s.rotation_interval) = 0 and extract(month from s.rotation_interval) = 0
                             and extract(hour from s.rotation_interval) = 0 and extract(minute from s.rotation_interval) = 0
                             and extract(second from s.rotation_interval) = 0 then extract(day from s.rotation_interval)::integer end as interval_days,
                         s.last_rotated_at, s.cycle,
                         case when s.retired_at is not null then 'retired' when s.expiry_date <= now() then 'overdue'
                             when s.expiring_soon_at <= now() then 'expiring_soon' else 'healthy' end as status,
                         (s.expiry_date at time zone 'UTC')::date - (now() at time zone 'UTC')::date as days_until_expiry,
                         (select a.acknowledged_at from plain_alert as a where a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle) as acknowledged_at,
                         (select a.acknowledged_by from plain_alert as a where a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle) as acknowledged_by,
                         s.snoozed_until, s.verified_at, s.verified_expiry_date, s.external_id, s.created_at, s.updated_at
                     from plain as s where s.tenant_id = '{tenant}' and s.{} order by s.expiry_date limit {PAGE}",
                    list.plain
                ),
            ),
        ];
        for ((client, sql), times) in sides.iter().zip(&mut measured) {
            let spent = page(client, &sql.replace('$', &draw)).await?;
            if round > 0 {
                times.push(spent); // the first is to warm up
            }
        }
    }
    let [view, search, plain] = measured.map(|mut times| median(&mut times));
    let detail = format!(
        "first page of {PAGE} of {ROWS_OF_EACH} rows of one of {TENANTS} tenants: through the view {view:.0} µs, search_secrets \
         {search:.0} µs, plain table with the tenant written out {plain:.0} µs, all planned anew and decrypted; the slower of the \
         two counts; medians of {ROUNDS}, interleaved"
    );
    record.add(
        name,
        view.max(search) / plain,
        "ratio",
        Bar::AtMost(1.5),
        &detail,
    )
}

/// A million secrets, as registering would have left them; the id of the tenant that is looked at.
async fn load(db: &TestDb) -> Result<String> {
    let admin = &db.admin;
    for number in 0..TENANTS {
        db.tenant(&format!("tenant-{number}")).await?;
    }
    // Without the checks of foreign keys: the rows are made to fit.
    admin
        .batch_execute("set jit = off; set session_replication_role = replica")
        .await?;
    for number in 0..TENANTS {
        admin
            .batch_execute(&format!(
                "insert into rotator_internal.secret (tenant_id, id, name, name_index, provider_ref, purpose, provider_type, environment, priority,
                     labels, owner_id, expiry_date, expiring_soon_at, rotation_interval, external_id)
                 select t.tenant_id, i.id,
                     rotator_internal.seal_field(t.tenant_id, 'secret.name', i.id, 'credential of service ' || n),
                     rotator_internal.blind_index(t.tenant_id, 'secret.name', 'credential of service ' || n),
                     rotator_internal.seal_field(t.tenant_id, 'secret.provider_ref', i.id, 'path/of/service/' || n),
                     rotator_internal.seal_field(t.tenant_id, 'secret.purpose', i.id, 'What service ' || n || ' needs to reach its supplier.'),
                     'provider-' || n % {PROVIDERS}, 'prod', 'P3', '{{\"team\": \"payments\"}}', 'owner-' || n / {PROVIDERS} % {OWNERS},
                     now() + interval '1 hour' * (n * 7919 % 8760), now() + interval '1 hour' * (n * 7919 % 8760) - interval '14 days', '90 days',
                     'ext-' || n
                 from rotator_internal.tenant as t
                 cross join generate_series(1, {ROWS_OF_EACH}) as n
                 cross join lateral (select rotator_internal.uuid_v7() as id where n > 0) as i
                 where t.slug = 'tenant-{number}';"
            ))
            .await?;
    }
    admin
        .batch_execute(
            "insert into rotator_internal.alert (tenant_id, secret_id, cycle)
             select s.tenant_id, s.id, s.cycle from rotator_internal.secret as s where s.expiring_soon_at < now();
             reset session_replication_role;
             create table plain as select * from rotator_internal.secret;
             create table plain_alert as select * from rotator_internal.alert;
             alter table plain_alert add primary key (tenant_id, secret_id, cycle);
             alter table plain add primary key (tenant_id, id);
             create index on plain (tenant_id, expiry_date);
             create index on plain (tenant_id, owner_id, expiry_date);
             create index on plain (tenant_id, provider_type, expiry_date);",
        )
        .await?;
    admin.batch_execute("reset jit").await?;
    admin.batch_execute("vacuum (analyze)").await?;
    rotator_tests::scalar(
        admin,
        "select tenant_id::text from rotator_internal.tenant where slug = 'tenant-37'",
        &[],
    )
    .await
}
