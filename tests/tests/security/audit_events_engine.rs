//! What the engine, links and the scheduler do, as events: queueing and outcomes of messages, what follows an alert, key
//! rotations that go on by themselves, refused links, and pg_cron's job. The list of all actions is in `audit_events`.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use tokio_postgres::Client;

use crate::fixture::{populate, text, texts};

const TICK: &str = "select rotator.tick()";
const REENCRYPT: &str = "do $$ begin while (rotator.reencrypt_step(1000) ->> 'remaining')::int > 0 loop end loop; end $$";

/// `actor source action entity` of every event that the statement led to, without those that aren't asked about.
async fn events_of(db: &TestDb, session: &Client, statement: &str) -> Result<Vec<String>> {
    let before = text(
        &db.admin,
        "select coalesce(max(id), 0) from rotator_internal.audit_event",
    )
    .await?;
    session.batch_execute(statement).await?;
    texts(
        &db.admin,
        &format!("select concat_ws(' ', actor, source, action, entity) from rotator.audit_log where id > {before} order by id"),
    )
    .await
}

fn expect(events: &[String], wanted: &[&str]) -> Result<()> {
    for event in wanted {
        ensure!(
            events.iter().any(|found| found == event),
            "no {event} among {events:#?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn queueing_and_outcomes_of_messages() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    session
        .batch_execute(
            "select rotator.set_contact(o, 'email', o || '@acme.example') from unnest(array['ann', 'bob', 'cid']) as o;
             select rotator.register_secret(o, expiry_date => now() + interval '3 days', owner_id => o) from unnest(array['ann', 'bob', 'cid']) as o",
        )
        .await?;
    let queued = events_of(&db, &db.admin, TICK).await?;
    ensure!(
        queued == ["rotator engine reminder.queued secret"; 3],
        "{queued:?}"
    );
    db.admin
        .batch_execute("create table claim as select * from rotator.claim_notifications('w')")
        .await?;
    session
        .batch_execute("select rotator.retire_secret(id) from rotator.secrets where name = 'cid'")
        .await?;
    let finished = events_of(
        &db,
        &db.admin,
        "select rotator.complete_notification(c.id, c.claim_id, 'vendor-1') from claim c where recipient like 'ann%';
         select rotator.fail_notification(c.id, c.claim_id, 'no such user', 'recipient_gone') from claim c where recipient like 'bob%';
         select rotator.fail_notification(c.id, c.claim_id, 'try later', 'transient') from claim c where recipient like 'cid%'",
    )
    .await?;
    ensure!(
        finished
            == [
                "rotator engine notification.sent notification",
                "rotator engine notification.dead notification",
                "rotator engine contact.gone contact",
                "rotator engine contact_gone.queued notification",
                "rotator engine fallback.queued secret",
                // Told on the console is told nobody.
                "rotator engine notification.undeliverable notification",
                "rotator engine notification.cancelled notification"
            ],
        "{finished:?}"
    );
    let said = texts(
        &db.admin,
        "select changes from rotator.audit_log where action like 'notification.%' order by id",
    )
    .await?;
    ensure!(
        said[0].contains("vendor-1")
            && said[1].contains("no such user")
            && said[3].contains("try later"),
        "{said:?}"
    );
    // A backlog that is imported: one summary speaks for all.
    session
        .batch_execute(
            "select rotator.import_secrets((select jsonb_agg(jsonb_build_object('name', 'old-' || n, 'owner_id', 'ann', 'rotation_interval', '90 days',
                 'expiry_date', (now() - n * interval '1 day')::text)) from generate_series(1, 3) as n))",
        )
        .await?;
    let summarised = events_of(&db, &db.admin, TICK).await?;
    expect(
        &summarised,
        &[
            "rotator engine reminder.merged secret",
            "rotator engine summary.queued notification",
        ],
    )
}

#[tokio::test]
async fn what_follows_an_alert_has_the_actor_of_its_cause() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let admin = db.member("acme", "admin").await?;
    let session = db.connect_as(&admin).await?;
    session
        .batch_execute(
            "select rotator.set_contact('ann', 'pagerduty', '0123456789abcdef0123456789abcdef');
             select rotator.register_secret('one', expiry_date => now() + interval '3 days', rotation_interval => '90 days', owner_id => 'ann')",
        )
        .await?;
    db.admin
        .batch_execute(&format!("{TICK}; select rotator.complete_notification(id, claim_id) from rotator.claim_notifications('w')"))
        .await?;
    let me = admin.subject();
    let acknowledged = events_of(
        &db,
        &session,
        "select rotator.acknowledge(id) from rotator.secrets",
    )
    .await?;
    expect(
        &acknowledged,
        &[
            &format!("{me} sql alert.acknowledged secret"),
            &format!("{me} sql acknowledge.queued secret"),
        ],
    )?;
    db.admin
        .batch_execute("select rotator.complete_notification(id, claim_id) from rotator.claim_notifications('w')")
        .await?;
    let rotated = events_of(
        &db,
        &session,
        "select rotator.mark_rotated(id) from rotator.secrets",
    )
    .await?;
    expect(
        &rotated,
        &[
            &format!("{me} sql secret.rotated secret"),
            &format!("{me} sql resolve.queued secret"),
        ],
    )
}

#[tokio::test]
async fn a_key_rotation_on_its_way() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    let admin = db.member("acme", "admin").await?;
    let session = db.connect_as(&admin).await?;
    session.batch_execute("select rotator.set_contact(rotator.current_actor(), 'email', 'ann@acme.example'); select rotator.rotate_key()").await?;
    let completed = events_of(&db, &db.admin, REENCRYPT).await?;
    expect(
        &completed,
        &[
            "rotator engine key.rotation_progress key_rotation",
            "rotator engine key.rotation_completed key_rotation",
        ],
    )?;

    // One that nobody drives on.
    session.batch_execute("select rotator.rotate_key()").await?;
    db.admin
        .batch_execute("update rotator_internal.key_rotation set progressed_at = now() - interval '2 hours' where status = 'running'")
        .await?;
    let stalled = events_of(&db, &db.admin, TICK).await?;
    expect(
        &stalled,
        &[
            "rotator engine key.rotation_stalled key_rotation",
            "rotator engine key_rotation.queued notification",
        ],
    )?;

    // One that meets what can't be decrypted.
    db.admin
        .batch_execute("update rotator_internal.secret set purpose = set_byte(purpose, length(purpose) - 1, get_byte(purpose, length(purpose) - 1) # 1) where purpose is not null")
        .await?;
    let failed = events_of(&db, &db.admin, REENCRYPT).await?;
    expect(
        &failed,
        &[
            "rotator engine key.rotation_failed key_rotation",
            "rotator engine key_rotation.queued notification",
        ],
    )?;
    let retried = events_of(
        &db,
        &session,
        "select rotator.retry_key_rotation(id) from rotator.key_rotations where status = 'failed'",
    )
    .await?;
    ensure!(
        retried
            == [format!(
                "{} sql key.rotation_retried key_rotation",
                admin.subject()
            )],
        "{retried:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_refused_link_names_whom_it_was_sent_to() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    let sidecar = db
        .connect_as(&db.login_role("sidecar", &["rotator_sidecar"]).await?)
        .await?;
    let token = text(
        &sidecar,
        "select link_token from rotator.claim_notifications('w')",
    )
    .await?;
    let refusal =
        format!("select rotator.record_link_refusal('{token}', 'acknowledge', 'expired', 'link')");
    let refused = events_of(&db, &sidecar, &refusal).await?;
    ensure!(
        refused == ["db:postgres link link.refused secret"],
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_schedule_of_the_tick_is_in_every_tenants_log() -> Result<()> {
    let db = TestDb::with_pg_cron().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
    }
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    db.admin
        .batch_execute(&format!("grant usage on schema cron to {}", operator.name))
        .await?;
    let session = db.connect_as(&operator).await?;
    let me = operator.subject();
    let events = events_of(
        &db,
        &session,
        "select rotator.enable_schedule('*/5 * * * *')",
    )
    .await?;
    ensure!(
        events == vec![format!("{me} sql schedule.enabled schedule"); 2],
        "{events:?}"
    );
    let cron = text(
        &db.admin,
        "select distinct changes from rotator.audit_log where action = 'schedule.enabled'",
    )
    .await?;
    ensure!(cron == r#"{"cron": "*/5 * * * *"}"#, "{cron}");
    let events = events_of(&db, &session, "select rotator.disable_schedule()").await?;
    ensure!(
        events == vec![format!("{me} sql schedule.disabled schedule"); 2],
        "{events:?}"
    );
    let events = events_of(&db, &session, "select rotator.disable_schedule()").await?;
    ensure!(events.is_empty(), "there was none: {events:?}");
    Ok(())
}
